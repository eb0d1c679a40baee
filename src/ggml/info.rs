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

/// Instruction sets that ggml's CPU backend was compiled for: `avx2 fma avx512 vnni`.
pub fn isa() -> String {
    type Probe = unsafe extern "C" fn() -> std::ffi::c_int;
    let probes: [(&str, Probe); 16] = [
        ("sse3", sys::ggml_cpu_has_sse3),
        ("ssse3", sys::ggml_cpu_has_ssse3),
        ("avx", sys::ggml_cpu_has_avx),
        ("avx2", sys::ggml_cpu_has_avx2),
        ("f16c", sys::ggml_cpu_has_f16c),
        ("fma", sys::ggml_cpu_has_fma),
        ("avx-vnni", sys::ggml_cpu_has_avx_vnni),
        ("avx512", sys::ggml_cpu_has_avx512),
        ("avx512-vbmi", sys::ggml_cpu_has_avx512_vbmi),
        ("avx512-vnni", sys::ggml_cpu_has_avx512_vnni),
        ("avx512-bf16", sys::ggml_cpu_has_avx512_bf16),
        ("amx-int8", sys::ggml_cpu_has_amx_int8),
        ("neon", sys::ggml_cpu_has_neon),
        ("dotprod", sys::ggml_cpu_has_dotprod),
        ("i8mm", sys::ggml_cpu_has_matmul_int8),
        ("sve", sys::ggml_cpu_has_sve),
    ];
    // SAFETY: the probes take nothing and return constants of the build.
    let has = |probe: &Probe| unsafe { probe() } != 0;
    let found: Vec<_> = probes.iter().filter(|(_, p)| has(p)).map(|(name, _)| *name).collect();
    if found.is_empty() {
        "baseline".into()
    } else {
        found.join(" ")
    }
}

/// Keeps ggml from writing to stderr: the library prints nothing.
pub(super) fn silence_log() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback touches nothing, so it may be called from any thread at any time.
    ONCE.call_once(|| unsafe { sys::ggml_log_set(Some(ignore), std::ptr::null_mut()) });
}

unsafe extern "C" fn ignore(_level: sys::ggml_log_level, _text: *const c_char, _data: *mut c_void) {
}
