//! Peak resident memory of this process, where the system tells (Linux).
//!
//! Out: the high-water mark since the process began, or since [`reset_peak`].

use std::fs;
use std::io::Write as _;

use super::host::kibibytes;

/// Sets the high-water mark back to what is resident now. False where that is not possible: then
/// a peak is that of the whole process, and must be reported as such.
pub fn reset_peak() -> bool {
    // "5" is the value that resets the mark: proc(5), /proc/[pid]/clear_refs. Opened without
    // creating, so that no file appears where there is no /proc.
    let file = fs::OpenOptions::new().write(true).open("/proc/self/clear_refs");
    file.and_then(|mut file| file.write_all(b"5")).is_ok()
}

/// The high-water mark (`VmHWM`). `None` where the system does not tell.
pub fn peak_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}
