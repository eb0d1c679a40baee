//! Operations of our own between the products: `rowwise` inside a graph, on the CPU.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::slice;

use ggml_sys as sys;

use super::graph::{share, Graph, Node};
use crate::matmul::{Activations, Machine};
use crate::rowwise::{Recurrence, Rows};

/// What [`compute_rows`] does: an expression over numbers of sources, and the form of its rows.
pub(super) struct RowsOp {
    rows: Rows<usize>,
    n_cols: usize,
    activations: Activations,
}

/// Operands of [`Graph::recurrence`].
#[derive(Debug, Clone, Copy)]
pub struct RecurrenceNodes {
    /// Keys, `{C, n}`, as the next three.
    pub k: Node,
    /// Values.
    pub v: Node,
    /// Receptances.
    pub r: Node,
    /// Decay without its base, before both exponentials.
    pub decay: Node,
    /// Base of the decay, `{C}`.
    pub base: Node,
    /// `{head_size, n_head}`
    pub bonus: Node,
    /// `{C * head_size, n_lanes}`
    pub state: Node,
    /// What stands before each row, i32 `{n}`: 0 nothing, so that the state is empty; 1 + l the end
    /// of lane l in the run before; 1 + n_lanes + i row i, one above it in its lane.
    pub shift: Node,
}

impl Graph {
    /// The rows as f32, `{n_cols, n}`.
    pub fn rows_of(&mut self, rows: Rows<Node>) -> Node {
        self.activations(rows, Activations::Float)
    }

    /// `w` times rows, which are never written as f32 where `w` has a product of our own that wants
    /// them rounded: `{n_out, n}`.
    pub fn product_of(&mut self, w: Node, rows: Rows<Node>) -> Node {
        let n = self.ne(rows.x())[1];
        match self.format(w, n) {
            Some(format) => self.own_product(w, rows, format),
            None => {
                let x = self.rows_of(rows);
                self.mul_mat(w, x)
            }
        }
    }

    /// Plane `plane` of a weight `{n_in, n_out, planes}`.
    pub fn plane(&mut self, w: Node, plane: usize) -> Node {
        let [n_in, n_out, planes, one] = self.ne(w);
        assert!(plane < planes && one == 1, "plane {plane} of {:?}", self.ne(w));
        self.assert_contiguous(w, "plane");
        let nb = self.tensor(w).nb;
        let (n_in, n_out) = (n_in as i64, n_out as i64);
        self.op(
            // SAFETY: see `op`; the plane lies inside the tensor.
            |ctx, [w]| unsafe { sys::ggml_view_2d(ctx, w, n_in, n_out, nb[1], nb[2] * plane) },
            [w],
        )
    }

    /// The RWKV-6 recurrence over lanes of rows, each behind any one above it, laid out as
    /// [`wkv6`](Self::wkv6) says.
    pub fn recurrence(&mut self, nodes: RecurrenceNodes) -> Node {
        let RecurrenceNodes { k, v, r, decay, base, bonus, state, shift } = nodes;
        let ([c, n, ..], [head_size, ..]) = (self.ne(k), self.ne(bonus));
        let n_lanes = self.ne(state)[1];
        for (node, size) in [(k, c * n), (v, c * n), (r, c * n), (decay, c * n)]
            .into_iter()
            .chain([(base, c), (bonus, c), (state, c * head_size * n_lanes), (shift, n)])
        {
            assert_eq!(self.n_elements(node), size, "operand of {n} rows of {c}");
            self.assert_words(node, "recurrence");
        }
        assert!(n.is_multiple_of(n_lanes), "{n} rows in {n_lanes} lanes");
        let args = [k, v, r, decay, base, bonus, state, shift];
        let size = [c, n + head_size * n_lanes];
        // The size of a head travels in the pointer's value; nothing is pointed to.
        let data = std::ptr::without_provenance_mut(head_size);
        // SAFETY: `run_heads` gets exactly the tensors its contract names.
        unsafe { self.custom(sys::GGML_TYPE_F32, size, &args, run_heads, data) }
    }

    /// Columns of `rows`.
    pub(super) fn n_cols(&self, rows: &Rows<Node>) -> usize {
        match *rows {
            Rows::Tanh { n_cols, .. } => n_cols,
            _ => self.ne(rows.x())[0],
        }
    }

    /// `rows` in the form that a product wants.
    pub(super) fn activations(&mut self, rows: Rows<Node>, activations: Activations) -> Node {
        if let (Rows::Same { x }, Activations::Float) = (rows, activations) {
            return x;
        }
        let (n_cols, n) = (self.n_cols(&rows), self.ne(rows.x())[1]);
        let mut args = Vec::new();
        let numbered = rows.map(|node| {
            self.assert_words(node, "rows");
            args.push(node);
            args.len() - 1
        });
        let sizes = rows.map(|node| self.n_elements(node));
        assert!(sizes.fits(n_cols, n), "{sizes:?} for {n} rows of {n_cols}");
        let (ty, width) = match activations {
            Activations::Float => (sys::GGML_TYPE_F32, n_cols),
            _ => (sys::GGML_TYPE_I8, activations.row_bytes(n_cols)),
        };
        self.fused.push(Box::new(RowsOp { rows: numbered, n_cols, activations }));
        let data: *const RowsOp = &**self.fused.last().expect("just pushed");
        // SAFETY: `compute_rows` gets exactly what its contract names; the graph keeps its data
        // where it is until it is dropped.
        unsafe { self.custom(ty, [width, n], &args, compute_rows, data.cast_mut().cast()) }
    }

