//! What an evaluation refuses, what it reports of a level that fails, and when it stops.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::gguf::{Parts, TempGguf};
use common::{gguf, run, valid};
use rwkvq::checkpoint::random::Spec;
use rwkvq::eval::report::Layer;
use rwkvq::eval::{self, Dataset, EvalOptions, Evaluation, LevelFile};
use rwkvq::ggml::TensorType;
use rwkvq::gguf::{Array, Value};
use rwkvq::{Error, Progress, Result, Silent};

fn model(preset: &str) -> TempGguf {
    gguf::random(&Spec { n_layer: 2, n_embd: 32, n_vocab: 300, ..Spec::default() }, preset)
}

fn level(name: &str, file: &TempGguf) -> LevelFile {
    LevelFile { preset: name.into(), path: file.path.clone() }
}

fn evaluate(levels: &[LevelFile], progress: &dyn Progress) -> Result<Evaluation> {
    let options = EvalOptions { session: run::one_thread(), ..Default::default() };
    evaluate_with(levels, &options, progress)
}

fn evaluate_with(
    levels: &[LevelFile],
    options: &EvalOptions,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    let folder = tempfile::tempdir().unwrap();
    let pairs = folder.path().join("pairs.tsv");
    std::fs::write(&pairs, valid::PAIRS).unwrap();
    eval::run(levels, &[Dataset::open(&pairs, None, None).unwrap()], options, progress)
}

#[track_caller]
fn refused(levels: &[LevelFile]) -> String {
    let error = evaluate(levels, &Silent).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn two_levels_of_one_name_are_refused() {
    let (first, second) = (model("f16"), model("q8_0"));
    let message = refused(&[level("q8_0", &first), level("q8_0", &second)]);
    let paths = [&first, &second].map(|file| file.path.display().to_string());
    let expected = format!("{} and {} would both be called q8_0", paths[0], paths[1]);
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn a_level_with_another_vocabulary_is_refused() {
    let first = model("f16");
    let mut parts = Parts::open(&first.path);
    let tokens = parts.metadata.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens");
    let Some((_, Value::Array(Array::String(tokens)))) = tokens else { panic!("no tokens") };
    let place = |text: &str| tokens.iter().position(|token| token == text).unwrap();
    let (a, b) = (place("a"), place("b"));
    tokens.swap(a, b);
    let other = parts.write();
    let path = |path: &Path| path.display().to_string();
    for (reference, level_of_other) in [(&first, &other), (&other, &first)] {
        let levels = [level("f16", reference), level("x", level_of_other)];
        let options = EvalOptions {
            session: run::one_thread(),
            reference: Some("f16".into()),
            ..Default::default()
        };
        let message = evaluate_with(&levels, &options, &Silent).unwrap_err().to_string();
        let expected =
            format!("{}: its tokenizer does not give pair 1", path(&level_of_other.path));
        assert!(message.starts_with(&expected), "{message}");
        let expected = format!("{}'s gives", path(&reference.path));
        assert!(message.contains(&expected), "{message}");
    }
}

/// It runs on the ids of the reference, which must have one.
#[test]
fn a_level_without_a_tokenizer_cannot_be_the_reference() {
    let first = model("f16");
    let mut parts = Parts::open(&model("q8_0").path);
    parts.remove_key("tokenizer.ggml.model");
    let without = parts.write();
    let levels = [level("f16", &first), level("q8_0", &without)];
    let run = &evaluate(&levels, &Silent).unwrap().report.runs[0];
    assert!(run.tokenizer.matches_model);
    assert_eq!(run.levels[1].error, None);
    let options = EvalOptions { reference: Some("q8_0".into()), ..Default::default() };
    let error = evaluate_with(&levels, &options, &Silent).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("give one with --tokenizer"), "{error}");
}

/// A model whose second layer overflows.
fn broken() -> TempGguf {
    let mut parts = Parts::open(&model("f32").path);
    let tensor = parts.tensor("blk.1.channel_mix_value.weight");
    let huge = vec![f32::MAX; tensor.shape.n_elements()];
    tensor.set(TensorType::F32, &huge);
    parts.write()
}

#[test]
fn a_level_that_fails_is_a_row_beside_those_that_do_not() {
    let (good, bad) = (model("q8_0"), broken());
    let report = evaluate(&[level("q8_0", &good), level("bad", &bad)], &Silent).unwrap().report;
    let [good, bad] = report.runs[0].levels.as_slice() else { panic!("two levels") };
    assert_eq!((good.error.as_ref(), good.layers.len()), (None, 3));
    let error = bad.error.as_deref().unwrap();
    assert!(error.starts_with("model.gguf: hidden of layer 1 is NaN or infinite; "), "{error}");
    assert!(bad.layers.is_empty());
    assert!(report.warnings.iter().any(|w| w.contains("level bad failed")), "{report:?}");
}

/// Without it there is nothing to compare with, and nothing takes its place.
#[test]
fn a_reference_that_fails_has_no_stand_in() {
    let (one, two, bad) = (model("q8_0"), model("f16"), broken());
    let levels = [level("q8_0", &one), level("f16", &two), level("f32", &bad)];
    let run = &evaluate(&levels, &Silent).unwrap().report.runs[0];
    assert_eq!(run.reference.as_deref(), Some("f32"), "the one with the most bits");
    assert_eq!(run.reference(), None);
    assert_eq!(run.compared_layer(), None);
    assert!(run.levels.iter().all(|level| !run.is_reference(level)));
    let compared = |layer: &Layer| layer.fidelity.is_some() || layer.delta_spearman.is_some();
    assert!(!run.levels.iter().flat_map(|level| &level.layers).any(compared));
    let warnings = evaluate(&levels, &Silent).unwrap().report.warnings;
    assert!(warnings.iter().any(|w| w.contains("no differences and no fidelity")), "{warnings:?}");
    // Older reports do not name it.
    let mut older = run.clone();
    older.reference = None;
    assert_eq!(older.reference(), None);
    let good = &evaluate(&levels[..2], &Silent).unwrap().report.runs[0];
    let mut older = good.clone();
    older.reference = None;
    assert_eq!(older.reference().map(|level| level.preset.as_str()), Some("f16"));
}

/// Replaces a model when the first has been measured.
struct Replace<'a> {
    path: &'a Path,
    by: &'a Path,
}

