//! Scheduling: how far a body is unrolled, what stays in registers across its loop, and the frame.

use super::lower::{Phase, Reduction, VectorProgram};
use super::regalloc::{Address, Allocated, REGISTERS, Step, allocate};
use super::unroll::{masked, unroll, with_accumulators_in_slots};
use super::vector::{Block, Row, VectorOp};

/// Elements of a vector.
pub(super) const LANES: usize = 8;
/// Reductions of a phase up to which accumulators live in registers.
const MAX_ACCUMULATORS: usize = 8;

/// A loop over the row.
#[derive(Debug)]
pub(super) struct Loop {
    /// Elements of an iteration; `None` for the single masked iteration at the end.
    pub(super) stride: Option<usize>,
    /// Invariant values that are loaded before the loop.
    pub(super) preload: Vec<(u8, Address)>,
    /// One iteration.
    pub(super) steps: Vec<Step>,
}

/// Where a phase's accumulators are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Accumulators {
    /// In registers from the highest downwards, the copies of a reduction together.
    Registers {
        /// Accumulators of a reduction.
        copies: u8,
    },
    /// In frame slots.
    Slots {
        /// Slot of reduction 0.
        first: u16,
    },
}

/// Register of an accumulator.
pub(super) fn accumulator_register(reduction: u16, copy: u8, copies: u8) -> u8 {
    REGISTERS - 1 - (reduction as u8 * copies + copy)
}

/// A phase with registers.
#[derive(Debug)]
pub(super) struct PhaseCode {
    /// Executed once.
    pub(super) preamble: Vec<Step>,
    /// In order; empty if the phase has nothing to do for each element.
    pub(super) loops: Vec<Loop>,
    /// Combined after the loops.
    pub(super) reductions: Vec<Reduction>,
    /// Where the loops left them.
    pub(super) accumulators: Accumulators,
    /// Rows that the loops touch.
    pub(super) rows: Vec<Row>,
}

/// A row program with registers.
#[derive(Debug)]
pub(super) struct FunctionCode {
    /// In order.
    pub(super) phases: Vec<PhaseCode>,
    /// Slots of the frame, 32 bytes each.
    pub(super) slots: u16,
    /// Uniform outputs and the slots of their values.
    pub(super) results: Vec<(u16, u16)>,
}

/// Assigns registers to all blocks of a program.
pub(super) fn schedule(program: VectorProgram) -> FunctionCode {
    let mut frame = Frame { kept: program.slots, slots: program.slots };
    // Slots of accumulators follow the kept ones and belong to one phase at a time.
    frame.kept += program.phases.iter().map(accumulator_slots).max().unwrap_or(0);
    let phases = program.phases.into_iter().map(|phase| schedule_phase(phase, program.slots, &mut frame)).collect();
    FunctionCode { phases, slots: frame.slots.max(frame.kept), results: program.results }
}

fn accumulator_slots(phase: &Phase) -> u16 {
    if phase.reductions.len() > MAX_ACCUMULATORS { phase.reductions.len() as u16 } else { 0 }
}

/// The stack frame: slots that blocks share, then spill slots, which every block uses anew.
struct Frame {
    kept: u16,
    slots: u16,
}

impl Frame {
    fn allocate(&mut self, block: &Block, pins: &[(VectorOp, u8)]) -> Allocated {
        let allocated = allocate(block, pins, self.kept);
        self.slots = self.slots.max(allocated.slots);
        allocated
    }
}

fn schedule_phase(phase: Phase, first_accumulator: u16, frame: &mut Frame) -> PhaseCode {
    let preamble = frame.allocate(&phase.preamble, &[]).steps;
    let in_slots = accumulator_slots(&phase) > 0;
    let finish = |body: Block| if in_slots { with_accumulators_in_slots(&body, first_accumulator) } else { body };
    let rows = rows(&phase.body);
    let mut loops = Vec::new();
    let mut copies = 1;
    if !phase.body.is_empty() {
        let reductions = if in_slots { 0 } else { phase.reductions.len() as u16 };
        let body = finish(phase.body.clone());
        // Copies would each read a slot before the others have written it.
        copies = if in_slots { 1 } else { copies_for(&body, reductions, frame) };
        loops.push(main_loop(&body, reductions, copies, frame));
        if copies > 1 {
            let steps = frame.allocate(&body, &pins(reductions, copies)).steps;
            loops.push(Loop { stride: Some(LANES), preload: Vec::new(), steps });
        }
        loops.push(tail(&finish(masked(&phase.body)), reductions, copies, frame));
    }
    let accumulators =
        if in_slots { Accumulators::Slots { first: first_accumulator } } else { Accumulators::Registers { copies } };
    PhaseCode { preamble, loops, reductions: phase.reductions, accumulators, rows }
}

