//! Shapes in ggml's order: fastest dimension first.
//!
//! A PyTorch shape is slowest first; [`Shape::from_torch`] is the one place that turns it round.
//! Uses std only.

use std::fmt;

/// Extent of a tensor, fastest dimension first, one to four dimensions, none of them zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    ne: [usize; 4],
    rank: usize,
}

impl Shape {
    /// Shape in ggml order. `None` if there are no or more than four dimensions, if one is zero,
    /// or if the element count does not fit in `isize`.
    pub fn new(ne: &[usize]) -> Option<Self> {
        if ne.is_empty() || ne.len() > 4 {
            return None;
        }
        let n = ne.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
        if n == 0 || n > isize::MAX as usize {
            return None;
        }
        let mut all = [1; 4];
        all[..ne.len()].copy_from_slice(ne);
        Some(Self { ne: all, rank: ne.len() })
    }

    /// Shape of a PyTorch tensor, given slowest dimension first. A scalar becomes `[1]`.
    pub fn from_torch(shape: &[usize]) -> Option<Self> {
        if shape.is_empty() {
            return Self::new(&[1]);
        }
        let mut ne = shape.to_vec();
        ne.reverse();
        Self::new(&ne)
    }

    /// The dimensions as given, fastest first.
    pub fn dims(&self) -> &[usize] {
        &self.ne[..self.rank]
    }

    /// All four dimensions, missing ones 1.
    pub fn ne(&self) -> [usize; 4] {
        self.ne
    }

    /// Number of dimensions, trailing ones included.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Elements in a row, the unit of quantization.
    pub fn n_cols(&self) -> usize {
        self.ne[0]
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.ne[1] * self.ne[2] * self.ne[3]
    }

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.n_cols() * self.n_rows()
    }

    /// The same extent without trailing dimensions of one (at least one dimension is kept).
    pub fn trimmed(&self) -> Self {
        let rank = (2..=self.rank).rev().find(|&r| self.ne[r - 1] != 1).unwrap_or(1);
        Self { ne: self.ne, rank }
    }

    /// The same extent without any dimension of one (at least one dimension is kept).
    pub fn squeezed(&self) -> Self {
        let kept: Vec<usize> = self.dims().iter().copied().filter(|&dim| dim != 1).collect();
        Self::new(if kept.is_empty() { &[1] } else { &kept }).expect("a subset of valid dims")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torch_shapes_are_reversed() {
        let shape = Shape::from_torch(&[5, 32, 64]).unwrap();
        assert_eq!(shape.dims(), [64, 32, 5]);
        assert_eq!((shape.n_cols(), shape.n_rows(), shape.n_elements()), (64, 160, 10240));
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert!(Shape::new(&[]).is_none());
        assert!(Shape::new(&[1; 5]).is_none());
        assert!(Shape::new(&[4, 0]).is_none());
        assert!(Shape::new(&[usize::MAX, 2]).is_none());
    }

    #[test]
    fn trailing_and_inner_ones() {
        let shape = Shape::new(&[64, 1, 1, 5]).unwrap();
        assert_eq!(shape.trimmed().dims(), [64, 1, 1, 5]);
        assert_eq!(shape.squeezed().dims(), [64, 5]);
        assert_eq!(Shape::new(&[1, 1]).unwrap().trimmed().dims(), [1]);
    }
}
