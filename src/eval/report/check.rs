//! What must hold in every report.
//!
//! In: a report. Out: the first fault, with the path of the value.

use std::collections::HashSet;

use super::{Baseline, Control, Layer, Level, Memory, Report, Run, Speed, SCHEMA_VERSION};
use crate::error::shown;

/// Most runs of a report, and most levels of a run.
const MAX_LIST: usize = 1000;

/// Most layers that the levels of a report have together. Reports are compared layer by layer.
const MAX_LAYERS: usize = 100_000;

/// Longest name, in bytes. It is repeated in each row of a table.
const MAX_NAME_BYTES: usize = 512;

/// `Err` says what is wrong.
type Check = Result<(), String>;

impl Report {
    /// The first fault, if there is one.
    pub(super) fn fault(&self) -> Option<String> {
        check(self).err()
    }
}

fn check(report: &Report) -> Check {
    that(report.schema_version == SCHEMA_VERSION, || {
        format!("schema_version is {}, expected {SCHEMA_VERSION}", report.schema_version)
    })?;
    that(!report.runs.is_empty(), || "runs is empty".to_string())?;
    no_more(report.runs.len(), MAX_LIST, "runs")?;
    let levels = report.runs.iter().flat_map(|run| &run.levels);
    let n_layers = levels.map(|level| level.layers.len()).sum();
    no_more(n_layers, MAX_LAYERS, "layers")?;
    for (i, run) in report.runs.iter().enumerate() {
        check_run(run).map_err(|what| format!("runs[{i}].{what}"))?;
    }
    Ok(())
}

fn check_run(run: &Run) -> Check {
    let n_pairs = run.dataset.n_pairs;
    that(n_pairs > 0, || "dataset.n_pairs is 0".to_string())?;
    that(run.dataset.n_positive.is_none_or(|n| n <= n_pairs), || {
        format!("dataset.n_positive is larger than n_pairs ({n_pairs})")
    })?;
    correlation("dataset.max_spearman", run.dataset.max_spearman)?;
    name("dataset.name", &run.dataset.name)?;
    name("dataset.split", run.dataset.split.as_deref().unwrap_or_default())?;
    name("protocol", &run.protocol)?;
    that(!run.levels.is_empty(), || "levels is empty".to_string())?;
    no_more(run.levels.len(), MAX_LIST, "levels")?;
    let mut layers = None;
    let mut names = HashSet::new();
    for (i, level) in run.levels.iter().enumerate() {
        that(names.insert(&level.preset), || {
            format!("levels[{i}]: level \"{}\" occurs twice", shown(&level.preset))
        })?;
        check_level(level).map_err(|what| format!("levels[{i}].{what}"))?;
        if level.error.is_none() {
            let names: Vec<&str> = level.layers.iter().map(|l| l.layer.as_str()).collect();
            let first = layers.get_or_insert_with(|| names.clone());
            that(*first == names, || {
                let (first, names) = (shown(&format!("{first:?}")), shown(&format!("{names:?}")));
                format!("levels[{i}].layers: expected {first} as in the first, found {names}")
            })?;
        }
    }
    if let Some(reference) = &run.reference {
        that(names.contains(reference), || {
            format!("reference: no level \"{}\"", shown(reference))
        })?;
    }
    for (i, baseline) in run.baselines.iter().enumerate() {
        check_baseline(baseline).map_err(|what| format!("baselines[{i}].{what}"))?;
    }
    for (i, control) in run.controls.iter().enumerate() {
        check_control(control).map_err(|what| format!("controls[{i}].{what}"))?;
    }
    Ok(())
}

fn check_level(level: &Level) -> Check {
    name("preset", &level.preset)?;
    positive("bits_per_weight", level.bits_per_weight)?;
    if level.error.is_some() {
        return that(level.layers.is_empty(), || "layers is not empty despite an error".into());
    }
    that(!level.layers.is_empty(), || "layers is empty".to_string())?;
    let mut names = HashSet::new();
    for (i, layer) in level.layers.iter().enumerate() {
        that(names.insert(&layer.layer), || {
            format!("layers[{i}]: layer \"{}\" occurs twice", shown(&layer.layer))
        })?;
        check_layer(layer).map_err(|what| format!("layers[{i}].{what}"))?;
    }
    level.speed.as_ref().map_or(Ok(()), check_speed)?;
    level.memory.as_ref().map_or(Ok(()), check_memory)
}

