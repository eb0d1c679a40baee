//! ggml, made safe: tensor types, row conversion, quantizers, graphs, backends.
//!
//! ggml aborts the process when a shape or a type is not what it wants. So every function here
//! checks the same condition first and panics with both sides of it: that is a bug of the caller
//! in this crate. Numbers that come from a file are checked where the file is read, before they
//! reach this layer, and become an [`Error`](crate::Error) there. No raw pointer leaves this room.

mod arena;
mod cores;
mod cpu;
mod device;
mod engine;
mod executor;
mod fused;
mod graph;
mod guard;
mod info;
mod pool;
mod product;
mod rows;
mod tensor_type;
mod tensors;

pub use crate::rowwise::Rows;
pub use cores::n_cores;
pub use device::{Device, DeviceChoice, DeviceKind, DeviceMemory};
pub use executor::{ComputeBytes, Executor};
pub use fused::RecurrenceNodes;
pub use graph::{Graph, Node};
use info::silence_log;
pub use info::{isa, version};
pub use pool::SegmentPool;
pub use product::{format_of, Products};
pub use rows::{all_finite, quantize, requires_importance, to_f32};
pub use tensor_type::TensorType;
pub use tensors::{MappedTensor, MappedTensors, StateTensors, Upload};
