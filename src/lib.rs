//! Quantize RWKV models to GGUF, run them with ggml, and measure what quantization costs.
//!
//! ```text
//! checkpoint -> arch mapping -> plan (recipe x tensors) -> quantized rows -> writer -> model.gguf
//! model.gguf -> map -> model + session -> hidden of each layer -> pooler -> metrics -> report
//! ```
#![deny(unsafe_code)]
#![deny(missing_docs)]

pub mod arch;
pub mod checkpoint;
pub mod convert;
pub mod embed;
pub mod error;
pub mod eval;
#[allow(unsafe_code)]
pub mod ggml;
pub mod gguf;
pub mod imatrix;
#[allow(unsafe_code)]
mod mmap;
pub mod model;
pub mod progress;
pub mod quant;
pub mod recipe;
pub mod shape;
#[allow(unsafe_code)]
mod simd;
pub mod tokenizer;

pub use error::{Error, Result};
pub use progress::{Progress, Silent};
pub use shape::Shape;
