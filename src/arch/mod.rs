//! RWKV facts as data: which architecture a checkpoint is, its sizes, how its tensors are named
//! and shaped in a GGUF, which metadata goes with them.
//!
//! In: names and shapes of a checkpoint's tensors, its config.json. Out: [`Hparams`] and one
//! [`Target`] per tensor of the GGUF. Pure; uses `error`, `shape` and ggml's types.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod detect;
mod hparams;
pub mod keys;
mod mapping;
pub mod rwkv6;

pub use detect::{detect, Dialect};
pub use hparams::Hparams;
pub use mapping::{map, Target, Transform};

use crate::shape::Shape;

/// Name and shape of a tensor of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Full name, as the checkpoint spells it.
    pub name: &'a str,
    /// Extent in ggml order.
    pub shape: Shape,
}
