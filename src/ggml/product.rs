//! Our own matrix products inside a graph. Activations come prepared, from `fused`.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use ggml_sys as sys;

use super::TensorType;
use crate::matmul::{multiply, Columns, Format, Machine, Matrix, Parts, Scratch};

/// Whose matrix products a graph runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Products {
    /// Those of [`matmul`](crate::matmul), where this processor and the tensor type have them,
    /// else ggml's.
    #[default]
    Own,
    /// ggml's.
    Ggml,
}

thread_local! {
    /// Each thread of ggml keeps the memory of its panel.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The format of `ty`, where this processor has products of our own for it.
pub fn format_of(ty: TensorType) -> Option<Format> {
    Machine::detect()?;
    Some(match ty {
        TensorType::F32 => Format::F32,
        TensorType::F16 => Format::F16,
        TensorType::BF16 => Format::BF16,
        TensorType::Q8_0 => Format::Q8_0,
        TensorType::Q2_K => Format::Q2K,
        TensorType::Q3_K => Format::Q3K,
        TensorType::Q4_K => Format::Q4K,
        TensorType::Q5_K => Format::Q5K,
        TensorType::Q6_K => Format::Q6K,
        _ => return None,
    })
}

/// What [`product`] does, and how far it is.
pub(super) struct ProductOp {
    format: Format,
    parts: Parts,
    /// Threads that found nothing left.
    done: AtomicUsize,
}

impl ProductOp {
    pub(super) fn new(format: Format) -> Self {
        Self { format, parts: Parts::default(), done: AtomicUsize::new(0) }
    }

    /// Said by each of `nth` threads once per run; the last one makes ready for the next run, which
    /// begins when all of them have met.
    fn leave(&self, nth: usize) {
        if self.done.fetch_add(1, Ordering::AcqRel) + 1 == nth {
            self.done.store(0, Ordering::Relaxed);
            self.parts.give_back();
        }
    }
}

/// Multiplies part after part, as long as there are any: a thread that the system lets wait holds
/// up the others by one part, not by its share of all.
///
/// # Safety
/// Called by ggml alone, on `nth` threads that meet before and after, with a `dst` that
/// `Graph::own_product` made: `userdata` a [`ProductOp`], f32 `{n_out, n}`, source 0 rows of weights
/// `{n_in, n_out}` of its format, source 1 `n` rows of `n_in` as the format's
/// [`Activations`](crate::matmul::Activations) are; all contiguous and allocated.
pub(super) unsafe extern "C" fn product(
    dst: *mut sys::ggml_tensor,
    _ith: c_int,
    nth: c_int,
    userdata: *mut c_void,
) {
    let machine = Machine::detect().expect("the operation is made where there is one");
    // SAFETY: per the contract above the operation, the tensors and their data are alive during the
    // call and have the stated shapes; the sources are not written meanwhile. No two threads take
    // the same part, and each writes the columns of its own parts only, so no two overlap.
    unsafe {
        let (w, x) = (&*(*dst).src[0], &*(*dst).src[1]);
        let (op, nth) = (&*userdata.cast::<ProductOp>(), nth as usize);
        let format = op.format;
        let (n_in, n_out) = (w.ne[0] as usize, w.ne[1] as usize);
        let n = (*dst).ne[1] as usize;
        let bytes = n_in / format.block_len() * format.block_bytes() * n_out;
        let matrix = Matrix::new(format, slice::from_raw_parts(w.data.cast(), bytes), n_in);
        let size = n * format.activations(machine).row_bytes(n_in);
        let activations = slice::from_raw_parts(x.data.cast::<u8>(), size);
        let y = (*dst).data.cast::<f32>();
        SCRATCH.with_borrow_mut(|scratch| {
            while let Some(part) = op.parts.take(&matrix, nth) {
                let out = Columns::new(y.add(part.rows.start), n, part.rows.len(), n_out);
                multiply(machine, matrix, part, activations, scratch, out);
            }
        });
        op.leave(nth);
    }
}
