//! castiron's runtime: loads artifacts and executes them.
//!
//! ```text
//!  artifact   reading files          program   what they tell the runtime to do
//!  session    executing them         bind      symbols become numbers, addresses are checked
//!  text       tokens and chats       plan      where buffers lie
//!  tasks      what models are for    cpu, gpu  what executes them
//!  tensor, memory, weights, cache   profile  where its time goes
//! ```
pub mod artifact;
pub mod bind;
pub mod cache;
pub mod cpu;
pub mod gpu;
pub mod memory;
pub mod plan;
pub mod profile;
pub mod program;
pub mod session;
pub mod tasks;
pub mod tensor;
pub mod text;
pub mod weights;
