//! Stored floats to f32.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::ggml::TensorType;

/// Most elements that are decoded at once; what is read for them stays in the cache.
pub(super) const CHUNK: usize = 8192;

/// Decodes `bytes`, which are as many elements of type `ty` as `out` holds, at most [`CHUNK`].
pub(super) fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len().saturating_mul(ty.block_bytes()), "bytes of {ty}");
    assert!(out.len() <= CHUNK, "{} elements", out.len());
    match ty {
        TensorType::F32 => each(bytes, out, f32::from_le_bytes),
        // A bf16 is the upper half of an f32; NaN keeps its bits.
        TensorType::BF16 => {
            each(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
        }
        TensorType::F16 => {
            let mut halves = [f16::ZERO; CHUNK];
            let (halves, _) = halves.split_at_mut(out.len());
            each(bytes, halves, f16::from_le_bytes);
            halves.convert_to_f32_slice(out);
        }
        other => unreachable!("checkpoints hold f32, f16 and bf16, not {other}"),
    }
}

fn each<const N: usize, T>(bytes: &[u8], out: &mut [T], from_le: impl Fn([u8; N]) -> T) {
    let (elements, _) = bytes.as_chunks();
    out.iter_mut().zip(elements).for_each(|(value, element)| *value = from_le(*element));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sixteen_bit_values_decode_as_half_says() {
        for start in (0..=u16::MAX).step_by(CHUNK) {
            let bits: Vec<u16> = (0..CHUNK as u16).map(|i| start + i).collect();
            let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
            let mut out = vec![0.0; CHUNK];
            let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            decode(TensorType::F16, &bytes, &mut out);
            for (&bits, &value) in bits.iter().zip(&out) {
                assert!(same(value, f16::from_bits(bits).to_f32()), "f16 {bits:#x}: {value}");
            }
            decode(TensorType::BF16, &bytes, &mut out);
            for (&bits, &value) in bits.iter().zip(&out) {
                assert!(same(value, half::bf16::from_bits(bits).to_f32()), "bf16 {bits:#x}");
            }
        }
    }
}
