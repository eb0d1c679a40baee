//! How far rounding may take a graph from the f64 reference, worked out from the formats alone.
//!
//! Before it multiplies, ggml's CPU backend rounds the input x of a product W x to a type that
//! goes with W's. The largest error of an element:
//!
//! | W | x becomes | error of x_i |
//! |---|---|---|
//! | f32 | f32 | 0 |
//! | f16 | f16, 11 bits | 2^-11 abs(x_i) |
//! | bf16 | bf16, 8 bits | 2^-8 abs(x_i) |
//! | blocks of 32 | q8_0, blocks of 32: 8 bits of step d = max/127, d an f16 | d/2 + 2^-11 abs(x_i) |
//! | the same with a minimum | q8_1: q8_0 and the sum of the block as f16 | d/2 + 2^-10 abs(x_i) |
//! | superblocks of 256 | q8_k, blocks of 256: 8 bits of step d = max/127, d an f32 | d/2 |
//!
//! Our own products round x less or the same. Where those of bf16 are of whole numbers, x and W both
//! move by up to 2^-14 of the largest element of their block of 32: more than 2^-8 of elements so small
//! that they hardly count, and 64 times less of the large ones.
//!
//! Then n products are summed in f32. The result is the exact product of an input whose elements
//! are off by a factor 1 + t, abs(t) <= lambda sqrt(n) 2^-24, except with probability below
//! 2 n exp(-lambda^2 / 2) (Higham and Mary 2019, rounding errors taken as independent, of mean
//! zero); lambda = 6 makes that 1e-5 for the widest product here. The same allowance covers the
//! element-wise steps between products, each of a few 2^-24.
//!
//! How such errors grow through layers, norms and the recurrence depends on the model and not on
//! the runtime. So the reference carries them: in each draw it moves every element of every input
//! by its largest error, up or down by chance. Real errors are smaller and mostly spread evenly
//! over the allowed range, which makes them sqrt(3) times smaller on average. The bound is twice
//! the largest deviation among [`DRAWS`] draws, twice because so few draws may have been lucky.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rwkvq::ggml::TensorType;

use super::reference::{Output, Pool, Reference};
use super::{assert_close, cosine, difference, max_abs_difference, Tolerance};

const DRAWS: u64 = 4;
const MARGIN: f64 = 2.0;
const LAMBDA: f64 = 6.0;
const F32: f64 = 1.0 / (1u64 << 24) as f64;

/// A clean run of the reference and runs disturbed by rounding.
pub struct Expected {
    clean: Output,
    draws: Vec<Output>,
}

impl Expected {
    /// Runs `ids`; `types` has the type of every matrix by the reference's name.
    pub fn new(model: &Reference, types: &BTreeMap<String, TensorType>, ids: &[u32]) -> Self {
        let draw = |seed| {
            let rng = RefCell::new(StdRng::seed_from_u64(seed));
            let types = types.clone();
            let disturb = move |name: &str, x: &mut [f64]| {
                move_by_largest_errors(types[name], x, &mut rng.borrow_mut());
            };
            Reference { disturb: Some(Rc::new(disturb)), ..model.clone() }.run(ids)
        };
        Self { clean: model.run(ids), draws: (0..DRAWS).map(draw).collect() }
    }

    /// Asserts that every layer of `found` (`[layer][n_embd]`) is within its bound.
    #[track_caller]
    pub fn assert_layers(&self, what: &str, pool: Pool, found: &[Vec<f64>]) {
        if let Some(how) = self.first_difference(pool, found) {
            panic!("{what}: {how}");
        }
    }

    /// The first layer of `found` that is not within its bound, and how it differs.
    pub fn first_difference(&self, pool: Pool, found: &[Vec<f64>]) -> Option<String> {
        let (expected, tolerances) = (self.clean.pooled(pool), self.tolerances(pool));
        assert_eq!(expected.len(), found.len(), "number of layers");
        (0..found.len()).find_map(|il| {
            let how = difference(&expected[il], &found[il], tolerances[il])?;
            Some(format!("layer {il} is the first that differs: {how}"))
        })
    }

    /// The bound of each layer.
    fn tolerances(&self, pool: Pool) -> Vec<Tolerance> {
        let draws: Vec<_> = self.draws.iter().map(|draw| draw.pooled(pool)).collect();
        let layer = |(il, clean): (usize, &Vec<f64>)| bound(clean, draws.iter().map(|d| &d[il]));
        self.clean.pooled(pool).iter().enumerate().map(layer).collect()
    }

    /// Asserts that the logits after the last token are within their bound.
    #[track_caller]
    pub fn assert_logits(&self, what: &str, found: &[f32]) {
        fn last(output: &Output) -> &Vec<f64> {
            output.logits.last().expect("at least one token")
        }
        let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
        let tolerance = bound(last(&self.clean), self.draws.iter().map(last));
        assert_close(&format!("{what}: logits"), last(&self.clean), &found, tolerance);
    }
}

/// `MARGIN` times the largest deviation; the distance of a cosine from one is of second order.
fn bound<'a>(clean: &[f64], draws: impl Iterator<Item = &'a Vec<f64>>) -> Tolerance {
    let (mut max_abs, mut turned): (f64, f64) = (0.0, 1e-14);
    for draw in draws {
        max_abs = max_abs.max(max_abs_difference(clean, draw));
        turned = turned.max(1.0 - cosine(clean, draw));
    }
    Tolerance { max_abs: MARGIN * max_abs, cosine: 1.0 - MARGIN * MARGIN * turned }
}

/// Moves each element of `x` by the largest error it can have as input of a matrix of type `ty`.
fn move_by_largest_errors(ty: TensorType, x: &mut [f64], rng: &mut StdRng) {
    use TensorType as T;
    let sum = LAMBDA * (x.len() as f64).sqrt() * F32;
    let (relative, block) = match ty {
        T::F32 => (0.0, None),
        T::F16 => (2f64.powi(-11), None),
        T::BF16 => (2f64.powi(-8), None),
        T::Q4_1 | T::Q5_1 => (2f64.powi(-10), Some(32)),
        ty if ty.block_len() == 32 => (2f64.powi(-11), Some(32)),
        _ => (0.0, Some(256)),
    };
    for x in x.chunks_mut(block.unwrap_or(usize::MAX)) {
        let max = x.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let half_step = if block.is_some() { max / 127.0 / 2.0 } else { 0.0 };
        for x in x {
            let largest = half_step + (relative + sum) * x.abs();
            *x += if rng.random::<bool>() { largest } else { -largest };
        }
    }
}
