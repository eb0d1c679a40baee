//! Superblocks of K-quants to levels, scales and minima in natural order.
//!
//! The bit layouts are those of `quant`, which writes them; there they are drawn.

use half::f16;

use super::Format;
use crate::simd::tiles::SUPERBLOCK;

/// One superblock: weight = `d scale level - d_min min`, scale and min of its sub-block.
pub(super) struct Superblock<'a> {
    pub(super) levels: &'a mut [u8; SUPERBLOCK],
    /// Of the first 8 or all 16 sub-blocks.
    pub(super) scales: [i16; 16],
    pub(super) mins: [i16; 16],
    pub(super) d: f32,
    pub(super) d_min: f32,
}

impl Superblock<'_> {
    /// Reads one block of `format`, a K-quant.
    #[inline(always)]
    pub(super) fn decode(&mut self, format: Format, block: &[u8]) {
        match format {
            Format::Q2K => self.q2_k(block),
            Format::Q3K => self.q3_k(block),
            Format::Q4K => self.q4_k(block),
            Format::Q5K => self.q5_k(block),
            Format::Q6K => self.q6_k(block),
            Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0 => {
                unreachable!("{format:?} has no superblocks")
            }
        }
    }

    /// `scales 16 | two bits 64 | d | d_min`
    #[inline(always)]
    fn q2_k(&mut self, block: &[u8]) {
        let (scales, rest) = block.split_at(16);
        let (bits, rest) = rest.split_at(64);
        for (i, &byte) in scales.iter().enumerate() {
            self.scales[i] = i16::from(byte & 15);
            self.mins[i] = i16::from(byte >> 4);
        }
        self.two_bits(bits);
        self.d = half(&rest[..2]);
        self.d_min = half(&rest[2..]);
    }

    /// `third bit 32 | two bits 64 | scales 12 | d`
    #[inline(always)]
    fn q3_k(&mut self, block: &[u8]) {
        let (third, rest) = block.split_at(32);
        let (bits, rest) = rest.split_at(64);
        let (scales, rest) = rest.split_at(12);
        self.two_bits(bits);
        for (j, levels) in self.levels.chunks_exact_mut(32).enumerate() {
            for (level, byte) in levels.iter_mut().zip(third) {
                *level |= (byte >> j & 1) << 2;
            }
        }
        for i in 0..16 {
            let low = if i < 8 { scales[i] & 15 } else { scales[i - 8] >> 4 };
            let high = scales[8 + i % 4] >> (2 * (i / 4)) & 3;
            self.scales[i] = i16::from(low | high << 4) - 32;
            // Levels stand for -4 to 3.
            self.mins[i] = 4 * self.scales[i];
        }
        self.d = half(rest);
        self.d_min = self.d;
    }

    /// Two bits of 64 bytes: bits `2 j` of byte `i` of each 32 are weight `32 j + i` of 128.
    #[inline(always)]
    fn two_bits(&mut self, bits: &[u8]) {
        for (bits, levels) in bits.chunks_exact(32).zip(self.levels.chunks_exact_mut(128)) {
            for (j, levels) in levels.chunks_exact_mut(32).enumerate() {
                for (level, byte) in levels.iter_mut().zip(bits) {
                    *level = byte >> (2 * j) & 3;
                }
            }
        }
    }

    /// `d | d_min | scales 12 | low four bits 128`
    #[inline(always)]
    fn q4_k(&mut self, block: &[u8]) {
        self.affine_head(block);
        self.low_halves(&block[16..]);
    }

    /// `d | d_min | scales 12 | fifth bit 32 | low four bits 128`
    #[inline(always)]
    fn q5_k(&mut self, block: &[u8]) {
        self.affine_head(block);
        let (fifth, low) = block[16..].split_at(32);
        self.low_halves(low);
        for (j, levels) in self.levels.chunks_exact_mut(32).enumerate() {
            for (level, byte) in levels.iter_mut().zip(fifth) {
                *level |= (byte >> j & 1) << 4;
            }
        }
    }

    /// Four bits: byte `i` of each 32 has weight `i` of 64 below and `i + 32` above.
    #[inline(always)]
    fn low_halves(&mut self, low: &[u8]) {
        for (low, levels) in low.chunks_exact(32).zip(self.levels.chunks_exact_mut(64)) {
            let (first, second) = levels.split_at_mut(32);
            for ((byte, first), second) in low.iter().zip(first).zip(second) {
                *first = byte & 15;
                *second = byte >> 4;
            }
        }
    }

    /// `d`, `d_min`, and eight scales and minima of six bits in twelve bytes.
    #[inline(always)]
    fn affine_head(&mut self, block: &[u8]) {
        self.d = half(&block[..2]);
        self.d_min = half(&block[2..4]);
        let bytes = &block[4..16];
        for i in 0..4 {
            self.scales[i] = i16::from(bytes[i] & 63);
            self.mins[i] = i16::from(bytes[i + 4] & 63);
            self.scales[i + 4] = i16::from(bytes[i + 8] & 15 | (bytes[i] >> 6) << 4);
            self.mins[i + 4] = i16::from(bytes[i + 8] >> 4 | (bytes[i + 4] >> 6) << 4);
        }
    }

    /// `low four bits 128 | high two bits 64 | scales 16 | d`
    #[inline(always)]
    fn q6_k(&mut self, block: &[u8]) {
        let (low, rest) = block.split_at(128);
        let (high, rest) = rest.split_at(64);
        let (scales, d) = rest.split_at(16);
        let halves = low.chunks_exact(64).zip(high.chunks_exact(32));
        for ((low, high), levels) in halves.zip(self.levels.chunks_exact_mut(128)) {
            for (j, levels) in levels.chunks_exact_mut(32).enumerate() {
                let low = &low[32 * (j % 2)..][..32];
                for ((level, low), high) in levels.iter_mut().zip(low).zip(high) {
                    *level = low >> (4 * (j / 2)) & 15 | (high >> (2 * j) & 3) << 4;
                }
            }
        }
        for (i, &scale) in scales.iter().enumerate() {
            self.scales[i] = i16::from(scale as i8);
            // Levels stand for -32 to 31.
            self.mins[i] = 32 * self.scales[i];
        }
        self.d = half(d);
        self.d_min = self.d;
    }
}

/// The f16 in the first two bytes.
#[inline(always)]
pub(super) fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}
