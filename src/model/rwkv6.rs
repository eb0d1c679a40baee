//! The RWKV-6 graph for one chunk of tokens.
//!
//! Shapes in ggml order; C = n_embd, S = head size, H = heads, F = n_ff, E and D the low ranks,
//! N = rows of the chunk (all lanes together), L = lanes. Rows of one lane are consecutive.
//!
//! `shift` says for each row which row stands before it, so that the first token of a text has a row
//! of zeros there. Where texts do not share rows, they follow each other in a lane, separated by a
//! row whose key and decay are zero: the recurrence leaves it with an empty state.
//!
//! Here are the plain operations; `rwkv6_fused` has those that take their place on the CPU.

use super::weights::{ChannelMix, Index, LayerWeights, Lerps, Norm, TimeMix};
use super::{Layer, Model};
use crate::arch::rwkv6::GROUP_NORM_EPS;
use crate::ggml::{Graph, Node, Products, SegmentPool};
use crate::shape::Shape;

/// State tensors of each layer, in this order: attention shift, channel shift, recurrence.
pub(super) const STATES_PER_LAYER: usize = 3;

/// What the graph is built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphShape {
    pub(super) n_rows: usize,
    pub(super) n_lanes: usize,
    pub(super) n_segments: usize,
    pub(super) layers: Vec<Layer>,
    pub(super) pool: SegmentPool,
    pub(super) logits: bool,
    /// Sum the squares of what goes into each matrix of the layers.
    pub(super) squares: bool,
    /// The same for the head.
    pub(super) head_squares: bool,
    /// Layers whose second channel-mix product runs on a smaller scale.
    pub(super) rescaled: Vec<usize>,
    /// Texts share rows, for which all layers have to be fused: checked when they are built.
    pub(super) shares_rows: bool,
}

impl GraphShape {
    /// A graph that pools `layers` and nothing else.
    pub(super) fn pooling(
        (n_rows, n_lanes, n_segments): (usize, usize, usize),
        layers: Vec<Layer>,
        pool: SegmentPool,
    ) -> Self {
        Self {
            n_rows,
            n_lanes,
            n_segments,
            layers,
            pool,
            logits: false,
            squares: false,
            head_squares: false,
            rescaled: Vec::new(),
            shares_rows: false,
        }
    }
}

/// Factor of that scale: a power of two, so that nothing but the range of the numbers changes.
const SMALLER: f32 = 1.0 / 4096.0;

/// Places to write to before a run and to read from after it.
#[derive(Debug)]
pub(super) struct Io {
    /// Token of each row, i32 `{N}`.
    pub(super) tokens: Node,
    /// Row before each row, i32 `{N}`: 0 none (zeros), 1 + l the end of lane l in the chunk
    /// before, 1 + L + n row n.
    pub(super) shift: Node,
    /// f32 `{C}` of zeros, where layers are not fused.
    pub(super) zeros: Option<Node>,
    /// The same: f32 `{C, N}`, 1 for tokens, 0 for separators and padding.
    pub(super) keep: Option<Node>,
    /// The last row of each segment, i32 `{n_segments}`.
    pub(super) last_rows: Option<Node>,
    /// For a device that sums: f32 `{N, n_segments}`, 1 for the rows of a segment.
    pub(super) mask: Option<Node>,
    /// Pooled layers, f32 `{C, n_segments}` each, in the order asked for.
    pub(super) pooled: Vec<Node>,
    /// f32 `{V, n_segments}`: logits of the last row of each segment.
    pub(super) logits: Option<Node>,
    /// Sums of squares per column of the input of a matrix, f32 `{n_in, n_segments}`: one node for
    /// each plane of the matrix, one after the other.
    pub(super) squares: Vec<(Index, Node)>,
}

