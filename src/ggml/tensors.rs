//! Tensors that outlive a graph: weights that lie in a file map, and state between runs.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ggml_sys as sys;

use super::arena::Arena;
use super::TensorType;
use crate::mmap::Mmap;
use crate::shape::Shape;

/// A tensor inside a mapped file.
#[derive(Debug, Clone)]
pub struct MappedTensor {
    /// Type of its elements.
    pub ty: TensorType,
    /// Its extent.
    pub shape: Shape,
    /// First byte, counted from the start of the file.
    pub offset: usize,
}

/// Read-only tensors that stay where they are: in the file map.
#[derive(Debug)]
pub struct MappedTensors {
    // Dropped in this order: tensors' descriptions, the buffer object, then the bytes.
    arena: Arena,
    tensors: Vec<NonNull<sys::ggml_tensor>>,
    buffer: Buffer,
    n_bytes: usize,
    _map: Arc<Mmap>,
}

// SAFETY: nothing writes to these tensors after construction: graphs take them as sources only
// (`Graph` has no operation that writes to a weight), and the map is read-only and kept alive.
unsafe impl Send for MappedTensors {}
// SAFETY: as for Send; all access is reading.
unsafe impl Sync for MappedTensors {}

impl MappedTensors {
    /// Describes `tensors` over `map`. Panics if one of them does not lie inside the map or has
    /// rows that do not fill blocks: the reader of the file has checked both.
    pub fn new(map: Arc<Mmap>, tensors: &[MappedTensor]) -> Self {
        let arena = Arena::new(tensors.len(), 0);
        // SAFETY: the pointer and length are those of the map, which lives as long as the buffer
        // (both are fields of the value returned); a page start satisfies ggml's alignment. ggml
        // takes a mutable pointer but writes only on tensor_set, which is never called on these.
        let buffer = unsafe {
            sys::ggml_backend_cpu_buffer_from_ptr(map.as_ptr().cast_mut().cast(), map.len())
        };
        let buffer = Buffer(NonNull::new(buffer).expect("ggml allocates a small object"));
        let mut n_bytes = 0;
        let described = tensors.iter().map(|tensor| {
            let row = tensor.ty.row_bytes(tensor.shape.n_cols()).expect("rows fill blocks");
            let size = row * tensor.shape.n_rows();
            let end = tensor.offset.checked_add(size).expect("the end fits in memory");
            assert!(end <= map.len(), "tensor ends at byte {end} of {}", map.len());
            n_bytes += size;
            let described = arena.tensor(tensor.ty, tensor.shape);
            let data = map[tensor.offset..].as_ptr().cast_mut().cast();
            // SAFETY: `described` is fresh (no buffer, no data, no view) and its `size` bytes from
            // `data` lie inside the buffer, as asserted.
            let status = unsafe {
                sys::ggml_backend_tensor_alloc(buffer.0.as_ptr(), described.as_ptr(), data)
            };
            assert_eq!(status, sys::GGML_STATUS_SUCCESS, "a CPU buffer accepts any tensor");
            described
        });
        let tensors = described.collect();
        Self { arena, tensors, buffer, n_bytes, _map: map }
    }

    /// Bytes of all tensors together.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    pub(super) fn get(&self, index: usize) -> NonNull<sys::ggml_tensor> {
        let _alive = (&self.arena, &self.buffer);
        self.tensors[index]
    }
}

/// Writable f32 tensors in a buffer of their own, zero at first.
#[derive(Debug)]
pub struct StateTensors {
    _arena: Arena,
    tensors: Vec<NonNull<sys::ggml_tensor>>,
    buffer: Buffer,
    in_use: Mutex<()>,
}

// SAFETY: the tensors are read and written only while `in_use` is held, by the methods below and
// by `Executor::compute`.
unsafe impl Send for StateTensors {}
// SAFETY: as for Send.
unsafe impl Sync for StateTensors {}

impl StateTensors {
    /// Allocates a zeroed tensor of each shape; `None` when memory is short.
    pub fn new(shapes: &[Shape]) -> Option<Self> {
        let arena = Arena::new(shapes.len(), 0);
        let tensors: Vec<_> =
            shapes.iter().map(|&shape| arena.tensor(TensorType::F32, shape)).collect();
        // SAFETY: the arena is alive and its tensors have no buffer yet; the CPU buffer type is
        // a static of ggml.
        let buffer = unsafe {
            sys::ggml_backend_alloc_ctx_tensors_from_buft(
                arena.as_ptr(),
                sys::ggml_backend_cpu_buffer_type(),
            )
        };
        let state = Self {
            _arena: arena,
            tensors,
            buffer: Buffer(NonNull::new(buffer)?),
            in_use: Mutex::new(()),
        };
        state.clear();
        Some(state)
    }

    /// Sets every tensor to zero.
    pub fn clear(&self) {
        let _held = self.lock();
        // SAFETY: the buffer is alive and nobody else uses it while the lock is held.
        unsafe { sys::ggml_backend_buffer_clear(self.buffer.0.as_ptr(), 0) };
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// True if there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// A copy of tensor `index`.
    pub fn read(&self, index: usize) -> Vec<f32> {
        let _held = self.lock();
        let tensor = self.tensors[index].as_ptr();
        // SAFETY: the tensor belongs to the live arena.
        let n = unsafe { sys::ggml_nelements(tensor) };
        let mut out = vec![0f32; usize::try_from(n).expect("counts are positive")];
        // SAFETY: the tensor is f32 and has exactly `out.len()` elements.
        unsafe { sys::ggml_backend_tensor_get(tensor, out.as_mut_ptr().cast(), 0, out.len() * 4) };
        out
    }

    /// Replaces tensor `index`. Panics if `values` has another number of elements.
    pub fn write(&self, index: usize, values: &[f32]) {
        let _held = self.lock();
        let tensor = self.tensors[index].as_ptr();
        // SAFETY: the tensor belongs to the live arena.
        let n = unsafe { sys::ggml_nelements(tensor) };
        assert_eq!(usize::try_from(n).ok(), Some(values.len()), "elements of state {index}");
        // SAFETY: the tensor is f32 and has exactly `values.len()` elements.
        unsafe {
            sys::ggml_backend_tensor_set(tensor, values.as_ptr().cast(), 0, values.len() * 4)
        };
    }

    /// Bytes of the buffer, as ggml counts them.
    pub fn n_bytes(&self) -> usize {
        // SAFETY: the buffer is alive.
        unsafe { sys::ggml_backend_buffer_get_size(self.buffer.0.as_ptr()) }
    }

    pub(super) fn get(&self, index: usize) -> NonNull<sys::ggml_tensor> {
        self.tensors[index]
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Owns a ggml buffer.
#[derive(Debug)]
struct Buffer(NonNull<sys::ggml_backend_buffer>);

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the pointer came from ggml, is owned here alone and freed once.
        unsafe { sys::ggml_backend_buffer_free(self.0.as_ptr()) };
    }
}