    /// The numbers of rows among the operands are i32; the bits of one are an f32 as well.
    fn assert_words(&self, node: Node, what: &str) {
        let ty = self.tensor(node).type_;
        assert!([sys::GGML_TYPE_F32, sys::GGML_TYPE_I32].contains(&ty), "{what} of f32 or i32");
        self.assert_contiguous(node, what);
    }

    fn n_elements(&self, node: Node) -> usize {
        self.ne(node).iter().product()
    }
}

thread_local! {
    /// Each thread of ggml keeps the memory of a row.
    static ROW: RefCell<Vec<f32>> = RefCell::default();
}

/// Computes the rows of this thread.
///
/// # Safety
/// Called by ggml alone, with a `dst` that `Graph::activations` made: `n` rows of the form that
/// the [`RowsOp`] behind `userdata` says, sources of f32 or i32 that fit its expression; all
/// contiguous and allocated.
unsafe extern "C" fn compute_rows(
    dst: *mut sys::ggml_tensor,
    ith: c_int,
    nth: c_int,
    userdata: *mut c_void,
) {
    // SAFETY: per the contract above the operation, the tensors and their data are alive during
    // the call and have the stated shapes; the sources are not written meanwhile, and any four
    // bytes are an f32. Each thread makes slices of its own rows of the output only, so no two
    // overlap.
    unsafe {
        let op = &*userdata.cast::<RowsOp>();
        let rows = op.rows.map(|source| values::<f32>((*dst).src[source]));
        let (n, row_bytes) = ((*dst).ne[1] as usize, (*dst).nb[1]);
        // The form of `Float` rows is the same everywhere.
        let machine = Machine::detect();
        ROW.with_borrow_mut(|values| {
            values.resize(op.n_cols, 0.0);
            for row in share(n, ith, nth) {
                let out = (*dst).data.cast::<u8>().add(row * row_bytes);
                let out = slice::from_raw_parts_mut(out, row_bytes);
                match op.activations {
                    Activations::Float => rows.compute(row, bytemuck::cast_slice_mut(out)),
                    rounded => {
                        let machine = machine.expect("only where products want it");
                        rows.compute(row, values);
                        rounded.prepare(machine, values, out);
                    }
                }
            }
        });
    }
}

/// Runs the heads of this thread.
///
/// # Safety
/// Called by ggml alone, with a `dst` that `Graph::recurrence` made: f32
/// `{C, n + head_size * n_lanes}`, sources as `RecurrenceNodes` names them, in its order; all
/// contiguous and allocated, `userdata` the size of a head as an address.
unsafe extern "C" fn run_heads(
    dst: *mut sys::ggml_tensor,
    ith: c_int,
    nth: c_int,
    userdata: *mut c_void,
) {
    // SAFETY: per the contract above the tensors and their data are alive during the call and have
    // the stated shapes; the sources are not written meanwhile. Each thread makes slices of the
    // columns and the states of its own heads only, so no two overlap.
    unsafe {
        let source = |i: usize| values::<f32>((*dst).src[i]);
        let head_size = userdata.addr();
        let n_lanes = (*(*dst).src[6]).ne[1] as usize;
        let all = Recurrence {
            k: source(0),
            v: source(1),
            r: source(2),
            decay: source(3),
            base: source(4),
            bonus: source(5),
            states: source(6),
            shift: values::<i32>((*dst).src[7]),
            head_size,
            n_lanes,
        };
        let (n, c) = (all.shift.len(), all.base.len());
        let out = (*dst).data.cast::<f32>();
        for index in share(all.n_heads(), ith, nth) {
            let first = index % (c / head_size) * head_size;
            let state = all.run(index, |row, values| {
                slice::from_raw_parts_mut(out.add(row * c + first), head_size)
                    .copy_from_slice(values);
            });
            slice::from_raw_parts_mut(out.add(n * c + index * state.len()), state.len())
                .copy_from_slice(&state);
        }
    }
}

/// The elements of a tensor.
///
/// # Safety
/// The tensor is alive, contiguous and allocated, its elements are of `T`'s size and any bits are
/// a `T`; it lives and is not written for as long as the slice is used.
unsafe fn values<'a, T>(tensor: *const sys::ggml_tensor) -> &'a [T] {
    // SAFETY: per the contract above.
    unsafe {
        let n: i64 = (*tensor).ne.iter().product();
        slice::from_raw_parts((*tensor).data.cast(), n as usize)
    }
}
