//! The pipeline: which passes run, in which order, and why there.

use castiron_ir::Module;

use crate::pass::{Pass, PassError, Report};
use crate::{canonicalize, cluster, convolution, cse, dce, fuse, merge_linears, simplify};

/// Every pass, by name.
pub const PASSES: &[Pass] = &[
    Pass::rewrites("expand-conv", "convolutions as windows and products", convolution::run),
    Pass::rewrites("canonicalize", "one spelling for what has several; constants folded", canonicalize::run),
    Pass::rewrites("cse", "equal ops on equal operands once", cse::run),
    Pass::rewrites("dce", "what nothing depends on goes", dce::run),
    Pass::rewrites("fuse-attention", "softmax(scale·q·kᵀ …)·v as one op", fuse::attention::run),
    Pass::rewrites("fuse-norm", "RMS and layer norms as one op", fuse::norm::run),
    Pass::rewrites("fuse-softmax", "softmax over the last axis as one op", fuse::softmax::run),
    Pass::rewrites("fuse-recurrence", "scans that kernels know as one op", fuse::recurrence::run),
    Pass::rewrites("fuse-rope", "rotary positions as one op", fuse::rope::run),
    Pass::rewrites("simplify", "algebra, activations and gating by equality saturation", simplify::run),
    Pass::rewrites("merge-linears", "linears with one input become one", merge_linears::run),
    Pass::divides("cluster", "the ops of each kernel in one cluster", cluster::run),
];

/// Passes in order, each with the reason why it stands there.
const OPTIMIZE: &[(&str, &str)] = &[
    ("expand-conv", "first: what it writes is plain ops like any others"),
    ("canonicalize", "the fusions compare canonical forms"),
    ("cse", "values that are equal have to be one value for a fusion to see it"),
    ("dce", "what is dead would count as another use"),
    ("fuse-recurrence", "before other passes look into steps"),
    ("fuse-attention", "first of the rest: its definition contains a softmax"),
    ("fuse-norm", "before algebra moves the factors that its definition multiplies with"),
    ("fuse-softmax", "what is not inside an attention"),
    ("fuse-rope", "reads the slices as the model wrote them"),
    ("simplify", "on what is left: fewer and larger elementwise trees, and the gated MLPs"),
    ("merge-linears", "after gating has taken gate and up, which have a kernel of their own"),
    ("canonicalize", "tidies the slices of merged linears and what algebra left"),
    ("cse", "weights that were copied to where they are merged"),
    ("dce", "the operands of layers that became unused"),
];

/// What follows once the graph is as small as it gets.
const CLUSTER: &[(&str, &str)] = &[("cluster", "last: clusters are kernels, and no pass looks into them")];

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The optimised graph.
    Optimized,
    /// Divided into kernels.
    Kernels,
}

/// What to leave out, and what to check.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names of passes that are not run.
    pub disable: Vec<String>,
    /// Whether the verifier runs after each pass.
    pub verify_each: bool,
}

/// The passes of a stage in order, each with its reason.
pub fn pipeline(stage: Stage) -> Vec<(&'static Pass, &'static str)> {
    let steps = match stage {
        Stage::Optimized => OPTIMIZE.to_vec(),
        Stage::Kernels => [OPTIMIZE, CLUSTER].concat(),
    };
    let known = "the pipeline names passes of the table";
    steps.into_iter().map(|(name, reason)| (find(name).expect(known), reason)).collect()
}

/// Runs the pipeline up to a stage.
///
/// # Errors
/// Unknown names in the options, or a fault of a pass.
pub fn run(module: &Module, stage: Stage, options: &Options) -> Result<(Module, Vec<Report>), PassError> {
    options.disable.iter().try_for_each(|name| find(name).map(drop))?;
    let (mut module, mut reports) = (module.clone(), Vec::new());
    for (pass, _) in pipeline(stage) {
        if options.disable.iter().any(|name| name == pass.name) {
            continue;
        }
        let (after, report) = pass.run_reported(&module, options.verify_each)?;
        module = after;
        reports.push(report);
    }
    Ok((module, reports))
}

/// Runs passes by name, in the given order, and verifies after each.
///
/// # Errors
/// An unknown name, or a fault of a pass.
pub fn run_named(names: &[&str], module: &Module) -> Result<Module, PassError> {
    let passes = names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    passes.into_iter().try_fold(module.clone(), |module, pass| Ok(pass.run_reported(&module, true)?.0))
}

/// The pass of a name.
///
/// # Errors
/// An unknown name, with the known ones.
pub fn find(name: &str) -> Result<&'static Pass, PassError> {
    PASSES.iter().find(|p| p.name == name).ok_or_else(|| {
        let known = PASSES.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        PassError::Unknown { name: name.to_owned(), known }
    })
}
