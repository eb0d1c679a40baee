//! Graphs of the operations an RWKV model needs.
//!
//! An operation checks the shapes that ggml would abort on, and panics with both. Shapes are in
//! ggml order; all activations are f32.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use ggml_sys as sys;

use super::arena::Arena;
use super::fused::RowsOp;
use super::pool::{pool_segments, PoolOp, SegmentPool};
use super::product::{self, ProductOp, Products};
use super::tensors::{MappedTensors, StateTensors};
use super::{Device, TensorType};
use crate::matmul::{Format, Machine, TILE_TOKENS};
use crate::rowwise::Rows;
use crate::shape::Shape;

/// A tensor of a [`Graph`]. Only of meaning in the graph that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node(usize);

/// What ggml calls for an operation of our own: result, thread, number of threads, data.
pub(super) type CustomOp = unsafe extern "C" fn(*mut sys::ggml_tensor, c_int, c_int, *mut c_void);

/// What falls to thread `ith` of `nth` that run such an operation on `n` things.
pub(super) fn share(n: usize, ith: c_int, nth: c_int) -> Range<usize> {
    let (ith, nth) = (ith as usize, nth as usize);
    n * ith / nth..n * (ith + 1) / nth
}

/// Operations to run, over weights and state that it keeps alive.
pub struct Graph {
    arena: Arena,
    graph: NonNull<sys::ggml_cgraph>,
    capacity: usize,
    nodes: Vec<NonNull<sys::ggml_tensor>>,
    /// What is being added is meant for the device.
    on_device: bool,
    /// Operations that are.
    for_device: Vec<NonNull<sys::ggml_tensor>>,
    /// Recurrences, with the size of their heads.
    recurrences: Vec<(Node, usize)>,
    weights: Arc<MappedTensors>,
    /// Where matrices lie in the map that are read as a whole.
    matrices: Vec<Range<usize>>,
    state: Arc<StateTensors>,
    products: Products,
    /// What fused operations do. They point to it, so each stays where it is.
    #[allow(clippy::vec_box)]
    pub(super) fused: Vec<Box<RowsOp>>,
    /// The same for products of our own.
    #[allow(clippy::vec_box)]
    own_products: Vec<Box<ProductOp>>,
}

// SAFETY: the graph and its arena are owned by this value; the weights and the state it points to
// are Send and Sync.
unsafe impl Send for Graph {}

impl Graph {
    /// An empty graph with room for `n_nodes` operations.
    pub fn new(
        n_nodes: usize,
        weights: Arc<MappedTensors>,
        state: Arc<StateTensors>,
        products: Products,
    ) -> Self {
        let arena = Arena::new(n_nodes, n_nodes);
        // SAFETY: the arena was made with room for a graph of this size.
        let graph = unsafe { sys::ggml_new_graph_custom(arena.as_ptr(), n_nodes, false) };
        let graph = NonNull::new(graph).expect("room was reserved");
        let nodes = Vec::with_capacity(n_nodes);
        Self {
            arena,
            graph,
            capacity: n_nodes,
            nodes,
            on_device: false,
            for_device: Vec::new(),
            recurrences: Vec::new(),
            weights,
            matrices: Vec::new(),
            state,
            products,
            fused: Vec::new(),
            own_products: Vec::new(),
        }
    }

    /// Says whether the operations that follow are meant for the device.
    pub fn set_on_device(&mut self, on_device: bool) {
        self.on_device = on_device;
    }

    /// Whether operations of our own, those of `fused`, may take the place of ggml's in what is
    /// added now.
    pub fn fuses(&self) -> bool {
        self.products == Products::Own && !self.on_device
    }

    /// Has the pages of the matrices mapped that it multiplies with, and that lie in the file's map.
    pub(super) fn bring_in_matrices(&self, n_threads: usize) {
        self.weights.bring_in(&self.matrices, n_threads);
    }

    /// Dimensions of `node`.
    pub fn ne(&self, node: Node) -> [usize; 4] {
        self.tensor(node).ne.map(|dim| dim as usize)
    }

    /// Input of f32 values, to be set before each run.
    pub fn input_f32(&mut self, shape: Shape) -> Node {
        self.input(TensorType::F32.id(), shape)
    }

