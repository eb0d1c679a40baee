//! What this build of ggml is, and what its CPU backend uses of this machine.

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

/// Keeps ggml from writing to stderr: the library prints nothing.
pub(super) fn silence_log() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback touches nothing, so it may be called from any thread at any time.
    ONCE.call_once(|| unsafe { sys::ggml_log_set(Some(ignore), std::ptr::null_mut()) });
}

unsafe extern "C" fn ignore(_level: sys::ggml_log_level, _text: *const c_char, _data: *mut c_void) {
}
