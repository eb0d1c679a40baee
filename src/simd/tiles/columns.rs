//! Where sums go.

use std::marker::PhantomData;
use std::ops::Range;

/// Some columns of a matrix of f32 with a row for each token: one column for each row of weights.
/// Several threads can hold different columns of one matrix.
#[derive(Debug)]
pub struct Columns<'a> {
    start: *mut f32,
    n_tokens: usize,
    width: usize,
    stride: usize,
    add: bool,
    matrix: PhantomData<&'a mut [f32]>,
}

impl<'a> Columns<'a> {
    /// All columns of rows of `width` values. Panics unless the rows are whole.
    pub fn all(matrix: &'a mut [f32], width: usize) -> Self {
        assert!(width > 0 && matrix.len().is_multiple_of(width), "{} in {width}", matrix.len());
        let n_tokens = matrix.len() / width;
        let start = matrix.as_mut_ptr();
        Self { start, n_tokens, width, stride: width, add: false, matrix: PhantomData }
    }

    /// `width` columns from `start` on of `n_tokens` rows that lie `stride` values apart.
    ///
    /// # Safety
    /// The values can be read and written, and nobody else does either while `'a` lasts.
    pub unsafe fn new(start: *mut f32, n_tokens: usize, width: usize, stride: usize) -> Self {
        Self { start, n_tokens, width, stride, add: false, matrix: PhantomData }
    }

    /// Some of the columns; sums are added to what stands there, or replace it. Panics if there are
    /// fewer columns.
    pub fn part(&mut self, columns: Range<usize>, add: bool) -> Columns<'_> {
        assert!(columns.start <= columns.end && columns.end <= self.width, "{columns:?}");
        let start = self.start.wrapping_add(columns.start);
        Columns { start, width: columns.len(), add, matrix: PhantomData, ..*self }
    }

    /// Number of rows.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether sums are added to what stands there.
    pub(super) fn add(&self) -> bool {
        self.add
    }

    /// Where the values from `column` on of a row begin.
    ///
    /// # Safety
    /// There is such a row, and such a column.
    #[inline(always)]
    pub(super) unsafe fn at(&mut self, token: usize, column: usize) -> *mut f32 {
        // SAFETY: by the contract, and by that of `new`.
        unsafe { self.start.add(token * self.stride + column) }
    }
}
