//! Memory of a GPU as its own driver counts it, and the most of it that was in use meanwhile.
//!
//! In: a device. Out: bytes, and who counted them. CUDA's driver is asked through NVML, which tells
//! what this process uses; the others through ggml, which tells what is free for everyone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::ggml::Device;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(5);

/// Bytes in use and who counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    /// The bytes.
    pub bytes: u64,
    /// `nvml`, or `ggml` where the driver was asked by way of it.
    pub source: &'static str,
}

/// What is in use of the device's memory now: by this process where NVML tells, else by everyone.
pub fn in_use(device: &Device) -> Option<InUse> {
    #[cfg(feature = "cuda")]
    if let Some(bytes) = nvml::in_use(device) {
        return Some(InUse { bytes, source: "nvml" });
    }
    let memory = device.memory().ok()?;
    let bytes = memory.total.saturating_sub(memory.free) as u64;
    Some(InUse { bytes, source: "ggml" })
}

/// Compute capability of an NVIDIA GPU, such as `7.5`.
pub fn compute_capability(device: &Device) -> Option<String> {
    #[cfg(feature = "cuda")]
    return nvml::compute_capability(device);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        None
    }
}

/// Watches a device until it is asked for the peak.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<InUse>>,
}

impl Watch {
    /// Looks at the device every few milliseconds from now on.
    pub fn start(device: &Device) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (device, asked) = (device.clone(), Arc::clone(&stop));
        let before = in_use(&device);
        let thread = std::thread::spawn(move || {
            let mut peak = before?;
            while !asked.load(Ordering::Relaxed) {
                std::thread::sleep(INTERVAL);
                if let Some(now) = in_use(&device).filter(|now| now.source == peak.source) {
                    peak.bytes = peak.bytes.max(now.bytes);
                }
            }
            let risen = peak.bytes.saturating_sub(before?.bytes);
            Some(InUse { bytes: risen, ..peak })
        });
        Self { stop, thread }
    }

    /// How far the bytes in use have risen at most since the start. `None` if the driver does not
    /// tell, or its number has not moved (software devices count nothing).
    pub fn peak(self) -> Option<InUse> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().flatten().filter(|peak| peak.bytes > 0)
    }
}

#[cfg(feature = "cuda")]
mod nvml {
    use std::sync::OnceLock;

    use nvml_wrapper::enums::device::UsedGpuMemory;
    use nvml_wrapper::{Device as Gpu, Nvml};

    use crate::ggml::Device;

    fn gpu(device: &Device) -> Option<Gpu<'static>> {
        static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
        let nvml = NVML.get_or_init(|| Nvml::init().ok()).as_ref()?;
        let bus_id = device.bus_id().filter(|_| device.backend() == "cuda")?;
        nvml.device_by_pci_bus_id(bus_id).ok()
    }

    /// Bytes that this process uses.
    pub fn in_use(device: &Device) -> Option<u64> {
        let processes = gpu(device)?.running_compute_processes().ok()?;
        let ours = processes.iter().find(|process| process.pid == std::process::id())?;
        match ours.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        }
    }

    pub fn compute_capability(device: &Device) -> Option<String> {
        let capability = gpu(device)?.cuda_compute_capability().ok()?;
        Some(format!("{}.{}", capability.major, capability.minor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_whose_memory_does_not_move_has_no_peak() {
        let cpu = Device::cpu().unwrap();
        let now = in_use(&cpu).unwrap();
        assert_eq!(now.source, "ggml");
        // ggml calls all memory of the CPU free.
        assert_eq!(Watch::start(&cpu).peak(), None);
    }
}
