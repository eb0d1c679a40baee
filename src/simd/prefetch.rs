//! Memory brought nearer before it is wanted.

/// Bytes that come at a time.
const LINE: usize = 64;

/// Asks for `values` to be brought into the second-level cache. Nothing else happens; where the
/// processor's instruction is not known, nothing does.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    let start = values.as_ptr().cast::<u8>();
    for at in (0..size_of_val(values)).step_by(LINE) {
        line(start.wrapping_add(at));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn line(at: *const u8) {
    use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T1};
    // SAFETY: SSE belongs to the baseline; a hint reads nothing, and no address makes it fail.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn line(at: *const u8) {
    // SAFETY: a hint reads nothing, and no address makes it fail.
    unsafe {
        std::arch::asm!(
            "prfm pldl2keep, [{}]",
            in(reg) at,
            options(nostack, preserves_flags, readonly),
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn line(_: *const u8) {}
