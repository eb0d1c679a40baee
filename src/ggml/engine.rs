//! Where a graph's operations run and where its intermediate values lie.

use std::collections::BTreeSet;
use std::ptr::{self, NonNull};

use ggml_sys as sys;

use super::cores::Places;
use super::cpu::CpuBackend;
use super::executor::ComputeBytes;
use super::graph::Graph;
use super::guard::{guarded, text};
use super::tensors::failed;
use super::Device;
use crate::error::{Error, Result};

/// What an executor runs graphs on.
#[derive(Debug)]
pub(super) enum Engine {
    Cpu(CpuEngine),
    Device(DeviceEngine),
}

impl Engine {
    /// Gives memory to the values of `graph`, in place of those of the former.
    pub fn allocate(&mut self, graph: &Graph) -> Result<()> {
        match self {
            Self::Cpu(engine) => engine.allocate(graph),
            Self::Device(engine) => engine.allocate(graph),
        }
    }

    /// What that takes.
    pub fn measure(&mut self, graph: &Graph) -> Result<ComputeBytes> {
        match self {
            Self::Cpu(engine) => Ok(engine.measure(graph)),
            Self::Device(engine) => engine.measure(graph),
        }
    }

    /// Runs the graph that was allocated last; the caller holds its state.
    pub fn compute(&mut self, graph: &Graph) -> Result<()> {
        let status = match self {
            Self::Cpu(engine) => engine.compute(graph),
            Self::Device(engine) => engine.compute(graph)?,
        };
        if status != sys::GGML_STATUS_SUCCESS {
            let what = format!("ggml could not run the graph (status {status})");
            return Err(Error::self_check(what));
        }
        Ok(())
    }

    pub fn compute_bytes(&self) -> ComputeBytes {
        match self {
            Self::Cpu(engine) => engine.compute_bytes(),
            Self::Device(engine) => engine.compute_bytes(),
        }
    }

    pub fn left_to_cpu(&self, graph: &Graph) -> Vec<String> {
        match self {
            Self::Cpu(_) => Vec::new(),
            Self::Device(engine) => engine.left_to_cpu(graph),
        }
    }
}

const TOO_LITTLE: &str = "not enough memory for the graph; lower the number of tokens in a batch";

/// The CPU backend alone.
#[derive(Debug)]
pub(super) struct CpuEngine {
    backend: CpuBackend,
    places: Option<Places>,
    allocator: NonNull<sys::ggml_gallocr>,
}

impl CpuEngine {
    pub fn new(n_threads: usize) -> Result<Self> {
        let places = Places::fill(n_threads)?;
        let backend = CpuBackend::new(n_threads, places.as_ref())?;
        // SAFETY: the buffer type is a static of ggml.
        let allocator = unsafe { sys::ggml_gallocr_new(sys::ggml_backend_cpu_buffer_type()) };
        let allocator = NonNull::new(allocator).expect("ggml allocates a small object");
        Ok(Self { backend, places, allocator })
    }

    fn allocate(&mut self, graph: &Graph) -> Result<()> {
        let allocator = self.allocator.as_ptr();
        // Reserving plans the places of this graph's values anew. Without it the allocator goes by
        // the plan of the former graph if that is as long and no smaller, and after a failure it
        // follows a plan for which it has no memory.
        // SAFETY: the graph is complete and alive; its weights and state have memory already, its
        // other values have none yet.
        let allocated = unsafe {
            sys::ggml_gallocr_reserve(allocator, graph.as_ptr())
                && sys::ggml_gallocr_alloc_graph(allocator, graph.as_ptr())
        };
        allocated.then_some(()).ok_or_else(|| Error::argument(TOO_LITTLE))
    }

