//! Runs graphs: on the CPU backend, or on a device with the CPU beside it.

use ggml_sys as sys;

use super::engine::{CpuEngine, DeviceEngine, Engine};
use super::graph::{Graph, Node};
use super::guard::guarded;
use super::tensors::failed;
use super::Device;
use crate::error::{Error, Result};

/// Backends with threads of their own, and the graph they are loaded with.
#[derive(Debug)]
pub struct Executor {
    engine: Engine,
    n_threads: usize,
    graph: Option<Graph>,
}

// SAFETY: backends and allocators are owned by this value alone and have no thread affinity; ggml
// starts every run from whichever thread calls it.
unsafe impl Send for Executor {}

/// Bytes for intermediate values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ComputeBytes {
    /// In the system's memory.
    pub host: usize,
    /// In the device's.
    pub device: usize,
}

impl Executor {
    /// Backends with `n_threads` threads of the CPU (at least one, at most 512), for graphs of at
    /// most `n_nodes` operations.
    pub fn new(n_threads: usize, device: Option<&Device>, n_nodes: usize) -> Result<Self> {
        if n_threads == 0 || n_threads > sys::GGML_MAX_N_THREADS as usize {
            let most = sys::GGML_MAX_N_THREADS;
            return Err(Error::argument(format!("{n_threads} threads: give 1 to {most}")));
        }
        let engine = match device {
            None => Engine::Cpu(CpuEngine::new(n_threads)?),
            Some(device) => Engine::Device(DeviceEngine::new(device, n_threads, n_nodes)?),
        };
        Ok(Self { engine, n_threads, graph: None })
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Takes `graph` and gives memory to its intermediate values, in place of the former graph's.
    /// Matrices in the file's map are brought in that no graph before had.
    pub fn load(&mut self, graph: Graph) -> Result<()> {
        self.graph = None;
        self.engine.allocate(&graph)?;
        graph.bring_in_matrices(self.n_threads);
        self.graph = Some(graph);
        Ok(())
    }

    /// What [`load`](Self::load) would allocate for `graph`, which is not kept.
    pub fn measure(&mut self, graph: Graph) -> Result<ComputeBytes> {
        self.graph = None;
        self.engine.measure(&graph)
    }

    /// Names of the operations of the loaded graph that the device leaves to the CPU, each once.
    pub fn left_to_cpu(&self) -> Vec<String> {
        let graph = self.graph.as_ref().expect("a graph is loaded");
        self.engine.left_to_cpu(graph)
    }

    /// Sets an i32 input. Panics unless `values` fills it.
    pub fn set_i32(&mut self, node: Node, values: &[i32]) -> Result<()> {
        let tensor = self.checked(node, values.len(), sys::GGML_TYPE_I32);
        // SAFETY: the tensor has exactly these elements, of this type.
        self.transfer(|message| unsafe {
            let size = values.len() * 4;
            sys::ggml_sys_tensor_set(message, tensor, values.as_ptr().cast(), 0, size)
        })
    }

    /// Sets an f32 input. Panics unless `values` fills it.
    pub fn set_f32(&mut self, node: Node, values: &[f32]) -> Result<()> {
        let tensor = self.checked(node, values.len(), sys::GGML_TYPE_F32);
        // SAFETY: the tensor has exactly these elements, of this type.
        self.transfer(|message| unsafe {
            let size = values.len() * 4;
            sys::ggml_sys_tensor_set(message, tensor, values.as_ptr().cast(), 0, size)
        })
    }

    /// Reads the first `out.len()` values of an f32 output. Panics if it has fewer.
    pub fn get_f32(&self, node: Node, out: &mut [f32]) -> Result<()> {
        let graph = self.graph.as_ref().expect("a graph is loaded");
        let n: usize = graph.ne(node).iter().product();
        let tensor = self.checked(node, n, sys::GGML_TYPE_F32);
        assert!(out.len() <= n, "{} of {n} values", out.len());
        // SAFETY: the tensor is f32, allocated, and has at least these elements.
        self.transfer(|message| unsafe {
            let size = out.len() * 4;
            sys::ggml_sys_tensor_get(message, tensor, out.as_mut_ptr().cast(), 0, size)
        })
    }

    fn transfer(&self, call: impl FnOnce(*mut std::ffi::c_char) -> bool) -> Result<()> {
        guarded(call).map_err(|what| match &self.engine {
            Engine::Device(engine) => failed(engine.device(), &what),
            Engine::Cpu(_) => Error::self_check(what),
        })
    }

    /// Dimensions of a node of the loaded graph.
    pub fn ne(&self, node: Node) -> [usize; 4] {
        self.graph.as_ref().expect("a graph is loaded").ne(node)
    }

    /// Runs the loaded graph.
    pub fn compute(&mut self) -> Result<()> {
        let graph = self.graph.as_ref().expect("a graph is loaded");
        let _held = graph.state_tensors().lock();
        // The graph is loaded and allocated; its weights are alive and only read, its state is
        // locked, everything else belongs to this value.
        self.engine.compute(graph)
    }

    /// Bytes for the intermediate values of the loaded graph, as ggml counts them.
    pub fn compute_bytes(&self) -> ComputeBytes {
        self.engine.compute_bytes()
    }

    fn checked(&self, node: Node, n: usize, ty: sys::ggml_type) -> *mut sys::ggml_tensor {
        let graph = self.graph.as_ref().expect("a graph is loaded");
        let tensor = graph.node_ptr(node);
        // SAFETY: the node's tensor lives as long as the graph.
        let (found, allocated) = unsafe { ((*tensor).type_, !(*tensor).buffer.is_null()) };
        assert_eq!(found, ty, "element type");
        assert!(allocated, "the node is part of the graph that runs");
        assert_eq!(graph.ne(node).iter().product::<usize>(), n, "number of elements");
        tensor
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::ggml::cores::Places;
    use crate::ggml::{MappedTensors, Products, StateTensors, Upload};
    use crate::mmap::Mmap;
    use crate::shape::Shape;

    /// `2 x` for x of `n` elements.
    fn doubled(n: usize) -> (Graph, Node, Node) {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let weights = {
            let map = Arc::new(Mmap::open(&manifest).unwrap());
            MappedTensors::new(map, &[], None, Upload::Now).unwrap()
        };
        let state =
            StateTensors::new(&[(Shape::new(&[1]).unwrap(), false)], None, Upload::Now).unwrap();
        let mut graph = Graph::new(8, Arc::new(weights), Arc::new(state), Products::Own);
        let x = graph.input_f32(Shape::new(&[n]).unwrap());
        let y = graph.scale(x, 2.0);
        graph.output(y);
        (graph, x, y)
    }

    #[test]
    fn a_graph_runs_after_one_that_found_no_memory() {
        let mut executor = Executor::new(1, None, 8).unwrap();
        for _ in 0..2 {
            // 256 TiB: more than any processor's address space holds.
            let message = executor.load(doubled(1 << 46).0).unwrap_err().to_string();
            assert!(message.starts_with("not enough memory for the graph"), "{message}");
            assert_eq!(executor.compute_bytes(), ComputeBytes::default());
            let (graph, x, y) = doubled(3);
            executor.load(graph).unwrap();
            executor.set_f32(x, &[1.0, -2.0, 0.5]).unwrap();
            executor.compute().unwrap();
            let mut out = [0.0; 3];
            executor.get_f32(y, &mut out).unwrap();
            assert_eq!(out, [2.0, -4.0, 1.0]);
            assert!(executor.compute_bytes().host >= 12);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_that_fill_the_cores_keep_to_them_and_the_caller_is_let_go() {
        let mask = |task: &Path| {
            let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            line.map(|list| list.trim().to_owned())
        };
        let own = Path::new("/proc/thread-self");
        let before = mask(own);
        let n_cores = crate::ggml::n_cores();
        let mut executor = Executor::new(n_cores, None, 8).unwrap();
        let (mut graph, x, y) = doubled(64);
        // A sum: ggml multiplies by a number on one thread.
        let sum = graph.add(x, y);
        graph.output(sum);
        executor.load(graph).unwrap();
        executor.compute().unwrap();
        assert_eq!(mask(own), before);
        if Places::fill(n_cores).unwrap().is_none() {
            return eprintln!("skipped: threads are not kept to cores here");
        }
        let mut held = std::collections::BTreeSet::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            held.extend(mask(&task.unwrap().path()).filter(|list| !list.contains(['-', ','])));
        }
        // Pools of other tests may hold theirs as well, at the same places.
        assert!(held.len() + 1 >= n_cores, "{n_cores} cores, kept to: {held:?}");
    }
}
