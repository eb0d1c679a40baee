//! Memory brought nearer before it is wanted.

use std::cell::Cell;

/// Bytes that come at a time.
const LINE: usize = 64;

/// Asks for `values` to be brought into the second-level cache. Nothing else happens; where the
/// processor's instruction is not known, nothing does.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    let start = values.as_ptr().cast::<u8>();
    let before = before(start);
    for at in (0..before + size_of_val(values)).step_by(LINE) {
        line(start.wrapping_sub(before).wrapping_add(at));
    }
}

/// Bytes from the beginning of the line to `at`.
#[inline(always)]
fn before(at: *const u8) -> usize {
    at.addr() % LINE
}

/// Rows of a matrix that come a few lines at a time while something else is computed. More at a time
/// would hold up what that reads.
#[derive(Debug)]
pub struct Ahead<'a> {
    /// From the first wanted byte of the first row on.
    bytes: &'a [u8],
    /// Bytes from one row to the next, and how many of them are wanted.
    stride: usize,
    width: usize,
    /// Where the next line begins: in which row, and behind the line of its first wanted byte.
    next: Cell<(usize, usize)>,
}

impl<'a> Ahead<'a> {
    /// Lines at a time.
    const LINES: usize = 10;

    /// No rows.
    pub fn none() -> Self {
        Self::new(&[], 0, 0)
    }

    /// `width` bytes at each `stride` of `bytes`.
    pub fn new(bytes: &'a [u8], stride: usize, width: usize) -> Self {
        Self { bytes, stride, width, next: Cell::new((0, 0)) }
    }

    /// Asks for the next lines, if there are any.
    #[inline(always)]
    pub fn few(&self) {
        self.some(Self::LINES);
    }

    #[inline(always)]
    fn some(&self, n_lines: usize) {
        let (mut row, mut at) = self.next.get();
        for _ in 0..n_lines {
            if row >= self.bytes.len() {
                return;
            }
            let start = self.bytes.as_ptr().wrapping_add(row);
            let before = before(start);
            line(start.wrapping_sub(before).wrapping_add(at));
            at += LINE;
            if at >= before + self.width {
                (row, at) = (row + self.stride.max(1), 0);
            }
            self.next.set((row, at));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_are_asked_for_and_then_none() {
        assert_eq!(Ahead::none().asked(), 0);
        // Three rows; the last is as long as what is wanted of it.
        let memory = vec![0u8; 2 * 1024 + 200];
        let first = memory.as_ptr().align_offset(LINE);
        let asked = |from: usize, width: usize| {
            Ahead::new(&memory[first + from..][..2 * 1024 + width], 1024, width).asked()
        };
        assert_eq!(asked(0, 64), 3);
        assert_eq!(asked(0, 100), 6);
        // Half of the first line, and half of one more at the end.
        assert_eq!(asked(32, 64), 6);
        assert_eq!(asked(32, 32), 3);
    }

    impl Ahead<'_> {
        /// Lines until there are no more.
        fn asked(&self) -> usize {
            let mut n = 0;
            loop {
                let before = self.next.get();
                self.some(1);
                if self.next.get() == before {
                    return n;
                }
                n += 1;
            }
        }
    }
}
