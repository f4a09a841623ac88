//! Register allocation for straight-line code.
//!
//! One pass in order over a block: values get a register when they are defined, and when none is
//! free the value with the farthest next use leaves (Belady's rule). Constants, kept values and row
//! loads lie in memory anyway: they cost nothing to drop, and an instruction that allows it reads
//! them from there directly.

use super::vector::{Block, Lane1, Row, Value, VectorOp};

/// Number of vector registers.
pub(super) const REGISTERS: u8 = 16;

/// Memory of eight floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// The bits, repeated, in the constant table.
    Constant(u32),
    /// A slot of the frame.
    Slot(u16),
    /// Elements of a row at the loop index.
    Row(Row, u8),
}

/// Where an instruction finds an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// In a vector register.
    Register(u8),
    /// In memory.
    Memory(Address),
}

/// One instruction, nearly: ops with registers, and what moves values between them and memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Register from memory.
    Load { dst: u8, from: Address },
    /// Register from register.
    Move { dst: u8, src: u8 },
    /// Frame slot from register.
    Spill { slot: u16, src: u8 },
    /// The op with its operands in order. Of a product-sum's registers, one is also `dst`.
    Op { op: VectorOp, dst: u8, args: [Location; 3] },
}

/// A block with registers.
#[derive(Debug, Default)]
pub(super) struct Allocated {
    /// The code.
    pub(super) steps: Vec<Step>,
    /// First frame slot beyond those in use.
    pub(super) slots: u16,
    /// Largest number of registers, beside the pinned, that held values with no other home, operands
    /// or a result.
    pub(super) peak: usize,
}

/// Assigns registers to a block. Leaves listed in `pins` are in their registers already and stay
/// there; the new state of a pinned accumulator is left in its register. Spills take frame slots
/// from `slots` on.
pub(super) fn allocate(block: &Block, pins: &[(VectorOp, u8)], slots: u16) -> Allocated {
    let mut allocator = Allocator::new(block, pins, slots);
    for at in 0..block.len() {
        allocator.place(at);
    }
    allocator.out
}

/// Position of a use that does not come.
const NEVER: u32 = u32::MAX;

/// What is known about a value at the current position.
#[derive(Clone, Copy)]
struct Home {
    register: Option<u8>,
    memory: Option<Address>,
    next_use: u32,
}

struct Allocator<'a> {
    block: &'a Block,
    pins: &'a [(VectorOp, u8)],
    pinned: u16,
    homes: Vec<Home>,
    /// For each op and operand, the position of the operand's next use after the op.
    later_uses: Vec<[u32; 3]>,
    /// Register in which a value should be defined: its accumulator's.
    wishes: Vec<Option<u8>>,
    /// Row loads that are stored as they are; their memory may be overwritten before that.
    is_copied: Vec<bool>,
    registers: [Option<Value>; REGISTERS as usize],
    first_spill: u16,
    free_slots: Vec<u16>,
    out: Allocated,
}

