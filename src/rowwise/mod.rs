//! What stands between the matrix products of RWKV-6, row by row: norms, token shift,
//! interpolation, activation functions, gates, and the recurrence, head by head.
//!
//! A row passes through the first-level cache once for a whole expression, where ggml's operations
//! take each step over all rows, by way of the memory. Every row is computed alone and in one
//! order of operations: its bits do not depend on its neighbours, the threads or the processor.
//! What is NaN or infinite stays so.
//!
//! Safe code over `simd`, which compiles it for each instruction set.

mod exponential;
mod norm;
mod recurrence;
mod rows;
#[cfg(test)]
mod tests;

pub use recurrence::{row_before, Recurrence};
pub use rows::Rows;
