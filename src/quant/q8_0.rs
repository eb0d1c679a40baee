//! Q8_0: blocks of 32, `d f16 | 32 levels i8`, 34 bytes. `x` is near `d * level`.

use super::superblock::put_f16;
use super::tile::MAX_LANES;
use crate::simd::Lanes;

/// Bytes of a block.
pub const BYTES: usize = 34;

/// Quantizes whole blocks.
#[inline(always)]
pub fn quantize<L: Lanes>(src: &[f32], out: &mut [u8]) {
    for (x, block) in src.chunks_exact(32).zip(out.chunks_exact_mut(BYTES)) {
        let d = largest_magnitude::<L>(x) / 127.0;
        put_f16(block, 0, d);
        // A step below 2^-128 has no finite inverse; its levels are all zero.
        let inverse = 1.0 / d;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        for (level, &x) in block[2..].iter_mut().zip(x) {
            *level = round_half_away(x * inverse) as u8;
        }
    }
}

#[inline(always)]
fn largest_magnitude<L: Lanes>(x: &[f32]) -> f32 {
    let mut lanes = L::zero();
    for x in x.chunks_exact(L::LANES) {
        lanes = L::load(x).abs().max(lanes);
    }
    let mut magnitudes = [0.0; MAX_LANES];
    lanes.store(&mut magnitudes);
    magnitudes[..L::LANES].iter().fold(0.0, |max, &v| if v > max { v } else { max })
}

/// Nearest integer of a value of magnitude up to 127.5, ties away from zero.
#[inline(always)]
fn round_half_away(value: f32) -> i32 {
    // The largest float below a half: a half itself would take 0.49999997 to one.
    let half = f32::from_bits(0x3eff_ffff).copysign(value);
    (value + half) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_f32_round() {
        for i in -2560..=2560 {
            let exact = i as f32 / 20.0;
            for value in [exact, exact.next_up(), exact.next_down()] {
                assert_eq!(round_half_away(value), value.round() as i32, "{value}");
            }
        }
        for value in [0.5f32.next_down(), -0.5f32.next_down(), 0.0, -0.0, 126.5] {
            assert_eq!(round_half_away(value), value.round() as i32, "{value}");
        }
    }
}
