//! Rows of weights: to f32, from f32, and the check of what came out.

use std::ffi::c_void;

use ggml_sys as sys;

use super::TensorType;

/// Dequantizes `rows` into `out`. Panics unless `rows` is exactly the bytes of `out.len()` weights
/// of type `ty`.
pub fn to_f32(ty: TensorType, rows: &[u8], out: &mut [f32]) {
    assert_eq!(ty.row_bytes(out.len()), Some(rows.len()), "{ty}: bytes of {} weights", out.len());
    if ty == TensorType::F32 {
        for (value, bytes) in out.iter_mut().zip(rows.chunks_exact(4)) {
            *value = f32::from_le_bytes(bytes.try_into().expect("chunks of four"));
        }
        return;
    }
    // SAFETY: `ty` is a member of ggml's enum, for which the table has an entry.
    let traits = unsafe { &*sys::ggml_get_type_traits(ty.id()) };
    let convert = traits.to_float.expect("every type of TensorType but f32 has to_float");
    // SAFETY: the assertion above says that `rows` holds exactly `out.len()` weights, which is
    // what the function reads and writes. Block structs have no alignment above 2 on the
    // platforms we build for, and are read unaligned on all of them.
    unsafe { convert(rows.as_ptr().cast::<c_void>(), out.as_mut_ptr(), out.len() as i64) };
}

/// Quantizes rows of `n_cols` weights into `out`. `importance` holds one weight per column.
/// Panics unless `src` is whole rows, `out` their exact size and `importance` one row long.
pub fn quantize(
    ty: TensorType,
    src: &[f32],
    n_cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let row_bytes = ty.row_bytes(n_cols).expect("n_cols is a multiple of the block length");
    let n_rows = src.len() / n_cols;
    assert_eq!(src.len(), n_rows * n_cols, "whole rows");
    assert_eq!(out.len(), n_rows * row_bytes, "{ty}: bytes of {n_rows} rows of {n_cols}");
    assert!(importance.is_none_or(|weights| weights.len() == n_cols), "one weight per column");
    if n_rows == 0 {
        return;
    }
    let importance = importance.map_or(std::ptr::null(), <[f32]>::as_ptr);
    // SAFETY: the assertions above are ggml's conditions: `src` has n_rows * n_cols floats, `out`
    // the bytes they quantize to, `importance` is null or has n_cols floats. ggml initialises
    // the tables of the type itself, under a lock.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            ty.id(),
            src.as_ptr(),
            out.as_mut_ptr().cast::<c_void>(),
            0,
            n_rows as i64,
            n_cols as i64,
            importance,
        )
    };
    assert_eq!(written, out.len(), "{ty}: ggml wrote another number of bytes");
}

/// True if ggml can quantize to `ty` only with an importance matrix.
pub fn requires_importance(ty: TensorType) -> bool {
    // SAFETY: `ty` is a member of ggml's enum; the call only switches over it.
    unsafe { sys::ggml_quantize_requires_imatrix(ty.id()) }
}

/// False if a weight of `rows` is NaN or infinite, as all of a block are whose scale is. Panics
/// unless `rows` is whole blocks. ggml's own check tells of what it finds on stderr.
pub fn all_finite(ty: TensorType, rows: &[u8]) -> bool {
    let mut weights = [0f32; 1024];
    let blocks = weights.len() / ty.block_len();
    rows.chunks(blocks * ty.block_bytes()).all(|chunk| {
        let n = chunk.len() / ty.block_bytes() * ty.block_len();
        to_f32(ty, chunk, &mut weights[..n]);
        // Without a way out in between, the loop works on registers of weights.
        weights[..n].iter().fold(true, |finite, weight| finite & weight.is_finite())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_survives_q8_0_within_half_a_step() {
        let src: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut bytes = vec![0; 68];
        quantize(TensorType::Q8_0, &src, 64, None, &mut bytes);
        let mut back = vec![0.0; 64];
        to_f32(TensorType::Q8_0, &bytes, &mut back);
        for (a, b) in src.iter().zip(&back) {
            approx::assert_abs_diff_eq!(a, b, epsilon = 0.5 / 127.0 + 1e-3);
        }
        assert!(all_finite(TensorType::Q8_0, &bytes));
    }

    #[test]
    fn a_scale_that_is_not_finite_is_seen_in_any_block() {
        // Where the f16 scales are in a block.
        let scales: [(TensorType, &[usize]); 10] = [
            (TensorType::Q8_0, &[0]),
            (TensorType::Q4_0, &[0]),
            (TensorType::Q4_1, &[0, 2]),
            (TensorType::Q5_0, &[0]),
            (TensorType::Q5_1, &[0, 2]),
            (TensorType::Q2_K, &[80, 82]),
            (TensorType::Q3_K, &[108]),
            (TensorType::Q4_K, &[0, 2]),
            (TensorType::Q5_K, &[0, 2]),
            (TensorType::Q6_K, &[208]),
        ];
        for (ty, places) in scales {
            let blocks = 1024 / ty.block_len() + 1;
            // Zeros elsewhere: the scale alone must give it away.
            let zeros = vec![0; blocks * ty.block_bytes()];
            assert!(all_finite(ty, &zeros), "{ty}");
            for (block, place) in [(0, places[0]), (blocks - 1, places[places.len() - 1])] {
                for scale in [half::f16::NAN, half::f16::NEG_INFINITY] {
                    let mut bytes = zeros.clone();
                    let at = block * ty.block_bytes() + place;
                    bytes[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                    assert!(!all_finite(ty, &bytes), "{ty}: {scale} in block {block}");
                }
            }
        }
    }

    #[test]
    fn values_of_float_types_are_seen() {
        for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
            let mut bytes = vec![0; 1025 * ty.block_bytes()];
            assert!(all_finite(ty, &bytes));
            let end = bytes.len();
            // All exponent bits are set.
            bytes[end - 2..].copy_from_slice(&[0x80, 0x7f]);
            assert!(!all_finite(ty, &bytes), "{ty}");
        }
    }
}
