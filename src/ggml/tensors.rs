//! Tensors that outlive a graph: weights, in the file map or on a device, and state between runs.

use std::collections::BTreeSet;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ggml_sys as sys;

use super::arena::Arena;
use super::guard::guarded;
use super::{Device, TensorType};
use crate::error::{Error, Result};
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
    /// Copied to the device, where there is one.
    pub on_device: bool,
}

/// How the tensors of a device get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// The bytes are copied.
    Now,
    /// Nothing is allocated: enough to measure what a graph over them needs.
    Never,
}

/// Bytes that go to a device in one call; the pages behind them can be given back between two.
const UPLOAD_PIECE: usize = 16 << 20;

/// Read-only tensors: where they are, in the file map, or copied to a device.
#[derive(Debug)]
pub struct MappedTensors {
    // Dropped in this order: tensors' descriptions, the buffer objects, then the bytes.
    arena: Arena,
    tensors: Vec<NonNull<sys::ggml_tensor>>,
    host: Buffer,
    on_device: Option<OnDevice>,
    n_bytes: usize,
    /// Where ranges begin whose pages were asked for.
    brought: Mutex<BTreeSet<usize>>,
    map: Arc<Mmap>,
}

/// The part that is on a device.
#[derive(Debug)]
struct OnDevice {
    memory: Allocated,
    /// Bytes of the tensors, without padding.
    n_bytes: usize,
}

// SAFETY: nothing writes to these tensors after construction: graphs take them as sources only
// (`Graph` has no operation that writes to a weight), and the map is read-only and kept alive.
unsafe impl Send for MappedTensors {}
// SAFETY: as for Send; all access is reading.
unsafe impl Sync for MappedTensors {}

