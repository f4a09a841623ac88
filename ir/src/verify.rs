//! Verifier: the rules that every pass must keep.

use std::collections::HashMap;

use crate::graph::{Entry, Module, Node, Region, State, ValueId};
use crate::op::{Op, OpDef, TypeError};
use crate::template::{self, TemplateError};
use crate::types::Type;

/// A broken rule, with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry `{entry}`, {place}: {rule}")]
pub struct VerifyError {
    /// The entry.
    pub entry: String,
    /// Node path and op, as in `node 3 (repeat), node 1 (add)`.
    pub place: String,
    /// The rule.
    pub rule: Rule,
}

/// The rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Operands are defined before their use, in the same region.
    #[error("operand {0} is not defined before its use")]
    Dominance(u32),
    /// Each value has one definition.
    #[error("value {0} is defined twice")]
    Redefinition(u32),
    /// The op's type rule.
    #[error("{0}")]
    Type(#[from] TypeError),
    /// The recorded result types are those of the type rule.
    #[error("the results are recorded as {recorded}, the type rule gives {derived}")]
    RecordedType {
        /// Types in the region.
        recorded: String,
        /// Types by the rule.
        derived: String,
    },
    /// Names of params and state use the indices of enclosing loops only.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// State is declared, with the type that the op uses.
    #[error("state `{0}` is not declared with this type")]
    State(String),
    /// A state is not read after it was written. It is updated at most once; `state_write` may replace what another
    /// one has written, if nothing uses that later.
    #[error("state `{0}` is used after it was written")]
    StateOrder(String),
    /// State is not used where the number of executions is data-dependent or hidden.
    #[error("state is not used inside a scan")]
    StateInScan,
    /// Names are distinct.
    #[error("the name `{0}` occurs twice")]
    Name(String),
    /// As many results as output names.
    #[error("{names} output names for {results} results")]
    Outputs {
        /// Number of names.
        names: usize,
        /// Number of results.
        results: usize,
    },
}

/// Checks a module.
///
/// # Errors
/// The first broken rule.
pub fn verify(module: &Module) -> Result<(), VerifyError> {
    let mut types: HashMap<&str, &State> = HashMap::new();
    for (i, entry) in module.entries.iter().enumerate() {
        let at = |rule| VerifyError { entry: entry.name.clone(), place: "signature".into(), rule };
        if module.entries[..i].iter().any(|e| e.name == entry.name) {
            return Err(at(Rule::Name(entry.name.clone())));
        }
        for state in &entry.states {
            let first = types.entry(&state.name).or_insert(state);
            if *first != state {
                return Err(at(Rule::State(state.name.clone())));
            }
        }
        verify_entry(entry)?;
    }
    Ok(())
}

fn verify_entry(entry: &Entry) -> Result<(), VerifyError> {
    let at = |rule| VerifyError { entry: entry.name.clone(), place: "signature".into(), rule };
    if let Some(name) = duplicate(&entry.outputs).or_else(|| duplicate(&entry.body.argument_names)) {
        return Err(at(Rule::Name(name.clone())));
    }
    if entry.outputs.len() != entry.body.results.len() {
        return Err(at(Rule::Outputs { names: entry.outputs.len(), results: entry.body.results.len() }));
    }
    let mut checker = Checker { entry, path: Vec::new(), indices: Vec::new(), in_scan: false, written: Vec::new() };
    checker.region(&entry.body)
}

fn duplicate(names: &[String]) -> Option<&String> {
    names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)).map(|(_, n)| n)
}

struct Checker<'a> {
    entry: &'a Entry,
    path: Vec<String>,
    indices: Vec<&'a str>,
    in_scan: bool,
    /// States that were changed, and how.
    written: Vec<(&'a str, Access)>,
}

/// What an op does with a state.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    Read,
    Update,
    Write,
}

/// The state that a node writes although what an earlier one wrote to it is used later.
fn overwritten(region: &Region, at: usize) -> Option<&str> {
    let Op::StateWrite(write) = &region.nodes[at].op else { return None };
    let is_same = |node: &&Node| matches!(&node.op, Op::StateWrite(other) if other.state == write.state);
    let is_used = |value: &ValueId| {
        region.results.contains(value) || region.nodes[at + 1..].iter().any(|node| node.operands.contains(value))
    };
    let is_lost = region.nodes[..at].iter().filter(is_same).any(|node| node.results.iter().any(is_used));
    is_lost.then_some(write.state.as_str())
}

