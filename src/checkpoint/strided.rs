//! Tensors whose elements do not follow one another: a transpose, or a part of another tensor.
//!
//! A range of elements is cut into boxes. Within a box the elements are fetched line by line along
//! the dimension in which they lie closest, so a piece of a transpose takes one read for each of
//! its columns rather than one for each element.

use crate::error::Result;
use crate::shape::Shape;

/// Most bytes read at once, elements that are passed over included.
const LINE_BYTES: usize = 64 << 10;

/// Elements from one to the next along each dimension, in ggml's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strides([u64; 4]);

/// Elements of a tensor that are a box: `extent` of them along each dimension.
struct Block {
    start: [usize; 4],
    extent: [usize; 4],
}

impl Strides {
    /// Strides of a tensor of `shape`, given slowest dimension first.
    pub(super) fn from_torch(shape: &Shape, strides: &[u64]) -> Self {
        let mut ggml = [0; 4];
        ggml.iter_mut().zip(strides.iter().rev()).for_each(|(to, from)| *to = *from);
        // There is no next element along a dimension of one, so its stride can be any number.
        ggml.iter_mut().zip(shape.ne()).filter(|(_, dim)| *dim == 1).for_each(|(to, _)| *to = 0);
        Self(ggml)
    }

    /// True if the elements of `shape` follow one another.
    pub(super) fn are_dense(&self, shape: &Shape) -> bool {
        let mut expected = 1;
        shape.ne().iter().zip(self.0).all(|(&dim, stride)| {
            let is_dense = dim == 1 || stride == expected;
            // The product is that of a shape, which is a number.
            expected = expected.saturating_mul(dim as u64);
            is_dense
        })
    }

    /// How far the last element is from the first; `None` if that is no number.
    pub(super) fn reach(&self, shape: &Shape) -> Option<u64> {
        shape.ne().iter().zip(self.0).try_fold(0u64, |reach, (&dim, stride)| {
            let last = (dim as u64).saturating_sub(1);
            reach.checked_add(last.checked_mul(stride)?)
        })
    }

    /// Gathers elements of `width` bytes from element `first` of `shape` on, until `out` is full.
    /// `read` reads bytes at an offset from the tensor's first element. The range must be inside
    /// the tensor and `out` must hold whole elements.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "elements have bytes, and a box holds no more of them than `out` has room for"
    )]
    pub(super) fn gather(
        &self,
        shape: &Shape,
        width: usize,
        first: usize,
        out: &mut [u8],
        mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut line = vec![0; LINE_BYTES];
        let (mut at, mut out) = (first, out);
        while !out.is_empty() {
            let block = Block::at(shape.ne(), at, out.len() / width);
            let n = block.extent.iter().product::<usize>();
            let (here, rest) = out.split_at_mut(n * width);
            self.gather_block(&block, width, here, &mut line, &mut read)?;
            at += n;
            out = rest;
        }
        Ok(())
    }

    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "elements have bytes; a box is inside the tensor, whose farthest element `reach` \
                  has shown to have a number; n elements a step apart are chosen to fit in a line, \
                  or there is one; a box has as many elements as `out`"
    )]
    fn gather_block(
        &self,
        block: &Block,
        width: usize,
        out: &mut [u8],
        line: &mut [u8],
        read: &mut impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let along = self.closest(block);
        let (step, out_step) = (self.0[along] as usize, block.out_steps()[along]);
        // Elements fetched by one read.
        let n = (line.len() / width / step.max(1)).clamp(1, block.extent[along]);
        for index in block.lines(along) {
            for start in (0..block.extent[along]).step_by(n) {
                let n = n.min(block.extent[along] - start);
                let mut index = index;
                index[along] = start;
                let span = &mut line[..((n - 1) * step + 1) * width];
                read(self.distance(block, index) * width as u64, span)?;
                let mut to = block.out_index(index) * width;
                for element in span.chunks(step.max(1) * width).cycle().take(n) {
                    out[to..to + width].copy_from_slice(&element[..width]);
                    to += out_step * width;
                }
            }
        }
        Ok(())
    }

    /// The dimension in which the elements of `block` lie closest.
    fn closest(&self, block: &Block) -> usize {
        let all = block.extent.into_iter().zip(self.0).enumerate();
        let longer = all.filter(|(_, (extent, _))| *extent > 1);
        longer.min_by_key(|(_, (_, stride))| *stride).map_or(0, |(dim, _)| dim)
    }

    /// Elements from the tensor's first to the one at `index` of `block`.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "an element inside the tensor, none of which is farther than `reach` allows"
    )]
    fn distance(&self, block: &Block, index: [usize; 4]) -> u64 {
        let at = block.start.into_iter().zip(index).map(|(start, i)| (start + i) as u64);
        at.zip(self.0).map(|(at, stride)| at * stride).sum()
    }
}

