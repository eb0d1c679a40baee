//! Rows of prepared activations.

use super::TILE_TOKENS;

/// Rows of activations, a multiple of [`TILE_TOKENS`], at equal distances, and where in each row
/// its parts begin, in bytes:
///
/// | panels | numbers | scales | sums |
/// |---|---|---|---|
/// | levels, planes | i8 `[k]`, -127 to 127 | f32 `[superblock]` | i16 `[sub-block]`, of the numbers |
/// | bytes | i8 `[k]`, -127 to 127 | f32 `[k / 32]` | i32 `[k / 32]`: see below |
/// | wide | i16 `[k]` | f32 `[k / 32]` | |
/// | pairs | bf16 `[k]` | | |
/// | winograd | i16 `[k / 4][4]`, of four the second, fourth, first and third | f32 `[k / 256]` | i32 `[k / 256]`: see below |
/// | float | f32 `[k]` | | |
///
/// Planes want what levels do. The sums of bytes are what
/// [the offset](super::TileMachine::byte_offset) comes to: minus it, times the sum of the numbers.
/// Those of Winograd's are minus the sum of even numbers times the odd ones behind them.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// All rows.
    pub bytes: &'a [u8],
    /// Bytes from the beginning of a row to that of the next.
    pub stride: usize,
    /// Where the numbers begin.
    pub numbers: usize,
    /// Where the scales begin.
    pub scales: usize,
    /// Where the sums begin.
    pub sums: usize,
}

/// Where the parts of a row lie.
#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) numbers: *const u8,
    pub(super) scales: *const u8,
    pub(super) sums: *const u8,
}

/// Number `at` of those that lie at `from`, on any address.
///
/// # Safety
/// It can be read, and any bits are a value of `T`.
#[inline(always)]
pub(super) unsafe fn number<T>(from: *const u8, at: usize) -> T {
    // SAFETY: by the contract.
    unsafe { from.cast::<T>().add(at).read_unaligned() }
}

impl Tokens<'_> {
    /// Panics unless there are `n` rows, with so many bytes of numbers, scales and sums.
    pub(super) fn check(&self, n: usize, numbers: usize, scales: usize, sums: usize) {
        assert!(n.is_multiple_of(TILE_TOKENS), "{n} tokens");
        assert_eq!(self.bytes.len(), n * self.stride, "bytes of {n} tokens");
        let parts = [(self.numbers, numbers), (self.scales, scales), (self.sums, sums)];
        assert!(parts.iter().all(|(start, len)| start + len <= self.stride), "{parts:?}");
    }

    /// The rows from `first` on.
    ///
    /// # Safety
    /// There are so many.
    #[inline(always)]
    pub(super) unsafe fn tile<const T: usize>(&self, first: usize) -> [Token; T] {
        // SAFETY: by the contract.
        let mut rows = [unsafe { self.row(first) }; T];
        for (t, row) in rows.iter_mut().enumerate() {
            // SAFETY: by the contract.
            *row = unsafe { self.row(first + t) };
        }
        rows
    }

    /// Row `row`.
    ///
    /// # Safety
    /// There is one.
    #[inline(always)]
    pub(super) unsafe fn row(&self, row: usize) -> Token {
        // SAFETY: by the contract; the parts begin inside of their row, as `check` saw.
        unsafe {
            let start = self.bytes.as_ptr().add(row * self.stride);
            Token {
                numbers: start.add(self.numbers),
                scales: start.add(self.scales),
                sums: start.add(self.sums),
            }
        }
    }
}
