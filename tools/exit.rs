//! What the process ends with, and the one line it says on the way out.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use rwkvq::{Error, Result};

/// A comparison fell below what was allowed; the one code that is no fault.
pub const FELL: u8 = 1;
const USAGE: u8 = 2;
const BAD_INPUT: u8 = 3;
const IO: u8 = 4;
const SELF_CHECK: u8 = 5;
const INTERNAL: u8 = 70;
const INTERRUPTED: u8 = 130;

/// Code to end with after an interrupt.
static INTERRUPT_CODE: AtomicU8 = AtomicU8::new(INTERRUPTED);

/// Remembers which signal asked to stop; returns the code to end with, 128 and its number as
/// shells have it.
pub fn interrupted_by(signal: i32) -> u8 {
    let code = u8::try_from(128 + signal).unwrap_or(INTERRUPTED);
    INTERRUPT_CODE.store(code, Ordering::Relaxed);
    code
}

/// A mapped file that is shortened ends the process as a failed read does.
pub fn watch_mapped_files() {
    #[cfg(unix)]
    rwkvq::mmap::exit_when_a_mapped_file_shrinks(IO.into());
}

/// Runs a verb and gives its exit code. A panic that reaches this point is a bug of ours, whatever
/// the input: it is told in one line and has a code of its own. One that the library catches on its
/// way, because a crate it uses cannot cope with a file, is not told: the error is.
pub fn run(verb: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    static LAST_PANIC: Mutex<String> = Mutex::new(String::new());
    let last = || LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    panic::set_hook(Box::new(move |info| *last() = info.to_string()));
    match panic::catch_unwind(AssertUnwindSafe(verb)) {
        Ok(result) => code(result),
        Err(_) => {
            let what = last().replace('\n', " ");
            eprintln!("error: internal error, please report: {what}");
            ExitCode::from(INTERNAL)
        }
    }
}

/// The exit code of a verb's result; prints its error.
fn code(result: Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error}");
    ExitCode::from(match error {
        Error::Io { .. } => IO,
        Error::Argument { .. } => USAGE,
        Error::SelfCheck { .. } => SELF_CHECK,
        Error::Interrupted => INTERRUPT_CODE.load(Ordering::Relaxed),
        _ => BAD_INPUT,
    })
}

/// The reader of our output has gone away, which is its right.
fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}
