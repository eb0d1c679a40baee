//! Measures what quantization costs: data sets, metrics, baselines, controls, the report.
//!
//! In: scored text pairs, and what models made of them. Out: a [`Report`]. Metrics see only numbers,
//! the report only results, the table only the report. All maths is f64. May use `embed`, `model`
//! and the shared words.
//!
//! ```
//! use rwkvq::eval::{bootstrap, metrics};
//!
//! let similarities = [0.91, 0.85, 0.40, 0.62, 0.10];
//! let labels = [1.0, 1.0, 0.0, 1.0, 0.0];
//! let rho = metrics::spearman(&similarities, &labels).unwrap();
//! assert!((rho - 0.866).abs() < 1e-3);
//! let [low, high] = bootstrap::spearman_interval(&similarities, &labels, 1_000, 42).unwrap();
//! assert!(low <= rho && rho <= high);
//! ```

pub mod baselines;
pub mod bootstrap;
pub mod compare;
pub mod controls;
pub mod dataset;
pub mod fidelity;
pub mod host;
mod ids;
pub mod kept;
mod level;
mod levels;
pub mod metrics;
mod pass;
mod protocol;
pub mod report;
pub mod rss;
mod run;
mod scores;
mod spill;
pub mod table;
pub mod threshold;
mod warnings;

pub use baselines::Glove;
pub use dataset::{Dataset, Pair, TextVariant};
pub use levels::LevelFile;
pub use protocol::Protocol;
pub use report::Report;
pub use run::{run, EvalOptions, Evaluation, MAX_REPEATS};

use crate::error::{Error, Result};
use crate::progress::Progress;

/// The error of a run that was asked to stop, if it was.
fn stop_if_cancelled(progress: &dyn Progress) -> Result<()> {
    if progress.cancelled() {
        return Err(Error::Interrupted);
    }
    Ok(())
}
