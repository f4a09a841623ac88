//! The op table: every op of the IR, declared once.
//!
//! An op is a struct of attributes. Its file holds its doc, text name, type rule and reference
//! evaluation; its attributes' text follows from the fields. Plain ops have an evaluation; fused
//! ops ([`fused`]) have an expansion into plain ops, which is their definition.

pub(crate) mod attributes;
mod contract;
mod elementwise;
pub mod fused;
mod index;
mod leaf;
mod map;
mod movement;
mod reduce;
mod region;
mod sequence;
mod state;
mod state_space;

pub use contract::{ChosenAxes, Conv, Dot};
pub use elementwise::{BinaryOp, UnaryOp};
pub use fused::{Attention, GatedMlp, LinearAttention, Norm, NormKind, Rope, SelectiveScan, Softmax};
pub use index::{Gather, Scatter, ScatterMode, TopK};
pub use leaf::{Constant, Extent, Iota, Param};
pub use map::{Binary, Cast, Select, Unary};
pub use movement::{Broadcast, Concat, Pad, Reshape, Slice, Transpose, Window, broadcast_shapes, window_positions};
pub use reduce::{Reduce, ReduceKind};
pub use region::{Cluster, ClusterKind, Repeat, Scan};
pub use sequence::{FftConv, LinearRecurrence};
pub use state::{StateRead, StateUpdate, StateWrite};
pub use state_space::{StatePart, StateSpace};

use crate::graph::Region;
use crate::interpret::{EvalError, Frame};
use crate::tensor::Tensor;
use crate::text::{Cursor, ParseError};
use crate::types::Type;

/// A type rule that does not hold, in the op's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeError(pub String);

/// Fails with a formatted [`TypeError`] unless a condition holds.
macro_rules! require {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::op::TypeError(format!($($message)+)));
        }
    };
}
pub(crate) use require;

/// What an op declares about itself.
pub trait OpDef {
    /// Name in the text form.
    fn name(&self) -> &'static str;

    /// The type rule.
    ///
    /// # Errors
    /// Operand types that break it.
    fn result_types(&self, operands: &[Type]) -> Result<Vec<Type>, TypeError>;

    /// Reference evaluation on operands that satisfy the type rule.
    ///
    /// # Errors
    /// What only values can break: an index out of range, a missing parameter.
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError>;

    /// Takes the type that the text form declares, for ops whose type does not follow from operands.
    fn set_declared_type(&mut self, _ty: &Type) {}

    /// The nested region, if the op holds one.
    fn region(&self) -> Option<&Region> {
        None
    }

    /// The nested region for change.
    fn region_mut(&mut self) -> Option<&mut Region> {
        None
    }

    /// Types of the nested region's arguments; one argument for each operand.
    ///
    /// # Errors
    /// Operand types that the op cannot pass on.
    fn region_argument_types(&self, operands: &[Type]) -> Result<Vec<Type>, TypeError> {
        Ok(operands.to_vec())
    }

    /// The plain ops that define a fused op; `None` for plain ops.
    fn as_fused(&self) -> Option<&dyn fused::FusedOp> {
        None
    }
}

/// Text form of an op's attributes; implemented by the `attributes!` macro.
pub(crate) trait Syntax: Sized {
    fn print_attributes(&self, out: &mut String);
    fn parse_attributes(name: &str, cursor: &mut Cursor<'_>) -> Result<Self, ParseError>;
}

/// Declares [`Op`] as the sum of the op structs.
macro_rules! ops {
    ($($Variant:ident $(($($names:tt)+))? $(= $name:literal)?,)+) => {
        /// An op with its attributes.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // each variant is documented at its struct
        pub enum Op { $($Variant($Variant),)+ }

        impl Op {
            fn def(&self) -> &dyn OpDef {
                match self { $(Op::$Variant(op) => op,)+ }
            }

            fn def_mut(&mut self) -> &mut dyn OpDef {
                match self { $(Op::$Variant(op) => op,)+ }
            }

            /// Appends the attributes' text, ` key=value` each.
            pub fn print_attributes(&self, out: &mut String) {
                match self { $(Op::$Variant(op) => op.print_attributes(out),)+ }
            }

            /// Reads the attributes of the op of that name.
            ///
            /// # Errors
            /// An unknown op, or attributes that it does not have.
            pub fn parse(name: &str, cursor: &mut Cursor<'_>) -> Result<Op, ParseError> {
                $(if ops!(@matches name $Variant $(($($names)+))? $(= $name)?) {
                    return $Variant::parse_attributes(name, cursor).map(Op::$Variant);
                })+
                Err(cursor.error(format!("`{name}` is not an op")))
            }
        }

        $(impl From<$Variant> for Op {
            fn from(op: $Variant) -> Op {
                Op::$Variant(op)
            }
        })+
    };
    (@matches $name:ident $Variant:ident = $literal:literal) => { $name == $literal };
    (@matches $name:ident $Variant:ident ($Function:ident)) => { $Function::from_name($name).is_some() };
}

ops! {
    // Leaves
    Param = "param",
    Constant = "constant",
    Iota = "iota",
    Extent = "extent",
    // State
    StateRead = "state_read",
    StateUpdate = "state_update",
    StateWrite = "state_write",
    // Elementwise
    Unary(UnaryOp),
    Binary(BinaryOp),
    Select = "select",
    Cast = "cast",
    // Movement
    Reshape = "reshape",
    Transpose = "transpose",
    Broadcast = "broadcast",
    Slice = "slice",
    Window = "window",
    Pad = "pad",
    Concat = "concat",
    // Indexing
    Gather = "gather",
    Scatter = "scatter",
    TopK = "top_k",
    // Reduction and contraction
    Reduce = "reduce",
    Dot = "dot",
    Conv = "conv",
    // Sequences
    LinearRecurrence = "linear_recurrence",
    FftConv = "fft_conv",
    StateSpace = "state_space",
    // Regions
    Repeat = "repeat",
    Scan = "scan",
    Cluster = "cluster",
    // Fused, made by passes
    Softmax = "softmax",
    Norm = "norm",
    Rope = "rope",
    Attention = "attention",
    GatedMlp = "gated_mlp",
    LinearAttention = "linear_attention",
    SelectiveScan = "selective_scan",
}

impl OpDef for Op {
    fn name(&self) -> &'static str {
        self.def().name()
    }
    fn result_types(&self, operands: &[Type]) -> Result<Vec<Type>, TypeError> {
        self.def().result_types(operands)
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        self.def().evaluate(operands, frame)
    }
    fn set_declared_type(&mut self, ty: &Type) {
        self.def_mut().set_declared_type(ty);
    }
    fn region(&self) -> Option<&Region> {
        self.def().region()
    }
    fn region_mut(&mut self) -> Option<&mut Region> {
        self.def_mut().region_mut()
    }
    fn region_argument_types(&self, operands: &[Type]) -> Result<Vec<Type>, TypeError> {
        self.def().region_argument_types(operands)
    }
    fn as_fused(&self) -> Option<&dyn fused::FusedOp> {
        self.def().as_fused()
    }
}

/// Fails unless there are exactly `N` operands.
pub(crate) fn operands<const N: usize>(types: &[Type]) -> Result<&[Type; N], TypeError> {
    types.try_into().map_err(|_| TypeError(format!("takes {N} operands, has {}", types.len())))
}
