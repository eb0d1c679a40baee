//! Models on a GPU: the same embeddings as on the CPU, memory as planned, refusals with a remedy.
//!
//! A build without a GPU backend, and a machine without a GPU, skip with a message; where
//! RWKVQ_REQUIRE_GPU is set that is a failure. Vulkan's software driver will do.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::rounding::Expected;
use common::{cosine, from_gguf, gguf, gpu, reference, run};
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::{Embedder, Pooling};
use rwkvq::model::{MemoryPlan, Model, OpenOptions, PlannedBytes};

/// Two layers with heads of 64, which every backend computes.
fn spec() -> Spec {
    Spec { n_layer: 3, n_embd: 256, head_size: 64, n_vocab: 400, ..Spec::default() }
}

fn embedder(path: &Path, open: OpenOptions, pooling: Pooling, lanes: usize) -> Embedder {
    let model = Arc::new(Model::open_with(path, open).expect("a model on the device"));
    run::embedder(&model, pooling, run::session(128, lanes))
}

/// Texts of 3 to 58 tokens.
fn texts() -> Vec<Vec<u32>> {
    (0..12).map(|t| run::ids(3 + 5 * t, t, 400)).collect()
}

#[track_caller]
fn assert_alike(what: &str, expected: &run::Vectors, found: &run::Vectors, limit: f64) {
    for (t, (a, b)) in expected.iter().zip(found).enumerate() {
        for (layer, (a, b)) in a.iter().zip(b).enumerate() {
            let cosine = cosine(a, b);
            assert!(cosine > limit, "{what}, text {t}, layer {layer}: cosine {cosine}");
        }
    }
}

/// The bounds are those of the CPU's products: a device rounds activations as they do, or less.
#[test]
fn every_level_is_the_reference_but_for_rounding() {
    let Some(device) = gpu::first() else { return };
    for preset in ["f32", "f16", "bf16", "q8_0", "q5_k", "q4_k"] {
        let file = gguf::random(&spec(), preset);
        let (reference, types) = from_gguf::open(&file.path);
        let mut gpu = embedder(&file.path, gpu::on(&device), Pooling::Mean, 4);
        let found = run::vectors(&mut gpu, &texts());
        for (t, (ids, found)) in texts().iter().zip(&found).enumerate() {
            let expected = Expected::new(&reference, &types, ids);
            expected.assert_layers(&format!("{preset}, text {t}"), reference::mean, found);
        }
        let session = gpu.session();
        assert_eq!(session.left_to_cpu().collect::<Vec<_>>(), [""; 0], "{preset}");
        // Every tensor of the file is on the device.
        let model = session.model();
        let of_file: u64 = model.file().tensors().iter().map(|tensor| tensor.bytes).sum();
        assert_eq!(model.device_weights_bytes() as u64, of_file, "{preset}");
        assert!(session.device_bytes().unwrap().weights >= of_file);
    }
}

#[test]
fn every_pooling() {
    let Some(device) = gpu::first() else { return };
    let file = gguf::random(&spec(), "f32");
    for (pooling, left) in [(Pooling::Last, false), (Pooling::Max, true)] {
        let mut cpu = embedder(&file.path, OpenOptions::default(), pooling, 1);
        let mut gpu = embedder(&file.path, gpu::on(&device), pooling, 2);
        let [expected, found] = [&mut cpu, &mut gpu].map(|e| run::vectors(e, &texts()));
        assert_alike(&pooling.to_string(), &expected, &found, 0.99999);
        // The maximum over the rows of a text is no operation of ggml's.
        let names: Vec<_> = gpu.session().left_to_cpu().collect();
        assert_eq!(names == ["custom"], left, "{names:?}");
    }
}

#[test]
fn a_part_of_the_layers_on_the_device() {
    let Some(device) = gpu::first() else { return };
    for preset in ["q4_k"] {
        let file = gguf::random(&spec(), preset);
        let mut cpu = embedder(&file.path, OpenOptions::default(), Pooling::Mean, 1);
        let expected = run::vectors(&mut cpu, &texts());
        let mut weights = 0;
        for gpu_layers in 0..=3 {
            let open = OpenOptions { gpu_layers: Some(gpu_layers), ..gpu::on(&device) };
            let mut part = embedder(&file.path, open, Pooling::Mean, 2);
            let found = run::vectors(&mut part, &texts());
            assert_alike(&format!("{preset}, {gpu_layers}"), &expected, &found, 0.999);
            let model = part.session().model();
            assert_eq!(model.gpu_layers(), gpu_layers);
            assert!(gpu_layers == 0 || model.device_weights_bytes() > weights);
            weights = model.device_weights_bytes();
        }
    }
}

