//! Runs texts through a model, a chunk of rows at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rwkv6::{self, GraphShape, Io};
use super::stream::{Chunk, Packer, Packing, ROW_STEP};
use super::{Layer, Model, PlannedBytes, SegmentPool};
use crate::error::{Error, Result};
use crate::ggml::{ComputeBytes, Device, Executor, Graph, Products, StateTensors, Upload};

/// How a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads of the CPU backend; one for each physical core unless told otherwise. As many as
    /// there are cores, or hardware threads, keep to one each (Linux): the thread that calls until
    /// the call returns, OpenMP's threads, with which ggml computes, from then on.
    pub n_threads: usize,
    /// Rows in a chunk, all lanes together: what bounds the memory for intermediate values. Taken
    /// down to a multiple of eight, and as eight for each lane where it is less.
    pub batch_tokens: usize,
    /// Sequences in flight.
    pub n_lanes: usize,
    /// Whose matrix products run.
    pub products: Products,
}

impl SessionOptions {
    /// Rows of a chunk that suit a device. On the CPU weights are unpacked once for each chunk, which
    /// 1024 rows make cheap and more do not make faster; a GPU has nothing to unpack, and intermediate
    /// values take memory that layers could have.
    pub fn batch_tokens_for(device: Option<&Device>) -> usize {
        device.map_or(1024, |_| 512)
    }

    /// Lanes that suit a device and a batch: one on the CPU; on a GPU, where a lane's recurrence
    /// takes one token after the other and lanes run side by side, one for each 64 tokens, at least 8
    /// and at most 32.
    pub fn lanes_for(device: Option<&Device>, batch_tokens: usize) -> usize {
        let lanes = device.map_or(1, |_| (batch_tokens / 64).clamp(8, 32));
        lanes.min(batch_tokens / 2).max(1)
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        let n_threads = crate::ggml::n_cores();
        let batch_tokens = Self::batch_tokens_for(None);
        Self { n_threads, batch_tokens, n_lanes: 1, products: Products::Own }
    }
}

/// Pooled rows of one text, one vector per layer asked for, lent to the receiver.
#[derive(Debug, Clone, Copy)]
pub struct Pooled<'a> {
    /// Index of the text.
    pub text: usize,
    /// Sum, maximum or last row of the text: `[n_layers][n_embd]`, on the scale of the model
    /// without rescaling.
    pub values: &'a [f64],
}

/// What went into one matrix, lent to the receiver.
#[derive(Debug, Clone, Copy)]
pub struct InputSquares<'a> {
    /// Name of the matrix.
    pub tensor: &'a str,
    /// Tokens that were summed over.
    pub n_tokens: usize,
    /// Number of planes: 5 for the second low-rank factor of time mixing, else 1.
    pub n_planes: usize,
    /// Sum of the squares of each column, plane after plane: `[n_planes][n_cols]`.
    pub sums: &'a [f32],
}

/// Rows that a run has computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Workload {
    /// Rows that hold a token.
    pub tokens: u64,
    /// Rows that separate texts or fill up a chunk.
    pub padding: u64,
    /// Tokens that needed no row, because a text in the same lane and chunk begins with the same
    /// tokens.
    pub shared: u64,
}

/// One thread of execution over a shared model: state, threads, graph.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    options: SessionOptions,
    state: Arc<StateTensors>,
    executor: Executor,
    loaded: Option<(GraphShape, Io)>,
    workload: Workload,
    /// Layers whose second channel-mix product left the range of half precision.
    rescaled: Vec<usize>,
    /// Operations that the device has left to the CPU.
    left_to_cpu: BTreeSet<String>,
}

/// More than any use has for: they keep row numbers and sizes of the state far below overflow.
const MAX_LANES: usize = 1 << 12;
const MAX_BATCH_TOKENS: usize = 1 << 20;

/// Segments in a graph are a multiple of this, so that few shapes occur.
const SEGMENT_STEP: usize = 32;

