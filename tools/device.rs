//! Which device runs a model, and how much of it.

use rwkvq::mmap::Access;
use rwkvq::model::{DeviceChoice, MemoryPlan, OpenOptions, SessionOptions};
use rwkvq::{Error, Result};

use crate::memory::Memory;
use crate::output::human_bytes;

const AUTO: &str = "auto";

/// The options that every verb has which runs a model on a device of choice.
#[derive(Debug, Clone, clap::Args)]
pub struct Device {
    /// auto (a GPU if this program has the backend and the machine has one, else the CPU), cpu,
    /// cuda, vulkan or metal; :N for another than the first
    #[arg(long, default_value = AUTO, value_name = "DEVICE")]
    device: String,
    /// Layers that run on the GPU, counted from the first; the CPU runs the others [default: as
    /// many as its memory holds]
    #[arg(long, value_name = "N")]
    gpu_layers: Option<usize>,
    /// Most of the GPU's memory to plan with, in MiB [default: what is free, less a little]
    #[arg(long, value_name = "MIB")]
    device_memory: Option<u64>,
    #[command(flatten)]
    memory: Memory,
}

impl Device {
    /// Fails if any of these options was given, which `why` says is of no use.
    pub fn refuse(&self, why: &str) -> Result<()> {
        let given = [
            (self.device != AUTO, "--device"),
            (self.gpu_layers.is_some(), "--gpu-layers"),
            (self.device_memory.is_some(), "--device-memory"),
            (self.memory.access() == Access::Read, "--no-mmap"),
        ];
        match given.into_iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(Error::argument(format!("{option}: {why}"))),
            None => Ok(()),
        }
    }

    /// How models are opened; says so where a GPU was hoped for and there is none.
    pub fn open(&self) -> Result<OpenOptions> {
        let choice: DeviceChoice = self.device.parse()?;
        let device = choice.find()?;
        if let (None, Some(note)) = (&device, choice.without_gpu()) {
            eprintln!("{note}");
        }
        if device.is_none() && (self.gpu_layers.is_some() || self.device_memory.is_some()) {
            let what =
                "--gpu-layers and --device-memory are for a GPU, and the model runs on the CPU";
            return Err(Error::argument(what));
        }
        let device_memory = self.device_memory.map(|mib| mib.saturating_mul(1 << 20));
        let access = self.memory.access();
        Ok(OpenOptions { access, device, gpu_layers: self.gpu_layers, device_memory })
    }
}

/// Says so where only a part of the model fits.
pub fn say(plan: &MemoryPlan) {
    if plan.gpu_layers < plan.n_layer {
        eprintln!(
            "{} of {} layers fit in the {} of {} that may be used; the CPU runs the others",
            plan.gpu_layers,
            plan.n_layer,
            human_bytes(plan.available),
            plan.device
        );
    }
}

/// How a model opened so is run.
pub fn session(
    open: &OpenOptions,
    batch_tokens: Option<usize>,
    threads: Option<usize>,
) -> SessionOptions {
    let default = SessionOptions::default();
    let device = open.device.as_ref();
    let batch_tokens = batch_tokens.unwrap_or_else(|| SessionOptions::batch_tokens_for(device));
    SessionOptions {
        n_threads: threads.unwrap_or(default.n_threads),
        batch_tokens,
        n_lanes: SessionOptions::lanes_for(device, batch_tokens),
        ..default
    }
}
