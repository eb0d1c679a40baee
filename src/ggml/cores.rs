//! The cores a program may run on, and threads that each keep to one of them.
//!
//! Threads as many as there are cores have no better place to go than one each. Left to the
//! system they are moved all the same when another program wants a core: away from what their
//! caches hold, and for a while two of them onto one core.

use std::collections::BTreeSet;

use ggml_sys as sys;

use super::cpu;
use crate::error::Result;

/// Physical cores the calling thread may run on, no more than the quota of its control group
/// allows; at least one, and no more than ggml takes. Two hardware threads of a core share what
/// multiplies and count as one.
pub fn n_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = system::allowed().map_or(allowed, |cpus| one_of_each(&cpus, system::core).len());
    cores.min(allowed).clamp(1, sys::GGML_MAX_N_THREADS as usize)
}

/// A processor for each of some threads.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// In ascending order.
    cpus: Vec<usize>,
    /// The one of them that the calling thread has to be kept to in each run; `None` where ggml
    /// does it.
    caller: Option<usize>,
}

impl Places {
    /// Places for `n_threads`, if they are as many as the physical cores or as the hardware threads
    /// that the calling thread may run on. Fewer are left to the system, since several programs
    /// would all take the first cores; so are threads whose place the system does not let choose.
    ///
    /// Threads of OpenMP outlive a backend and serve the next one of the same caller; they keep
    /// their places until they are given others.
    pub fn fill(n_threads: usize) -> Result<Option<Self>> {
        let Some(cpus) = system::allowed().and_then(|cpus| choose(n_threads, &cpus, system::core))
        else {
            return Ok(None);
        };
        // Where the system refuses, ggml would complain on stderr for every graph.
        if Held::new(cpus.first().copied()).is_none() {
            return Ok(None);
        }
        // With OpenMP ggml places all threads in each run, the caller among them; without, when it
        // makes them, and then the caller is the last.
        let openmp = cpu::features()?.iter().any(|name| name == "OPENMP");
        let caller = if openmp { None } else { cpus.last().copied() };
        Ok(Some(Self { cpus, caller }))
    }

    /// Hands every place to a new pool of threads.
    pub fn give_to(&self, pool: &mut sys::ggml_threadpool_params) {
        pool.strict_cpu = true;
        for &cpu in &self.cpus {
            pool.cpumask[cpu] = true;
        }
    }

    /// For the time of a run: the calling thread is at its place, and let go when the value is
    /// dropped. OpenMP's threads begin in the first run, and would begin at the caller's place and
    /// wait for it if it were there before; so it is ggml that takes it there, once they run.
    pub fn hold_caller(&self) -> Option<Held> {
        Held::new(self.caller)
    }

    /// For the time in which ggml makes its threads, which takes the calling thread to a place: it
    /// is let go when the value is dropped.
    pub fn let_caller_go(&self) -> Option<Held> {
        Held::new(None)
    }
}

/// Places among `cpus` for at least two threads that fill the cores or all of them; none if ggml
/// has no number for one of them.
fn choose(n_threads: usize, cpus: &[usize], core: impl Fn(usize) -> String) -> Option<Vec<usize>> {
    let numbered = |cpu: &usize| *cpu < sys::GGML_MAX_N_THREADS as usize;
    if n_threads < 2 || !cpus.iter().all(numbered) {
        return None;
    }
    let ways = [one_of_each(cpus, core), cpus.to_vec()];
    ways.into_iter().find(|places| places.len() == n_threads)
}

/// One processor of each core, the first; `core` says what a processor shares with its siblings
/// alone.
fn one_of_each(cpus: &[usize], core: impl Fn(usize) -> String) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    cpus.iter().copied().filter(|&cpu| seen.insert(core(cpu))).collect()
}

pub(super) use system::Held;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use rustix::thread::{sched_getaffinity, sched_setaffinity, CpuSet};

    /// Processors the calling thread may run on, in ascending order. `None` if the system does not
    /// say, or has more of them than its C library counts.
    pub fn allowed() -> Option<Vec<usize>> {
        let set = sched_getaffinity(None).ok()?;
        Some((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
    }

    /// The processors that share a core with `cpu`, it among them; itself where the system does not
    /// say.
    pub fn core(cpu: usize) -> String {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string())
    }

    /// The calling thread, which goes back to the processors it had when the value is dropped.
    #[derive(Debug)]
    pub struct Held {
        before: CpuSet,
        // The set is that of the thread it was made on.
        _thread: std::marker::PhantomData<*const ()>,
    }

    impl Held {
        /// Keeps the thread to `cpu` until then; `None` leaves it to others to move it.
        pub(super) fn new(cpu: Option<usize>) -> Option<Self> {
            let before = sched_getaffinity(None).ok()?;
            if let Some(cpu) = cpu {
                let mut place = CpuSet::new();
                place.set(cpu);
                sched_setaffinity(None, &place).ok()?;
            }
            Some(Self { before, _thread: std::marker::PhantomData })
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            // It fails only if none of these processors is left to the program, and then the
            // system has moved the thread already.
            let _ = sched_setaffinity(None, &self.before);
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    pub fn allowed() -> Option<Vec<usize>> {
        None
    }

    pub fn core(cpu: usize) -> String {
        cpu.to_string()
    }

    #[derive(Debug)]
    pub enum Held {}

    impl Held {
        pub(super) fn new(_cpu: Option<usize>) -> Option<Self> {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four cores of two hardware threads each, numbered as Linux does: 0 and 4 share one.
    fn core_of_four(cpu: usize) -> String {
        format!("{},{}", cpu % 4, cpu % 4 + 4)
    }

    fn places(n_threads: usize, cpus: &[usize]) -> Option<Vec<usize>> {
        choose(n_threads, cpus, core_of_four)
    }

    #[test]
    fn threads_that_fill_the_cores_get_one_each() {
        let cpus: Vec<usize> = (0..8).collect();
        assert_eq!(places(4, &cpus), Some(vec![0, 1, 2, 3]));
        assert_eq!(places(8, &cpus), Some(cpus.clone()));
        // Of what the program may use only.
        assert_eq!(places(2, &[1, 2, 5, 6]), Some(vec![1, 2]));
        assert_eq!(places(2, &[2, 6]), Some(vec![2, 6]));
    }

    #[test]
    fn other_numbers_of_threads_are_left_to_the_system() {
        let cpus: Vec<usize> = (0..8).collect();
        for n in [0, 1, 2, 3, 5, 7, 9, 16] {
            assert_eq!(places(n, &cpus), None, "{n} threads");
        }
        assert_eq!(places(1, &[3]), None);
        // ggml has no name for them.
        assert_eq!(places(2, &[511, 512]), None);
        assert_eq!(places(2, &[510, 511]), Some(vec![510, 511]));
    }

    #[test]
    fn there_are_no_more_cores_than_hardware_threads() {
        let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        assert!((1..=most).contains(&n_cores()), "{} cores, {most} threads", n_cores());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_held_and_let_go() {
        let before = system::allowed().expect("Linux says");
        let last = *before.last().expect("a processor");
        let held = Held::new(Some(last)).expect("a processor of its own");
        assert_eq!(system::allowed(), Some(vec![last]));
        drop(held);
        assert_eq!(system::allowed(), Some(before));
    }
}