    /// Input of `n` i32 values, to be set before each run.
    pub fn input_i32(&mut self, n: usize) -> Node {
        let shape = Shape::new(&[n]).expect("at least one element");
        self.input(sys::GGML_TYPE_I32, shape)
    }

    /// Weight `index` of the mapped tensors.
    pub fn weight(&mut self, index: usize) -> Node {
        let tensor = self.weights.get(index);
        self.push(tensor.as_ptr())
    }

    /// Tensor `index` of the state.
    pub fn state(&mut self, index: usize) -> Node {
        let tensor = self.state.get(index);
        self.push(tensor.as_ptr())
    }

    /// Rows `ids` of matrix `table`, as f32: `{n_cols, n_ids}`.
    pub fn get_rows(&mut self, table: Node, ids: Node) -> Node {
        let (t, i) = (self.ne(table), self.ne(ids));
        assert!(t[2] == 1 && t[3] == 1 && i[1] == 1, "get_rows of {t:?} by {i:?}");
        assert_eq!(self.tensor(ids).type_, sys::GGML_TYPE_I32, "row numbers are i32");
        self.binary(sys::ggml_get_rows, table, ids)
    }

    /// `w x`: `{n_in, n_out} x {n_in, n_tokens, n_batch} -> {n_out, n_tokens, n_batch}`.
    pub fn mul_mat(&mut self, w: Node, x: Node) -> Node {
        let (a, b) = (self.ne(w), self.ne(x));
        assert!(a[0] == b[0] && b[2] % a[2] == 0 && b[3] % a[3] == 0, "mul_mat {a:?} x {b:?}");
        self.assert_f32_contiguous(x, "mul_mat");
        let is_matrix = a[2] * a[3] * b[2] * b[3] == 1;
        match self.format(w, b[1]).filter(|_| is_matrix) {
            Some(format) => self.own_product(w, Rows::Same { x }, format),
            None => {
                self.matrices.extend(self.weights.range(self.tensor(w)));
                let product = self.binary(sys::ggml_mul_mat, w, x);
                self.in_full_precision(w, product);
                product
            }
        }
    }

    /// A device may round f32 and half-precision weights and their activations further, and sum in
    /// half precision; the reference that levels are compared with must not. The CPU ignores this.
    fn in_full_precision(&mut self, w: Node, product: Node) {
        let ty = TensorType::from_id(self.tensor(w).type_);
        if matches!(ty, Some(TensorType::F32 | TensorType::F16 | TensorType::BF16)) {
            let product = self.node_ptr(product);
            // SAFETY: the tensor is a matrix product of this graph; the call sets a parameter.
            unsafe { sys::ggml_mul_mat_set_prec(product, sys::GGML_PREC_F32) };
        }
    }

    /// The format of a contiguous matrix for which there is a product of our own with `n` rows.
    pub(super) fn format(&self, w: Node, n: usize) -> Option<Format> {
        if self.products == Products::Ggml || !n.is_multiple_of(TILE_TOKENS) {
            return None;
        }
        let tensor = self.tensor(w);
        // SAFETY: the tensor is alive; the call only reads its strides.
        let contiguous = unsafe { sys::ggml_is_contiguous(tensor) };
        // Ours run on the CPU, over bytes that lie in its memory.
        let here = contiguous && self.weights.is_in_place(tensor);
        let ty = TensorType::from_id(tensor.type_).filter(|_| here)?;
        product::format_of(ty)
    }

    /// [`mul_mat`](Self::mul_mat) of two matrices by our own product.
    pub(super) fn own_product(&mut self, w: Node, rows: Rows<Node>, format: Format) -> Node {
        let ([n_in, n_out, ..], n) = (self.ne(w), self.ne(rows.x())[1]);
        assert_eq!(self.n_cols(&rows), n_in, "product of {:?}", self.ne(w));
        self.matrices.extend(self.weights.range(self.tensor(w)));
        let machine = Machine::detect().expect("formats are those of a machine");
        let x = self.activations(rows, format.activations(machine));
        self.own_products.push(Box::new(ProductOp::new(format)));
        let op: *const ProductOp = &**self.own_products.last().expect("just pushed");
        let data = op.cast_mut().cast();
        // SAFETY: `product` gets exactly what its contract names: contiguous matrices of these
        // sizes and the operation, which the graph keeps where it is until it is dropped.
        unsafe { self.custom(sys::GGML_TYPE_F32, [n_out, n], &[w, x], product::product, data) }
    }