impl MappedTensors {
    /// Describes `tensors` over `map`, and copies those that ask for it to `device` in pieces. Fails
    /// if the device has not the memory. Panics if a tensor does not lie inside the map or has rows
    /// that do not fill blocks: the reader of the file has checked both.
    pub fn new(
        map: Arc<Mmap>,
        tensors: &[MappedTensor],
        device: Option<&Device>,
        upload: Upload,
    ) -> Result<Self> {
        let arena = Arena::new(tensors.len(), 0);
        // SAFETY: the pointer and length are those of the map, which lives as long as the buffer
        // (both are fields of the value returned); a page start satisfies ggml's alignment. ggml
        // takes a mutable pointer but writes only on tensor_set, which is never called on these.
        let host = unsafe {
            let start = map.as_ptr().cast_mut().cast();
            let buffer = sys::ggml_backend_cpu_buffer_from_ptr(start, map.len());
            sys::ggml_backend_buffer_set_usage(buffer, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            Buffer(NonNull::new(buffer).expect("ggml allocates a small object"))
        };
        let there = device.map(|device| {
            let there = tensors.iter().filter(|tensor| tensor.on_device);
            (device, Arena::new(there.count(), 0))
        });
        let mut n_bytes = 0;
        let mut described = Vec::with_capacity(tensors.len());
        let mut uploads = Vec::new();
        for tensor in tensors {
            let row = tensor.ty.row_bytes(tensor.shape.n_cols()).expect("rows fill blocks");
            let size = row * tensor.shape.n_rows();
            let end = tensor.offset.checked_add(size).expect("the end fits in memory");
            assert!(end <= map.len(), "tensor ends at byte {end} of {}", map.len());
            n_bytes += size;
            let bytes = &map[tensor.offset..end];
            if let (Some((_, arena)), true) = (&there, tensor.on_device) {
                let tensor = arena.tensor(tensor.ty, tensor.shape);
                described.push(tensor);
                uploads.push((tensor, bytes));
                continue;
            }
            let tensor = arena.tensor(tensor.ty, tensor.shape);
            let data = bytes.as_ptr().cast_mut().cast();
            // SAFETY: `tensor` is fresh (no buffer, no data, no view) and its `size` bytes from
            // `data` lie inside the buffer, as asserted.
            let status =
                unsafe { sys::ggml_backend_tensor_alloc(host.as_ptr(), tensor.as_ptr(), data) };
            assert_eq!(status, sys::GGML_STATUS_SUCCESS, "a CPU buffer accepts any tensor");
            described.push(tensor);
        }
        let on_device = match there {
            Some((device, arena)) if !uploads.is_empty() => {
                Some(OnDevice::new(device, arena, &uploads, upload)?)
            }
            _ => None,
        };
        let brought = Mutex::default();
        Ok(Self { arena, tensors: described, host, on_device, n_bytes, brought, map })
    }

    /// Bytes of all tensors together.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// The device that holds some of them.
    pub fn device(&self) -> Option<&Device> {
        self.on_device.as_ref().map(|there| &there.memory.device)
    }

    /// Bytes of the tensors on the device.
    pub fn device_bytes(&self) -> usize {
        self.on_device.as_ref().map_or(0, |there| there.n_bytes)
    }

    /// Bytes of the device's memory that hold them, as ggml counts them.
    pub fn device_buffer_bytes(&self) -> usize {
        self.on_device.as_ref().map_or(0, |there| there.memory.n_bytes)
    }

    /// True if the bytes of `tensor`, or of what it is a view of, are those of the map.
    pub(super) fn is_in_place(&self, tensor: &sys::ggml_tensor) -> bool {
        // SAFETY: what a view shows is alive as long as the view: graphs keep both.
        let owner = unsafe { tensor.view_src.as_ref() }.unwrap_or(tensor);
        owner.buffer == self.host.as_ptr()
    }

    /// Where the bytes of `tensor` lie in the map, if they do.
    pub(super) fn range(&self, tensor: &sys::ggml_tensor) -> Option<Range<usize>> {
        if !self.is_in_place(tensor) {
            return None;
        }
        let start = tensor.data.addr() - self.map.as_ptr().addr();
        // SAFETY: the tensor is alive; the call reads its type and extent.
        Some(start..start + unsafe { sys::ggml_nbytes(tensor) })
    }

    /// Has pages of the map mapped before the first use of what lies there.
    pub(super) fn bring_in(&self, ranges: &[Range<usize>], n_threads: usize) {
        let mut brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        let new = |range: &&Range<usize>| brought.insert(range.start);
        let ranges: Vec<_> = ranges.iter().filter(new).cloned().collect();
        drop(brought);
        self.map.populate(&ranges, n_threads);
    }

    pub(super) fn get(&self, index: usize) -> NonNull<sys::ggml_tensor> {
        let _alive = (&self.arena, &self.host);
        self.tensors[index]
    }
}

impl OnDevice {
    fn new(
        device: &Device,
        arena: Arena,
        uploads: &[(NonNull<sys::ggml_tensor>, &[u8])],
        upload: Upload,
    ) -> Result<Self> {
        let n_bytes = uploads.iter().map(|(_, bytes)| bytes.len()).sum();
        let memory = Allocated::new(device, arena, "weights", upload)?;
        // SAFETY: the buffer is alive; the call sets a field of it.
        unsafe {
            let usage = sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS;
            sys::ggml_backend_buffer_set_usage(memory.buffer.as_ptr(), usage);
        }
        let there = Self { memory, n_bytes };
        if upload == Upload::Now {
            uploads.iter().try_for_each(|(tensor, bytes)| there.copy(*tensor, bytes))?;
        }
        Ok(there)
    }

