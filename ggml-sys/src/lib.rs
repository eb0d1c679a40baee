//! Raw bindings to ggml. Nothing here is safe to call without reading ggml's headers; the `ggml`
//! module of the `rwkvq` crate is the safe layer above.
#![allow(non_upper_case_globals, non_camel_case_types, non_snake_case)]
#![allow(unpredictable_function_pointer_comparisons, unnecessary_transmutes)]
#![allow(unsafe_op_in_unsafe_fn, clippy::all, clippy::undocumented_unsafe_blocks)]
#![allow(rustdoc::all)]
include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
