//! The whole path - checkpoint, conversion, model, tokenizer, embedder, evaluation - against
//! numbers that other programs computed.

mod common;

use common::fixture::{self, fixture_dir, numbers, rows, token_ids};
use common::gguf::{self, TempGguf};
use common::reference::{self, Reference};
use common::rounding::Expected;
use common::{assert_close, assert_layers_close, from_gguf, run, Tolerance};
use rwkvq::embed::Pooling;
use rwkvq::eval::{self, Dataset, EvalOptions, LevelFile};
use rwkvq::model::Session;
use rwkvq::Silent;
use serde_json::Value;

/// The goldens of other programs are f32, or compared with f32 here; layers are of order one.
const F32: f64 = 1e-4;

/// Embeds one text with the model's own tokenizer: `[layer][n_embd]`.
fn embed(file: &TempGguf, pooling: Pooling, text: &str) -> Vec<Vec<f64>> {
    let mut embedder = run::embedder(&run::open(&file.path), pooling, run::one_thread());
    let embeddings = embedder.embed(&[text]).unwrap();
    let layers = 0..embeddings.layers.len();
    layers.map(|i| embeddings.get(0, i).iter().map(|&x| f64::from(x)).collect()).collect()
}

fn encode(file: &TempGguf, text: &str) -> Vec<u32> {
    run::open(&file.path).tokenizer().unwrap().encode(text).unwrap()
}

fn logits(file: &TempGguf, ids: &[u32]) -> Vec<f64> {
    let mut session = Session::new(run::open(&file.path), run::one_thread()).unwrap();
    session.logits(ids).unwrap().into_iter().map(f64::from).collect()
}

fn str_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key}"))
}

/// Division by powers of two and the other transforms of a conversion lose nothing.
#[test]
fn an_f32_file_holds_exactly_the_weights_of_the_checkpoint() {
    let (of_file, _) = from_gguf::open(&gguf::converted(&fixture_dir(), "f32").path);
    let of_checkpoint = Reference::open(&fixture_dir());
    assert_eq!(of_file.tensors.len(), of_checkpoint.tensors.len());
    for (name, expected) in &of_checkpoint.tensors {
        let found = &of_file.tensors[name];
        assert!(found.data == expected.data, "{name}");
    }
}