    /// `a + b`, `b` repeated along the dimensions where it is shorter.
    pub fn add(&mut self, a: Node, b: Node) -> Node {
        self.assert_repeats("add", a, b);
        self.binary(sys::ggml_add, a, b)
    }

    /// `a - b`, `b` repeated as in [`add`](Self::add).
    pub fn sub(&mut self, a: Node, b: Node) -> Node {
        self.assert_repeats("sub", a, b);
        self.binary(sys::ggml_sub, a, b)
    }

    /// `a * b` element by element, `b` repeated as in [`add`](Self::add).
    pub fn mul(&mut self, a: Node, b: Node) -> Node {
        self.assert_repeats("mul", a, b);
        self.binary(sys::ggml_mul, a, b)
    }

    /// `a * factor`.
    pub fn scale(&mut self, a: Node, factor: f32) -> Node {
        self.assert_f32_contiguous(a, "scale");
        // SAFETY: see `op`; any contiguous f32 tensor will do.
        self.op(|ctx, [a]| unsafe { sys::ggml_scale(ctx, a, factor) }, [a])
    }

    /// Each row minus its mean, divided by its standard deviation: `(x - m) / sqrt(v + eps)`.
    pub fn norm(&mut self, a: Node, eps: f32) -> Node {
        self.assert_f32_contiguous(a, "norm");
        assert!(eps >= 0.0, "norm eps {eps}");
        // SAFETY: see `op`; any contiguous f32 tensor will do, with an eps that is not negative.
        self.op(|ctx, [a]| unsafe { sys::ggml_norm(ctx, a, eps) }, [a])
    }

