//! Superblocks of K-quants taken apart: bits of the levels, scales and minima.
//!
//! The bit layouts are those of `quant`, which writes them; there they are drawn.

use super::Format;
use crate::simd::tiles::LevelBits;

/// One superblock: weight = `d scale level - d_min min`, scale and min of its sub-block.
pub(super) struct Superblock<'a> {
    /// Low bits of the levels, and those above, as [`LevelBits`] says.
    pub(super) low: &'a [u8],
    pub(super) high: &'a [u8],
    /// Of the first 8 or all 16 sub-blocks.
    pub(super) scales: [i16; 16],
    pub(super) mins: [i16; 16],
    /// IEEE halves.
    pub(super) d: u16,
    pub(super) d_min: u16,
}

/// The bits of the levels of `format`, a K-quant.
pub(super) fn bits(format: Format) -> LevelBits {
    match format {
        Format::Q2K => LevelBits::Two,
        Format::Q3K => LevelBits::Three,
        Format::Q4K => LevelBits::Four,
        Format::Q5K => LevelBits::Five,
        Format::Q6K => LevelBits::Six,
        Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0 => no_superblocks(format),
    }
}

/// The level that stands for zero, where a format has no minima of its own, else zero.
pub(super) fn center(format: Format) -> u8 {
    match format {
        Format::Q3K => 4,
        Format::Q6K => 32,
        Format::Q2K | Format::Q4K | Format::Q5K => 0,
        Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0 => no_superblocks(format),
    }
}

/// Reads one block of `format`, a K-quant.
#[inline(always)]
pub(super) fn superblock(format: Format, block: &[u8]) -> Superblock<'_> {
    match format {
        Format::Q2K => q2_k(block),
        Format::Q3K => q3_k(block),
        Format::Q4K => q4_k(block),
        Format::Q5K => q5_k(block),
        Format::Q6K => q6_k(block),
        Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0 => no_superblocks(format),
    }
}

fn no_superblocks(format: Format) -> ! {
    unreachable!("{format:?} has no superblocks")
}

/// `scales 16 | two bits 64 | d | d_min`
#[inline(always)]
fn q2_k(block: &[u8]) -> Superblock<'_> {
    let (head, rest) = block.split_at(16);
    let (low, d) = rest.split_at(64);
    let head: &[u8; 16] = head.try_into().expect("sixteen bytes");
    let scales = head.map(|byte| i16::from(byte & 15));
    let mins = head.map(|byte| i16::from(byte >> 4));
    Superblock { low, high: &[], scales, mins, d: half(&d[..2]), d_min: half(&d[2..]) }
}

/// `third bit 32 | two bits 64 | scales 12 | d`
#[inline(always)]
fn q3_k(block: &[u8]) -> Superblock<'_> {
    let (high, rest) = block.split_at(32);
    let (low, rest) = rest.split_at(64);
    let (packed, d) = rest.split_at(12);
    let packed: &[u8; 12] = packed.try_into().expect("twelve bytes");
    let scales = std::array::from_fn(|i| {
        let low = if i < 8 { packed[i] & 15 } else { packed[i - 8] >> 4 };
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        i16::from(low | high << 4) - 32
    });
    let d = half(d);
    // Levels stand for -4 to 3.
    Superblock { low, high, scales, mins: scales.map(|scale| 4 * scale), d, d_min: d }
}

/// `d | d_min | scales 12 | low four bits 128`
#[inline(always)]
fn q4_k(block: &[u8]) -> Superblock<'_> {
    affine(block, &[], &block[16..])
}

/// `d | d_min | scales 12 | fifth bit 32 | low four bits 128`
#[inline(always)]
fn q5_k(block: &[u8]) -> Superblock<'_> {
    affine(block, &block[16..48], &block[48..])
}

/// `d`, `d_min`, and eight scales and minima of six bits in twelve bytes.
#[inline(always)]
fn affine<'a>(block: &[u8], high: &'a [u8], low: &'a [u8]) -> Superblock<'a> {
    let (mut scales, mut mins) = ([0; 16], [0; 16]);
    let bytes: &[u8; 12] = block[4..16].try_into().expect("twelve bytes");
    for i in 0..4 {
        scales[i] = i16::from(bytes[i] & 63);
        mins[i] = i16::from(bytes[i + 4] & 63);
        scales[i + 4] = i16::from(bytes[i + 8] & 15 | (bytes[i] >> 6) << 4);
        mins[i + 4] = i16::from(bytes[i + 8] >> 4 | (bytes[i + 4] >> 6) << 4);
    }
    Superblock { low, high, scales, mins, d: half(&block[..2]), d_min: half(&block[2..4]) }
}

/// `low four bits 128 | high two bits 64 | scales 16 | d`
#[inline(always)]
fn q6_k(block: &[u8]) -> Superblock<'_> {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let scales: &[u8; 16] = scales.try_into().expect("sixteen bytes");
    let scales = scales.map(|scale| i16::from(scale as i8));
    let d = half(d);
    // Levels stand for -32 to 31.
    Superblock { low, high, scales, mins: scales.map(|scale| 32 * scale), d, d_min: d }
}

/// The bits of the IEEE half in the first two bytes.
#[inline]
pub(super) fn half(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}
