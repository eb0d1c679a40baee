//! Matrix products over quantized rows where they lie: `y = W x` for many tokens at once.
//!
//! In: rows of a tensor type as a GGUF holds them, f32 activations. Out: f32 sums. Sixteen rows are
//! unpacked into a panel, a few panels meet all tokens, the next few follow: a second copy of the
//! weights never exists. Activations are rounded first ([`Activations`]), by type and processor:
//!
//! - K-quants: to eight bits with a scale for each 256, as ggml does.
//! - Q8_0: to eight bits with a scale for each 32, as ggml does, where products of bytes are faster;
//!   else to sixteen bits.
//! - BF16: to BF16, as ggml does, where there are products of it. Where whole numbers are faster,
//!   activations and weights become such: of up to 15 bits with a scale for each 256 where
//!   Winograd's products are, and where there are no products of BF16, of 14 bits with a scale for
//!   each 32 if that is faster than f32. Next to the largest of a block both are nearer to what the
//!   numbers were than BF16 is to the activations; what is below half a step of it, or of a block
//!   below 1e-34, is lost. Else not at all.
//! - F32 and F16: not at all.
//!
//! Uses `simd` only. Other processors than those of [`Machine`] have none; there ggml's own products
//! run.

mod activations;
mod decode;
mod fill;
mod panels;

pub use activations::Activations;
pub use fill::Scratch;

pub use crate::simd::tiles::{
    Arithmetic, Columns, TileMachine as Machine, PANEL_ROWS, TILE_TOKENS,
};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::simd::tiles::{LevelsShape, SUPERBLOCK, WIDE_BLOCK, WIDE_LIMIT};
use crate::simd::{prefetch, Ahead};

/// Largest magnitude of weights and activations where both become whole numbers.
const SCALED_LARGEST: i16 = 8191;

const _: () = assert!(SCALED_LARGEST as i32 * SCALED_LARGEST as i32 <= WIDE_LIMIT);
const _: () = assert!(128 * i16::MAX as i32 <= WIDE_LIMIT);

/// A tensor type that has a product here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Blocks of 32 in eight bits.
    Q8_0,
    /// Superblocks, two bits.
    Q2K,
    /// Superblocks, three bits.
    Q3K,
    /// Superblocks, four bits.
    Q4K,
    /// Superblocks, five bits.
    Q5K,
    /// Superblocks, six bits.
    Q6K,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// What the activations must be brought to.
    pub fn activations(self, machine: Machine) -> Activations {
        if let Some(shape) = self.levels() {
            return Activations::Levels { block: shape.block() };
        }
        match self {
            Self::Q8_0 if machine.has_bytes() => Activations::Bytes,
            Self::Q8_0 => Activations::Wide { largest: i16::MAX },
            Self::BF16 if machine.has_winograd() => Activations::Winograd,
            Self::BF16 if machine.has_pairs() => Activations::Pairs,
            Self::BF16 if machine.has_wide() => Activations::Wide { largest: SCALED_LARGEST },
            _ => Activations::Float,
        }
    }

    /// What its products compute with.
    pub fn arithmetic(self, machine: Machine) -> Arithmetic {
        match self.activations(machine) {
            Activations::Float => Arithmetic::Float,
            Activations::Pairs => Arithmetic::BF16,
            Activations::Winograd => Arithmetic::Winograd,
            Activations::Wide { .. } => Arithmetic::Int16,
            Activations::Bytes | Activations::Levels { .. } => Arithmetic::Int8,
        }
    }

    /// Weights in a block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 => WIDE_BLOCK,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => SUPERBLOCK,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    const fn levels(self) -> Option<LevelsShape> {
        match self {
            Self::F32 | Self::F16 | Self::BF16 | Self::Q8_0 => None,
            Self::Q2K | Self::Q3K => Some(LevelsShape::Block16Levels32),
            Self::Q4K => Some(LevelsShape::Block32Levels16),
            Self::Q5K => Some(LevelsShape::Block32Levels32),
            Self::Q6K => Some(LevelsShape::Block16Levels64),
        }
    }
}

/// A matrix `{n_in, n_out}`: `n_out` rows of `n_in` weights.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    format: Format,
    bytes: &'a [u8],
    n_in: usize,
    row_bytes: usize,
}