/// Shapes of the state tensors of a model for `n_lanes` lanes, and whether they are on the device:
/// where the operations run that use them.
pub(super) fn state_shapes(model: &Model, n_lanes: usize) -> Vec<(Shape, bool)> {
    let hparams = model.hparams();
    let c = hparams.n_embd;
    let shape = |dims: &[usize]| Shape::new(dims).expect("sizes of a checked model");
    let layer =
        [shape(&[c, n_lanes]), shape(&[c, n_lanes]), shape(&[c * hparams.head_size, n_lanes])];
    let recurs = model.device().is_some_and(|device| device.runs_recurrence(hparams.head_size));
    let places = |il| {
        let there = il < model.gpu_layers();
        layer.into_iter().zip([there, there, there && recurs])
    };
    (0..hparams.n_layer).flat_map(places).collect()
}

/// Operations of a graph of `n_layer` layers, generously.
pub(super) fn n_nodes(n_layer: usize) -> usize {
    200 * n_layer + 200
}

/// Whether every layer of a graph that pools is fused: see `Builder::layer`.
pub(super) fn fuses_all(model: &Model, products: Products, rescaled: &[usize]) -> bool {
    products == Products::Own && model.gpu_layers() == 0 && rescaled.is_empty()
}

/// Builds the graph up to the last layer asked for.
pub(super) fn build(model: &Model, graph: &mut Graph, shape: &GraphShape) -> Io {
    let mut io = Io {
        tokens: graph.input_i32(shape.n_rows),
        shift: graph.input_i32(shape.n_rows),
        zeros: None,
        keep: None,
        last_rows: None,
        mask: None,
        pooled: Vec::new(),
        logits: None,
        squares: Vec::new(),
    };
    Builder { model, g: graph, shape }.run(&mut io);
    io
}

pub(super) struct Builder<'a> {
    pub(super) model: &'a Model,
    pub(super) g: &'a mut Graph,
    pub(super) shape: &'a GraphShape,
}

/// What a layer makes: the stream, and what its two halves were given, each {C, N}.
pub(super) struct Outputs {
    pub(super) x: Node,
    pub(super) a: Node,
    pub(super) f: Node,
}