impl<'a> Allocator<'a> {
    fn new(block: &'a Block, pins: &'a [(VectorOp, u8)], slots: u16) -> Allocator<'a> {
        let mut allocator = Allocator {
            block,
            pins,
            pinned: pins.iter().fold(0, |set, (_, r)| set | 1 << r),
            homes: vec![Home { register: None, memory: None, next_use: NEVER }; block.len()],
            later_uses: vec![[NEVER; 3]; block.len()],
            wishes: vec![None; block.len()],
            is_copied: vec![false; block.len()],
            registers: [None; REGISTERS as usize],
            first_spill: slots,
            free_slots: Vec::new(),
            out: Allocated { slots, ..Allocated::default() },
        };
        for (at, op) in block.iter().enumerate().rev() {
            allocator.note_uses(at, *op);
        }
        allocator
    }

    /// Going backwards: records the uses at `at`.
    fn note_uses(&mut self, at: usize, op: VectorOp) {
        for (k, v) in op.operands().enumerate() {
            self.later_uses[at][k] = self.homes[v as usize].next_use;
        }
        for v in op.operands() {
            self.homes[v as usize].next_use = at as u32;
        }
        match op {
            VectorOp::Accumulate { reduction, copy, value } => {
                self.wishes[value as usize] = self.pin(VectorOp::Accumulator { reduction, copy });
            }
            VectorOp::Store { value, .. } => self.is_copied[value as usize] = true,
            _ => {}
        }
    }

    fn pin(&self, leaf: VectorOp) -> Option<u8> {
        self.pins.iter().find(|(op, _)| *op == leaf).map(|(_, r)| *r)
    }

    /// Emits the op at position `at`, or notes where its value lies if that is enough.
    fn place(&mut self, at: usize) {
        let op = self.block[at];
        let value = at as Value;
        if let Some(register) = self.pin(op) {
            return self.bind(register, value);
        }
        match op {
            VectorOp::Constant(bits) => self.homes[at].memory = Some(Address::Constant(bits)),
            VectorOp::Kept(slot) => self.homes[at].memory = Some(Address::Slot(slot)),
            VectorOp::Load { row, copy } if !self.is_copied[at] => {
                self.homes[at].memory = Some(Address::Row(row, copy))
            }
            _ => self.emit(at, op, value),
        }
    }

    fn emit(&mut self, at: usize, op: VectorOp, value: Value) {
        let later = self.later_uses[at];
        let (op, later) = self.oriented(op, later);
        let operands: Vec<Value> = op.operands().collect();
        let direct = self.direct_operand(op, &operands, later);
        let mut args = self.locate(&operands, direct);
        for (&v, later) in operands.iter().zip(later) {
            self.homes[v as usize].next_use = later;
        }
        self.measure(&operands);
        let dst = match op {
            VectorOp::Accumulate { .. } => return self.settle(op, args[0], operands[0]),
            _ if op.is_effect() => 0,
            VectorOp::Fma(..) => self.tie(&operands, &mut args, direct, self.wishes[at]),
            _ => {
                self.release_registers(&operands);
                self.destination(self.wishes[at])
            }
        };
        self.release_registers(&operands);
        self.out.steps.push(Step::Op { op, dst, args });
        self.release_slots(&operands);
        if !op.is_effect() && (self.homes[at].next_use != NEVER || self.is_pinned(dst)) {
            self.bind(dst, value);
        }
    }

    /// Exchanges operands if that brings one from memory to where the instruction allows it.
    fn oriented(&self, op: VectorOp, later: [u32; 3]) -> (VectorOp, [u32; 3]) {
        match op {
            VectorOp::Two(o, a, b) if o.is_commutative() && self.is_in_memory(a) && !self.is_in_memory(b) => {
                (VectorOp::Two(o, b, a), [later[1], later[0], NEVER])
            }
            _ => (op, later),
        }
    }

    fn is_in_memory(&self, v: Value) -> bool {
        self.homes[v as usize].register.is_none()
    }

    /// The operand that the instruction reads from memory, if any. Values other than invariant ones
    /// are loaded instead if they are used again.
    fn direct_operand(&self, op: VectorOp, operands: &[Value], later: [u32; 3]) -> Option<usize> {
        let places = match op {
            VectorOp::One(Lane1::ShiftLeft(_) | Lane1::ShiftRight(_), _) => 0..0,
            VectorOp::One(..) => 0..1,
            VectorOp::Two(..) | VectorOp::Blend { .. } => 1..2,
            VectorOp::Fma(..) => 0..3,
            _ => 0..0,
        };
        places.into_iter().find(|&k| {
            let v = operands[k];
            let once = operands.iter().filter(|&&o| o == v).count() == 1;
            let cheap = later[k] == NEVER || self.block[v as usize].is_invariant();
            self.is_in_memory(v) && once && cheap
        })
    }

    /// Brings the operands into registers, except the direct one.
    fn locate(&mut self, operands: &[Value], direct: Option<usize>) -> [Location; 3] {
        let mut args = [Location::Register(0); 3];
        let mut locked = self.registers_of(operands);
        for (k, &v) in operands.iter().enumerate() {
            let home = self.homes[v as usize];
            args[k] = match (home.register, home.memory) {
                (Some(register), _) => Location::Register(register),
                (None, Some(from)) if direct == Some(k) => Location::Memory(from),
                (None, Some(from)) => {
                    let dst = self.take_register(locked);
                    locked |= 1 << dst;
                    self.out.steps.push(Step::Load { dst, from });
                    self.bind(dst, v);
                    Location::Register(dst)
                }
                (None, None) => unreachable!("a value that is used has a home"),
            };
        }
        args
    }

    fn registers_of(&self, operands: &[Value]) -> u16 {
        operands.iter().filter_map(|&v| self.homes[v as usize].register).fold(0, |set, r| set | 1 << r)
    }

    /// The destination of a product-sum, which one operand gives: a dead one, or else a copy.
    fn tie(&mut self, operands: &[Value], args: &mut [Location; 3], direct: Option<usize>, wish: Option<u8>) -> u8 {
        let dead = |&k: &usize| match args[k] {
            Location::Register(r) => {
                self.homes[operands[k] as usize].next_use == NEVER && (!self.is_pinned(r) || wish == Some(r))
            }
            Location::Memory(_) => false,
        };
        let tied = (0..3).filter(dead).max_by_key(|&k| wish.is_some_and(|w| args[k] == Location::Register(w)));
        if let Some(Location::Register(register)) = tied.map(|k| args[k]) {
            return register;
        }
        let dst = self.take_register(self.registers_of(operands));
        let copied = direct.unwrap_or(2);
        self.out.steps.push(match args[copied] {
            Location::Register(src) => Step::Move { dst, src },
            Location::Memory(from) => Step::Load { dst, from },
        });
        args[copied] = Location::Register(dst);
        dst
    }

    /// A register for a new value: the wished one if its accumulator has had its last use.
    fn destination(&mut self, wish: Option<u8>) -> u8 {
        match wish {
            Some(r) if self.registers[usize::from(r)].is_none_or(|v| self.homes[v as usize].next_use == NEVER) => r,
            _ => self.take_register(0),
        }
    }

    /// Leaves the new state of an accumulator in its register.
    fn settle(&mut self, op: VectorOp, arg: Location, value: Value) {
        let VectorOp::Accumulate { reduction, copy, .. } = op else { unreachable!("called for accumulators") };
        let dst = self.pin(VectorOp::Accumulator { reduction, copy }).expect("accumulators are pinned");
        if let Location::Register(src) = arg
            && src != dst
        {
            self.out.steps.push(Step::Move { dst, src });
        }
        self.release_registers(&[value]);
        self.release_slots(&[value]);
    }

    /// A register that is free, or made so without touching the locked ones.
    fn take_register(&mut self, locked: u16) -> u8 {
        let usable = |r: &u8| !self.is_pinned(*r) && locked >> r & 1 == 0;
        let free = |r: &u8| self.registers[usize::from(*r)].is_none();
        if let Some(register) = (0..REGISTERS).filter(usable).find(free) {
            return register;
        }
        let cost = |r: &u8| {
            let home = self.homes[self.registers[usize::from(*r)].expect("no register is free") as usize];
            (home.memory.is_some(), home.next_use)
        };
        let register = (0..REGISTERS).filter(usable).max_by_key(cost).expect("pins leave registers for operands");
        self.evict(register);
        register
    }

    fn evict(&mut self, register: u8) {
        let Some(value) = self.registers[usize::from(register)].take() else { return };
        let home = &mut self.homes[value as usize];
        home.register = None;
        if home.memory.is_some() {
            return;
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.out.slots += 1;
            self.out.slots - 1
        });
        home.memory = Some(Address::Slot(slot));
        self.out.steps.push(Step::Spill { slot, src: register });
    }

    fn bind(&mut self, register: u8, value: Value) {
        self.registers[usize::from(register)] = Some(value);
        self.homes[value as usize].register = Some(register);
    }

    /// Frees the registers of operands that are not used again.
    fn release_registers(&mut self, operands: &[Value]) {
        for &v in operands {
            let home = &mut self.homes[v as usize];
            if let Some(register) = home.register
                && home.next_use == NEVER
                && self.pinned >> register & 1 == 0
            {
                home.register = None;
                self.registers[usize::from(register)] = None;
            }
        }
    }

    /// Frees the spill slots of operands that are not used again.
    fn release_slots(&mut self, operands: &[Value]) {
        for &v in operands {
            let home = &mut self.homes[v as usize];
            if let Some(Address::Slot(slot)) = home.memory
                && home.next_use == NEVER
                && slot >= self.first_spill
            {
                home.memory = None;
                self.free_slots.push(slot);
            }
        }
    }

    fn is_pinned(&self, register: u8) -> bool {
        self.pinned >> register & 1 == 1
    }

    fn measure(&mut self, operands: &[Value]) {
        let occupied = |v: Value| self.homes[v as usize].memory.is_none() || operands.contains(&v);
        let unpinned = (0..REGISTERS).filter(|&r| !self.is_pinned(r));
        let count = unpinned.filter(|&r| self.registers[usize::from(r)].is_some_and(occupied)).count();
        self.out.peak = self.out.peak.max(count + 1);
    }
}
