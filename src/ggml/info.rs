//! What this build of ggml is, and what its CPU backend uses of this machine.

use std::cell::RefCell;
use std::ffi::{c_char, c_void, CStr};
use std::sync::Once;

use ggml_sys as sys;

/// ggml's version, and the commit it was cut from where its source says so: `0.26.0 (1a2b3c4)`.
pub fn version() -> String {
    // SAFETY: both functions return static C strings.
    let text = |ptr: *const c_char| unsafe { CStr::from_ptr(ptr) }.to_string_lossy().into_owned();
    // SAFETY: the calls take nothing and read constants.
    let (version, commit) = unsafe { (sys::ggml_version(), sys::ggml_commit()) };
    match text(commit).as_str() {
        "" | "unknown" => text(version),
        commit => format!("{} ({commit})", text(version)),
    }
}

/// Instruction sets that ggml's CPU backend was compiled for: `avx2 fma avx512-vnni`.
pub fn isa() -> String {
    let known = |name: &String| !NOT_INSTRUCTIONS.contains(&name.as_str());
    let found = super::cpu::features().unwrap_or_default().into_iter().filter(known);
    let names: Vec<_> = found.map(|name| name.to_lowercase().replace('_', "-")).collect();
    match names.is_empty() {
        true => "baseline".into(),
        false => names.join(" "),
    }
}

/// What ggml lists beside instruction sets.
const NOT_INSTRUCTIONS: [&str; 8] =
    ["SVE_CNT", "RVV_VLEN", "LLAMAFILE", "ACCELERATE", "CPU_HBM", "OPENMP", "KLEIDIAI", "REPACK"];

/// Keeps ggml from writing to stderr: the library prints nothing. What it calls an error is kept
/// for [`last_error`].
pub(super) fn silence_log() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback writes to a variable of its own thread only, so it may be called from
    // any thread at any time.
    ONCE.call_once(|| unsafe { sys::ggml_log_set(Some(keep_errors), std::ptr::null_mut()) });
}

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What ggml has logged as an error on this thread since the last call.
pub(super) fn last_error() -> String {
    LAST_ERROR.with(RefCell::take)
}

unsafe extern "C" fn keep_errors(
    level: sys::ggml_log_level,
    text: *const c_char,
    _data: *mut c_void,
) {
    if level == sys::GGML_LOG_LEVEL_ERROR && !text.is_null() {
        // SAFETY: ggml hands over a C string.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        // A thread that ends has no such variable any more; then the text is lost.
        let _ = LAST_ERROR.try_with(|last| last.borrow_mut().push_str(&text));
    }
}