impl Builder<'_> {
    fn run(&mut self, io: &mut Io) {
        let hparams = self.model.hparams();
        let weights = &self.model.weights;
        let last = self.shape.layers.last().copied();
        let n_layer = match last {
            Some(Layer::Block(il)) if !self.shape.logits => il + 1,
            _ => hparams.n_layer,
        };
        // x = LN(embedding of the token)
        let table = self.g.weight(weights.token_embd);
        let x = self.g.get_rows(table, io.tokens);
        self.g.set_on_device(self.model.gpu_layers() > 0);
        let mut x = self.layer_norm(x, weights.token_embd_norm, 0);
        for (il, layer) in weights.layers.iter().take(n_layer).enumerate() {
            self.g.set_on_device(il < self.model.gpu_layers());
            x = self.layer(il, layer, x, io);
            self.pool(Layer::Block(il), x, io);
        }
        if last == Some(Layer::Final) || self.shape.logits || self.shape.head_squares {
            let halvings = hparams.halvings_before(hparams.n_layer);
            let e = self.layer_norm(x, weights.output_norm, halvings);
            self.pool(Layer::Final, e, io);
            if self.shape.head_squares {
                self.sum_squares(weights.output, e, io);
            }
            if self.shape.logits {
                // logits = W e, of the last row of each segment
                let e = self.pooled(Layer::Final, e, SegmentPool::Last, io);
                let head = self.g.weight(weights.output);
                let logits = self.g.mul_mat(head, e);
                self.g.output(logits);
                io.logits = Some(logits);
            }
        }
    }

    fn pool(&mut self, layer: Layer, x: Node, io: &mut Io) {
        if self.shape.layers.contains(&layer) {
            let pooled = self.pooled(layer, x, self.shape.pool, io);
            self.g.output(pooled);
            io.pooled.push(pooled);
        }
    }

    /// x {C, N} -> {C, n_segments}. A device has operations for sums and for last rows; the rest
    /// is our own operation, which runs on the CPU.
    fn pooled(&mut self, layer: Layer, x: Node, how: SegmentPool, io: &mut Io) -> Node {
        let GraphShape { n_rows, n_segments, .. } = *self.shape;
        let n_layer = self.model.hparams().n_layer;
        let on_device = layer.n_blocks(n_layer) <= self.model.gpu_layers();
        match how {
            SegmentPool::Sum if on_device => {
                let shape = Shape::new(&[n_rows, n_segments]).expect("a chunk has rows");
                let mask = *io.mask.get_or_insert_with(|| self.g.input_f32(shape));
                self.g.sum_segments(x, mask)
            }
            SegmentPool::Last if on_device => {
                let rows = self.last_rows(io);
                self.g.get_rows(x, rows)
            }
            _ => self.pool_rows(x, how, io),
        }
    }

    fn last_rows(&mut self, io: &mut Io) -> Node {
        let n = self.shape.n_segments;
        *io.last_rows.get_or_insert_with(|| self.g.input_i32(n))
    }

    /// The same by our own operation.
    fn pool_rows(&mut self, x: Node, how: SegmentPool, io: &mut Io) -> Node {
        let last = self.last_rows(io);
        self.g.pool(x, last, (io.shift, self.shape.n_lanes), how)
    }

    /// x: {C, N} -> {C, N}
    fn layer(&mut self, il: usize, weights: &LayerWeights, x: Node, io: &mut Io) -> Node {
        // Sums of squares are taken of inputs that fused operations never write.
        let fuses = self.g.fuses() && !self.shape.squares && !self.shape.rescaled.contains(&il);
        assert!(fuses || !self.shape.shares_rows, "plain operations go from row to row");
        let Outputs { x, a, f } = match fuses {
            true => self.fused_layer(il, weights, x, io.shift),
            false => self.plain_layer(il, weights, x, io),
        };
        // Everything of this layer, reads of the old state included, runs before the new state
        // is stored.
        self.g.expand(x);
        self.store_last_rows(a, STATES_PER_LAYER * il);
        self.store_last_rows(f, STATES_PER_LAYER * il + 1);
        x
    }

    fn plain_layer(&mut self, il: usize, weights: &LayerWeights, x: Node, io: &mut Io) -> Outputs {
        let halvings = self.model.hparams().halvings_before(il);
        let a = self.layer_norm(x, weights.norm_1, halvings);
        let y = self.time_mix(il, &weights.time_mix, a, io);
        let h = self.g.add(x, y);
        let f = self.layer_norm(h, weights.norm_2, halvings);
        let c = self.channel_mix(il, &weights.channel_mix, f, io);
        let mut x = self.g.add(h, c);
        if self.model.hparams().halvings_before(il + 1) > halvings {
            x = self.g.scale(x, 0.5);
        }
        Outputs { x, a, f }
    }

    fn time_mix(&mut self, il: usize, w: &TimeMix, a: Node, io: &mut Io) -> Node {
        let hparams = self.model.hparams();
        let (c, s, h) = (hparams.n_embd, hparams.head_size, hparams.n_head());
        let n = self.shape.n_rows;
        // sx = a of the row before - a
        let sx = self.token_shift(a, STATES_PER_LAYER * il, io);
        let [xw, xk, xv, xr, xg] = self.interpolations(w, a, sx, io);
        // r = W_r xr; k = W_k xk; v = W_v xv; g = silu(W_g xg)
        let r = self.product(w.receptance, xr, io);
        let k = self.product(w.key, xk, io);
        let v = self.product(w.value, xv, io);
        let gate = self.product(w.gate, xg, io);
        let gate = self.g.silu(gate);
        let decay = self.decay(w, xw, io);
        // A separator adds nothing to the state and keeps nothing of it.
        let keep = Shape::new(&[c, n]).expect("a chunk has rows");
        let keep = *io.keep.get_or_insert_with(|| self.g.input_f32(keep));
        let k = self.g.mul(k, keep);
        let decay = self.g.mul(decay, keep);
        let heads = [s, h, n];
        let [k, v, r, decay] = [k, v, r, decay].map(|x| self.g.reshape(x, &heads));
        let bonus = self.g.weight(w.first);
        let state = self.g.state(STATES_PER_LAYER * il + 2);
        let out = self.g.wkv6(k, v, r, bonus, decay, state);
        let o = self.store_recurrence(out, il);
        // y = W_o (GroupNorm(o) * g)
        let o = self.g.reshape(o, &heads);
        let o = self.g.norm(o, GROUP_NORM_EPS);
        let o = self.g.reshape(o, &[c, n]);
        let o = self.scale_and_shift(o, w.ln);
        let o = self.g.mul(o, gate);
        self.product(w.output, o, io)
    }

    /// xw, xk, xv, xr, xg: {C, N} each.
    fn interpolations(&mut self, w: &TimeMix, a: Node, sx: Node, io: &mut Io) -> [Node; 5] {
        let hparams = self.model.hparams();
        let (c, e, n) = (hparams.n_embd, hparams.low_rank_mix, self.shape.n_rows);
        // z = tanh(W_1 (a + sx * lerp_x)): {5 E, N} -> {E, 5, N} -> {E, N, 5}
        let lerp_x = self.g.weight(w.lerp_x);
        let xxx = self.g.mul(sx, lerp_x);
        let xxx = self.g.add(a, xxx);
        let z = self.product(w.w1, xxx, io);
        let z = self.g.tanh(z);
        let z = self.g.reshape(z, &[e, 5, n]);
        let z = self.g.swap_rows_and_planes(z);
        // x_i = a + sx * (W_2i z_i + lerp_i): {C, N, 5}
        let m = self.product(w.w2, z, io);
        let lerps = self.lerps(w.lerps);
        let m = self.g.add(m, lerps);
        let m = self.g.mul(m, sx);
        let x5 = self.g.add(m, a);
        let x5 = self.g.reshape(x5, &[c, 5 * n]);
        std::array::from_fn(|i| self.g.rows(x5, i * n, n, 1))
    }

    /// {C, 1, 5}
    fn lerps(&mut self, lerps: Lerps) -> Node {
        let c = self.model.hparams().n_embd;
        match lerps {
            Lerps::Fused(index) => {
                let fused = self.g.weight(index);
                self.g.reshape(fused, &[c, 1, 5])
            }
            Lerps::Separate(parts) => {
                let [first, rest @ ..] = parts.map(|index| {
                    let part = self.g.weight(index);
                    self.g.reshape(part, &[c, 1, 1])
                });
                rest.into_iter().fold(first, |all, part| self.g.concat(all, part, 2))
            }
        }
    }

    /// w = exp(-exp(decay + D_2 tanh(D_1 xw))): {C, N}
    fn decay(&mut self, w: &TimeMix, xw: Node, io: &mut Io) -> Node {
        let d = self.product(w.decay_w1, xw, io);
        let d = self.g.tanh(d);
        let d = self.product(w.decay_w2, d, io);
        let base = self.g.weight(w.decay);
        let d = self.g.add(d, base);
        let d = self.g.exp(d);
        let d = self.g.neg(d);
        self.g.exp(d)
    }

    fn channel_mix(&mut self, il: usize, w: &ChannelMix, f: Node, io: &mut Io) -> Node {
        let sx = self.token_shift(f, STATES_PER_LAYER * il + 1, io);
        let mut lerp = |index| {
            let weight = self.g.weight(index);
            let x = self.g.mul(sx, weight);
            self.g.add(f, x)
        };
        let (xk, xr) = (lerp(w.lerp_k), lerp(w.lerp_r));
        // c = sigmoid(W_r xr) * W_v relu(W_k xk)^2
        let k = self.product(w.key, xk, io);
        let k = self.g.relu(k);
        let k = self.g.sqr(k);
        let v = match self.shape.rescaled.contains(&il) {
            false => self.product(w.value, k, io),
            // The squares have no bound, and products that work with half precision overflow.
            true => {
                let k = self.g.scale(k, SMALLER);
                let v = self.product(w.value, k, io);
                self.g.scale(v, 1.0 / SMALLER)
            }
        };
        let r = self.product(w.receptance, xr, io);
        let r = self.g.sigmoid(r);
        self.g.mul(v, r)
    }

    /// Row before minus row, {C, N}; the row before comes from state `state` where a lane goes on.
    fn token_shift(&mut self, x: Node, state: usize, io: &mut Io) -> Node {
        let state = self.g.state(state);
        let zeros = Shape::new(&[self.model.hparams().n_embd]).expect("a model has columns");
        let zeros = *io.zeros.get_or_insert_with(|| self.g.input_f32(zeros));
        let before = self.g.concat(zeros, state, 1);
        let table = self.g.concat(before, x, 1);
        let before = self.g.get_rows(table, io.shift);
        self.g.sub(before, x)
    }

    /// Stores the states of a recurrence, and returns its outputs {C, N}.
    pub(super) fn store_recurrence(&mut self, out: Node, il: usize) -> Node {
        let (n, s) = (self.shape.n_rows, self.model.hparams().head_size);
        // rows 0..N are outputs, then S rows of state for each lane
        let o = self.g.rows(out, 0, n, 1);
        self.g.expand(o);
        let state = self.g.rows(out, n, s * self.shape.n_lanes, 1);
        self.g.store(state, STATES_PER_LAYER * il + 2);
        o
    }

    /// Stores the last row of each lane of x {C, N} in state `state` {C, L}.
    fn store_last_rows(&mut self, x: Node, state: usize) {
        let per_lane = self.shape.n_rows / self.shape.n_lanes;
        let last = self.g.rows(x, per_lane - 1, self.shape.n_lanes, per_lane);
        self.g.store(last, state);
    }

    /// W x, for a weight of the layers.
    fn product(&mut self, weight: Index, x: Node, io: &mut Io) -> Node {
        if self.shape.squares {
            self.sum_squares(weight, x, io);
        }
        let weight = self.g.weight(weight);
        self.g.mul_mat(weight, x)
    }

    /// x: {n_in, N, planes}; rows that hold no token are in no segment and do not count.
    fn sum_squares(&mut self, weight: Index, x: Node, io: &mut Io) {
        let [n_in, n, planes, _] = self.g.ne(x);
        let rows = self.g.reshape(x, &[n_in, n * planes]);
        for plane in 0..planes {
            let x = self.g.rows(rows, plane * n, n, 1);
            let sums = self.pool_rows(x, SegmentPool::SumOfSquares, io);
            self.g.output(sums);
            io.squares.push((weight, sums));
        }
    }

    fn layer_norm(&mut self, x: Node, norm: Norm, halvings: u32) -> Node {
        if self.g.fuses() {
            return self.fused_norm(x, None, norm, halvings);
        }
        let x = self.g.norm(x, self.eps(halvings));
        self.scale_and_shift(x, norm)
    }

    /// eps for the norm of a stream that has been halved `halvings` times: divided by the square of
    /// that factor, so that the result is the one of the stream in full.
    pub(super) fn eps(&self, halvings: u32) -> f32 {
        let eps = f64::from(self.model.hparams().layer_norm_eps) * 0.25f64.powi(halvings as i32);
        eps as f32
    }

    fn scale_and_shift(&mut self, x: Node, norm: Norm) -> Node {
        let (weight, bias) = (self.g.weight(norm.weight), self.g.weight(norm.bias));
        let x = self.g.mul(x, weight);
        self.g.add(x, bias)
    }
}
