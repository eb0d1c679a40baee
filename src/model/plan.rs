//! What a model needs of a device's memory, found out before a weight is copied.

use std::path::Path;
use std::sync::Arc;

use super::open::OpenOptions;
use super::{Device, Model, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::ggml::Upload;
use crate::gguf::GgufFile;

/// Bytes of a device's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlannedBytes {
    /// Weights, each padded as the device wants it.
    pub weights: u64,
    /// State of all lanes.
    pub state: u64,
    /// Intermediate values.
    pub compute: u64,
}

impl PlannedBytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.state).saturating_add(self.compute)
    }
}

/// How many layers fit, and what they take.
#[derive(Debug, Clone)]
pub struct MemoryPlan {
    /// The device.
    pub device: Device,
    /// Layers of the model.
    pub n_layer: usize,
    /// Bytes that may be used.
    pub available: u64,
    /// What the whole model needs.
    pub whole: PlannedBytes,
    /// Layers that fit, counted from the first.
    pub gpu_layers: usize,
    /// What these need.
    pub fitting: PlannedBytes,
}

/// Of the free memory this much is left to others, or the 32nd part if that is more.
const LEFT_FREE: u64 = 64 << 20;

impl MemoryPlan {
    /// A plan for the device of `options`, which must be there, and sessions as `session` says:
    /// full batches of texts of sixteen tokens or more, the means of every layer. Reads no weight
    /// and allocates nothing on the device.
    pub fn new(
        path: impl AsRef<Path>,
        options: &OpenOptions,
        session: &SessionOptions,
    ) -> Result<Self> {
        let Some(device) = options.device.clone() else {
            let what = "a plan is for the memory of a GPU, and the model would run on the CPU; \
                        rwkvq devices lists what there is";
            return Err(Error::argument(what));
        };
        let free = device.memory()?.free as u64;
        let free = free.saturating_sub(LEFT_FREE.max(free / 32));
        let available = options.device_memory.map_or(free, |limit| limit.min(free));
        let file = Arc::new(GgufFile::open_with(path.as_ref(), options.access)?);
        let needed = |gpu_layers: usize| {
            let options = OpenOptions { gpu_layers: Some(gpu_layers), ..options.clone() };
            let model = Arc::new(Model::from_file(Arc::clone(&file), &options, Upload::Never)?);
            let n_layer = model.hparams().n_layer;
            let mut session = Session::with(model, session.clone(), Upload::Never)?;
            let compute = session.measure()?.device as u64;
            let bytes = session.device_bytes().unwrap_or_default();
            Ok::<_, Error>((n_layer, PlannedBytes { compute, ..bytes }))
        };
        let (n_layer, whole) = needed(usize::MAX)?;
        // The most layers that fit: `low` do, `high` do not.
        let (mut low, mut high) = (0, n_layer);
        let mut fitting = PlannedBytes::default();
        if whole.total() <= available {
            (low, fitting) = (n_layer, whole);
        }
        while low + 1 < high {
            let middle = low.midpoint(high);
            let (_, bytes) = needed(middle)?;
            if bytes.total() <= available {
                (low, fitting) = (middle, bytes);
            } else {
                high = middle;
            }
        }
        Ok(Self { device, n_layer, available, whole, gpu_layers: low, fitting })
    }
}

impl OpenOptions {
    /// These options with as many layers on the device as it has the memory for; with the number
    /// asked for where that was given. The plan comes along where one was made.
    pub fn fitted(
        self,
        path: impl AsRef<Path>,
        session: &SessionOptions,
    ) -> Result<(Self, Option<MemoryPlan>)> {
        if self.device.is_none() {
            return Ok((self, None));
        }
        let plan = MemoryPlan::new(path.as_ref(), &self, session)?;
        match self.gpu_layers {
            None => Ok((Self { gpu_layers: Some(plan.gpu_layers), ..self }, Some(plan))),
            Some(asked) if asked.min(plan.n_layer) <= plan.gpu_layers => Ok((self, Some(plan))),
            Some(asked) => Err(Error::argument(format!(
                "{}: {asked} layers do not fit in the {} bytes of {} that may be used; --gpu-layers \
                 {} do",
                path.as_ref().display(),
                plan.available,
                plan.device,
                plan.gpu_layers
            ))),
        }
    }
}