/// ggml's Vulkan shader computes something else for such heads, and says nothing.
#[test]
fn heads_that_the_device_computes_wrongly_run_on_the_cpu() {
    let Some(device) = gpu::first() else { return };
    for head_size in [32] {
        if device.runs_recurrence(head_size) {
            continue;
        }
        let file = gguf::random(&Spec { head_size, ..spec() }, "f32");
        let mut cpu = embedder(&file.path, OpenOptions::default(), Pooling::Mean, 1);
        let mut gpu = embedder(&file.path, gpu::on(&device), Pooling::Mean, 2);
        let [expected, found] = [&mut cpu, &mut gpu].map(|e| run::vectors(e, &texts()));
        assert_alike(&format!("heads of {head_size}"), &expected, &found, 0.99999);
        let left: Vec<_> = gpu.session().left_to_cpu().collect();
        assert_eq!(left, ["rwkv_wkv6"], "heads of {head_size}");
    }
}

fn within_a_hundredth(what: &str, planned: u64, found: u64) {
    let apart = planned.abs_diff(found) as f64 / found.max(1) as f64;
    assert!(apart <= 0.01, "{what}: {planned} planned, {found} allocated");
}

#[test]
fn the_plan_is_what_is_allocated() {
    let Some(device) = gpu::first() else { return };
    let shapes = [
        spec(),
        Spec { n_layer: 5, n_embd: 128, n_ff: Some(512), ..spec() },
        Spec { n_layer: 2, n_embd: 512, n_vocab: 900, ..spec() },
    ];
    for (i, spec) in shapes.iter().enumerate() {
        for preset in ["f32", "f16", "q8_0", "q5_k", "q4_k"] {
            let what = format!("shape {i} {preset}");
            let file = gguf::random(spec, preset);
            let options = run::session(128, 4);
            let plan = MemoryPlan::new(&file.path, &gpu::on(&device), &options).unwrap();
            assert_eq!(plan.gpu_layers, spec.n_layer, "{what}");
            assert_eq!(plan.fitting, plan.whole, "{what}");
            // A batch as the plan supposes it: full, no more than its texts of sixteen tokens.
            let model = Arc::new(Model::open_with(&file.path, gpu::on(&device)).unwrap());
            let mut embedder = run::embedder(&model, Pooling::Mean, options);
            let texts: Vec<_> = (0..4).map(|t| run::ids(32, t, 400)).collect();
            embedder.embed_ids(&texts).unwrap();
            let PlannedBytes { weights, state, compute } =
                embedder.session().device_bytes().unwrap();
            within_a_hundredth(&format!("{what}, weights"), plan.whole.weights, weights);
            within_a_hundredth(&format!("{what}, state"), plan.whole.state, state);
            within_a_hundredth(&format!("{what}, compute"), plan.whole.compute, compute);
        }
    }
}

#[test]
fn what_does_not_fit_is_planned_in_part_or_refused() {
    let Some(device) = gpu::first() else { return };
    let spec = Spec { n_layer: 6, ..spec() };
    let file = gguf::random(&spec, "q8_0");
    let session = run::session(128, 1);
    let whole = MemoryPlan::new(&file.path, &gpu::on(&device), &session).unwrap().whole;
    // A device that seems smaller than it is.
    let limited = OpenOptions { device_memory: Some(whole.total() * 6 / 10), ..gpu::on(&device) };
    let (open, plan) = limited.clone().fitted(&file.path, &session).unwrap();
    let plan = plan.unwrap();
    assert!((1..6).contains(&plan.gpu_layers), "{plan:?}");
    assert!(plan.fitting.total() <= plan.available && plan.available < whole.total());
    assert_eq!(open.gpu_layers, Some(plan.gpu_layers));
    // It is the most that fits.
    let next = OpenOptions { gpu_layers: Some(plan.gpu_layers + 1), ..limited.clone() };
    let message = next.fitted(&file.path, &session).unwrap_err().to_string();
    let remedy = format!("--gpu-layers {} do", plan.gpu_layers);
    assert!(message.contains("do not fit") && message.ends_with(&remedy), "{message}");
    // And it runs.
    let mut part = embedder(&file.path, open, Pooling::Mean, 1);
    let mut cpu = embedder(&file.path, OpenOptions::default(), Pooling::Mean, 1);
    let [expected, found] = [&mut cpu, &mut part].map(|e| run::vectors(e, &texts()));
    assert_alike("in part", &expected, &found, 0.999);
    // Nothing fits in a kilobyte: the CPU runs all of it.
    let tiny = OpenOptions { device_memory: Some(1024), ..gpu::on(&device) };
    let (open, _) = tiny.fitted(&file.path, &session).unwrap();
    assert_eq!(open.gpu_layers, Some(0));
    assert!(Model::open_with(&file.path, open).unwrap().device().is_none());
}
