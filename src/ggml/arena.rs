//! Memory for descriptions of tensors and for one graph.

use std::cell::Cell;
use std::ptr::NonNull;

use ggml_sys as sys;

use super::TensorType;
use crate::shape::Shape;

/// A ggml context that holds descriptions only, never data, with room for a known number of them.
#[derive(Debug)]
pub(super) struct Arena {
    ptr: NonNull<sys::ggml_context>,
    left: Cell<usize>,
}

// SAFETY: ggml contexts have no thread affinity; the arena is owned by one value at a time.
unsafe impl Send for Arena {}

impl Arena {
    /// Room for `n_tensors` descriptions and, if not zero, for a graph of `n_graph` nodes.
    pub(super) fn new(n_tensors: usize, n_graph: usize) -> Self {
        // SAFETY: both calls only compute sizes.
        let size = unsafe {
            let graph =
                if n_graph == 0 { 0 } else { sys::ggml_graph_overhead_custom(n_graph, false) };
            sys::ggml_tensor_overhead() * n_tensors + graph + 1024
        };
        let params = sys::ggml_init_params {
            mem_size: size,
            mem_buffer: std::ptr::null_mut(),
            no_alloc: true,
        };
        // SAFETY: the parameters ask ggml to allocate `size` bytes itself.
        let ptr = unsafe { sys::ggml_init(params) };
        let ptr = NonNull::new(ptr).expect("out of memory for tensor descriptions");
        Self { ptr, left: Cell::new(n_tensors) }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ggml_context {
        self.ptr.as_ptr()
    }

    /// Counts `n` descriptions that are about to be made. ggml aborts when an arena is full, so
    /// this panics first.
    pub(super) fn reserve(&self, n: usize) {
        let left = self.left.get().checked_sub(n).expect("arena has room for every description");
        self.left.set(left);
    }

    /// A new description without data.
    pub(super) fn tensor(&self, ty: TensorType, shape: Shape) -> NonNull<sys::ggml_tensor> {
        assert!(ty.row_bytes(shape.n_cols()).is_some(), "{ty} rows of {}", shape.n_cols());
        self.any(ty.id(), shape)
    }

    /// The same for a type that needs no whole blocks.
    pub(super) fn any(&self, ty: sys::ggml_type, shape: Shape) -> NonNull<sys::ggml_tensor> {
        self.reserve(1);
        let ne = shape.ne().map(|dim| dim as i64);
        let rank = shape.rank() as i32;
        // SAFETY: the arena has room, `ne` has `rank` (at most four) positive entries whose
        // product fits (`Shape`); the row is whole blocks, per the two callers.
        let tensor = unsafe { sys::ggml_new_tensor(self.as_ptr(), ty, rank, ne.as_ptr()) };
        NonNull::new(tensor).expect("room was reserved")
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the context is owned here alone and freed once.
        unsafe { sys::ggml_free(self.ptr.as_ptr()) };
    }
}