impl Block {
    /// The largest box that begins at element `at`, is without gaps in the tensor's order, and
    /// has at most `n` elements.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "no dimension of a shape is zero, so no extent is, and their product is at most \
                  n elements that are in memory; the four dimensions have these four numbers"
    )]
    fn at(ne: [usize; 4], at: usize, n: usize) -> Self {
        let (start, mut extent) = (unravel(at, ne), [1; 4]);
        let mut filled = 1;
        for dim in 0..4 {
            extent[dim] = (n / filled).min(ne[dim] - start[dim]);
            filled *= extent[dim];
            if extent[dim] < ne[dim] || filled * 2 > n {
                break;
            }
        }
        Self { start, extent }
    }

    /// Elements of the output from one to the next along each dimension.
    #[expect(clippy::arithmetic_side_effects, reason = "products of parts of a box in memory")]
    fn out_steps(&self) -> [usize; 4] {
        let [a, b, c, _] = self.extent;
        [1, a, a * b, a * b * c]
    }

    /// Where the element at `index` goes in the output.
    fn out_index(&self, index: [usize; 4]) -> usize {
        self.out_steps().iter().zip(index).map(|(step, i)| step.saturating_mul(i)).sum()
    }

    /// First index of every line along dimension `along`.
    fn lines(&self, along: usize) -> impl Iterator<Item = [usize; 4]> {
        let mut extent = self.extent;
        extent.iter_mut().skip(along).take(1).for_each(|extent| *extent = 1);
        (0..extent.iter().product::<usize>()).map(move |i| unravel(i, extent))
    }
}

/// The index of element `i` of an array with these dimensions, none of them zero.
#[expect(clippy::arithmetic_side_effects, reason = "the divisors are not zero")]
fn unravel(mut i: usize, dims: [usize; 4]) -> [usize; 4] {
    dims.map(|dim| {
        let at = i % dim;
        i /= dim;
        at
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Every element by its definition.
    fn naive(shape: &Shape, strides: &[u64; 4], first: usize, n: usize) -> Vec<u64> {
        let at = |mut i: usize| {
            let parts = shape.ne().into_iter().zip(strides).map(|(dim, &stride)| {
                let index = i % dim;
                i /= dim;
                index as u64 * stride
            });
            parts.sum()
        };
        (first..first + n).map(at).collect()
    }

    #[test]
    fn gathers_what_the_definition_says() {
        for seed in 0..3000 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let ne: Vec<usize> =
                (0..rng.random_range(1..=4)).map(|_| rng.random_range(1..7)).collect();
            let shape = Shape::new(&ne).unwrap();
            let mut strides = [0; 4];
            strides.iter_mut().for_each(|s| *s = rng.random_range(0..40));
            if seed % 10 == 0 {
                strides[rng.random_range(0..4)] = 20_000; // farther apart than a line is long
            }
            let first = rng.random_range(0..shape.n_elements());
            let n = rng.random_range(0..=shape.n_elements() - first);
            shape
                .ne()
                .iter()
                .zip(&mut strides)
                .filter(|(dim, _)| **dim == 1)
                .for_each(|(_, s)| *s = 0);
            let strided = Strides(strides);
            let reach = strided.reach(&shape).unwrap();
            let mut out = vec![0; n * 4];
            let read = |offset: u64, out: &mut [u8]| {
                assert!(offset + out.len() as u64 <= (reach + 1) * 4, "seed {seed}: outside");
                for (i, bytes) in out.chunks_exact_mut(4).enumerate() {
                    bytes.copy_from_slice(&(offset as u32 / 4 + i as u32).to_le_bytes());
                }
                Ok(())
            };
            strided.gather(&shape, 4, first, &mut out, read).unwrap();
            let found = out.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
            let expected = naive(&shape, &strides, first, n);
            assert_eq!(found.map(u64::from).collect::<Vec<_>>(), expected, "seed {seed}");
        }
    }

    #[test]
    fn a_piece_of_a_transpose_takes_a_read_a_column() {
        let shape = Shape::new(&[2048, 1000]).unwrap();
        let strides = Strides([1000, 1, 0, 0]);
        let mut reads = 0;
        let read = |_: u64, _: &mut [u8]| {
            reads += 1;
            Ok(())
        };
        strides.gather(&shape, 2, 2048 * 100, &mut vec![0; 2048 * 500 * 2], read).unwrap();
        assert_eq!(reads, 2048);
    }

    #[test]
    fn dense_strides_are_told_from_others() {
        let shape = Shape::from_torch(&[4, 1, 6]).unwrap();
        for (strides, dense) in
            [([6, 6, 1], true), ([6, 77, 1], true), ([6, 6, 2], false), ([7, 6, 1], false)]
        {
            let made = Strides::from_torch(&shape, &strides);
            assert_eq!(made.are_dense(&shape), dense, "{strides:?}");
        }
        let one = Shape::from_torch(&[]).unwrap();
        assert!(Strides::from_torch(&one, &[]).are_dense(&one));
        assert_eq!(Strides([u64::MAX, 1, 0, 0]).reach(&Shape::new(&[3, 2]).unwrap()), None);
        assert_eq!(Strides([u64::MAX, 1, 0, 0]).reach(&Shape::new(&[2, 2]).unwrap()), None);
    }
}
