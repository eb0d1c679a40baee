//! The f64 reference against numbers it had no part in: golden values of the committed fixture
//! (computed by `tools/make-golden.py`) and, where the environment names them, of two checkpoints
//! that other implementations ran.

mod common;

use common::fixture::{self, fixture_dir, numbers, rows, token_ids};
use common::reference::{self, LayerState, Pool, Reference};
use common::{assert_close, assert_layers_close, max_abs_difference, Tolerance};
use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::Silent;
use serde_json::Value;

/// Both sides are f64; what remains is the order of sums.
const F64: f64 = 1e-9;

fn golden() -> Value {
    fixture::json(&fixture_dir().join("golden.json"))
}

#[test]
fn the_fixture_is_what_its_spec_writes() {
    let made = fixture::random_checkpoint(&fixture::fixture_spec());
    for name in ["config.json", "model.safetensors", "rwkv_vocab_v20230424.txt"] {
        let expected = std::fs::read(fixture_dir().join(name)).unwrap();
        let found = std::fs::read(made.path().join(name)).unwrap();
        assert!(expected == found, "{name} differs; see tests/data/README.md");
    }
}

#[test]
fn every_layer_equals_the_golden_values() {
    let model = Reference::open(&fixture_dir());
    let golden = golden();
    let texts = golden["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 5);
    for text in texts {
        let name = text["name"].as_str().unwrap();
        let output = model.run(&token_ids(&text["token_ids"]));
        let tolerance = Tolerance::of(F64);
        let poolings: [(&str, Pool); 3] =
            [("mean", reference::mean), ("last", reference::last), ("max", reference::max)];
        for (pooling, pool) in poolings {
            let expected = rows(&text[format!("{pooling}_hidden")]);
            let what = format!("{name}, {pooling}");
            assert_layers_close(&what, &expected, &output.pooled(pool), tolerance);
        }
        let logits = output.logits.last().unwrap();
        assert_close(&format!("{name}, logits"), &numbers(&text["last_logits"]), logits, tolerance);
    }
}

#[test]
fn the_state_equals_the_golden_values() {
    let golden = golden();
    let texts = golden["texts"].as_array().unwrap();
    let text = texts.iter().find(|text| text["state_wkv"].is_array()).unwrap();
    let model = Reference::open(&fixture_dir());
    let mut state = model.zero_state();
    model.run_from(&token_ids(&text["token_ids"]), &mut state);
    let check = |part: &str, of: fn(&LayerState) -> &[f64]| {
        let found: Vec<_> = state.iter().map(|layer| of(layer).to_vec()).collect();
        assert_layers_close(part, &rows(&text[part]), &found, Tolerance::of(F64));
    };
    check("state_time_shift", |layer| &layer.time_shift);
    check("state_wkv", |layer| &layer.wkv);
    check("state_channel_shift", |layer| &layer.channel_shift);
}

#[test]
fn a_saved_state_resumes() {
    let model = Reference::open(&fixture_dir());
    let ids: Vec<u32> = (0..12).map(|i| 40 + 37 * i).collect();
    let mut whole_state = model.zero_state();
    let whole = model.run_from(&ids, &mut whole_state);
    for cut in [1, 5, 11] {
        let mut state = model.zero_state();
        model.run_from(&ids[..cut], &mut state);
        let rest = model.run_from(&ids[cut..], &mut state.clone());
        assert_eq!(rest.logits, whole.logits[cut..], "cut at {cut}");
        model.run_from(&ids[cut..], &mut state);
        assert!(state == whole_state, "cut at {cut}");
    }
}

/// Golden values of a checkpoint with a dead tensor would prove nothing about that tensor.
#[test]
fn every_tensor_matters() {
    let mut model = Reference::open(&fixture_dir());
    // Four tokens: the decay reaches the output with the third.
    let ids = [72, 301, 102, 9];
    let before = model.run(&ids).logits.concat();
    let names: Vec<String> = model.tensors.keys().cloned().collect();
    assert_eq!(names.len(), 28 * model.n_layer + 6);
    for name in names {
        let data = &mut model.tensors.get_mut(&name).unwrap().data;
        let saved = data.clone();
        for (i, x) in data.iter_mut().enumerate() {
            // Not one offset for all: a layer norm would take it out again.
            *x *= 1.0 + 0.01 * (i % 7) as f64;
        }
        let moved = max_abs_difference(&before, &model.run(&ids).logits.concat());
        assert!(moved > 1e-5, "{name}: the logits moved by {moved:.1e} only");
        model.tensors.get_mut(&name).unwrap().data = saved;
    }
}

/// The demonstration model is no fixture if its layers or its texts all look alike.
#[test]
fn random_models_tell_layers_and_texts_apart() {
    let spec = Spec::demo();
    let model = Reference::open(fixture::random_checkpoint(&spec).path());
    let texts = [vec![300, 410, 520, 330], vec![600, 311, 702, 555], vec![300, 410, 520, 331]];
    let pooled = texts.map(|ids| model.run(&ids).pooled(reference::mean));
    for il in 0..=spec.n_layer {
        let [a, b, near] = [0, 1, 2].map(|i| &pooled[i][il]);
        let (far, near) = (common::cosine(a, b), common::cosine(a, near));
        assert!(far < 0.9 && near > far && near < 0.9999, "layer {il}: {far} {near}");
        let size = (a.iter().map(|x| x * x).sum::<f64>() / a.len() as f64).sqrt();
        assert!((0.1..30.0).contains(&size), "layer {il}: root mean square {size}");
        if il > 0 {
            let step = common::cosine(a, &pooled[0][il - 1]);
            assert!(step < 0.9999, "layer {il} repeats the one before: cosine {step}");
        }
    }
}

#[test]
fn pooling_by_hand() {
    let golden = fixture::json(&fixture::data_dir().join("pooling.json"));
    for case in golden.as_array().unwrap() {
        let (name, hidden) = (case["name"].as_str().unwrap(), rows(&case["hidden"]));
        assert_eq!(reference::mean(&hidden), numbers(&case["mean"]), "{name}: mean");
        assert_eq!(reference::last(&hidden), numbers(&case["last"]), "{name}: last");
        assert_eq!(reference::max(&hidden), numbers(&case["max"]), "{name}: max");
    }
}

#[test]
fn a_random_checkpoint_that_others_ran() {
    let Some(data) = fixture::shared_data() else { return };
    let dir = data.join("checkpoints/tiny-random-finch");
    let model = Reference::open(&dir);
    let golden = fixture::json(&dir.join("golden.json"));
    for text in golden["sentences"].as_array().unwrap() {
        let name = text["text"].as_str().unwrap();
        let output = model.run(&token_ids(&text["token_ids"]));
        let tolerance = Tolerance::of(1e-6);
        let expected = rows(&text["mean_hidden_float64"]);
        assert_layers_close(name, &expected, &output.pooled(reference::mean), tolerance);
        let expected = rows(&text["last_token_hidden_float64"]);
        assert_layers_close(name, &expected, &output.pooled(reference::last), tolerance);
        // These two are f32 of another implementation.
        let expected = rows(&text["mean_hidden_states_hf"]);
        let f32_tolerance = Tolerance::of(1e-4);
        assert_layers_close(name, &expected, &output.pooled(reference::mean), f32_tolerance);
        let logits = &output.logits.last().unwrap()[..16];
        assert_close(name, &numbers(&text["logits_last"]["first16"]), logits, f32_tolerance);
    }
}

#[test]
fn a_trained_checkpoint_that_others_ran() {
    let Some(data) = fixture::shared_data() else { return };
    let dir = data.join("checkpoints/tiny-trained-6v0");
    let golden = fixture::json(&dir.join("golden.json"));
    let output = Reference::open(&dir).run(&token_ids(&golden["token_ids"]));
    let tolerance = Tolerance::of(1e-4);
    let expected = rows(&golden["mean_hidden_states_hf"]);
    assert_layers_close("hidden", &expected, &output.pooled(reference::mean), tolerance);
    let expected = numbers(&golden["expected_logits_rwkv_cpp"]);
    assert_close("logits", &expected, output.logits.last().unwrap(), tolerance);
}

/// Run by hand after the fixture's folder was emptied: see `tests/data/README.md`.
#[test]
#[ignore = "writes the committed fixture"]
fn write_the_fixture() {
    random::write(&fixture_dir(), &fixture::fixture_spec(), &Silent).unwrap();
}

/// The checks above are worth what these are worth.
#[test]
fn differences_are_seen() {
    let tolerance = Tolerance::of(1e-3);
    let base = [0.5, -2.0, 0.0];
    assert_eq!(common::difference(&base, &base, tolerance), None);
    assert_eq!(common::difference(&[0.0; 3], &[0.0; 3], tolerance), None);
    let moved = common::difference(&base, &[0.5, -2.002, 0.0], tolerance).unwrap();
    assert!(moved.contains("2.000e-3 (allowed 1.0e-3) at 1: -2.002 instead of -2"), "{moved}");
    let nan = common::difference(&base, &[0.5, -2.0, f64::NAN], tolerance).unwrap();
    assert!(nan.contains("at 2: NaN instead of 0"), "{nan}");
    let turned = common::difference(&[1e-4, 0.0], &[0.0, 1e-4], tolerance).unwrap();
    assert!(turned.contains("cosine 0.0"), "{turned}");
    let short = common::difference(&base, &base[..2], tolerance).unwrap();
    assert_eq!(short, "2 values, expected 3");
}