impl<'a> Matrix<'a> {
    /// Panics unless `bytes` is whole rows of `n_in` weights and a row whole blocks.
    pub fn new(format: Format, bytes: &'a [u8], n_in: usize) -> Self {
        assert!(n_in > 0 && n_in.is_multiple_of(format.block_len()), "{format:?} rows of {n_in}");
        let row_bytes = n_in / format.block_len() * format.block_bytes();
        assert!(
            bytes.len().is_multiple_of(row_bytes),
            "{} bytes of {row_bytes} a row",
            bytes.len()
        );
        Self { format, bytes, n_in, row_bytes }
    }

    /// What its activations must be brought to.
    pub fn activations(&self, machine: Machine) -> Activations {
        self.format.activations(machine)
    }

    /// Number of rows.
    pub fn n_out(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// Rows of a part for one of `n_threads` threads: as many panels as meet the tokens at a time, or
    /// fewer where threads would be left without.
    pub fn part_rows(&self, n_threads: usize) -> usize {
        /// Parts of a thread, at least.
        const PARTS: usize = 4;
        let n_panels = self.n_out().div_ceil(PANEL_ROWS);
        (n_panels / (PARTS * n_threads)).clamp(1, panels::AT_ONCE) * PANEL_ROWS
    }

    /// Where columns lie in a row, in bytes.
    fn bytes_of(&self, cols: &Range<usize>) -> Range<usize> {
        let block = |col: usize| col / self.format.block_len() * self.format.block_bytes();
        block(cols.start)..block(cols.end)
    }

    /// Columns of some rows, to be brought nearer during a product. Quantized ones are so few bytes
    /// that they are asked for at once.
    fn ahead(&self, rows: Range<usize>, cols: &Range<usize>) -> Ahead<'a> {
        let bytes = self.bytes_of(cols);
        if self.format.block_len() > 1 {
            rows.for_each(|row| prefetch(&self.row(row)[bytes.clone()]));
            return Ahead::none();
        }
        let all = &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes];
        Ahead::new(all.get(bytes.start..).unwrap_or_default(), self.row_bytes, bytes.len())
    }

    fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.row_bytes..][..self.row_bytes]
    }
}

/// Rows of a product that a thread multiplies, and those which will probably be its next ones: they
/// are brought nearer meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// They begin at a multiple of [`PANEL_ROWS`].
    pub rows: Range<usize>,
    /// Any rows of the matrix, or none.
    pub next: Range<usize>,
}

impl From<Range<usize>> for Part {
    fn from(rows: Range<usize>) -> Self {
        Self { rows, next: 0..0 }
    }
}

/// Parts of a product, which threads take one after the other.
#[derive(Debug, Default)]
pub struct Parts(AtomicUsize);

impl Parts {
    /// Rows that no other of the `n_threads` threads has; none if all are taken.
    pub fn take(&self, matrix: &Matrix<'_>, n_threads: usize) -> Option<Part> {
        let (n_out, size) = (matrix.n_out(), matrix.part_rows(n_threads));
        let start = self.0.fetch_add(1, Ordering::Relaxed) * size;
        let rows = |start: usize| start.min(n_out)..n_out.min(start + size);
        // The others take one each in the time of this one.
        (start < n_out).then(|| Part { rows: rows(start), next: rows(start + n_threads * size) })
    }

    /// All can be taken again.
    pub fn give_back(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Multiplies rows of `matrix` with rows of activations, as [`Activations::prepare`] left
/// them one after the other, into `out`: a row for each token, a column for each of the rows.
///
/// Panics unless the tokens of `out` are a multiple of [`TILE_TOKENS`] and its columns as many as
/// the rows, these begin at a multiple of [`PANEL_ROWS`], and `prepared` is as long as they say.
pub fn multiply(
    machine: Machine,
    matrix: Matrix<'_>,
    part: impl Into<Part>,
    prepared: &[u8],
    scratch: &mut Scratch,
    out: Columns<'_>,
) {
    let part = part.into();
    let rows = &part.rows;
    assert!(rows.start.is_multiple_of(PANEL_ROWS) && rows.end <= matrix.n_out(), "rows {rows:?}");
    assert_eq!(out.width(), rows.len(), "a column for each row");
    panels::multiply(machine, matrix, part, prepared, scratch, out);
}