impl<'a> Checker<'a> {
    fn error(&self, rule: impl Into<Rule>) -> VerifyError {
        VerifyError { entry: self.entry.name.clone(), place: self.path.join(", "), rule: rule.into() }
    }

    fn region(&mut self, region: &'a Region) -> Result<(), VerifyError> {
        let mut defined = vec![false; region.value_count()];
        self.define(&region.arguments, &mut defined)?;
        for (i, node) in region.nodes.iter().enumerate() {
            self.path.push(format!("node {i} ({})", node.op.name()));
            if let Some(o) = node.operands.iter().find(|o| !defined.get(o.index()).is_some_and(|d| *d)) {
                return Err(self.error(Rule::Dominance(o.0)));
            }
            let derived = node.op.result_types(&region.types_of(&node.operands)).map_err(|e| self.error(e))?;
            let recorded = region.types_of(&node.results);
            if derived != recorded {
                let list = |t: &[Type]| t.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
                let (recorded, derived) = (list(&recorded), list(&derived));
                return Err(self.error(Rule::RecordedType { recorded, derived }));
            }
            self.op(&node.op, &recorded)?;
            if let Some(state) = overwritten(region, i) {
                return Err(self.error(Rule::StateOrder(state.to_owned())));
            }
            self.define(&node.results, &mut defined)?;
            self.path.pop();
        }
        match region.results.iter().find(|r| !defined.get(r.index()).is_some_and(|d| *d)) {
            Some(r) => Err(self.error(Rule::Dominance(r.0))),
            None => Ok(()),
        }
    }

    fn define(&self, values: &[ValueId], defined: &mut [bool]) -> Result<(), VerifyError> {
        for v in values {
            match defined.get_mut(v.index()) {
                Some(d) if !*d => *d = true,
                _ => return Err(self.error(Rule::Redefinition(v.0))),
            }
        }
        Ok(())
    }

    fn op(&mut self, op: &'a Op, results: &[Type]) -> Result<(), VerifyError> {
        match op {
            Op::Param(p) => {
                self.indices.extend(p.stack.as_deref());
                self.template(&p.name)?;
                self.indices.truncate(self.indices.len() - usize::from(p.stack.is_some()));
            }
            Op::StateRead(s) => self.state(&s.state, &results[0], Access::Read)?,
            Op::StateUpdate(s) => self.state(&s.state, &results[0], Access::Update)?,
            Op::StateWrite(s) => self.state(&s.state, &results[0], Access::Write)?,
            Op::Repeat(r) => {
                self.indices.push(&r.index);
                self.region(&r.body)?;
                self.indices.pop();
            }
            Op::Scan(s) => {
                let outer = std::mem::replace(&mut self.in_scan, true);
                self.region(&s.body)?;
                self.in_scan = outer;
            }
            other => {
                if let Some(region) = other.region() {
                    self.region(region)?;
                }
            }
        }
        Ok(())
    }

    fn template(&self, name: &str) -> Result<(), VerifyError> {
        let known = |index: &str| self.indices.contains(&index).then_some(0);
        template::expand(name, &known).map(drop).map_err(|e| self.error(e))
    }

    fn state(&mut self, name: &'a str, ty: &Type, access: Access) -> Result<(), VerifyError> {
        self.template(name)?;
        if self.in_scan {
            return Err(self.error(Rule::StateInScan));
        }
        if !self.entry.states.iter().any(|s| s.name == name && s.ty == *ty) {
            return Err(self.error(Rule::State(name.to_owned())));
        }
        let before = self.written.iter().rev().find(|(written, _)| *written == name).map(|&(_, access)| access);
        if before.is_some_and(|before| (before, access) != (Access::Write, Access::Write)) {
            return Err(self.error(Rule::StateOrder(name.to_owned())));
        }
        if access != Access::Read {
            self.written.push((name, access));
        }
        Ok(())
    }
}
