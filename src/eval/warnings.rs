//! What a reader must know before trusting the numbers. Each warning says what to do about it.

use super::report::{Level, Memory, OnDevice, Run};
use super::table::place;

/// With fewer pairs than this intervals are too wide to tell levels apart.
const FEW_PAIRS: u64 = 100;

/// The peak of each level cannot be measured here.
pub(super) fn no_peak() -> String {
    "peak resident memory is not given, as this system cannot measure it level by level; read the \
     weights, compute and state columns, or measure on Linux"
        .into()
}

/// What finished runs show, most important first. `with_threshold` says whether pairs to choose
/// thresholds on were given.
pub(super) fn of(runs: &[Run], with_threshold: bool) -> Vec<String> {
    let mut all: Vec<String> = runs.iter().filter_map(mismatch).collect();
    all.extend(runs.iter().flat_map(failed));
    all.extend(runs.iter().filter_map(no_reference));
    all.extend(runs.iter().flat_map(left_to_cpu));
    all.extend(runs.iter().flat_map(rescaled));
    all.extend(runs.iter().filter_map(no_spread));
    all.extend(runs.iter().filter_map(below_controls));
    all.extend(runs.iter().filter_map(few_pairs));
    all.extend(runs.first().and_then(same_types));
    all.extend(runs.iter().filter(|_| with_threshold).filter_map(same_threshold_set));
    all
}

fn mismatch(run: &Run) -> Option<String> {
    (!run.tokenizer.matches_model).then(|| {
        format!(
            "{}: the {} tokenizer does not give the token ids of the model's own, or the model has \
             none to compare with, so these numbers may say little about the model; {}",
            place(run),
            run.tokenizer.kind,
            match run.protocol.as_str() {
                "native" => "leave --tokenizer out if it has one",
                _ => "read those of --protocol native",
            }
        )
    })
}

fn failed(run: &Run) -> impl Iterator<Item = String> + '_ {
    run.levels.iter().filter_map(move |level| {
        let error = level.error.as_ref()?;
        Some(format!("{}: level {} failed: {error}", place(run), level.preset))
    })
}

/// Nothing is left to hold the others against.
fn no_reference(run: &Run) -> Option<String> {
    let others = run.levels.iter().any(|level| level.error.is_none());
    (others && run.reference().is_none()).then(|| {
        format!(
            "{}: the level that the others are compared with failed, so there are no differences \
             and no fidelity; choose another by --reference",
            place(run)
        )
    })
}

/// Levels and what they held on a device.
fn on_devices(run: &Run) -> impl Iterator<Item = (&Level, &Memory, &OnDevice)> + '_ {
    run.levels.iter().filter_map(|level| {
        let memory = level.memory.as_ref()?;
        Some((level, memory, memory.on_device.as_ref()?))
    })
}

fn left_to_cpu(run: &Run) -> impl Iterator<Item = String> + '_ {
    on_devices(run).filter(|(.., there)| !there.ops_on_cpu.is_empty()).map(move |(level, memory, there)| {
        format!(
            "{}: level {}: {} cannot run {}, so the CPU did and the speed is not that of the device; \
             compare speeds on a device that can, or with --device cpu",
            place(run),
            level.preset,
            memory.device,
            there.ops_on_cpu.join(", ")
        )
    })
}

fn rescaled(run: &Run) -> impl Iterator<Item = String> + '_ {
    on_devices(run).filter(|(.., there)| !there.rescaled_layers.is_empty()).map(move |(level, memory, there)| {
        let layers: Vec<_> = there.rescaled_layers.iter().map(u64::to_string).collect();
        format!(
            "{}: level {}: half precision on {} overflowed in layer {}, which then ran on a smaller \
             scale; its numbers are good, but check them with --device cpu",
            place(run),
            level.preset,
            memory.device,
            layers.join(", ")
        )
    })
}

/// The best that any level reaches is no more than something blind to meaning reaches.
fn below_controls(run: &Run) -> Option<String> {
    let best = run.levels.iter().filter_map(Level::best).max_by(|a, b| a.1.total_cmp(&b.1))?;
    let scored = run.controls.iter().filter_map(|c| Some((&c.name, c.spearman?)));
    let control = scored.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best.1 <= control.1).then(|| {
        format!(
            "{}: the best Spearman of any level and layer ({:.4}) does not beat {} ({:.4}), which \
             knows nothing of meaning; compare levels by fidelity and do not read these numbers as \
             the quality of the embeddings",
            place(run),
            best.1,
            control.0,
            control.1
        )
    })
}

/// Without it no correlation is defined.
fn no_spread(run: &Run) -> Option<String> {
    let what = match (run.dataset.max_spearman, run.dataset.n_pairs) {
        (Some(_), _) => return None,
        (None, 1) => "one pair has",
        (None, _) => "labels that are all equal have",
    };
    Some(format!("{}: {what} no correlation with anything; take other pairs", place(run)))
}

fn few_pairs(run: &Run) -> Option<String> {
    let n = run.dataset.n_pairs;
    (n < FEW_PAIRS).then(|| {
        format!(
            "{}: {n} pairs give wide intervals; take a few hundred before preferring a level",
            place(run)
        )
    })
}

/// Two levels that may differ in name only. Levels are the same in all runs.
fn same_types(run: &Run) -> Option<String> {
    let levels = run.levels.iter().enumerate();
    let mut same = levels.filter_map(|(i, level)| {
        let twin = run.levels[..i].iter().find(|other| other.tensor_types == level.tensor_types)?;
        Some(format!("{} and {}", twin.preset, level.preset))
    });
    let first = same.next()?;
    let names = same.fold(first, |names, pair| names + ", " + &pair);
    Some(format!(
        "{names} hold tensors of the same types; unless they were made in different ways (with and \
         without an importance matrix), the rows of this model do not fill the blocks that one of \
         them asks for: then read them as one level and leave one out"
    ))
}

/// A threshold would be judged on the pairs it was chosen on.
fn same_threshold_set(run: &Run) -> Option<String> {
    let is_binary = run.dataset.n_positive.is_some();
    (is_binary && run.threshold_from.is_none()).then(|| {
        format!(
            "{}: accuracy and F1 are not given, as the threshold comes from these very pairs; give \
             --threshold-from another split",
            place(run)
        )
    })
}