    /// Hyperbolic tangent.
    pub fn tanh(&mut self, a: Node) -> Node {
        self.unary(sys::ggml_tanh, a)
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(&mut self, a: Node) -> Node {
        self.unary(sys::ggml_sigmoid, a)
    }

    /// `x sigmoid(x)`.
    pub fn silu(&mut self, a: Node) -> Node {
        self.unary(sys::ggml_silu, a)
    }

    /// `max(x, 0)`.
    pub fn relu(&mut self, a: Node) -> Node {
        self.unary(sys::ggml_relu, a)
    }

    /// `x * x`.
    pub fn sqr(&mut self, a: Node) -> Node {
        self.unary(sys::ggml_sqr, a)
    }

    /// `exp(x)`.
    pub fn exp(&mut self, a: Node) -> Node {
        self.unary(sys::ggml_exp, a)
    }

    /// `-x`.
    pub fn neg(&mut self, a: Node) -> Node {
        self.unary(sys::ggml_neg, a)
    }

    /// `a` followed by `b` along dimension `dim`.
    pub fn concat(&mut self, a: Node, b: Node, dim: usize) -> Node {
        let (x, y) = (self.ne(a), self.ne(b));
        assert!(dim < 4 && (0..4).all(|d| d == dim || x[d] == y[d]), "concat {x:?} {y:?}");
        self.assert_f32_contiguous(a, "concat");
        self.assert_f32_contiguous(b, "concat");
        // SAFETY: see `op`; type, contiguity and the other dimensions are checked above.
        self.op(|ctx, [a, b]| unsafe { sys::ggml_concat(ctx, a, b, dim as i32) }, [a, b])
    }

    /// The same elements with other dimensions.
    pub fn reshape(&mut self, a: Node, dims: &[usize]) -> Node {
        let shape = Shape::new(dims).expect("a reshape has one to four dimensions");
        let n: usize = self.ne(a).iter().product();
        assert_eq!(n, shape.n_elements(), "reshape of {:?} to {shape}", self.ne(a));
        self.assert_contiguous(a, "reshape");
        let [n0, n1, n2, n3] = shape.ne().map(|dim| dim as i64);
        // SAFETY: see `op`; the element count is the same and the tensor contiguous.
        self.op(|ctx, [a]| unsafe { sys::ggml_reshape_4d(ctx, a, n0, n1, n2, n3) }, [a])
    }

    /// `a` with dimensions 1 and 2 exchanged, as a contiguous copy.
    pub fn swap_rows_and_planes(&mut self, a: Node) -> Node {
        // SAFETY: see `op`; the four axes are distinct.
        let swapped = self.op(|ctx, [a]| unsafe { sys::ggml_permute(ctx, a, 0, 2, 1, 3) }, [a]);
        // SAFETY: see `op`; any tensor will do.
        self.op(|ctx, [a]| unsafe { sys::ggml_cont(ctx, a) }, [swapped])
    }

    /// View of `n_rows` rows of a contiguous f32 tensor of rows `n_cols` long, beginning at row
    /// `first`, every `step`-th row.
    pub fn rows(&mut self, a: Node, first: usize, n_rows: usize, step: usize) -> Node {
        self.assert_f32_contiguous(a, "rows");
        let [n_cols, n1, n2, n3] = self.ne(a);
        let last = first + (n_rows.max(1) - 1) * step;
        assert!(
            n_rows > 0 && step > 0 && last < n1 * n2 * n3,
            "rows ..={last} of {:?}",
            self.ne(a)
        );
        let row_bytes = n_cols * 4;
        let (cols, rows) = (n_cols as i64, n_rows as i64);
        self.op(
            // SAFETY: see `op`; the last row of the view lies inside the tensor.
            |ctx, [a]| unsafe {
                sys::ggml_view_2d(ctx, a, cols, rows, row_bytes * step, row_bytes * first)
            },
            [a],
        )
    }

    /// The RWKV-6 recurrence. `k`, `v`, `r`, `decay`: `{head_size, n_head, n_tokens}`; `bonus`:
    /// `{head_size, n_head}`; `state`: `{head_size * head_size * n_head, n_lanes}`. The result is
    /// `{head_size * n_head, n_tokens + head_size * n_lanes}`: the outputs, then the new states.
    pub fn wkv6(
        &mut self,
        k: Node,
        v: Node,
        r: Node,
        bonus: Node,
        decay: Node,
        state: Node,
    ) -> Node {
        let [s, h, t, one] = self.ne(k);
        for other in [v, r, decay] {
            assert_eq!(self.ne(other), [s, h, t, one], "wkv6 operands");
        }
        assert_eq!(self.ne(bonus), [s, h, 1, 1], "wkv6 bonus");
        let st = self.ne(state);
        assert!(st[0] == s * s * h && t % st[1] == 0, "wkv6 state {st:?} for {t} tokens");
        for node in [k, v, r, bonus, decay, state] {
            self.assert_f32_contiguous(node, "wkv6");
        }
        let out = self.op(
            // SAFETY: see `op`; shapes and contiguity are checked above.
            |ctx, [k, v, r, u, w, s]| unsafe { sys::ggml_rwkv_wkv6(ctx, k, v, r, u, w, s) },
            [k, v, r, bonus, decay, state],
        );
        self.recurrences.push((out, s));
        out
    }

    /// Copies `from` into state tensor `into` when the graph runs; adds the copy to the graph.
    pub fn store(&mut self, from: Node, into: usize) {
        let target = self.state(into);
        let (a, b) = (self.ne(from), self.ne(target));
        assert_eq!(
            a.iter().product::<usize>(),
            b.iter().product::<usize>(),
            "store {a:?} in {b:?}"
        );
        let copy = self.binary(sys::ggml_cpy, from, target);
        self.expand(copy);
    }

    /// Sums the rows (or their squares), or takes the maximum or the last, of the rows of each segment
    /// of `x` `{n_cols, n}`: those that stand behind each other up to `last` `{n_segments}`, as
    /// `shift` `{n}` says for so many lanes ([`RecurrenceNodes`](super::RecurrenceNodes)). Result:
    /// `{n_cols, n_segments}`. CPU only.
    pub fn pool(
        &mut self,
        x: Node,
        last: Node,
        (shift, n_lanes): (Node, usize),
        how: SegmentPool,
    ) -> Node {
        let [a, b, c] = [x, last, shift].map(|node| self.ne(node));
        assert!(a[2..] == [1, 1] && b[1] == 1 && c[0] == a[1], "pool {a:?} by {b:?} and {c:?}");
        for node in [last, shift] {
            assert_eq!(self.tensor(node).type_, sys::GGML_TYPE_I32, "numbers of rows are i32");
        }
        self.assert_f32_contiguous(x, "pool");
        let data = std::ptr::without_provenance_mut(PoolOp { how, n_lanes }.address());
        let size = [a[0], b[0]];
        // SAFETY: `pool_segments` gets exactly the tensors its contract names.
        unsafe { self.custom(sys::GGML_TYPE_F32, size, &[x, last, shift], pool_segments, data) }
    }

    /// The sum of the rows of each segment of `x` `{n_cols, n}` on any device: `mask` `{n,
    /// n_segments}` holds 1 where a row belongs to a segment, else 0. Result: `{n_cols, n_segments}`.
    pub fn sum_segments(&mut self, x: Node, mask: Node) -> Node {
        let (a, b) = (self.ne(x), self.ne(mask));
        assert!(a[1] == b[0] && a[2..] == [1, 1] && b[2..] == [1, 1], "sums of {a:?} by {b:?}");
        self.assert_f32_contiguous(x, "sums");
        self.assert_f32_contiguous(mask, "sums");
        // SAFETY: see `op`; x is a matrix.
        let turned = self.op(|ctx, [x]| unsafe { sys::ggml_transpose(ctx, x) }, [x]);
        // SAFETY: see `op`; any tensor will do.
        let turned = self.op(|ctx, [x]| unsafe { sys::ggml_cont(ctx, x) }, [turned]);
        self.op(
            // SAFETY: see `op`; the columns of both are n. The precision is a field of the result.
            |ctx, [x, mask]| unsafe {
                let sums = sys::ggml_mul_mat(ctx, x, mask);
                sys::ggml_mul_mat_set_prec(sums, sys::GGML_PREC_F32);
                sums
            },
            [turned, mask],
        )
    }

    /// Adds `node` and what it needs to the operations that run, in the order of these calls.
    pub fn expand(&mut self, node: Node) {
        let tensor = self.nodes[node.0].as_ptr();
        // SAFETY: the tensor belongs to this graph's arena or to the weights or state it keeps
        // alive; every operation was counted by `push`, so the graph has room.
        unsafe { sys::ggml_build_forward_expand(self.graph.as_ptr(), tensor) };
    }

    /// Keeps the value of `node` until it is read, and adds it to the operations that run.
    pub fn output(&mut self, node: Node) {
        // SAFETY: the tensor belongs to this graph.
        unsafe { sys::ggml_set_output(self.nodes[node.0].as_ptr()) };
        self.expand(node);
    }

    /// Room for operations.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The operations that are meant for the device.
    pub(super) fn for_device(&self) -> impl Iterator<Item = *mut sys::ggml_tensor> + '_ {
        self.for_device.iter().map(|tensor| tensor.as_ptr())
    }