/// How many copies of a body an iteration has: up to the registers that there are, and fewer of long
/// bodies, which keep the core busy alone. Constants then find registers.
fn copies_for(body: &Block, reductions: u16, frame: &mut Frame) -> u8 {
    let work = body.iter().filter(|op| !op.is_invariant()).count();
    let peak = frame.allocate(body, &pins(reductions, 1)).peak;
    let reductions = usize::from(reductions);
    let fits = |copies: usize| copies * (peak + reductions) <= 23 && copies * reductions <= MAX_ACCUMULATORS;
    match work {
        ..=64 if fits(4) => 4,
        ..=64 if fits(2) => 2,
        _ => 1,
    }
}

/// Accumulators in their registers.
fn pins(reductions: u16, copies: u8) -> Vec<(VectorOp, u8)> {
    let all = (0..reductions).flat_map(|reduction| (0..copies).map(move |copy| (reduction, copy)));
    all.map(|(reduction, copy)| {
        (VectorOp::Accumulator { reduction, copy }, accumulator_register(reduction, copy, copies))
    })
    .collect()
}

/// The loop that does most of the work; its most used invariant values stay in registers.
fn main_loop(body: &Block, reductions: u16, copies: u8, frame: &mut Frame) -> Loop {
    let block = unroll(body, copies);
    let mut pins = pins(reductions, copies);
    let first = allocate(&block, &pins, frame.kept);
    let spare = usize::from(REGISTERS).saturating_sub(pins.len() + first.peak + 1);
    let mut preload = Vec::new();
    let next = REGISTERS - pins.len() as u8;
    for ((op, from), register) in most_used(&block).into_iter().take(spare).zip((0..next).rev()) {
        pins.push((op, register));
        preload.push((register, from));
    }
    let steps = frame.allocate(&block, &pins).steps;
    Loop { stride: Some(LANES * usize::from(copies)), preload, steps }
}

/// Invariant values of a block, the most used first. A slot that the block writes is not invariant.
fn most_used(block: &Block) -> Vec<(VectorOp, Address)> {
    let mut uses = vec![0_usize; block.len()];
    block.iter().flat_map(|op| op.operands()).for_each(|v| uses[v as usize] += 1);
    let is_written = |slot: u16| block.iter().any(|op| matches!(op, VectorOp::Keep { slot: s, .. } if *s == slot));
    let address = |op: &VectorOp| match *op {
        VectorOp::Constant(bits) => Some(Address::Constant(bits)),
        VectorOp::Kept(slot) if !is_written(slot) => Some(Address::Slot(slot)),
        _ => None,
    };
    let mut found: Vec<_> = block.iter().zip(uses).filter_map(|(op, uses)| Some((uses, (*op, address(op)?)))).collect();
    found.sort_by_key(|(uses, _)| std::cmp::Reverse(*uses));
    found.into_iter().map(|(_, value)| value).collect()
}

/// The masked iteration, with the mask below the accumulators.
fn tail(block: &Block, reductions: u16, copies: u8, frame: &mut Frame) -> Loop {
    let mut pins = pins(reductions, copies);
    pins.push((VectorOp::TailMask, tail_mask_register(pins.len())));
    Loop { stride: None, preload: Vec::new(), steps: frame.allocate(block, &pins).steps }
}

/// Register of the tail mask, given the number of accumulators.
pub(super) fn tail_mask_register(accumulators: usize) -> u8 {
    REGISTERS - 1 - accumulators as u8
}

fn rows(body: &Block) -> Vec<Row> {
    let mut rows = Vec::new();
    for op in body {
        if let VectorOp::Load { row, .. } | VectorOp::Store { row, .. } = *op
            && !rows.contains(&row)
        {
            rows.push(row);
        }
    }
    rows
}