impl Session {
    /// A session with an empty state.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Self> {
        Self::with(model, options, Upload::Now)
    }

    pub(super) fn with(model: Arc<Model>, options: SessionOptions, upload: Upload) -> Result<Self> {
        if options.n_lanes == 0 || options.batch_tokens / 2 < options.n_lanes {
            let what = format!(
                "{} batch tokens for {} lanes: give at least one lane and two tokens for each",
                options.batch_tokens, options.n_lanes
            );
            return Err(Error::argument(what));
        }
        if options.n_lanes > MAX_LANES || options.batch_tokens > MAX_BATCH_TOKENS {
            let what = format!(
                "{} batch tokens for {} lanes: give at most {MAX_BATCH_TOKENS} tokens and \
                 {MAX_LANES} lanes",
                options.batch_tokens, options.n_lanes
            );
            return Err(Error::argument(what));
        }
        let device = model.device();
        let shapes = rwkv6::state_shapes(&model, options.n_lanes);
        let state = Arc::new(StateTensors::new(&shapes, device, upload)?);
        let n_nodes = rwkv6::n_nodes(model.hparams().n_layer);
        let executor = Executor::new(options.n_threads, device, n_nodes)?;
        Ok(Self {
            model,
            options,
            state,
            executor,
            loaded: None,
            workload: Workload::default(),
            rescaled: Vec::new(),
            left_to_cpu: BTreeSet::new(),
        })
    }

    /// The model it runs.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Options it was made with.
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Bytes of the state, from ggml's buffers.
    pub fn state_bytes(&self) -> usize {
        self.state.host_bytes() + self.state.device_buffer_bytes()
    }

    /// Bytes for intermediate values, from ggml's buffers; 0 before the first run.
    pub fn compute_bytes(&self) -> usize {
        let ComputeBytes { host, device } = self.executor.compute_bytes();
        host + device
    }

    /// What the device's memory holds, from ggml's buffers; `None` on the CPU.
    pub fn device_bytes(&self) -> Option<PlannedBytes> {
        self.model.device()?;
        Some(PlannedBytes {
            weights: self.model.tensors.device_buffer_bytes() as u64,
            state: self.state.device_buffer_bytes() as u64,
            compute: self.executor.compute_bytes().device as u64,
        })
    }

    /// Layers whose second channel-mix product was found to overflow half precision, and has been
    /// computed on a smaller scale since.
    pub fn rescaled_layers(&self) -> &[usize] {
        &self.rescaled
    }

    /// Names of operations on the device's data that ran on the CPU so far.
    pub fn left_to_cpu(&self) -> impl Iterator<Item = &str> {
        self.left_to_cpu.iter().map(String::as_str)
    }

    /// Rows computed since the session was made.
    pub fn workload(&self) -> Workload {
        self.workload
    }

    /// Runs every text from an empty state and hands `receive` the pooled rows of each layer of
    /// `layers` (ascending, each once), in the order of `texts` when there is one lane. Fails on
    /// an empty text, on a token outside the vocabulary, and on a hidden value that is NaN or
    /// infinite, also after the product that makes it so has run on a smaller scale.
    pub fn run(
        &mut self,
        texts: &[Vec<u32>],
        layers: &[Layer],
        pool: SegmentPool,
        mut receive: impl FnMut(Pooled<'_>) -> Result<()>,
    ) -> Result<()> {
        self.check_texts(texts)?;
        self.check_layers(layers)?;
        let mut waiting: Vec<(usize, &[u32])> =
            texts.iter().enumerate().map(|(index, ids)| (index, ids.as_slice())).collect();
        loop {
            let (indices, some): (Vec<usize>, Vec<&[u32]>) = waiting.iter().copied().unzip();
            let mut done = vec![false; some.len()];
            let outcome = self.run_some(&some, layers, pool, |pooled| {
                done[pooled.text] = true;
                receive(Pooled { text: indices[pooled.text], ..pooled })
            });
            let Err(error) = outcome else { return Ok(()) };
            let Error::NonFinite { .. } = error else { return Err(error) };
            let mut done = done.into_iter();
            waiting.retain(|_| done.next() == Some(false));
            let left: Vec<&[u32]> = waiting.iter().map(|(_, ids)| *ids).collect();
            self.rescale(&left, layers, error)?;
        }
    }

    /// After `error`, a hidden value that is not finite: finds the first layer that makes one and
    /// has its second channel-mix product run on a smaller scale from now on. Returns the error
    /// where it does so already.
    fn rescale(&mut self, texts: &[&[u32]], layers: &[Layer], error: Error) -> Result<()> {
        let n_layer = self.model.hparams().n_layer;
        let n_blocks = layers.iter().map(|layer| layer.n_blocks(n_layer)).max().unwrap_or(0);
        let all: Vec<Layer> = (0..n_blocks).map(Layer::Block).collect();
        let mut packer = self.packer(texts, Packing::Separated);
        self.state.clear()?;
        while let Some(chunk) = packer.next_chunk(self.options.batch_tokens) {
            let shape = self.shape_of(&chunk, &all, SegmentPool::Sum);
            self.compute_chunk(&chunk, shape)?;
            if let Some(Layer::Block(il)) = self.first_not_finite(chunk.segments.len())? {
                if self.rescaled.contains(&il) {
                    return Err(self.not_finite(Layer::Block(il)));
                }
                self.rescaled.push(il);
                return Ok(());
            }
        }
        Err(error)
    }

    fn run_some(
        &mut self,
        texts: &[&[u32]],
        layers: &[Layer],
        pool: SegmentPool,
        mut receive: impl FnMut(Pooled<'_>) -> Result<()>,
    ) -> Result<()> {
        self.state.clear()?;
        let packing = self.packing();
        let mut packer = self.packer(texts, packing);
        let width = layers.len() * self.model.hparams().n_embd;
        let mut open: Vec<Option<Vec<f64>>> = vec![None; texts.len()];
        while let Some(chunk) = packer.next_chunk(self.options.batch_tokens) {
            let shape = GraphShape {
                shares_rows: packing == Packing::Shared,
                ..self.shape_of(&chunk, layers, pool)
            };
            let pooled = self.run_chunk(&chunk, shape)?.pooled;
            for (i, segment) in chunk.segments.iter().enumerate() {
                let sums = open[segment.text].get_or_insert_with(|| start(pool, width));
                self.fold(&pooled, i, pool, sums);
                if segment.complete {
                    receive(Pooled { text: segment.text, values: sums })?;
                    open[segment.text] = None;
                }
            }
        }
        Ok(())
    }

    /// Logits after the last of `tokens`, from an empty state: `[n_vocab]`. Fails as
    /// [`run`](Self::run) does.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check_texts(&[tokens.to_vec()])?;
        self.state.clear()?;
        let texts = [tokens];
        let mut packer = self.packer(&texts, Packing::Separated);
        let mut logits = Vec::new();
        while let Some(chunk) = packer.next_chunk(self.options.batch_tokens) {
            let shape = self.shape_of(&chunk, &[], SegmentPool::Last);
            logits = self.run_chunk(&chunk, GraphShape { logits: true, ..shape })?.logits;
        }
        logits.truncate(self.model.hparams().n_vocab);
        Ok(logits)
    }

    /// Runs `tokens` from an empty state and hands `receive` the sums of squares of what went into
    /// each matrix of the layers, and with `head` into the one that makes logits. A text longer
    /// than a batch comes in several parts, to be added. Fails as [`run`](Self::run) does.
    pub fn input_squares(
        &mut self,
        tokens: &[u32],
        head: bool,
        mut receive: impl FnMut(InputSquares<'_>) -> Result<()>,
    ) -> Result<()> {
        self.check_texts(&[tokens.to_vec()])?;
        self.state.clear()?;
        let texts = [tokens];
        let mut packer = self.packer(&texts, Packing::Separated);
        while let Some(chunk) = packer.next_chunk(self.options.batch_tokens) {
            let shape = self.shape_of(&chunk, &[], SegmentPool::Last);
            // One text has one segment in a chunk; unused ones would cost memory for every matrix.
            self.run_chunk(
                &chunk,
                GraphShape {
                    n_segments: 1,
                    squares: true,
                    head_squares: head,
                    rescaled: Vec::new(),
                    ..shape
                },
            )?;
            let n_tokens = chunk.n_kept();
            self.read_squares(n_tokens, &mut receive)?;
        }
        Ok(())
    }

    fn read_squares(
        &self,
        n_tokens: usize,
        receive: &mut impl FnMut(InputSquares<'_>) -> Result<()>,
    ) -> Result<()> {
        let (_, io) = self.loaded.as_ref().expect("a chunk was just run");
        let mut sums = Vec::new();
        for planes in io.squares.chunk_by(|a, b| a.0 == b.0) {
            let (weight, node) = planes[0];
            let n_cols = self.executor.ne(node)[0];
            sums.resize(n_cols * planes.len(), 0.0);
            for (&(_, node), sums) in planes.iter().zip(sums.chunks_exact_mut(n_cols)) {
                self.executor.get_f32(node, sums)?;
            }
            let tensor = &self.model.names[weight];
            if sums.iter().any(|sum| !sum.is_finite()) {
                let what = format!("input of tensor {tensor:?} is NaN, infinite or too large");
                return Err(Error::non_finite(self.model.path_buf(), what));
            }
            receive(InputSquares { tensor, n_tokens, n_planes: planes.len(), sums: &sums })?;
        }
        Ok(())
    }

    fn check_texts(&self, texts: &[Vec<u32>]) -> Result<()> {
        let n_vocab = self.model.hparams().n_vocab;
        for (i, tokens) in texts.iter().enumerate() {
            if tokens.is_empty() {
                return Err(Error::argument(format!("text {} has no tokens", i + 1)));
            }
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= n_vocab) {
                let what = format!(
                    "text {}: token {token}, but the model has 0 to {}; is it the right tokenizer?",
                    i + 1,
                    n_vocab - 1
                );
                return Err(Error::argument(what));
            }
        }
        Ok(())
    }

    /// The graph gives layers in this order and no other.
    fn check_layers(&self, layers: &[Layer]) -> Result<()> {
        let n_layer = self.model.hparams().n_layer;
        if layers.is_empty() {
            return Err(Error::argument("no layer was asked for"));
        }
        if let Some(pair) = layers.windows(2).find(|pair| pair[0] >= pair[1]) {
            let what = format!(
                "layer {} was asked for before layer {}: give each once, ascending",
                pair[0], pair[1]
            );
            return Err(Error::argument(what));
        }
        layers.iter().try_for_each(|layer| layer.check(n_layer))
    }

    /// Texts may share rows where ggml's recurrence, which goes from row to row, runs in no layer.
    fn packing(&self) -> Packing {
        if rwkv6::fuses_all(&self.model, self.options.products, &self.rescaled) {
            Packing::Shared
        } else {
            Packing::Separated
        }
    }

    fn packer<'a>(&self, texts: &'a [&'a [u32]], packing: Packing) -> Packer<'a> {
        Packer::new(texts, self.options.n_lanes, ROW_STEP, packing)
    }

    /// The graph for `chunk` that pools `layers` and nothing else.
    fn shape_of(&self, chunk: &Chunk, layers: &[Layer], pool: SegmentPool) -> GraphShape {
        let n_segments = chunk.segments.len().max(1).next_multiple_of(SEGMENT_STEP);
        let size = (chunk.tokens.len(), self.options.n_lanes, n_segments);
        let rescaled = self.rescaled.clone();
        GraphShape { rescaled, ..GraphShape::pooling(size, layers.to_vec(), pool) }
    }

    fn run_chunk(&mut self, chunk: &Chunk, shape: GraphShape) -> Result<ChunkOutput> {
        self.compute_chunk(chunk, shape)?;
        let n_tokens = chunk.n_kept() as u64;
        self.workload.tokens += n_tokens;
        self.workload.padding += chunk.keep.len() as u64 - n_tokens;
        self.workload.shared += chunk.n_shared() as u64;
        self.read_outputs(chunk.segments.len())
    }

    fn compute_chunk(&mut self, chunk: &Chunk, shape: GraphShape) -> Result<()> {
        self.load(shape)?;
        let (shape, io) = self.loaded.as_ref().expect("just loaded");
        let n_embd = self.model.hparams().n_embd;
        self.executor.set_i32(io.tokens, &chunk.tokens)?;
        self.executor.set_i32(io.shift, &chunk.shift)?;
        if let Some(node) = io.zeros {
            self.executor.set_f32(node, &vec![0.0; n_embd])?;
        }
        if let Some(node) = io.keep {
            let keep = |&keep: &bool| std::iter::repeat_n(f32::from(u8::from(keep)), n_embd);
            self.executor.set_f32(node, &chunk.keep.iter().flat_map(keep).collect::<Vec<_>>())?;
        }
        if let Some(node) = io.mask {
            self.executor.set_f32(node, &chunk.mask(shape.n_segments))?;
        }
        if let Some(node) = io.last_rows {
            self.executor.set_i32(node, &chunk.last_rows(shape.n_segments))?;
        }
        self.executor.compute()?;
        // Weights that changed while they were used gave numbers that mean nothing.
        self.model.file().check_unchanged()
    }

    fn load(&mut self, shape: GraphShape) -> Result<()> {
        if self.loaded.as_ref().is_some_and(|(loaded, _)| *loaded == shape) {
            return Ok(());
        }
        self.loaded = None;
        let (graph, io) = self.graph(&shape);
        self.executor.load(graph)?;
        self.left_to_cpu.extend(self.executor.left_to_cpu());
        self.loaded = Some((shape, io));
        Ok(())
    }

    fn graph(&self, shape: &GraphShape) -> (Graph, Io) {
        let n_nodes = rwkv6::n_nodes(self.model.hparams().n_layer);
        let weights = Arc::clone(&self.model.tensors);
        let state = Arc::clone(&self.state);
        let mut graph = Graph::new(n_nodes, weights, state, self.options.products);
        let io = rwkv6::build(&self.model, &mut graph, shape);
        (graph, io)
    }

    /// What the intermediate values of a full chunk take that holds texts of sixteen tokens or more
    /// and gives the mean of every layer.
    pub(super) fn measure(&mut self) -> Result<ComputeBytes> {
        let n_layer = self.model.hparams().n_layer;
        let n_rows = self.options.batch_tokens.next_multiple_of(ROW_STEP);
        let mut layers: Vec<Layer> = (0..n_layer).map(Layer::Block).collect();
        layers.push(Layer::Final);
        let n_segments = n_rows.div_ceil(16).next_multiple_of(SEGMENT_STEP);
        let size = (n_rows, self.options.n_lanes, n_segments);
        let shape = GraphShape::pooling(size, layers, SegmentPool::Sum);
        let (graph, _) = self.graph(&shape);
        self.executor.measure(graph)
    }

    fn read_outputs(&self, n_segments: usize) -> Result<ChunkOutput> {
        let (shape, io) = self.loaded.as_ref().expect("a chunk was just run");
        let hparams = self.model.hparams();
        let mut pooled = Vec::with_capacity(io.pooled.len());
        for (layer, &node) in shape.layers.iter().zip(&io.pooled) {
            let mut values = vec![0f32; n_segments * hparams.n_embd];
            self.executor.get_f32(node, &mut values)?;
            if values.iter().any(|value| !value.is_finite()) {
                return Err(self.not_finite(*layer));
            }
            pooled.push(values);
        }
        let mut logits = Vec::new();
        if let Some(node) = io.logits {
            logits.resize(n_segments * hparams.n_vocab, 0.0);
            self.executor.get_f32(node, &mut logits)?;
            if logits.iter().any(|value| !value.is_finite()) {
                return Err(Error::non_finite(self.model.path_buf(), "logits are NaN or infinite"));
            }
        }
        Ok(ChunkOutput { pooled, logits })
    }

    /// The first layer of the chunk that was just computed with a value that is not finite.
    fn first_not_finite(&self, n_segments: usize) -> Result<Option<Layer>> {
        let (shape, io) = self.loaded.as_ref().expect("a chunk was just run");
        let mut values = vec![0f32; n_segments * self.model.hparams().n_embd];
        for (layer, &node) in shape.layers.iter().zip(&io.pooled) {
            self.executor.get_f32(node, &mut values)?;
            if values.iter().any(|value| !value.is_finite()) {
                return Ok(Some(*layer));
            }
        }
        Ok(None)
    }

    fn not_finite(&self, layer: Layer) -> Error {
        let what = format!("hidden of layer {layer} is NaN or infinite");
        Error::non_finite(self.model.path_buf(), what)
    }

    /// Adds segment `index` of a chunk to what is known of its text.
    fn fold(&self, pooled: &[Vec<f32>], index: usize, pool: SegmentPool, sums: &mut [f64]) {
        let hparams = self.model.hparams();
        let (shape, _) = self.loaded.as_ref().expect("a chunk was just run");
        let n = hparams.n_embd;
        for ((layer, values), sums) in shape.layers.iter().zip(pooled).zip(sums.chunks_exact_mut(n))
        {
            // The stream after layer il has been halved this often; doubling is exact.
            let halvings = match *layer {
                Layer::Block(il) => hparams.halvings_before(il + 1),
                Layer::Final => 0,
            };
            let scale = 2f64.powi(halvings as i32);
            for (sum, &value) in sums.iter_mut().zip(&values[index * n..(index + 1) * n]) {
                let value = f64::from(value) * scale;
                *sum = match pool {
                    SegmentPool::Sum | SegmentPool::SumOfSquares => *sum + value,
                    SegmentPool::Max => sum.max(value),
                    SegmentPool::Last => value,
                };
            }
        }
    }
}

/// Outputs of one chunk.
struct ChunkOutput {
    /// `[n_layers][n_segments * n_embd]`
    pooled: Vec<Vec<f32>>,
    /// `[n_segments * n_vocab]`, or empty.
    logits: Vec<f32>,
}

fn start(pool: SegmentPool, width: usize) -> Vec<f64> {
    let value = if pool == SegmentPool::Max { f64::NEG_INFINITY } else { 0.0 };
    vec![value; width]
}
