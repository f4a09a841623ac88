//! Scans: an invocation for each element, for each lane, or a workgroup for each lane walks through time.
//!
//! What one invocation carries alone stays in its variables from the first step to the last.

use castiron_ir::Dim;
use castiron_runtime::program::Scan;
use castiron_runtime::program::gpu::{AdapterClass, Condition, Features};
use castiron_runtime::program::row::Access;

use super::WgslFault;
use super::expression::{Expressions, Inputs};
use super::operand::Operand;
use super::rows::{Output, Team, reduce_phases, row_group, write_results};
use super::shader::{MAP_GROUP, Writer, dim_text};
use super::space::{Space, unravel};

/// Rows of more elements are not kept in the variables of an invocation.
const LONGEST_KEPT: i64 = 64;
/// Rows of more elements are worth a workgroup.
const LONGEST_ALONE: i64 = 32;
/// Invocations of a workgroup whose invocations have a lane each.
const LANES_GROUP: u32 = 64;

/// Who does what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Method {
    /// An invocation for each element of a step: nothing is reduced.
    Elements,
    /// An invocation for each lane.
    Lanes,
    /// A workgroup for each lane.
    Rows,
}

impl Method {
    /// A name for shaders.
    pub fn name(self) -> &'static str {
        match self {
            Method::Elements => "scan_elements",
            Method::Lanes => "scan_lanes",
            Method::Rows => "scan_rows",
        }
    }
}

/// The ways to execute a scan, the best first.
pub(super) fn methods(scan: &Scan) -> Vec<(Condition, Method)> {
    let program = &scan.operands.program;
    let carries_elements = program.inputs[..scan.carried].iter().all(|&access| access == Access::Element);
    let row = scan.space.last().and_then(Dim::as_constant);
    if program.is_map() && carries_elements {
        return vec![(Condition::default(), Method::Elements)];
    }
    if program.is_map() || row.is_some_and(|n| n <= LONGEST_ALONE) {
        return vec![(Condition::default(), Method::Lanes)];
    }
    let of_cpus = Condition { class: Some(AdapterClass::Cpu), ..Condition::default() };
    let with = |features| (Condition { features, ..Condition::default() }, Method::Rows);
    vec![(of_cpus, Method::Lanes), with(Features::SUBGROUPS), with(Features::NONE)]
}

/// Writes a scan; gives the grid and the workgroup's size.
pub(super) fn write_scan(w: &mut Writer<'_>, scan: &Scan, method: Method) -> Result<(Vec<(Dim, u32)>, u32), WgslFault> {
    let space = Space::timed(&scan.walk(), &scan.operands);
    let (lanes, row) = (Dim::product(&space.outer()[1..]), space.row());
    match method {
        Method::Elements => {
            let elements = Dim::product(&space.extents[1..]);
            w.line(format!("let element = {MAP_GROUP}u*group + local;"));
            w.line(format!("if (element >= {}) {{ return; }}", dim_text(&elements)));
            let indices = unravel(w, &space.extents[1..], "element", "i");
            let (position, outer) = indices.split_last().ok_or(WgslFault::Order)?;
            Walk { scan, space: &space, lane: outer, method, position: position.clone() }.write(w)?;
            Ok((vec![(elements, MAP_GROUP)], MAP_GROUP))
        }
        Method::Lanes => {
            w.line(format!("let number = {LANES_GROUP}u*group + local;"));
            w.line(format!("if (number >= {}) {{ return; }}", dim_text(&lanes)));
            let lane = unravel(w, &space.outer()[1..], "number", "i");
            Walk { scan, space: &space, lane: &lane, method, position: "at".to_owned() }.write(w)?;
            Ok((vec![(lanes, LANES_GROUP)], LANES_GROUP))
        }
        Method::Rows => {
            w.line(format!("if (group >= {}) {{ return; }}", dim_text(&lanes)));
            let lane = unravel(w, &space.outer()[1..], "group", "i");
            Walk { scan, space: &space, lane: &lane, method, position: "at".to_owned() }.write(w)?;
            Ok((vec![(lanes, 1)], row_group(row)))
        }
    }
}

