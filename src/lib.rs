//! Quantize RWKV models to GGUF, run them with ggml, and measure what quantization costs.
//!
//! ```text
//! checkpoint -> arch mapping -> plan (recipe x tensors) -> quantized rows -> writer -> model.gguf
//! model.gguf -> map -> model + session -> hidden of each layer -> pooler -> metrics -> report
//! ```
//!
//! The GGUF file is the waist: [`checkpoint`], [`arch`], [`recipe`], [`quant`] and [`convert`] make
//! one, [`model`], [`embed`] and [`eval`] read it. The library prints nothing and never exits; long
//! operations report to a [`Progress`] and end when it cancels.
//!
//! ```
//! use std::sync::Arc;
//! use rwkvq::convert::{self, ConvertOptions, Job};
//! use rwkvq::embed::{EmbedOptions, Embedder};
//! use rwkvq::model::{LayerSelection, Model};
//! use rwkvq::recipe::Recipe;
//! use rwkvq::Silent;
//!
//! # fn main() -> rwkvq::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let out = folder.path().join("fixture-q8_0.gguf");
//! # let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/finch-fixture");
//! // From a checkpoint to a GGUF.
//! let source = convert::open(source, None)?;
//! let job = Job::new(source.as_ref(), &Recipe::open("q8_0")?, out.clone())?;
//! convert::run(source.as_ref(), &[job], ConvertOptions::default(), &Silent)?;
//!
//! // From a GGUF to embeddings of every layer.
//! let model = Arc::new(Model::open(&out)?);
//! let options = EmbedOptions { layers: LayerSelection::all(), ..Default::default() };
//! let mut embedder = Embedder::new(&model, options)?;
//! let embeddings = embedder.embed(&["Hello world!", "Good morning."])?;
//! assert_eq!(embeddings.layers.len(), model.hparams().n_layer + 1);
//! assert_eq!(embeddings.get(1, 0).len(), model.hparams().n_embd);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
#![deny(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("weights are used as they lie in a GGUF file, which is little-endian");

pub mod arch;
pub mod bench;
pub mod calibrate;
pub mod checkpoint;
pub mod convert;
pub mod driver;
pub mod embed;
pub mod error;
pub mod eval;
#[cfg(feature = "pictures")]
pub mod figures;
#[allow(unsafe_code)]
pub mod ggml;
pub mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
pub mod imatrix;
pub mod matmul;
#[allow(unsafe_code)]
pub mod mmap;
pub mod model;
#[cfg(feature = "pictures")]
pub mod page;
pub mod progress;
pub mod quant;
pub mod recipe;
mod rowwise;
pub mod shape;
#[allow(unsafe_code)]
mod simd;
pub mod tokenizer;

pub use error::{Error, Result};
pub use progress::{Progress, Silent};
pub use shape::Shape;

// The program in the README must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
