//! A GPU that has not the memory: an error with a remedy.
//!
//! The limit is one of the whole process, so this is a program of its own. It binds devices that
//! live in the system's memory; what a GPU with memory of its own refuses is planned for
//! (`tests/gpu.rs`).
#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;

use common::{gguf, gpu, run};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use rwkvq::checkpoint::random::Spec;
use rwkvq::model::{Model, Session, SessionOptions};

/// Address space of this process.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("facts of the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("its size");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

#[test]
fn memory_that_the_device_has_not_is_an_error() {
    let Some(device) = gpu::first() else { return };
    if !device.description().contains("llvmpipe") {
        println!("skipped: {device} has memory of its own");
        return;
    }
    let spec = Spec { n_layer: 3, n_embd: 256, head_size: 64, n_vocab: 400, ..Spec::default() };
    let file = gguf::random(&spec, "f32");
    let model = Arc::new(Model::open_with(&file.path, gpu::on(&device)).unwrap());
    // 0.8 GB of state, and 0.3 GB to have it in.
    let lanes = SessionOptions { batch_tokens: 1 << 14, n_lanes: 1 << 12, ..run::one_thread() };
    let former = getrlimit(Resource::As);
    let limit = Rlimit { current: Some(address_space() + (300 << 20)), ..former };
    setrlimit(Resource::As, limit).expect("a lower limit");
    let message = Session::new(Arc::clone(&model), lanes).unwrap_err().to_string();
    setrlimit(Resource::As, former).expect("the former limit");
    assert!(message.starts_with(&format!("{device}: no ")), "{message}");
    assert!(message.contains("for the state") && message.contains("--gpu-layers"), "{message}");
    // Nothing is broken by it.
    let ids = [run::ids(5, 1, 400)];
    let mut embedder = run::embedder(&model, rwkvq::embed::Pooling::Mean, run::one_thread());
    assert_eq!(run::vectors(&mut embedder, &ids).len(), 1);
}
