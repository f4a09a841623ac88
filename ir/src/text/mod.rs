//! Text form of the IR: what is printed parses back to an equal module.
//!
//! ```text
//! entry forward(%ids: i32[b,s], %past: i32[b]) state("layers.{i}.key": 2 x f32[b,3,c,8]) -> (logits) {
//!   %0 = param "embed.weight" : f32[97,24]
//!   %1 = gather %0, %ids axis=0 : f32[b,s,24]
//!   %2 = repeat count=2 index="i" carried=1 (%x = %1) {
//!     %0 = silu %x : f32[b,s,24]
//!     yield %0
//!   } : f32[b,s,24]
//!   return %2
//! }
//! ```
//! Values are numbered anew in each region, since regions are closed. `;` starts a comment.

mod cursor;
mod parse;
mod print;
#[cfg(test)]
mod tests;

pub use cursor::{Cursor, ParseError};
pub use parse::parse_module;
pub use print::print_entry;