fn check_layer(layer: &Layer) -> Check {
    let name = &layer.layer;
    that(name == "final" || name.parse::<u32>().is_ok_and(|n| n.to_string() == *name), || {
        format!("layer: expected a number or \"final\", found \"{}\"", shown(name))
    })?;
    correlation("spearman", layer.spearman)?;
    interval("spearman_ci95", layer.spearman_ci95, 1.0)?;
    correlation("pearson", layer.pearson)?;
    if let Some(binary) = &layer.binary {
        that(binary.threshold.is_finite(), || "binary.threshold is not finite".to_string())?;
        within("binary.accuracy", Some(binary.accuracy), 0.0, 1.0)?;
        within("binary.f1", Some(binary.f1), 0.0, 1.0)?;
    }
    if let Some(delta) = &layer.delta_spearman {
        within("delta_spearman.value", Some(delta.value), -2.0, 2.0)?;
        interval("delta_spearman.ci95", delta.ci95, 2.0)?;
        within("delta_spearman.p_holm", delta.p_holm, 0.0, 1.0)?;
    }
    if let Some(fidelity) = &layer.fidelity {
        correlation("fidelity.mean_cosine", fidelity.mean_cosine)?;
        correlation("fidelity.min_cosine", fidelity.min_cosine)?;
        correlation("fidelity.similarity_spearman", fidelity.similarity_spearman)?;
    }
    Ok(())
}

fn check_speed(speed: &Speed) -> Check {
    positive("speed.seconds", speed.seconds)?;
    positive("speed.tokens_per_second", speed.tokens_per_second)?;
    positive("speed.seconds_per_pair", speed.seconds_per_pair)?;
    positive("speed.load_seconds", speed.load_seconds)?;
    that(speed.repeats > 0, || "speed.repeats is 0".to_string())
}

fn check_memory(memory: &Memory) -> Check {
    that(memory.device_peak_bytes.is_some() == memory.device_peak_source.is_some(), || {
        "memory: device_peak_bytes and device_peak_source go together".to_string()
    })?;
    let (whole, there) = (memory.weights_bytes, memory.on_device.as_ref());
    that(there.is_none_or(|there| whole.is_none_or(|whole| there.weights_bytes <= whole)), || {
        "memory: more weights on the device than there are".to_string()
    })
}

fn check_baseline(baseline: &Baseline) -> Check {
    name("name", &baseline.name)?;
    correlation("spearman", baseline.spearman)?;
    interval("spearman_ci95", baseline.spearman_ci95, 1.0)?;
    baseline.seconds_per_pair.map_or(Ok(()), |s| positive("seconds_per_pair", s))?;
    within("oov_rate", baseline.oov_rate, 0.0, 1.0)
}

fn check_control(control: &Control) -> Check {
    name("name", &control.name)?;
    correlation("spearman", control.spearman)?;
    interval("spearman_range", control.spearman_range, 1.0)?;
    that(control.spearman_range.is_none() || !control.seeds.is_empty(), || {
        "spearman_range without seeds".to_string()
    })
}

/// At most `limit` of `what`.
fn no_more(n: usize, limit: usize, what: &str) -> Check {
    that(n <= limit, || format!("{n} {what}, at most {limit} allowed"))
}

fn name(what: &str, name: &str) -> Check {
    let n = name.len();
    that(n <= MAX_NAME_BYTES, || format!("{what}: {n} bytes, at most {MAX_NAME_BYTES} allowed"))
}

fn correlation(name: &str, value: Option<f64>) -> Check {
    within(name, value, -1.0, 1.0)
}

/// Low and high in order, both within `-limit..=limit`.
fn interval(name: &str, interval: Option<[f64; 2]>, limit: f64) -> Check {
    let Some([low, high]) = interval else { return Ok(()) };
    within(name, Some(low), -limit, limit)?;
    within(name, Some(high), -limit, limit)?;
    that(low <= high, || format!("{name}: {low} is larger than {high}"))
}

fn within(name: &str, value: Option<f64>, low: f64, high: f64) -> Check {
    // Written so that NaN fails.
    that(value.is_none_or(|value| low <= value && value <= high), || {
        format!("{name}: {} is not within {low}..={high}", value.unwrap_or_default())
    })
}

/// Finite, not below zero, and no more than any machine will see.
fn positive(name: &str, value: f64) -> Check {
    that((0.0..=1e15).contains(&value), || format!("{name}: {value} is not a size or a time"))
}

fn that(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds {
        Ok(())
    } else {
        Err(what())
    }
}
