//! A report as text for a terminal.
//!
//! In: a report. Out: one string: warnings first, then for each run a table of its levels and one of
//! its baselines and controls. The tables are aligned and read as Markdown too; no colours.
//! Sizes are in megabytes of 1,000,000 bytes.

use std::fmt::Write as _;

use comfy_table::{presets, CellAlignment, ContentArrangement, Table};

use super::report::{Baseline, Control, Fidelity, Layer, Level, Memory, Report, Run};

/// With more layers than this only the best and the last are shown.
const MAX_LAYERS: usize = 8;
/// What the columns of the level table are.
const LEGEND: &str = "*: highest Spearman; L1, final, ..: Spearman against the labels; fidelity: lowest mean cosine to \
                      the reference level; MB: 1,000,000 bytes";

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for run in &report.runs {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&render_run(report, run));
    }
    printable(text)
}

/// A report may come from anyone: what would steer a terminal is shown as a mark.
pub(super) fn printable(text: String) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn render_run(report: &Report, run: &Run) -> String {
    let mut text = heading(report, run);
    text.push_str(&levels(run));
    let _ = writeln!(text, "{LEGEND}");
    if !run.baselines.is_empty() || !run.controls.is_empty() {
        text.push('\n');
        text.push_str(&others(run));
    }
    for level in &run.levels {
        if let Some(error) = &level.error {
            let _ = writeln!(text, "{}: {error}", level.preset);
        }
    }
    text
}

/// Data set, protocol and tokenizer in one line.
fn heading(report: &Report, run: &Run) -> String {
    let data = &run.dataset;
    let mut text = data.name.clone();
    if let Some(split) = &data.split {
        let _ = write!(text, " {split}");
    }
    let _ = write!(text, ", {} pairs", data.n_pairs);
    if let Some(n) = data.n_positive {
        let _ = write!(text, " ({n} positive)");
    }
    let _ = write!(text, ", {} text, {} protocol", data.text_variant, run.protocol);
    let _ = write!(text, ", {} tokenizer", run.tokenizer.kind);
    if !run.tokenizer.matches_model {
        text.push_str(" (NOT the model's)");
    }
    let _ = writeln!(text, ", {} pooling\n", report.pooling);
    text
}

fn levels(run: &Run) -> String {
    let shown = ShownLayers::of(run);
    let mut header = vec!["level".to_string(), "bpw".into(), "file MB".into()];
    header.extend(shown.header());
    header.extend(["fidelity", "tokens/s", "peak RSS MB"].map(String::from));
    header.extend(["weights MB", "compute MB", "state MB"].map(String::from));
    let has_device = run.levels.iter().any(|l| device_peak(l).is_some());
    if has_device {
        header.push("device MB".into());
    }
    let mut table = table(header);
    let best = best_level(run);
    for level in &run.levels {
        let mark = if best.is_some_and(|best| std::ptr::eq(best, level)) { " *" } else { "" };
        let mut row =
            vec![format!("{}{mark}", level.preset), format!("{:.2}", level.bits_per_weight)];
        row.push(megabytes(Some(level.file_bytes)));
        row.extend(shown.cells(level));
        row.push(fidelity(level));
        row.push(or_dash(level.speed.as_ref(), |speed| format!("{:.1}", speed.tokens_per_second)));
        let memory =
            |get: fn(&Memory) -> Option<u64>| megabytes(level.memory.as_ref().and_then(get));
        row.push(memory(|m| m.peak_rss_bytes));
        row.push(memory(|m| m.weights_bytes));
        row.push(memory(|m| m.compute_bytes));
        row.push(memory(|m| m.state_bytes));
        if has_device {
            row.push(megabytes(device_peak(level)));
        }
        table.add_row(row);
    }
    finish(table)
}

/// The level with the highest Spearman of all; `None` where there is nothing to choose from.
fn best_level(run: &Run) -> Option<&Level> {
    let known = run.levels.iter().filter_map(|level| Some((level, level.best()?.1)));
    let best = known.reduce(|best, other| if other.1 > best.1 { other } else { best })?;
    (run.levels.len() > 1).then_some(best.0)
}

