//! Calls that a GPU backend may leave by an exception: ggml-sys turns it into `false` and a text.

use std::ffi::{c_char, CStr};

use ggml_sys as sys;

use super::info::last_error;

/// Makes the call, which gets room for a message; what the message says if it failed.
pub(super) fn guarded(call: impl FnOnce(*mut c_char) -> bool) -> std::result::Result<(), String> {
    let mut message: [c_char; sys::GGML_SYS_MESSAGE_SIZE as usize] =
        [0; sys::GGML_SYS_MESSAGE_SIZE as usize];
    drop(last_error());
    if call(message.as_mut_ptr()) {
        return Ok(());
    }
    // SAFETY: the call has written a C string into the array, or left its zeros.
    let said = unsafe { text(message.as_ptr()) };
    // CUDA logs what happened and then aborts with two words.
    Err(one_line(&(said + " " + &last_error())))
}

/// # Safety
/// `ptr` is a C string that is alive.
pub(super) unsafe fn text(ptr: *const c_char) -> String {
    // SAFETY: as the contract says.
    unsafe { CStr::from_ptr(ptr) }.to_string_lossy().into_owned()
}

/// What ggml says may go over several lines, which a message of ours does not.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that is lost in the middle of a call ends the call, not the process.
    #[test]
    fn an_exception_and_an_abort_become_messages() {
        for how in [0, 1] {
            // SAFETY: the call only fails, in the way that was asked for.
            let message = guarded(|message| unsafe { sys::ggml_sys_fail(message, how) });
            assert!(message.unwrap_err().ends_with("device lost"), "{how}");
        }
        assert_eq!(one_line("a\n  b\n"), "a b");
    }
}
