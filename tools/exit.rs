//! What the process ends with, and the one line it says on the way out.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};

use rwkvq::{Error, Result};

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

/// The exit code of a verb's result; prints its error.
pub fn code(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
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

/// A panic is a bug of ours, whatever the input: it says so and ends with a code of its own.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("error: internal error, please report: {info}");
        std::process::exit(i32::from(INTERNAL));
    }));
}

/// The reader of our output has gone away, which is its right.
fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}
