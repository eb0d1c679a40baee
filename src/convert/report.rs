//! What quantization cost: the error of each tensor, and its worst block.
//!
//! A piece of a tensor is measured by whoever quantized it; the parts are combined in the order of
//! the file, so that the numbers do not depend on the number of threads.

/// What [`run`](super::run) found out, one entry per job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConvertReport {
    /// The files, in the order of the jobs.
    pub files: Vec<FileReport>,
}

/// Errors of one file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileReport {
    /// Tensors that lost precision, in the order of the file; empty unless asked for.
    pub tensors: Vec<TensorError>,
}

/// How far the weights of one tensor, read back, are from those of the source.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorError {
    /// Index in the plan.
    pub row: usize,
    /// Root of the mean squared difference.
    pub rmse: f64,
    /// The same divided by the root mean square of the weights; 0 where all are zero.
    pub relative: f64,
    /// Largest difference.
    pub max_abs: f64,
    /// The block (weights that share a scale) with the largest RMSE, counted from the start of the
    /// tensor; the first of several.
    pub worst_block: usize,
    /// Its RMSE.
    pub worst_block_rmse: f64,
}

/// Sums over some consecutive blocks of a tensor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    n: usize,
    squares: f64,
    source_squares: f64,
    max_abs: f64,
    worst_block: usize,
    worst_squares: f64,
}

/// Sums in flight at once, so that the loop runs in registers; the order is fixed.
const LANES: usize = 8;

/// Sums of one block.
#[derive(Default)]
struct Lanes {
    squares: [f64; LANES],
    source_squares: [f64; LANES],
    max_abs: [f64; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, lane: usize, x: f32, y: f32) {
        let (x, y) = (f64::from(x), f64::from(y));
        let difference = (x - y).abs();
        self.squares[lane] += difference * difference;
        self.source_squares[lane] += x * x;
        // Not `max`, which asks for NaN each time: both sides are finite here.
        if difference > self.max_abs[lane] {
            self.max_abs[lane] = difference;
        }
    }
}

impl Sums {
    /// Compares `values` with what `back` says they have become, in blocks of `block_len`. The
    /// first block has number `first_block`.
    pub(super) fn of(values: &[f32], back: &[f32], block_len: usize, first_block: usize) -> Self {
        let mut sums = Self { n: values.len(), worst_block: first_block, ..Self::default() };
        let blocks = values.chunks(block_len).zip(back.chunks(block_len));
        for (i, (values, back)) in blocks.enumerate() {
            let mut lanes = Lanes::default();
            let (whole, whole_back) = (values.chunks_exact(LANES), back.chunks_exact(LANES));
            let rest = whole.remainder().iter().zip(whole_back.remainder());
            for (values, back) in whole.zip(whole_back) {
                for lane in 0..LANES {
                    lanes.add(lane, values[lane], back[lane]);
                }
            }
            rest.enumerate().for_each(|(lane, (&x, &y))| lanes.add(lane, x, y));
            let block: f64 = lanes.squares.iter().sum();
            if block > sums.worst_squares {
                (sums.worst_block, sums.worst_squares) = (first_block + i, block);
            }
            sums.squares += block;
            sums.source_squares += lanes.source_squares.iter().sum::<f64>();
            sums.max_abs = lanes.max_abs.iter().fold(sums.max_abs, |a, &b| a.max(b));
        }
        sums
    }

    /// Appends the blocks that follow.
    pub(super) fn extend(&mut self, next: &Self) {
        if self.n == 0 || next.worst_squares > self.worst_squares {
            (self.worst_block, self.worst_squares) = (next.worst_block, next.worst_squares);
        }
        self.n += next.n;
        self.squares += next.squares;
        self.source_squares += next.source_squares;
        self.max_abs = self.max_abs.max(next.max_abs);
    }

    /// The error of a whole tensor, row `row` of its plan.
    pub(super) fn finish(&self, row: usize, block_len: usize) -> TensorError {
        let n = self.n.max(1) as f64;
        let relative = if self.source_squares > 0.0 {
            (self.squares / self.source_squares).sqrt()
        } else {
            0.0
        };
        TensorError {
            row,
            rmse: (self.squares / n).sqrt(),
            relative,
            max_abs: self.max_abs,
            worst_block: self.worst_block,
            worst_block_rmse: (self.worst_squares / block_len as f64).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_the_definition() {
        let values = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0];
        let back = [1.0, 2.0, 3.5, 4.0, 0.0, 0.25];
        let error = Sums::of(&values, &back, 2, 10).finish(7, 2);
        assert_eq!((error.row, error.worst_block, error.max_abs), (7, 11, 0.5));
        approx::assert_relative_eq!(error.rmse, ((0.25 + 0.0625) / 6f64).sqrt());
        approx::assert_relative_eq!(error.relative, (0.3125 / 30f64).sqrt());
        approx::assert_relative_eq!(error.worst_block_rmse, 0.125f64.sqrt());
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let values: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
        let back: Vec<f32> = values.iter().map(|x| (x * 8.0).round() / 8.0).collect();
        let whole = Sums::of(&values, &back, 16, 0).finish(0, 16);
        let mut sum = Sums::default();
        for part in 0..4 {
            let range = part * 16..(part + 1) * 16;
            sum.extend(&Sums::of(&values[range.clone()], &back[range], 16, part));
        }
        assert_eq!(sum.finish(0, 16), whole);
    }

    #[test]
    fn an_exact_tensor_has_no_error() {
        let error = Sums::of(&[0.0; 4], &[0.0; 4], 2, 0).finish(0, 2);
        assert_eq!((error.rmse, error.relative, error.worst_block_rmse), (0.0, 0.0, 0.0));
    }
}
