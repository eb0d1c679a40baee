//! Runs graphs on the CPU backend.

use std::ptr::NonNull;

use ggml_sys as sys;

use super::cpu::CpuBackend;
use super::graph::{Graph, Node};
use crate::error::{Error, Result};

/// A CPU backend with threads of its own, and the graph it is loaded with.
#[derive(Debug)]
pub struct Executor {
    backend: CpuBackend,
    allocator: NonNull<sys::ggml_gallocr>,
    n_threads: usize,
    graph: Option<Graph>,
}

// SAFETY: backend and allocator are owned by this value alone and have no thread affinity; ggml
// starts every run from whichever thread calls it.
unsafe impl Send for Executor {}

impl Executor {
    /// A backend with `n_threads` threads (at least one, at most 512).
    pub fn new(n_threads: usize) -> Result<Self> {
        if n_threads == 0 || n_threads > sys::GGML_MAX_N_THREADS as usize {
            let most = sys::GGML_MAX_N_THREADS;
            return Err(Error::argument(format!("{n_threads} threads: give 1 to {most}")));
        }
        let backend = CpuBackend::new(n_threads)?;
        // SAFETY: the buffer type is a static of ggml.
        let allocator = unsafe { sys::ggml_gallocr_new(sys::ggml_backend_cpu_buffer_type()) };
        let allocator = NonNull::new(allocator).expect("ggml allocates a small object");
        Ok(Self { backend, allocator, n_threads, graph: None })
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Takes `graph` and gives memory to its intermediate values, in place of the former graph's.
    pub fn load(&mut self, graph: Graph) -> Result<()> {
        self.graph = None;
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
        if !allocated {
            let what = "not enough memory for the graph; lower the number of tokens in a batch";
            return Err(Error::argument(what));
        }
        self.graph = Some(graph);
        Ok(())
    }

    /// Sets an i32 input. Panics unless `values` fills it.
    pub fn set_i32(&mut self, node: Node, values: &[i32]) {
        let tensor = self.checked(node, values.len(), sys::GGML_TYPE_I32);
        // SAFETY: the tensor has exactly these elements, of this type.
        unsafe {
            sys::ggml_backend_tensor_set(tensor, values.as_ptr().cast(), 0, values.len() * 4)
        };
    }

    /// Sets an f32 input. Panics unless `values` fills it.
    pub fn set_f32(&mut self, node: Node, values: &[f32]) {
        let tensor = self.checked(node, values.len(), sys::GGML_TYPE_F32);
        // SAFETY: the tensor has exactly these elements, of this type.
        unsafe {
            sys::ggml_backend_tensor_set(tensor, values.as_ptr().cast(), 0, values.len() * 4)
        };
    }

    /// Reads the first `out.len()` values of an f32 output. Panics if it has fewer.
    pub fn get_f32(&self, node: Node, out: &mut [f32]) {
        let graph = self.graph.as_ref().expect("a graph is loaded");
        let n: usize = graph.ne(node).iter().product();
        let tensor = self.checked(node, n, sys::GGML_TYPE_F32);
        assert!(out.len() <= n, "{} of {n} values", out.len());
        // SAFETY: the tensor is f32, allocated, and has at least these elements.
        unsafe { sys::ggml_backend_tensor_get(tensor, out.as_mut_ptr().cast(), 0, out.len() * 4) };
    }

    /// Dimensions of a node of the loaded graph.
    pub fn ne(&self, node: Node) -> [usize; 4] {
        self.graph.as_ref().expect("a graph is loaded").ne(node)
    }

    /// Runs the loaded graph.
    pub fn compute(&mut self) -> Result<()> {
        let graph = self.graph.as_ref().expect("a graph is loaded");
        let _held = graph.state_tensors().lock();
        // SAFETY: the graph is loaded and allocated; its weights are alive and only read, its
        // state is locked, everything else belongs to this value.
        let status =
            unsafe { sys::ggml_backend_graph_compute(self.backend.as_ptr(), graph.as_ptr()) };
        if status != sys::GGML_STATUS_SUCCESS {
            return Err(Error::self_check(format!(
                "ggml could not run the graph (status {status})"
            )));
        }
        Ok(())
    }

    /// Bytes of the memory for intermediate values, as ggml counts them.
    pub fn compute_bytes(&self) -> usize {
        // SAFETY: the allocator is alive and has one buffer.
        unsafe { sys::ggml_gallocr_get_buffer_size(self.allocator.as_ptr(), 0) }
    }

    fn checked(&self, node: Node, n: usize, ty: sys::ggml_type) -> *mut sys::ggml_tensor {
        let graph = self.graph.as_ref().expect("a graph is loaded");
        let tensor = graph.node_ptr(node);
        // SAFETY: the node's tensor lives as long as the graph.
        let (found, allocated) = unsafe { ((*tensor).type_, !(*tensor).data.is_null()) };
        assert_eq!(found, ty, "element type");
        assert!(allocated, "the node is part of the graph that runs");
        assert_eq!(graph.ne(node).iter().product::<usize>(), n, "number of elements");
        tensor
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.graph = None;
        // SAFETY: the allocator is owned here alone and freed once.
        unsafe { sys::ggml_gallocr_free(self.allocator.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::ggml::{MappedTensors, Products, StateTensors};
    use crate::mmap::Mmap;
    use crate::shape::Shape;

    /// `2 x` for x of `n` elements.
    fn doubled(n: usize) -> (Graph, Node, Node) {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let weights = MappedTensors::new(Arc::new(Mmap::open(&manifest).unwrap()), &[]);
        let state = StateTensors::new(&[Shape::new(&[1]).unwrap()]).unwrap();
        let mut graph = Graph::new(8, Arc::new(weights), Arc::new(state), Products::Own);
        let x = graph.input_f32(Shape::new(&[n]).unwrap());
        let y = graph.scale(x, 2.0);
        graph.output(y);
        (graph, x, y)
    }

    #[test]
    fn a_graph_runs_after_one_that_found_no_memory() {
        let mut executor = Executor::new(1).unwrap();
        for _ in 0..2 {
            // 256 TiB: more than any processor's address space holds.
            let message = executor.load(doubled(1 << 46).0).unwrap_err().to_string();
            assert!(message.starts_with("not enough memory for the graph"), "{message}");
            assert_eq!(executor.compute_bytes(), 0);
            let (graph, x, y) = doubled(3);
            executor.load(graph).unwrap();
            executor.set_f32(x, &[1.0, -2.0, 0.5]);
            executor.compute().unwrap();
            let mut out = [0.0; 3];
            executor.get_f32(y, &mut out);
            assert_eq!(out, [2.0, -4.0, 1.0]);
            assert!(executor.compute_bytes() >= 12);
        }
    }
}
