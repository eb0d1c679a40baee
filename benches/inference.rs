//! Multiply-adds per second of our matrix products beside ggml's, in graphs of one product each,
//! one thread.
//!
//! ```text
//! cargo bench --bench inference [-- TYPE]
//! ```
//! Both take turns, so that what else the machine does falls on them alike; a line has the median
//! of the turns, and of their ratios in the same turn with the lowest and highest. Both answers are
//! compared with sums in f64 over the same weights before anything is timed.

mod timing;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rwkvq::ggml::{
    self, Executor, Graph, MappedTensor, MappedTensors, Node, Products, StateTensors, TensorType,
    Upload,
};
use rwkvq::mmap::Mmap;
use rwkvq::Shape;
use timing::{median, seconds};

/// Columns and rows of the matrix: the width of Finch-1B6.
const N_IN: usize = 2048;
const N_OUT: usize = 2048;

const N_TOKENS: [usize; 4] = [8, 32, 128, 512];

/// Turns after one that warms up.
const TURNS: usize = 5;

/// Timed calls last at least this long each.
const AT_LEAST: Duration = Duration::from_millis(50);

/// Rows of the answer that are compared with sums in f64.
const CHECKED: usize = 64;

fn main() {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    println!(
        "{N_IN} x {N_OUT} weights, one thread; 10^9 multiply-adds/s, median of {TURNS} turns; {}",
        ggml::isa()
    );
    for &ty in TensorType::ALL.iter().filter(|&&ty| ggml::format_of(ty).is_some()) {
        if only.as_ref().is_none_or(|only| *only == ty.name()) {
            let matrix = Weights::random(ty);
            N_TOKENS.iter().for_each(|&n_tokens| compare(&matrix, n_tokens));
        }
    }
}

/// A matrix in a mapped file, and what it is worth.
struct Weights {
    ty: TensorType,
    mapped: Arc<MappedTensors>,
    /// The first rows.
    worth: Vec<f32>,
}

impl Weights {
    fn random(ty: TensorType) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let values: Vec<f32> = (0..N_IN * N_OUT).map(|_| rng.random_range(-0.1..0.1f32)).collect();
        let bytes: Vec<u8> = match ty {
            TensorType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            TensorType::F16 => {
                values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
            }
            TensorType::BF16 => {
                values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
            }
            _ => {
                let row_bytes = ty.row_bytes(N_IN).expect("rows of whole blocks");
                let mut bytes = vec![0; row_bytes * N_OUT];
                ggml::quantize(ty, &values, N_IN, None, &mut bytes);
                bytes
            }
        };
        let mut worth = vec![0.0; N_IN * CHECKED];
        ggml::to_f32(ty, &bytes[..bytes.len() / N_OUT * CHECKED], &mut worth);
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&bytes).expect("room for the weights");
        let map = Arc::new(Mmap::open(file.path()).expect("a file that can be mapped"));
        let shape = Shape::new(&[N_IN, N_OUT]).expect("two dimensions");
        let tensor = MappedTensor { ty, shape, offset: 0, on_device: false };
        let mapped = MappedTensors::new(map, &[tensor], None, Upload::Now);
        Self { ty, mapped: Arc::new(mapped.expect("nothing is copied")), worth }
    }
}

/// A graph of one product, ready to run.
struct Product {
    executor: Executor,
    y: Node,
}

impl Product {
    fn new(weights: &Weights, x: &[f32], products: Products) -> Self {
        let state = StateTensors::new(
            &[(Shape::new(&[1]).expect("a dimension"), false)],
            None,
            Upload::Now,
        );
        let state = Arc::new(state.expect("memory for one number"));
        let mut graph = Graph::new(8, Arc::clone(&weights.mapped), state, products);
        let shape = Shape::new(&[N_IN, x.len() / N_IN]).expect("two dimensions");
        let (w, input) = (graph.weight(0), graph.input_f32(shape));
        let y = graph.mul_mat(w, input);
        graph.output(y);
        let mut executor = Executor::new(1, None, 8).expect("a thread");
        executor.load(graph).expect("memory for one product");
        executor.set_f32(input, x).expect("an input of this size");
        Self { executor, y }
    }

    fn run(&mut self) {
        self.executor.compute().expect("the product runs");
    }

    fn answer(&mut self, n_tokens: usize) -> Vec<f32> {
        self.run();
        let mut y = vec![0.0; N_OUT * n_tokens];
        self.executor.get_f32(self.y, &mut y).expect("an answer of this size");
        y
    }
}

fn compare(weights: &Weights, n_tokens: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let x: Vec<f32> = (0..N_IN * n_tokens).map(|_| rng.random_range(-1.0..1.0f32)).collect();
    let mut both = [Products::Own, Products::Ggml].map(|p| Product::new(weights, &x, p));
    for (product, name) in both.iter_mut().zip(["our", "ggml's"]) {
        let error = error(&product.answer(n_tokens), &weights.worth, &x);
        assert!(error < 0.01, "{name} {} product is {error} off", weights.ty);
    }
    let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for turn in 0..=TURNS {
        let [ours, theirs] = both.each_mut().map(|product| seconds(AT_LEAST, || product.run()));
        if turn > 0 {
            times[0].push(ours);
            times[1].push(theirs);
            ratios.push(theirs / ours);
        }
    }
    let rate = |times| (N_IN * N_OUT * n_tokens) as f64 / median(times) / 1e9;
    let [ours, theirs] = times.map(rate);
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "{:5} {n_tokens:4} tokens: ggml {theirs:6.1}   ours {ours:6.1} ({:.2}x, {low:.2} to {high:.2})",
        weights.ty,
        median(ratios)
    );
}

/// How far the first rows of an answer are from sums in f64: the root of the mean square of the
/// differences over that of the sums. Most of it is the rounding of activations.
fn error(y: &[f32], worth: &[f32], x: &[f32]) -> f64 {
    let (mut off, mut size) = (0.0, 0.0);
    for (y, x) in y.chunks_exact(N_OUT).zip(x.chunks_exact(N_IN)) {
        for (&y, w) in y.iter().zip(worth.chunks_exact(N_IN)) {
            let terms = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
            let sum: f64 = terms.sum();
            off += (f64::from(y) - sum).powi(2);
            size += sum.powi(2);
        }
    }
    (off / size).sqrt()
}