/// Baselines and controls.
fn others(run: &Run) -> String {
    let header = ["no model", "Spearman", "95 % interval or range", "unknown words"];
    let mut table = table(header.map(String::from).to_vec());
    for Baseline { name, spearman, spearman_ci95, oov_rate, .. } in &run.baselines {
        let unknown = or_dash(oov_rate.as_ref(), |rate| format!("{:.1} %", rate * 100.0));
        table.add_row([name.clone(), four(*spearman), pair(*spearman_ci95), unknown]);
    }
    for Control { name, spearman, spearman_range, seeds } in &run.controls {
        let name = match seeds.len() {
            0 => name.clone(),
            n => format!("{name} ({n} seeds)"),
        };
        table.add_row([name, four(*spearman), pair(*spearman_range), "-".to_string()]);
    }
    finish(table)
}

/// Data set, split and protocol.
pub(super) fn place(run: &Run) -> String {
    let split = run.dataset.split.as_ref().map_or(String::new(), |split| format!(" {split}"));
    format!("{}{split}, {} protocol", run.dataset.name, run.protocol)
}

/// Which layers have a column.
enum ShownLayers {
    /// All of these.
    All(Vec<String>),
    /// The best of each level, and the last one asked, of this name.
    BestAndLast(String),
}

impl ShownLayers {
    fn of(run: &Run) -> Self {
        let measured = run.levels.iter().find(|level| level.error.is_none());
        let names: Vec<String> =
            measured.map_or(Vec::new(), |l| l.layers.iter().map(|x| x.layer.clone()).collect());
        match names.last() {
            Some(last) if names.len() > MAX_LAYERS => Self::BestAndLast(last.clone()),
            _ => Self::All(names),
        }
    }

    fn header(&self) -> Vec<String> {
        match self {
            Self::All(names) => names.iter().map(|name| column_name(name)).collect(),
            Self::BestAndLast(last) => vec!["best".to_string(), column_name(last)],
        }
    }

    fn cells(&self, level: &Level) -> Vec<String> {
        let named = |name: &String| level.layers.iter().find(|layer| layer.layer == *name);
        let cell = |layer: Option<&Layer>| four(layer.and_then(|layer| layer.spearman));
        match self {
            Self::All(names) => names.iter().map(|name| cell(named(name))).collect(),
            Self::BestAndLast(last) => {
                let best = level
                    .best()
                    .map(|(layer, rho)| format!("{} {rho:.4}", column_name(&layer.layer)));
                vec![best.unwrap_or_else(dash), cell(named(last))]
            }
        }
    }
}

/// `L3` or `final`.
fn column_name(layer: &str) -> String {
    if layer == "final" {
        layer.to_string()
    } else {
        format!("L{layer}")
    }
}

/// The lowest mean cosine over the layers; a level without any is the reference or was not compared.
fn fidelity(level: &Level) -> String {
    let cosines = level.layers.iter().filter_map(|layer| layer.fidelity.as_ref());
    let lowest = cosines.filter_map(|Fidelity { mean_cosine, .. }| *mean_cosine).reduce(f64::min);
    or_dash(lowest.as_ref(), |cosine| format!("{cosine:.6}"))
}

fn device_peak(level: &Level) -> Option<u64> {
    level.memory.as_ref().and_then(|memory| memory.device_peak_bytes)
}

pub(super) fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// Numbers to the right.
pub(super) fn finish(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string() + "\n"
}

pub(super) fn four(value: Option<f64>) -> String {
    or_dash(value.as_ref(), |value| format!("{value:.4}"))
}

pub(super) fn pair(interval: Option<[f64; 2]>) -> String {
    or_dash(interval.as_ref(), |[low, high]| format!("{low:.4} to {high:.4}"))
}

fn megabytes(bytes: Option<u64>) -> String {
    or_dash(bytes.as_ref(), |&bytes| format!("{:.1}", bytes as f64 / 1e6))
}

fn or_dash<T>(value: Option<&T>, show: impl Fn(&T) -> String) -> String {
    value.map_or_else(dash, show)
}

pub(super) fn dash() -> String {
    "-".to_string()
}