    fn measure(&mut self, graph: &Graph) -> ComputeBytes {
        let mut size = 0;
        // SAFETY: as in `allocate`; the allocator has one buffer, so one size is written.
        unsafe {
            let (ids, allocator) = (ptr::null(), self.allocator.as_ptr());
            sys::ggml_gallocr_reserve_n_size(allocator, graph.as_ptr(), ids, ids, &mut size);
        }
        ComputeBytes { host: size, device: 0 }
    }

    fn compute(&mut self, graph: &Graph) -> sys::ggml_status {
        let _held = self.places.as_ref().and_then(Places::hold_caller);
        // SAFETY: the graph was allocated and is alive with all it refers to.
        unsafe { sys::ggml_backend_graph_compute(self.backend.as_ptr(), graph.as_ptr()) }
    }

    fn compute_bytes(&self) -> ComputeBytes {
        // SAFETY: the allocator is alive and has one buffer.
        let host = unsafe { sys::ggml_gallocr_get_buffer_size(self.allocator.as_ptr(), 0) };
        ComputeBytes { host, device: 0 }
    }
}

impl Drop for CpuEngine {
    fn drop(&mut self) {
        // SAFETY: the allocator is owned here alone and freed once.
        unsafe { sys::ggml_gallocr_free(self.allocator.as_ptr()) };
    }
}

/// A device, and the CPU for what it cannot do: ggml's scheduler cuts a graph in parts and copies
/// what one needs of the other.
#[derive(Debug)]
pub(super) struct DeviceEngine {
    // Dropped in this order.
    scheduler: Scheduler,
    backend: DeviceBackend,
    cpu: CpuBackend,
    device: Device,
    /// Operations of the largest graph.
    capacity: usize,
    /// Set when a call failed in the middle: then nothing can be run any more.
    lost: bool,
}