    fn copy(&self, tensor: NonNull<sys::ggml_tensor>, bytes: &[u8]) -> Result<()> {
        for (i, piece) in bytes.chunks(UPLOAD_PIECE).enumerate() {
            // SAFETY: the tensor lies in the live buffer and has exactly `bytes.len()` bytes.
            guarded(|message| unsafe {
                let (from, at) = (piece.as_ptr().cast(), i * UPLOAD_PIECE);
                sys::ggml_sys_tensor_set(message, tensor.as_ptr(), from, at, piece.len())
            })
            .map_err(|what| failed(&self.memory.device, &what))?;
        }
        Ok(())
    }
}

/// What the tensors of `arena` take in a buffer of this type, each padded as the type wants it.
///
/// # Safety
/// `buffer_type` is one of ggml's.
unsafe fn arena_bytes(arena: &Arena, buffer_type: sys::ggml_backend_buffer_type_t) -> usize {
    // SAFETY: the context is alive and the loop ends where ggml says there is no other tensor.
    unsafe {
        let alignment = sys::ggml_backend_buft_get_alignment(buffer_type);
        let mut total = 0;
        let mut tensor = sys::ggml_get_first_tensor(arena.as_ptr());
        while !tensor.is_null() {
            let size = sys::ggml_backend_buft_get_alloc_size(buffer_type, tensor);
            total += size.next_multiple_of(alignment);
            tensor = sys::ggml_get_next_tensor(arena.as_ptr(), tensor);
        }
        total
    }
}

/// A device that gave up in the middle of a call.
pub(super) fn failed(device: &Device, what: &str) -> Error {
    let remedy =
        "is it lost, or its memory used up? See `rwkvq devices`, take fewer --gpu-layers, \
                  or --device cpu";
    Error::device(device, format!("{what}; {remedy}"))
}

/// Writable f32 tensors in buffers of their own, zero at first.
#[derive(Debug)]
pub struct StateTensors {
    tensors: Vec<NonNull<sys::ggml_tensor>>,
    host: Option<Allocated>,
    on_device: Option<Allocated>,
    in_use: Mutex<()>,
}

// SAFETY: the tensors are read and written only while `in_use` is held, by the methods below and
// by `Executor::compute`.
unsafe impl Send for StateTensors {}
// SAFETY: as for Send.
unsafe impl Sync for StateTensors {}

impl StateTensors {
    /// Allocates a zeroed tensor of each shape; where its flag is set, on the device. With
    /// [`Upload::Never`] nothing is allocated there. Fails when memory is short.
    pub fn new(shapes: &[(Shape, bool)], device: Option<&Device>, upload: Upload) -> Result<Self> {
        let is_there = |flag: bool| device.is_some() && flag;
        let n_there = shapes.iter().filter(|(_, flag)| is_there(*flag)).count();
        let (here, there) = (Arena::new(shapes.len() - n_there, 0), Arena::new(n_there, 0));
        let tensor = |&(shape, flag): &(Shape, bool)| {
            let arena = if is_there(flag) { &there } else { &here };
            arena.tensor(TensorType::F32, shape)
        };
        let tensors = shapes.iter().map(tensor).collect();
        let host = match n_there == shapes.len() {
            true => None,
            false => Some(Allocated::new(&Device::cpu()?, here, "state", Upload::Now)?),
        };
        let on_device = match (n_there, device) {
            (1.., Some(device)) => Some(Allocated::new(device, there, "state", upload)?),
            _ => None,
        };
        let state = Self { tensors, host, on_device, in_use: Mutex::new(()) };
        if upload == Upload::Now {
            state.clear()?;
        }
        Ok(state)
    }

    /// Sets every tensor to zero.
    pub fn clear(&self) -> Result<()> {
        let _held = self.lock();
        self.host.iter().chain(&self.on_device).try_for_each(|part| {
            // SAFETY: the buffer is alive and nobody else uses it while the lock is held.
            guarded(|message| unsafe { sys::ggml_sys_buffer_clear(message, part.buffer.as_ptr()) })
                .map_err(|what| failed(&part.device, &what))
        })
    }

    /// Bytes of the buffer in the system's memory.
    pub fn host_bytes(&self) -> usize {
        self.host.as_ref().map_or(0, |part| part.n_bytes)
    }

