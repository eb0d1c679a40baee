//! What the process ends with, and the one line it says on the way out.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rwkvq::{Error, Result};
use signal_hook::consts::SIGXFSZ;

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

/// The process is being ended, and what other threads run into is of no interest.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Ends the process after `clean_up`, whatever else it does meanwhile.
pub fn at_once(code: u8, clean_up: impl FnOnce()) -> ! {
    ENDING.store(true, Ordering::Relaxed);
    clean_up();
    std::process::exit(code.into())
}

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

/// A file that may not grow further is an error like a full disk; without a handler the signal for
/// it ends the process, which leaves its partial files.
pub fn outlive_limits_of_size() {
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Runs a verb and gives its exit code. A panic that reaches this point is a bug of ours, whatever
/// the input: it is told in one line and has a code of its own. One that the library catches on its
/// way, because a crate it uses cannot cope with a file, is not told: the error is.
pub fn run(verb: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    static LAST_PANIC: Mutex<String> = Mutex::new(String::new());
    let last = || LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    panic::set_hook(Box::new(move |info| *last() = info.to_string()));
    let outcome = panic::catch_unwind(AssertUnwindSafe(verb));
    while ENDING.load(Ordering::Relaxed) {
        std::thread::park();
    }
    match outcome {
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
        Error::Io { .. } | Error::Device { .. } => IO,
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "RWKVQ_TEST_PANIC";

    /// In a process of its own: what is told of a panic is told for all threads of one.
    #[test]
    fn a_panic_is_told_in_one_line_and_has_a_code_of_its_own() {
        if std::env::var_os(CHILD).is_some() {
            let result = run(|| {
                let thread = std::thread::spawn(|| -> Result<ExitCode> { panic!("two\nlines") });
                thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
            });
            let code = if result == ExitCode::from(INTERNAL) { INTERNAL } else { 0 };
            std::process::exit(code.into());
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        let name = "exit::tests::a_panic_is_told_in_one_line_and_has_a_code_of_its_own";
        let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(INTERNAL.into()), "{stderr}");
        assert!(
            stderr.starts_with("error: internal error, please report: panicked at "),
            "{stderr}"
        );
        assert!(stderr.ends_with(": two lines\n"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