    /// Operations that `device` would compute wrongly.
    pub(super) fn kept_from<'a>(
        &'a self,
        device: &'a Device,
    ) -> impl Iterator<Item = *mut sys::ggml_tensor> + 'a {
        let wrong = self.recurrences.iter().filter(|(_, size)| !device.runs_recurrence(*size));
        wrong.map(|(node, _)| self.node_ptr(*node))
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ggml_cgraph {
        self.graph.as_ptr()
    }

    pub(super) fn node_ptr(&self, node: Node) -> *mut sys::ggml_tensor {
        self.nodes[node.0].as_ptr()
    }

    pub(super) fn state_tensors(&self) -> &Arc<StateTensors> {
        &self.state
    }

    fn input(&mut self, ty: sys::ggml_type, shape: Shape) -> Node {
        self.arena.reserve(1);
        let ne = shape.ne().map(|dim| dim as i64);
        // SAFETY: room is reserved; `ne` has four positive entries whose product fits.
        let tensor = unsafe {
            let tensor = sys::ggml_new_tensor(self.arena.as_ptr(), ty, 4, ne.as_ptr());
            sys::ggml_set_input(tensor);
            tensor
        };
        self.push(tensor)
    }

    fn unary(
        &mut self,
        f: unsafe extern "C" fn(
            *mut sys::ggml_context,
            *mut sys::ggml_tensor,
        ) -> *mut sys::ggml_tensor,
        a: Node,
    ) -> Node {
        self.assert_f32_contiguous(a, "unary operation");
        // SAFETY: see `op`; ggml's unary operations take any contiguous f32 tensor.
        self.op(|ctx, [a]| unsafe { f(ctx, a) }, [a])
    }

    /// An operation of two tensors; the caller has checked what the ggml function asserts.
    fn binary(
        &mut self,
        f: unsafe extern "C" fn(
            *mut sys::ggml_context,
            *mut sys::ggml_tensor,
            *mut sys::ggml_tensor,
        ) -> *mut sys::ggml_tensor,
        a: Node,
        b: Node,
    ) -> Node {
        // SAFETY: see `op`.
        self.op(|ctx, [a, b]| unsafe { f(ctx, a, b) }, [a, b])
    }

    /// Makes one description with `make`, which gets the arena and the tensors of `args`: live
    /// tensors whose shapes the caller has checked to be what the ggml function asserts.
    pub(super) fn op<const N: usize>(
        &mut self,
        make: impl FnOnce(*mut sys::ggml_context, [*mut sys::ggml_tensor; N]) -> *mut sys::ggml_tensor,
        args: [Node; N],
    ) -> Node {
        self.arena.reserve(1);
        let tensor = make(self.arena.as_ptr(), args.map(|node| self.nodes[node.0].as_ptr()));
        if self.on_device {
            self.for_device.extend(NonNull::new(tensor));
        }
        self.push(tensor)
    }

    /// An operation of our own, by as many threads as run the graph: a matrix of `size`.
    ///
    /// # Safety
    /// `f` may be called with what ggml makes of these arguments, for as long as this graph runs.
    pub(super) unsafe fn custom(
        &mut self,
        ty: sys::ggml_type,
        size: [usize; 2],
        args: &[Node],
        f: CustomOp,
        data: *mut c_void,
    ) -> Node {
        assert!(args.len() < sys::GGML_MAX_SRC as usize, "{} sources", args.len());
        let [n0, n1] = size.map(|dim| dim as i64);
        let mut args: Vec<_> = args.iter().map(|node| self.node_ptr(*node)).collect();
        let (pointer, n_args) = (args.as_mut_ptr(), args.len() as i32);
        let tasks = sys::GGML_N_TASKS_MAX;
        self.op(
            // SAFETY: see `op`; there are so many tensors, of this graph. The caller answers for
            // the function and its data.
            |ctx, []| unsafe {
                sys::ggml_custom_4d(ctx, ty, n0, n1, 1, 1, pointer, n_args, Some(f), tasks, data)
            },
            [],
        )
    }

    fn push(&mut self, tensor: *mut sys::ggml_tensor) -> Node {
        assert!(self.nodes.len() < self.capacity, "graph of {} nodes is full", self.capacity);
        self.nodes.push(NonNull::new(tensor).expect("room was reserved"));
        Node(self.nodes.len() - 1)
    }

    pub(super) fn tensor(&self, node: Node) -> &sys::ggml_tensor {
        // SAFETY: every pointer in `nodes` is a tensor of the arena, the weights or the state, all
        // of which live as long as `self`, and nothing else refers to it mutably.
        unsafe { self.nodes[node.0].as_ref() }
    }

    fn assert_repeats(&self, what: &str, a: Node, b: Node) {
        let (x, y) = (self.ne(a), self.ne(b));
        assert!((0..4).all(|d| x[d] % y[d] == 0), "{what} of {x:?} and {y:?}");
        assert_eq!(self.tensor(a).type_, sys::GGML_TYPE_F32, "{what} of f32");
        assert_eq!(self.tensor(b).type_, sys::GGML_TYPE_F32, "{what} by f32");
    }

    pub(super) fn assert_f32_contiguous(&self, node: Node, what: &str) {
        assert_eq!(self.tensor(node).type_, sys::GGML_TYPE_F32, "{what} of f32");
        self.assert_contiguous(node, what);
    }

    pub(super) fn assert_contiguous(&self, node: Node, what: &str) {
        // SAFETY: a live tensor, only read.
        let contiguous = unsafe { sys::ggml_is_contiguous(self.tensor(node)) };
        assert!(contiguous, "{what} of a contiguous tensor");
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}