/// A lane's way through time.
struct Walk<'a> {
    scan: &'a Scan,
    space: &'a Space,
    /// Indices of the lane.
    lane: &'a [String],
    method: Method,
    /// The position in the row where values are.
    position: String,
}

/// A carried row: where it lies, and where it is meanwhile.
struct Carried<'v> {
    memory: Operand<'v>,
    kept: Kept,
}

/// Where a carried row is between two steps.
enum Kept {
    /// In memory.
    Memory,
    /// In memory, one value for the row, which each step reads at its beginning.
    Single(String),
    /// In a variable.
    Variable(String),
    /// In an array of so many elements.
    Array(String, i64),
}

/// A result of a step.
enum Target<'a, 'v> {
    Carried(&'a Carried<'v>),
    Memory(Operand<'v>),
}

/// The inputs of a step.
struct StepInputs<'a, 'v> {
    carried: &'a [Carried<'v>],
    others: Vec<Operand<'v>>,
    position: &'a str,
}

impl Walk<'_> {
    fn write(&self, w: &mut Writer<'_>) -> Result<(), WgslFault> {
        let length = dim_text(self.space.row());
        let carried = self.begin(w)?;
        let steps = dim_text(&self.scan.steps);
        w.open(format!("for (var step = 0u; step < {steps}; step++)"));
        let mut index = "step".to_owned();
        if self.scan.reverse {
            w.line(format!("let time = {steps} - 1u - step;"));
            index = "time".to_owned();
        }
        let outer: Vec<String> = std::iter::once(index).chain(self.lane.iter().cloned()).collect();
        let (inputs, targets) = self.operands(w, &carried, &outer)?;
        let mut expressions = Expressions::new(&self.space.operands.program, &self.position, &length);
        match self.method {
            Method::Elements => self.element(w, &mut expressions, &inputs, &targets)?,
            Method::Lanes => {
                reduce_phases(w, &mut expressions, &inputs, &length, Team::One)?;
                write_results(w, &mut expressions, &targets, &inputs, &length, Team::One)?;
            }
            Method::Rows => {
                let team = Team::Group(row_group(self.space.row()));
                reduce_phases(w, &mut expressions, &inputs, &length, team)?;
                write_results(w, &mut expressions, &targets, &inputs, &length, team)?;
                // One value for the row is written by one invocation and read by all.
                w.line("storageBarrier();");
            }
        }
        w.close();
        self.end(w, &carried)
    }

    /// Takes the initial values.
    fn begin(&self, w: &mut Writer<'_>) -> Result<Vec<Carried<'_>>, WgslFault> {
        let first: Vec<String> = std::iter::once("0u".to_owned()).chain(self.lane.iter().cloned()).collect();
        let mut all = Vec::new();
        w.operand = self.space.operands.inputs.len() as u32;
        for (i, view) in self.space.operands.outputs[..self.scan.carried].iter().enumerate() {
            let memory = Operand::new(w, view, &first, &format!("c{i}_at"))?;
            let kept = self.kept(i, &memory);
            match &kept {
                Kept::Memory | Kept::Single(_) => {}
                Kept::Variable(name) => {
                    let value = memory.load(w, self.element_position())?;
                    w.line(format!("var {name} = {value};"));
                }
                Kept::Array(name, length) => {
                    w.line(format!("var {name}: array<f32, {length}>;"));
                    w.open(format!("for (var at = 0u; at < {length}u; at++)"));
                    let value = memory.load(w, "at")?;
                    w.line(format!("{name}[at] = {value};"));
                    w.close();
                }
            }
            all.push(Carried { memory, kept });
            w.operand += 1;
        }
        Ok(all)
    }

    fn kept(&self, i: usize, memory: &Operand<'_>) -> Kept {
        let is_row = self.space.operands.program.inputs[i] == Access::Element && memory.moves();
        let name = format!("c{i}");
        match (self.method, self.space.row().as_constant()) {
            (Method::Elements, _) => Kept::Variable(name),
            (Method::Lanes, _) if !is_row => Kept::Variable(name),
            (Method::Lanes, Some(length)) if length <= LONGEST_KEPT => Kept::Array(name, length),
            (Method::Rows, _) if !is_row => Kept::Single(name),
            _ => Kept::Memory,
        }
    }

    /// Where the value of a variable lies in its row.
    fn element_position(&self) -> &str {
        if self.method == Method::Elements { &self.position } else { "0u" }
    }

    /// Writes the addresses of a step's operands.
    fn operands<'c>(
        &'c self,
        w: &mut Writer<'_>,
        carried: &'c [Carried<'c>],
        outer: &[String],
    ) -> Result<(StepInputs<'c, 'c>, Vec<Target<'c, 'c>>), WgslFault> {
        let operands = &self.space.operands;
        let mut others = Vec::new();
        w.operand = 0;
        for (i, view) in operands.inputs.iter().enumerate() {
            others.push(Operand::new(w, view, outer, &format!("x{i}_at"))?);
            w.operand += 1;
        }
        let mut targets: Vec<Target<'_, '_>> = carried.iter().map(Target::Carried).collect();
        w.operand += targets.len() as u32;
        for (i, view) in operands.outputs.iter().enumerate().skip(targets.len()) {
            targets.push(Target::Memory(Operand::new(w, view, outer, &format!("y{i}_at"))?));
            w.operand += 1;
        }
        for Carried { memory, kept } in carried {
            if let Kept::Single(name) = kept {
                let value = memory.load(w, "0u")?;
                w.line(format!("let {name} = {value};"));
            }
        }
        Ok((StepInputs { carried, others, position: &self.position }, targets))
    }

    /// A step at one element.
    fn element(
        &self,
        w: &mut Writer<'_>,
        expressions: &mut Expressions<'_>,
        inputs: &StepInputs<'_, '_>,
        targets: &[Target<'_, '_>],
    ) -> Result<(), WgslFault> {
        let stores = &self.space.operands.program.stores;
        let mut values = Vec::new();
        for (i, &stored) in stores.iter().enumerate() {
            let value = expressions.value(w, stored, inputs)?;
            w.line(format!("let y{i} = {value};"));
            values.push((format!("y{i}"), expressions.varies(stored)));
        }
        for (target, (value, varies)) in targets.iter().zip(values) {
            if varies || target.moves() {
                target.store(w, &self.position, &value)?;
            } else {
                w.open(format!("if ({} == 0u)", self.position));
                target.store(w, "0u", &value)?;
                w.close();
            }
        }
        Ok(())
    }

    /// Leaves what is carried in memory.
    fn end(&self, w: &mut Writer<'_>, carried: &[Carried<'_>]) -> Result<(), WgslFault> {
        for Carried { memory, kept } in carried {
            match kept {
                Kept::Memory | Kept::Single(_) => {}
                Kept::Variable(name) => memory.store(w, self.element_position(), name)?,
                Kept::Array(name, length) => {
                    w.open(format!("for (var at = 0u; at < {length}u; at++)"));
                    memory.store(w, "at", &format!("{name}[at]"))?;
                    w.close();
                }
            }
        }
        Ok(())
    }
}

