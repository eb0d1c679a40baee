//! Pages of a mapped file that are gone because the file was shortened.
//!
//! The system answers a read of such a page with the signal SIGBUS. There is no way on from there
//! for the reader, but there is one for the process: to say which file it was and end in order.

use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

/// One mapped file. A handler of signals may take no lock, so everything here is atomic. `start`
/// is 0 while the slot is free and [`TAKEN`] while it is filled or emptied.
struct Slot {
    start: AtomicUsize,
    len: AtomicUsize,
    path: AtomicPtr<u8>,
    path_len: AtomicUsize,
}

const TAKEN: usize = usize::MAX;

/// Maps beyond this number are not watched: their loss ends the process as it would without.
const MAX_MAPS: usize = 256;

static MAPS: [Slot; MAX_MAPS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        path: AtomicPtr::new(ptr::null_mut()),
        path_len: AtomicUsize::new(0),
    }
}; MAX_MAPS];

static EXIT_CODE: AtomicI32 = AtomicI32::new(0);

/// A thread is saying what happened, and will end the process.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The place of a map among those that the handler knows, for as long as the value lives.
#[derive(Debug)]
pub(super) struct Watched {
    slot: Option<usize>,
    /// What the slot points to.
    _path: Box<[u8]>,
}

impl Watched {
    pub(super) fn new(map: &[u8], path: &Path) -> Self {
        let path: Box<[u8]> = path.as_os_str().as_bytes().into();
        let take = |slot: &Slot| {
            slot.start.compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let slot = MAPS.iter().position(take);
        if let Some(slot) = slot.map(|slot| &MAPS[slot]) {
            slot.len.store(map.len(), Ordering::Relaxed);
            slot.path.store(path.as_ptr().cast_mut(), Ordering::Relaxed);
            slot.path_len.store(path.len(), Ordering::Relaxed);
            slot.start.store(map.as_ptr().addr(), Ordering::Release);
        }
        Self { slot, _path: path }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.map(|slot| &MAPS[slot]) {
            slot.start.store(0, Ordering::Release);
        }
    }
}

/// From now on a read of a mapped file that was shortened ends the process with `code` and a line
/// on stderr that names the file. Without this call the system ends it by a signal. For programs,
/// at their start: it replaces the handler of SIGBUS of the whole process.
pub fn exit_when_a_mapped_file_shrinks(code: i32) {
    EXIT_CODE.store(code, Ordering::Relaxed);
    // SAFETY: the structure is plain data for which all zeros are valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_lost_page as *const () as libc::sighandler_t;
    // Once the default is back, a second fault ends the process.
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and does only what a handler
    // may: it reads and sets atomics, calls write, pause and _exit, or puts the default action back.
    unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) };
}

extern "C" fn on_lost_page(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system hands over a valid structure, for SIGBUS with an address.
    let address = unsafe { (*info).si_addr() }.addr();
    for slot in &MAPS {
        let start = slot.start.load(Ordering::Acquire);
        if start == 0 || start == TAKEN {
            continue;
        }
        let len = slot.len.load(Ordering::Relaxed);
        if address.wrapping_sub(start) < len {
            while ENDING.swap(true, Ordering::Relaxed) {
                // SAFETY: waits for a signal, which a handler may; the process ends meanwhile.
                unsafe { libc::pause() };
            }
            let path = slot.path.load(Ordering::Relaxed).cast_const();
            let path_len = slot.path_len.load(Ordering::Relaxed);
            say(b"error: ".as_ptr(), 7);
            // The reader that faulted still has the map, and the map its path.
            say(path, path_len);
            say(b": ".as_ptr(), 2);
            say(super::CHANGED.as_ptr(), super::CHANGED.len());
            say(b"\n".as_ptr(), 1);
            // SAFETY: ends the process at once, which a handler may.
            unsafe { libc::_exit(EXIT_CODE.load(Ordering::Relaxed)) };
        }
    }
    // Not ours: the instruction runs again, and this time the system acts.
    // SAFETY: `signal` may be called in a handler.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

/// Writes to stderr what can be written.
fn say(bytes: *const u8, len: usize) {
    // SAFETY: both callers hand over memory of this length that is alive.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.cast(), len) };
}
