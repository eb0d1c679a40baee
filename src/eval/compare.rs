//! Two reports side by side: how far the second moved from the first.
//!
//! In: two reports, and the similarities of their pairs where they were kept. Out: a row for each
//! layer of each level that both measured on the same pairs under the same protocol. Uses `report`,
//! `kept` and `bootstrap`.

use std::fmt::Write as _;

use serde::Serialize;

use super::kept::Scores;
use super::report::{Layer, Level, Report, Run, TokenizerInfo};
use super::table::{dash, finish, four, pair, place, printable, table};
use super::{bootstrap, metrics};

/// With more layers than this of a level only two are shown.
const MAX_LAYERS: usize = 8;

/// What two reports have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// One for each layer of each level that both have.
    pub rows: Vec<Row>,
    /// What the first has and the second lacks.
    pub missing: Vec<String>,
    /// What was done in another way, so that a difference is not that of the levels alone.
    pub unlike: Vec<String>,
}

/// One layer of one level in both reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Data set, split and protocol.
    pub run: String,
    /// The preset, or both where they differ.
    pub level: String,
    /// The layer.
    pub layer: String,
    /// Spearman in the first report.
    pub first: f64,
    /// Spearman in the second report.
    pub second: f64,
    /// `second - first`
    pub difference: f64,
    /// 95 % interval of the difference; null if it is unknown.
    pub ci95: Option<[f64; 2]>,
    /// Whether the interval comes from a paired bootstrap over kept scores. Otherwise it comes from
    /// the two intervals as if they were of other pairs, and is wider than it need be.
    pub paired: bool,
}

/// Compares what both reports measured. Levels are the same if their presets are, or if each run
/// has one only. Intervals are paired where `scores` of both reports are given.
pub fn compare(first: &Report, second: &Report, scores: Option<[&Scores; 2]>) -> Comparison {
    let mut comparison = Comparison { rows: Vec::new(), missing: Vec::new(), unlike: Vec::new() };
    if first.pooling != second.pooling {
        comparison.unlike.push(format!("pooling: {} and {}", first.pooling, second.pooling));
    }
    for run in &first.runs {
        let same = |other: &&Run| {
            other.dataset.file_sha256 == run.dataset.file_sha256
                && other.dataset.n_pairs == run.dataset.n_pairs
                && other.protocol == run.protocol
        };
        match second.runs.iter().find(same) {
            Some(other) => comparison.run([run, other], scores, second.seed),
            None => comparison.missing.push(place(run)),
        }
    }
    comparison
}

impl Comparison {
    /// The row that fell most.
    pub fn worst(&self) -> Option<&Row> {
        self.rows.iter().min_by(|a, b| a.difference.total_cmp(&b.difference))
    }

    /// The comparison as text for a terminal: all layers of a level or, of many, that in which the
    /// first is best and that which fell most.
    pub fn render(&self) -> String {
        let header =
            ["data set", "level", "layer", "first", "second", "difference", "95 % interval"];
        let mut table = table(header.map(String::from).to_vec());
        for row in self.shown() {
            let interval = match row.ci95 {
                Some(_) if row.paired => pair(row.ci95),
                Some(_) => format!("({})", pair(row.ci95)),
                None => dash(),
            };
            let (first, second) = (four(Some(row.first)), four(Some(row.second)));
            let difference = format!("{:+.4}", row.difference);
            let names = [&row.run, &row.level, &row.layer].map(String::clone);
            table.add_row(names.into_iter().chain([first, second, difference, interval]));
        }
        let mut text = finish(table);
        if self.rows.iter().any(|row| !row.paired && row.ci95.is_some()) {
            text.push_str(
                "(..): not paired, so wider than need be; paired ones need the scores of both \
                 reports (eval --keep-scores, then --scores)\n",
            );
        }
        for unlike in &self.unlike {
            let _ = writeln!(text, "not measured alike: {unlike}");
        }
        for missing in &self.missing {
            let _ = writeln!(text, "only in the first: {missing}");
        }
        printable(text)
    }

    fn shown(&self) -> Vec<&Row> {
        let mut shown = Vec::new();
        for rows in self.rows.chunk_by(|a, b| (&a.run, &a.level) == (&b.run, &b.level)) {
            if rows.len() <= MAX_LAYERS {
                shown.extend(rows);
                continue;
            }
            let best =
                (0..rows.len()).rev().max_by(|&i, &j| rows[i].first.total_cmp(&rows[j].first));
            let fell =
                (0..rows.len()).min_by(|&i, &j| rows[i].difference.total_cmp(&rows[j].difference));
            let mut two: Vec<usize> = best.into_iter().chain(fell).collect();
            two.sort_unstable();
            two.dedup();
            shown.extend(two.into_iter().map(|i| &rows[i]));
        }
        shown
    }

