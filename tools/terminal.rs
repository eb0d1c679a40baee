//! Progress on stderr, and Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rwkvq::{Error, Progress, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use crate::exit;
use crate::output::printable;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What is removed when the process ends at once.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// True once the user has asked to stop. The second time, the process ends at once.
pub fn watch_interrupts() -> &'static AtomicBool {
    // Without a handler Ctrl-C ends the process, which is also safe: files appear by renaming.
    let hangup = (!ignores_hangup()).then_some(SIGHUP);
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup)) {
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let code = exit::interrupted_by(signal);
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    // Held to the end, so that no folder is made any more.
                    let mut folder = temporary();
                    exit::at_once(code, || folder.take().iter().for_each(|folder| remove(folder)));
                }
            }
        });
    }
    &INTERRUPTED
}

/// A temporary folder, which goes with the value; after a second interrupt, when nobody can drop that
/// any more, it goes too.
pub fn temporary_folder() -> Result<TempDir> {
    let mut known = temporary();
    let folder = tempfile::Builder::new().prefix("rwkvq-").tempdir();
    let folder = folder.map_err(|e| Error::io(std::env::temp_dir(), e))?;
    *known = Some(folder.path().to_owned());
    Ok(folder)
}

/// Other threads may still make files there, or the folder itself: it is tried until it stays away.
/// Nothing can be done about a failure.
fn remove(folder: &Path) {
    for _ in 0..10 {
        let _ = std::fs::remove_dir_all(folder);
        std::thread::sleep(Duration::from_millis(10));
        if !folder.exists() {
            return;
        }
    }
}

fn temporary() -> MutexGuard<'static, Option<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True under nohup, which a handler of ours would undo. Only Linux tells.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (SIGHUP - 1) != 0)
}

/// A bar with rate and remaining time; hidden where stderr is no terminal.
pub struct Bar {
    bar: Mutex<ProgressBar>,
    interrupted: &'static AtomicBool,
    verbose: bool,
}

impl Bar {
    /// `verbose` also prints what the library notes.
    pub fn new(interrupted: &'static AtomicBool, verbose: bool) -> Self {
        Self { bar: Mutex::new(ProgressBar::hidden()), interrupted, verbose }
    }

    /// Removes the bar from the screen.
    pub fn clear(&self) {
        self.with(ProgressBar::finish_and_clear);
    }

    /// `n` units were done before this run.
    pub fn skip(&self, n: u64) {
        self.with(|bar| {
            bar.inc(n);
            bar.reset_eta();
        });
    }

    fn with(&self, f: impl FnOnce(&ProgressBar)) {
        f(&self.bar.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Bar {
    fn begin(&self, phase: &str, total: u64) {
        let template = match total {
            // Of stdin nobody knows how much is to come.
            0 => "{msg}: {human_pos} done, {per_sec}",
            _ => "{msg} [{wide_bar}] {percent}% {per_sec}, {eta} left",
        };
        let bar = ProgressBar::new(total).with_message(phase.to_owned());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        let mut current = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        current.finish_and_clear();
        *current = bar;
    }

    fn advance(&self, n: u64) {
        self.with(|bar| bar.inc(n));
    }

    fn note(&self, message: &str) {
        if self.verbose {
            let message = printable(message);
            self.with(|bar| bar.suspend(|| eprintln!("note: {message}")));
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
