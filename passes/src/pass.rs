//! What a pass is, and how one is run on a module.

use std::fmt;
use std::time::{Duration, Instant};

use castiron_ir::op::Op;
use castiron_ir::verify::{VerifyError, verify};
use castiron_ir::{BuildError, Entry, Module, Region};

use crate::dce;
use crate::rewrite::each_region;

/// The rewrite of one region.
type Rewrite = fn(&Region) -> Result<Region, BuildError>;

/// A transformation of regions that keeps their meaning.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Name in the pipeline, in `castiron opt --pass` and in pass tests.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// The rewrite of one region whose nested regions are done.
    pub region: Rewrite,
    /// Whether it divides regions into kernels, and has nothing to do in what is one kernel as a whole.
    pub divides: bool,
}

/// Why passes could not be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// No pass has that name.
    #[error("there is no pass `{name}`; the passes are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A pass wrote an op that does not take its operands.
    #[error("pass `{pass}`, entry `{entry}`: {source}")]
    Build {
        /// The pass.
        pass: &'static str,
        /// The entry.
        entry: String,
        /// The op and the rule.
        source: BuildError,
    },
    /// A pass left a module that breaks a rule of the IR.
    #[error("after pass `{pass}`: {source}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// The rule.
        source: VerifyError,
    },
}

/// What one pass did to a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The pass.
    pub pass: &'static str,
    /// Number of ops before, those of nested regions included.
    pub ops_before: usize,
    /// Number of ops after.
    pub ops_after: usize,
    /// How long it took.
    pub time: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.time.as_secs_f64() * 1e3;
        write!(f, "{:<15} {:>5} -> {:>5} ops {milliseconds:>8.2} ms", self.pass, self.ops_before, self.ops_after)
    }
}

impl Pass {
    /// A pass that keeps regions what they are.
    pub const fn rewrites(name: &'static str, about: &'static str, region: Rewrite) -> Pass {
        Pass { name, about, region, divides: false }
    }

    /// A pass that divides regions into kernels.
    pub const fn divides(name: &'static str, about: &'static str, region: Rewrite) -> Pass {
        Pass { name, about, region, divides: true }
    }

    /// Rewrites every region of a module; dead ops go.
    ///
    /// # Errors
    /// A fault of the pass: an op that does not take its operands.
    pub fn run(&self, module: &Module) -> Result<Module, PassError> {
        let rewrite = |region: &Region| dce::sweep(&(self.region)(region)?);
        // Clusters are finished and stay as they are.
        let enters = |op: &Op| match op {
            Op::Cluster(_) => false,
            Op::Scan(_) => !self.divides,
            _ => true,
        };
        let entries = module.entries.iter().map(|entry| {
            let body = each_region(&entry.body, &enters, &rewrite);
            let body =
                body.map_err(|source| PassError::Build { pass: self.name, entry: entry.name.clone(), source })?;
            Ok(Entry { body, ..entry.clone() })
        });
        Ok(Module { entries: entries.collect::<Result<_, _>>()? })
    }

    /// Rewrites, measures, and checks the result if asked.
    pub(crate) fn run_reported(&self, module: &Module, check: bool) -> Result<(Module, Report), PassError> {
        let start = Instant::now();
        let after = self.run(module)?;
        let time = start.elapsed();
        if check {
            verify(&after).map_err(|source| PassError::Verify { pass: self.name, source })?;
        }
        let ops = |m: &Module| m.entries.iter().map(|e| e.body.op_count()).sum();
        Ok((after.clone(), Report { pass: self.name, ops_before: ops(module), ops_after: ops(&after), time }))
    }
}