    /// Bytes of the device's memory that hold tensors.
    pub fn device_buffer_bytes(&self) -> usize {
        self.on_device.as_ref().map_or(0, |part| part.n_bytes)
    }

    pub(super) fn get(&self, index: usize) -> NonNull<sys::ggml_tensor> {
        self.tensors[index]
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tensors and the memory of a device that holds them.
#[derive(Debug)]
struct Allocated {
    // Dropped in this order.
    _arena: Arena,
    buffer: Buffer,
    device: Device,
    /// Bytes of the memory: those that ggml has taken, or would.
    n_bytes: usize,
}

impl Allocated {
    /// Memory for every tensor of `arena`, which are `what`.
    fn new(device: &Device, arena: Arena, what: &str, upload: Upload) -> Result<Self> {
        // SAFETY: the buffer type is a static of ggml.
        let planned = unsafe { arena_bytes(&arena, device.buffer_type()) };
        let buffer = match upload {
            Upload::Never => Buffer::empty(device, &arena)?,
            Upload::Now => Buffer::of(device, &arena, what, planned)?,
        };
        let n_bytes = buffer.n_bytes().unwrap_or(planned);
        Ok(Self { _arena: arena, buffer, device: device.clone(), n_bytes })
    }
}

/// Owns a ggml buffer.
#[derive(Debug)]
struct Buffer(NonNull<sys::ggml_backend_buffer>);

impl Buffer {
    /// Memory of `device` for every tensor of `arena`, `n_bytes` in all.
    fn of(device: &Device, arena: &Arena, what: &str, n_bytes: usize) -> Result<Self> {
        let short = |said: &str| {
            let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
            let remedy = match device.is_gpu() {
                true => "take fewer --gpu-layers, or --device cpu",
                false => "lower the lanes or the tokens in a batch",
            };
            let what = format!("no {n_bytes} bytes for the {what}{said}; {remedy}");
            match device.is_gpu() {
                true => Error::device(device, what),
                false => Error::argument(format!("not enough memory: {what}")),
            }
        };
        let mut buffer = std::ptr::null_mut();
        // SAFETY: the arena is alive and its tensors have no buffer yet; the buffer type is a
        // static of ggml.
        guarded(|message| unsafe {
            let buffer_type = device.buffer_type();
            sys::ggml_sys_alloc_ctx_tensors(message, arena.as_ptr(), buffer_type, &mut buffer)
        })
        .map_err(|what| short(&what))?;
        NonNull::new(buffer).map(Self).ok_or_else(|| short(""))
    }

    /// A buffer without memory, to which the tensors of `arena` belong: where an operation runs
    /// follows from that.
    fn empty(device: &Device, arena: &Arena) -> Result<Self> {
        // SAFETY: the buffer type is a static of ggml; ggml makes an object without memory for a
        // size of zero. The descriptions are alive, have no buffer, and are never computed with.
        unsafe {
            let buffer = sys::ggml_backend_buft_alloc_buffer(device.buffer_type(), 0);
            let buffer = NonNull::new(buffer)
                .ok_or_else(|| Error::self_check("ggml makes no empty buffer"))?;
            let mut tensor = sys::ggml_get_first_tensor(arena.as_ptr());
            while !tensor.is_null() {
                (*tensor).buffer = buffer.as_ptr();
                tensor = sys::ggml_get_next_tensor(arena.as_ptr(), tensor);
            }
            Ok(Self(buffer))
        }
    }

    /// Its memory as ggml counts it; `None` for one without.
    fn n_bytes(&self) -> Option<usize> {
        // SAFETY: the buffer is alive.
        let n_bytes = unsafe { sys::ggml_backend_buffer_get_size(self.as_ptr()) };
        (n_bytes > 0).then_some(n_bytes)
    }

    fn as_ptr(&self) -> *mut sys::ggml_backend_buffer {
        self.0.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the pointer came from ggml, is owned here alone and freed once.
        unsafe { sys::ggml_sys_buffer_free(self.as_ptr()) };
    }
}
