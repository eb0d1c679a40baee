//! `rwkvq compare`: how far one report moved from another; the gate of a regression test.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rwkvq::eval::compare::{compare, Comparison};
use rwkvq::eval::kept::Scores;
use rwkvq::{Error, Result};

use crate::exit;
use crate::output::{print, print_json, printable};
use crate::report::{open, read};

/// Largest file of kept scores: 25 layers of 10 levels on 50,000 pairs.
const MAX_SCORES_BYTES: u64 = 256 << 20;

/// Show what changed from one report to another, with intervals
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Report to compare with
    first: PathBuf,
    /// Report that is compared
    second: PathBuf,
    /// End with 1 if a Spearman of the second is more than X below that of the first; -X means the
    /// same
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    fail_below: Option<f64>,
    /// What eval --keep-scores wrote beside each report: intervals are then those of a paired
    /// bootstrap
    #[arg(long, num_args = 2, value_names = ["FIRST", "SECOND"])]
    scores: Option<Vec<PathBuf>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let allowed = args.fail_below.map(f64::abs);
    if allowed.is_some_and(|allowed| !allowed.is_finite()) {
        return Err(Error::argument("--fail-below: give a finite number, such as 0.01"));
    }
    let (first, second) = (open(&args.first)?, open(&args.second)?);
    let scores = scores(args)?;
    let scores = scores.as_ref().map(|[first, second]| [first, second]);
    let comparison = compare(&first, &second, scores);
    let Some(worst) = comparison.worst() else {
        let what = format!(
            "nothing measured in both it and {}; take the same pairs, protocol, level and layers",
            args.first.display()
        );
        return Err(Error::unsupported(&args.second, what));
    };
    check_pairing(args, &comparison)?;
    if args.json {
        print_json(serde_json::to_string_pretty(&comparison))?;
    } else {
        print(&comparison.render())?;
    }
    let Some(allowed) = allowed else { return Ok(ExitCode::SUCCESS) };
    refuse_gaps(&args.second, &comparison)?;
    if worst.difference >= -allowed {
        return Ok(ExitCode::SUCCESS);
    }
    let place = printable(&format!("{}, {}, layer {}", worst.run, worst.level, worst.layer));
    eprintln!("{place}: {:.4} below, more than the {allowed} allowed", -worst.difference);
    Ok(ExitCode::from(exit::FELL))
}

/// Scores that belong to other reports would be passed over without a word.
fn check_pairing(args: &Args, comparison: &Comparison) -> Result<()> {
    let Some([first, _]) = args.scores.as_deref() else { return Ok(()) };
    let n = comparison.rows.iter().filter(|row| !row.paired).count();
    if n == comparison.rows.len() {
        let what = "these scores are not those of the two reports; give what eval --keep-scores \
                    wrote beside each, in the same order";
        return Err(Error::unsupported(first, what));
    }
    if n > 0 {
        eprintln!("warning: {n} rows are not those of the scores; their intervals are in brackets");
    }
    Ok(())
}

/// What was not measured again, or not alike, cannot be called unharmed.
fn refuse_gaps(second: &Path, comparison: &Comparison) -> Result<()> {
    if let Some(unlike) = comparison.unlike.first() {
        let unlike = printable(unlike);
        let what = format!("not measured alike: {unlike}; --fail-below needs the same of both");
        return Err(Error::unsupported(second, what));
    }
    let Some(missing) = comparison.missing.first() else { return Ok(()) };
    let missing = printable(missing);
    let what = format!("has no {missing}; --fail-below needs all that the first report has");
    Err(Error::unsupported(second, what))
}

fn scores(args: &Args) -> Result<Option<[Scores; 2]>> {
    let Some([first, second]) = args.scores.as_deref() else { return Ok(None) };
    let open = |path: &Path| Scores::from_json(path, &read(path, MAX_SCORES_BYTES)?);
    Ok(Some([open(first)?, open(second)?]))
}