impl DeviceEngine {
    pub fn new(device: &Device, n_threads: usize, n_nodes: usize) -> Result<Self> {
        let cpu = CpuBackend::new(n_threads, None)?;
        let backend = DeviceBackend::new(device)?;
        // Inputs of the graph and copies between the parts count too.
        let capacity = 2 * n_nodes;
        let mut backends = [backend.0.as_ptr(), cpu.as_ptr()];
        // SAFETY: both backends are alive and outlive the scheduler; the CPU comes last, as ggml
        // wants it. No buffer types means the backends' own.
        let scheduler = unsafe {
            let (bufts, n) = (ptr::null_mut(), backends.len() as i32);
            sys::ggml_backend_sched_new(backends.as_mut_ptr(), bufts, n, capacity, false, false)
        };
        let scheduler = Scheduler(NonNull::new(scheduler).expect("ggml allocates a small object"));
        Ok(Self { scheduler, backend, cpu, device: device.clone(), capacity, lost: false })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Forgets the former graph and says which operations of this one the device must not run.
    fn prepare(&mut self, graph: &Graph) -> Result<()> {
        if self.lost {
            return Err(failed(&self.device, "it has failed before"));
        }
        assert!(2 * graph.capacity() <= self.capacity, "a graph of {} nodes", graph.capacity());
        // SAFETY: the scheduler is alive; the tensors are those of the graph it is about to get,
        // and the CPU backend is one of its own.
        unsafe {
            sys::ggml_backend_sched_reset(self.scheduler.as_ptr());
            for node in graph.kept_from(&self.device) {
                let (scheduler, cpu) = (self.scheduler.as_ptr(), self.cpu.as_ptr());
                sys::ggml_backend_sched_set_tensor_backend(scheduler, node, cpu);
            }
        }
        Ok(())
    }

    fn allocate(&mut self, graph: &Graph) -> Result<()> {
        self.prepare(graph)?;
        let mut allocated = false;
        // SAFETY: the graph is complete and alive; its weights and state have memory already, its
        // other values have none yet.
        self.guarded(|message, scheduler| unsafe {
            sys::ggml_sys_sched_alloc(message, scheduler, graph.as_ptr(), &mut allocated)
        })?;
        allocated.then_some(()).ok_or_else(|| {
            let remedy = "lower the number of tokens in a batch, or take fewer --gpu-layers";
            Error::device(&self.device, format!("not enough memory for the graph; {remedy}"))
        })
    }

    fn measure(&mut self, graph: &Graph) -> Result<ComputeBytes> {
        self.prepare(graph)?;
        // One for each backend, in their order.
        let mut sizes = [0, 0];
        // SAFETY: as in `allocate`; nothing is allocated, and two sizes are written.
        self.guarded(|message, scheduler| unsafe {
            let sizes = sizes.as_mut_ptr();
            sys::ggml_sys_sched_reserve_size(message, scheduler, graph.as_ptr(), sizes)
        })?;
        let [device, host] = sizes;
        Ok(ComputeBytes { host, device })
    }

    fn compute(&mut self, graph: &Graph) -> Result<sys::ggml_status> {
        if self.lost {
            return Err(failed(&self.device, "it has failed before"));
        }
        let mut status = sys::GGML_STATUS_FAILED;
        // SAFETY: the graph was allocated by this scheduler and is alive with all it refers to.
        self.guarded(|message, scheduler| unsafe {
            sys::ggml_sys_sched_compute(message, scheduler, graph.as_ptr(), &mut status)
        })?;
        Ok(status)
    }

    fn guarded(
        &mut self,
        call: impl FnOnce(*mut std::ffi::c_char, *mut sys::ggml_backend_sched) -> bool,
    ) -> Result<()> {
        let scheduler = self.scheduler.as_ptr();
        guarded(|message| call(message, scheduler)).map_err(|what| {
            self.lost = true;
            failed(&self.device, &what)
        })
    }

    fn compute_bytes(&self) -> ComputeBytes {
        let of = |backend| {
            // SAFETY: the scheduler is alive and the backend one of its own.
            unsafe { sys::ggml_backend_sched_get_buffer_size(self.scheduler.as_ptr(), backend) }
        };
        ComputeBytes { host: of(self.cpu.as_ptr()), device: of(self.backend.0.as_ptr()) }
    }

    fn left_to_cpu(&self, graph: &Graph) -> Vec<String> {
        let mut names = BTreeSet::new();
        for node in graph.for_device() {
            // SAFETY: the tensor is one of the graph's, which the scheduler has seen. Names are
            // static C strings.
            unsafe {
                let scheduler = self.scheduler.as_ptr();
                let backend = sys::ggml_backend_sched_get_tensor_backend(scheduler, node);
                // Views have no place of their own, and state is stored where it lies.
                let runs = (*node).view_src.is_null();
                if runs && backend == self.cpu.as_ptr() {
                    names.insert(text(sys::ggml_op_name((*node).op)).to_lowercase());
                }
            }
        }
        names.into_iter().collect()
    }
}

#[derive(Debug)]
struct Scheduler(NonNull<sys::ggml_backend_sched>);

impl Scheduler {
    fn as_ptr(&self) -> *mut sys::ggml_backend_sched {
        self.0.as_ptr()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: owned here alone and freed once, before its backends.
        unsafe { sys::ggml_sys_sched_free(self.as_ptr()) };
    }
}

#[derive(Debug)]
struct DeviceBackend(NonNull<sys::ggml_backend>);

impl DeviceBackend {
    fn new(device: &Device) -> Result<Self> {
        let mut backend = ptr::null_mut();
        // SAFETY: the device is a static of ggml's registry.
        guarded(|message| unsafe {
            sys::ggml_sys_dev_init(message, device.as_ptr(), &mut backend)
        })
        .map_err(|what| failed(device, &what))?;
        let backend = NonNull::new(backend);
        backend.map(Self).ok_or_else(|| failed(device, "ggml cannot start it"))
    }
}

impl Drop for DeviceBackend {
    fn drop(&mut self) {
        // SAFETY: owned here alone and freed once, after the scheduler that used it.
        unsafe { sys::ggml_sys_backend_free(self.0.as_ptr()) };
    }
}