impl Progress for Replace<'_> {
    fn begin(&self, phase: &str, _: u64) {
        if phase == "evaluating" {
            std::fs::copy(self.by, self.path.with_extension("new")).unwrap();
            std::fs::rename(self.path.with_extension("new"), self.path).unwrap();
        }
    }

    fn advance(&self, _: u64) {}

    fn note(&self, _: &str) {}
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_not_measured_for_the_other() {
    let (first, second) = (model("f16"), model("q8_0"));
    let spec = Spec { n_layer: 2, n_embd: 64, n_vocab: 300, ..Spec::default() };
    for other in [model("q8_0"), gguf::random(&spec, "q8_0")] {
        let levels = [level("f16", &first), level("q8_0", &second)];
        let replace = Replace { path: &second.path, by: &other.path };
        let report = evaluate(&levels, &replace).unwrap().report;
        let error = report.runs[0].levels[1].error.as_deref().unwrap();
        assert!(error.starts_with("model.gguf: not the file any more"), "no folder: {error}");
    }
}

#[test]
fn where_nothing_could_be_measured_the_first_error_is_that_of_the_run() {
    let bad = broken();
    let error = evaluate(&[level("bad", &bad)], &Silent).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&bad.path.display().to_string()), "{error}");
}

#[test]
fn repeats_are_at_least_one() {
    let file = model("q8_0");
    let options = EvalOptions { repeats: 0, ..Default::default() };
    let error = evaluate_with(&[level("q8_0", &file)], &options, &Silent).unwrap_err();
    assert_eq!(error.to_string(), "0 repeats: give 1 to 1000");
}

/// Asks to stop as soon as a phase begins.
struct StopAt {
    phase: &'static str,
    reached: AtomicBool,
}

impl Progress for StopAt {
    fn begin(&self, phase: &str, _: u64) {
        if phase == self.phase {
            self.reached.store(true, Ordering::Relaxed);
        }
    }

    fn advance(&self, _: u64) {}

    fn note(&self, _: &str) {}

    fn cancelled(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }
}

#[test]
fn every_phase_can_be_stopped() {
    let (first, second) = (model("f16"), model("q8_0"));
    for phase in ["evaluating", "statistics"] {
        let stop = StopAt { phase, reached: AtomicBool::new(false) };
        let error = evaluate(&[level("f16", &first), level("q8_0", &second)], &stop).unwrap_err();
        assert!(stop.reached.load(Ordering::Relaxed), "no phase {phase}");
        assert!(matches!(error, Error::Interrupted), "{phase}: {error:?}");
    }
}
