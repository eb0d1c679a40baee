//! The GPU of tests that need one.

use std::sync::OnceLock;

use rwkvq::model::{Device, DeviceChoice, OpenOptions};

/// The first GPU; the software device counts too.
pub fn first() -> Option<Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| {
        // Otherwise CUDA rounds factors to 11 bits, and Vulkan does: see docs/gpu.md.
        std::env::set_var("NVIDIA_TF32_OVERRIDE", "0");
        std::env::set_var("GGML_VK_DISABLE_F16", "1");
        // ggml hides devices of the CPU's kind unless they are asked for by number.
        if std::env::var_os("GGML_VK_VISIBLE_DEVICES").is_none() {
            std::env::set_var("GGML_VK_VISIBLE_DEVICES", "0");
        }
        DeviceChoice::Auto.find().expect("a list of devices")
    });
    if gpu.is_none() {
        assert!(std::env::var_os("RWKVQ_REQUIRE_GPU").is_none(), "no GPU");
        println!("skipped: no GPU backend in this build, or no GPU here");
    }
    gpu.clone()
}

/// All layers on `device`.
pub fn on(device: &Device) -> OpenOptions {
    OpenOptions { device: Some(device.clone()), ..Default::default() }
}