impl Inputs for StepInputs<'_, '_> {
    fn input(&self, w: &mut Writer<'_>, number: usize) -> Result<String, WgslFault> {
        let Some(Carried { memory, kept }) = self.carried.get(number) else {
            return self.others[number - self.carried.len()].load(w, self.position);
        };
        match kept {
            Kept::Memory => memory.load(w, self.position),
            Kept::Single(name) | Kept::Variable(name) => Ok(name.clone()),
            Kept::Array(name, _) => Ok(format!("{name}[{}]", self.position)),
        }
    }
}

impl Output for Target<'_, '_> {
    fn store(&self, w: &mut Writer<'_>, position: &str, value: &str) -> Result<(), WgslFault> {
        match self {
            Target::Memory(operand) => operand.store(w, position, value),
            Target::Carried(Carried { memory, kept }) => match kept {
                Kept::Memory | Kept::Single(_) => memory.store(w, position, value),
                Kept::Variable(name) => {
                    w.line(format!("{name} = {value};"));
                    Ok(())
                }
                Kept::Array(name, _) => {
                    w.line(format!("{name}[{position}] = {value};"));
                    Ok(())
                }
            },
        }
    }

    fn moves(&self) -> bool {
        match self {
            Target::Memory(operand) => operand.moves(),
            Target::Carried(carried) => carried.memory.moves(),
        }
    }
}
