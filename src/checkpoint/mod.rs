//! What training left behind.

pub mod random;
