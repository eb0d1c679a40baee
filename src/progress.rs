//! How long operations tell their caller how far they are, and learn that they should stop.
//!
//! The library itself never prints. Uses std only.

/// Receives progress. Called from several threads.
pub trait Progress: Sync {
    /// A phase of `total` units (bytes, texts) begins.
    fn begin(&self, phase: &str, total: u64);
    /// `n` more units are done.
    fn advance(&self, n: u64);
    /// Something the user should read: a fallback that changed a type, a value that was ignored.
    fn note(&self, message: &str);
    /// True when the operation should end with [`Error::Interrupted`](crate::Error::Interrupted).
    fn cancelled(&self) -> bool {
        false
    }
}

/// Reports nothing and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _phase: &str, _total: u64) {}
    fn advance(&self, _n: u64) {}
    fn note(&self, _message: &str) {}
}
