//! How a model is opened, and which of its weights a device gets.

use super::weights::Weights;
use crate::ggml::{Device, MappedTensor};
use crate::mmap::Access;

/// How a model is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// How the file gets into memory.
    pub access: Access,
    /// The device that runs the model; the CPU, with the weights where they are, if absent.
    pub device: Option<Device>,
    /// Layers that run on the device, counted from the first; all if absent. The others run on the
    /// CPU. [`fitted`](Self::fitted) finds how many the device has the memory for.
    pub gpu_layers: Option<usize>,
    /// Most bytes of the device's memory that [`fitted`](Self::fitted) plans with.
    pub device_memory: Option<u64>,
}

impl From<Access> for OpenOptions {
    fn from(access: Access) -> Self {
        Self { access, ..Self::default() }
    }
}

/// Marks the tensors that go to the device: those of the first `gpu_layers` layers, the token
/// table with them, and with the last layer what comes after it. A matrix of a type that the device
/// cannot multiply stays where the CPU reads it: else it would be fetched for every run.
pub(super) fn place(
    weights: &Weights,
    mapped: &mut [MappedTensor],
    gpu_layers: usize,
    n_layer: usize,
    device: &Device,
) {
    if gpu_layers == 0 {
        return;
    }
    let mut mark = |index: usize| {
        let tensor = &mapped[index];
        let is_matrix = tensor.shape.ne()[1] > 1;
        let runs = match index == weights.token_embd {
            true => device.picks_rows(tensor.ty, tensor.shape),
            false => !is_matrix || device.multiplies(tensor.ty, tensor.shape),
        };
        mapped[index].on_device = runs;
    };
    mark(weights.token_embd);
    weights.token_embd_norm.tensors().for_each(&mut mark);
    weights.layers.iter().take(gpu_layers).flat_map(|layer| layer.tensors()).for_each(&mut mark);
    if gpu_layers >= n_layer {
        weights.output_norm.tensors().for_each(&mut mark);
        mark(weights.output);
    }
}
