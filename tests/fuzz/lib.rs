//! One target of `bodies.rs` for each program, as libFuzzer calls it.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;

pub use libfuzzer_sys;

mod bodies;
#[path = "../common/torch.rs"]
#[allow(dead_code)] // the tests of the reader use all of it
mod torch;

/// The last panic's message. Those of libraries that the readers catch are not shown: they become
/// errors, by design.
static MESSAGE: Mutex<String> = Mutex::new(String::new());

/// Called once, before any input: libFuzzer's own hook would end the process at a panic that is
/// caught.
pub fn begin() {
    panic::set_hook(Box::new(|info| *MESSAGE.lock().unwrap() = info.to_string()));
}

/// Runs the target `name`; a panic that gets here ends the process, which libFuzzer reports.
pub fn run(name: &str, bytes: &[u8]) {
    let target = bodies::TARGETS.iter().find(|(known, _)| *known == name);
    let (_, body) = target.expect("a target of the list");
    if panic::catch_unwind(AssertUnwindSafe(|| body(bytes))).is_err() {
        eprintln!("{}", MESSAGE.lock().unwrap());
        std::process::abort();
    }
}

/// The program of the target with this name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::begin(),
            |bytes: &[u8]| $crate::run($name, bytes)
        );
    };
}