    fn run(&mut self, runs: [&Run; 2], scores: Option<[&Scores; 2]>, seed: u64) {
        let [first, second] = runs.map(|run| &run.tokenizer);
        let other_ids = match (&first.ids_sha256, &second.ids_sha256) {
            (Some(first), Some(second)) => first != second,
            _ => {
                (&first.kind, first.vocab_size, first.matches_model)
                    != (&second.kind, second.vocab_size, second.matches_model)
            }
        };
        if other_ids {
            let shown = |it: &TokenizerInfo| format!("{} of {} tokens", it.kind, it.vocab_size);
            let (first, second) = (shown(first), shown(second));
            let what = format!("token ids of {first} and others of {second}");
            self.unlike.push(format!("{}, {what}", place(runs[0])));
        }
        let measured = |run: &'_ Run| run.levels.iter().filter(|l| l.error.is_none()).count();
        let alone = runs.iter().all(|run| run.levels.len() == 1 && measured(run) == 1);
        for level in runs[0].levels.iter().filter(|level| level.error.is_none()) {
            let same =
                |other: &&Level| other.error.is_none() && (alone || other.preset == level.preset);
            match runs[1].levels.iter().find(same) {
                Some(other) => self.level(runs, [level, other], scores, seed),
                None => self.missing.push(format!("{}, {}", place(runs[0]), level.preset)),
            }
        }
    }

    fn level(
        &mut self,
        runs: [&Run; 2],
        levels: [&Level; 2],
        scores: Option<[&Scores; 2]>,
        seed: u64,
    ) {
        let [first, second] = levels.map(|level| level.preset.as_str());
        let level = match first == second {
            true => first.to_string(),
            false => format!("{first} / {second}"),
        };
        for layer in &levels[0].layers {
            let other = levels[1].layer(&layer.layer);
            let both = other.and_then(|other| Some((other, layer.spearman?, other.spearman?)));
            let Some((other, first, second)) = both else {
                if layer.spearman.is_some() {
                    let what = format!("{}, {level}, layer {}", place(runs[0]), layer.layer);
                    self.missing.push(what);
                }
                continue;
            };
            let paired = scores.and_then(|s| paired(s, runs[0], levels, &layer.layer, seed));
            self.rows.push(Row {
                run: place(runs[0]),
                level: level.clone(),
                layer: layer.layer.clone(),
                first,
                second,
                difference: second - first,
                ci95: paired.or_else(|| unpaired(layer, other, second - first)),
                paired: paired.is_some(),
            });
        }
    }
}

/// Interval by paired bootstrap; `None` if a list is missing, has not the correlation that the
/// report of its place says, or the labels are not the same.
fn paired(
    scores: [&Scores; 2],
    run: &Run,
    levels: [&Level; 2],
    layer: &str,
    seed: u64,
) -> Option<[f64; 2]> {
    let find = |i: usize| {
        let of_run = scores[i].runs.iter().find(|kept| {
            kept.file_sha256 == run.dataset.file_sha256
                && kept.protocol == run.protocol
                && kept.labels.len() as u64 == run.dataset.n_pairs
        })?;
        let of_level = of_run.levels.iter().find(|kept| kept.preset == levels[i].preset)?;
        Some((of_level.layers.get(layer)?, &of_run.labels))
    };
    let ((first, labels), (second, same)) = (find(0)?, find(1)?);
    let known = labels == same && first.len() == labels.len() && second.len() == labels.len();
    let is_of = |list: &[f64], level: &Level| {
        let reported = level.layer(layer).and_then(|layer| layer.spearman);
        let found = metrics::spearman(list, labels);
        reported.zip(found).is_some_and(|(reported, found)| (reported - found).abs() < 1e-9)
    };
    if !known || !is_of(first, levels[0]) || !is_of(second, levels[1]) {
        return None;
    }
    bootstrap::spearman_difference(second, first, labels, bootstrap::RESAMPLES, seed)
        .map(|difference| difference.ci95)
}

/// `difference +- sqrt(h1^2 + h2^2)`, `h` being half the width of each interval: right for pairs
/// drawn anew, too wide for the same pairs.
fn unpaired(first: &Layer, second: &Layer, difference: f64) -> Option<[f64; 2]> {
    let half = |layer: &Layer| layer.spearman_ci95.map(|[low, high]| (high - low) / 2.0);
    let both = half(first)?.hypot(half(second)?);
    Some([difference - both, difference + both])
}