#[test]
fn the_fixture_equals_its_golden_values() {
    let file = gguf::converted(&fixture_dir(), "f32");
    let golden = fixture::json(&fixture_dir().join("golden.json"));
    let texts = golden["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 5);
    for text in texts {
        let (name, ids) = (str_of(text, "name"), token_ids(&text["token_ids"]));
        assert_eq!(encode(&file, str_of(text, "text")), ids, "{name}");
        for (pooling, _) in run::POOLINGS {
            let expected = rows(&text[format!("{pooling}_hidden")]);
            let found = embed(&file, pooling, str_of(text, "text"));
            assert_layers_close(
                &format!("{name}, {pooling}"),
                &expected,
                &found,
                Tolerance::of(F32),
            );
        }
        let expected = numbers(&text["last_logits"]);
        assert_close(name, &expected, &logits(&file, &ids), Tolerance::of(F32));
    }
}

#[test]
fn a_random_checkpoint_that_others_ran() {
    let Some(data) = fixture::shared_data() else { return };
    let dir = data.join("checkpoints/tiny-random-finch");
    let golden = fixture::json(&dir.join("golden.json"));
    let sentences = golden["sentences"].as_array().unwrap();
    assert_eq!(sentences.len(), 8);
    let file = gguf::converted(&dir, "f32");
    for sentence in sentences {
        let text = str_of(sentence, "text");
        let ids = token_ids(&sentence["token_ids"]);
        assert_eq!(encode(&file, text), ids, "{text}");
        let expected = rows(&sentence["mean_hidden_float64"]);
        assert_eq!(expected.len(), 5);
        let found = embed(&file, Pooling::Mean, text);
        assert_layers_close(text, &expected, &found, Tolerance::of(F32));
        let expected = rows(&sentence["last_token_hidden_float64"]);
        let found = embed(&file, Pooling::Last, text);
        assert_layers_close(text, &expected, &found, Tolerance::of(F32));
        let expected = numbers(&sentence["logits_last"]["first16"]);
        assert_close(text, &expected, &logits(&file, &ids)[..16], Tolerance::of(F32));
    }
}

/// Rounded weights have no golden values of others; the reference carries the bounds.
#[test]
fn a_random_checkpoint_in_16_and_8_bits() {
    let Some(data) = fixture::shared_data() else { return };
    let dir = data.join("checkpoints/tiny-random-finch");
    let golden = fixture::json(&dir.join("golden.json"));
    for preset in ["f16", "bf16", "q8_0"] {
        let file = gguf::converted(&dir, preset);
        let (model, types) = from_gguf::open(&file.path);
        for sentence in golden["sentences"].as_array().unwrap() {
            let text = str_of(sentence, "text");
            let expected = Expected::new(&model, &types, &token_ids(&sentence["token_ids"]));
            let found = embed(&file, Pooling::Mean, text);
            expected.assert_layers(&format!("{preset}, {text}"), reference::mean, &found);
        }
    }
}

#[test]
fn a_trained_checkpoint_that_others_ran() {
    let Some(data) = fixture::shared_data() else { return };
    let dir = data.join("checkpoints/tiny-trained-6v0");
    let golden = fixture::json(&dir.join("golden.json"));
    let file = gguf::converted(&dir, "f32");
    let (text, ids) = (str_of(&golden, "prompt"), token_ids(&golden["token_ids"]));
    assert_eq!(encode(&file, text), ids);
    let expected = rows(&golden["mean_hidden_states_hf"]);
    assert_eq!(expected.len(), 13);
    let found = embed(&file, Pooling::Mean, text);
    assert_layers_close("hidden", &expected, &found, Tolerance::of(F32));
    let expected = numbers(&golden["expected_logits_rwkv_cpp"]);
    assert_close("logits", &expected, &logits(&file, &ids), Tolerance::of(F32));
}

/// Spearman of MRPC by layer with the trained checkpoint, mean pooling, computed with the Hugging
/// Face code: the 408 pairs of dev, the first 1000 of train; then GloVe 6B 50d.
const MRPC_DEV: [f64; 13] = [
    0.3816, 0.3796, 0.3788, 0.3782, 0.3765, 0.3724, 0.3772, 0.3716, 0.3722, 0.3773, 0.3741, 0.3834,
    0.3635,
];
const MRPC_TRAIN: [f64; 13] = [
    0.3480, 0.3492, 0.3494, 0.3489, 0.3497, 0.3459, 0.3437, 0.3428, 0.3430, 0.3419, 0.3321, 0.3024,
    0.3056,
];
const GLOVE_DEV: f64 = 0.4326;
const GLOVE_TRAIN: f64 = 0.3876;

/// Four digits, but three at the last two layers: there the mean cosine is .9999, so ranks hang on
/// the last bits of f32.
fn assert_spearman(expected: &[f64], found: &[f64]) {
    assert_eq!(expected.len(), found.len());
    for (il, (expected, found)) in expected.iter().zip(found).enumerate() {
        let epsilon = if il < 11 { 0.51e-4 } else { 0.51e-3 };
        let close = approx::abs_diff_eq!(expected, found, epsilon = epsilon);
        assert!(close, "layer {il}: {found} instead of {expected}");
    }
}

/// Half a minute of computing: 330,000 tokens.
#[test]
fn mrpc_as_others_measured_it() {
    let Some(data) = fixture::shared_data() else { return };
    let file = gguf::converted(&data.join("checkpoints/tiny-trained-6v0"), "f32");
    let levels = [LevelFile { preset: "f32".into(), path: file.path.clone() }];
    let open = |split: &str, limit| {
        Dataset::open(data.join(format!("data/mrpc/hf/{split}.tsv")), None, limit).unwrap()
    };
    let datasets = [open("dev", None), open("train", Some(1000))];
    let glove = Some(data.join("data/glove/glove.6B.50d.mrpc-words.txt"));
    let options = EvalOptions { session: run::one_thread(), glove, ..EvalOptions::default() };
    let report = eval::run(&levels, &datasets, &options, &Silent).unwrap().report;
    let expected = [(MRPC_DEV, GLOVE_DEV), (MRPC_TRAIN, GLOVE_TRAIN)];
    for (run, (expected, glove)) in report.runs.iter().zip(expected) {
        let layers = &run.levels[0].layers;
        let found: Vec<_> = layers.iter().map(|layer| layer.spearman.unwrap()).collect();
        assert_spearman(&expected, &found);
        approx::assert_abs_diff_eq!(run.baselines[0].spearman.unwrap(), glove, epsilon = 0.51e-4);
    }
}
