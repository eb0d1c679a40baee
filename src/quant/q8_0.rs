//! Q8_0: blocks of 32, `d f16 | 32 levels i8`, 34 bytes. `x` is near `d * level`.

use super::superblock::put_f16;
use super::tile::largest;
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
        for (x, levels) in x.chunks_exact(L::LANES).zip(block[2..].chunks_exact_mut(L::LANES)) {
            away_from_half(L::load(x) * L::splat(inverse)).store_bytes(levels);
        }
    }
}

#[inline(always)]
fn largest_magnitude<L: Lanes>(x: &[f32]) -> f32 {
    let mut lanes = L::zero();
    for x in x.chunks_exact(L::LANES) {
        lanes = L::load(x).abs().max(lanes);
    }
    largest([lanes])[0]
}

/// Moves a value of magnitude up to 127.5 so that cutting off its fraction leaves the nearest
/// integer, ties away from zero.
#[inline(always)]
fn away_from_half<L: Lanes>(value: L) -> L {
    // The largest float below a half: a half itself would take 0.49999997 to one.
    let half = L::splat(f32::from_bits(0x3eff_ffff));
    value + L::select(value.less(L::zero()), L::zero() - half, half)
}
