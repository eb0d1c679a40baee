//! Levels times scales in two bytes, and scales times those of their superblocks.

use super::{TileMachine, PANEL_ROWS, SUPERBLOCK};
use crate::simd::{dispatch, InstructionSet, Kernel, Lanes};

/// Bytes of a step of a panel.
const STEP: usize = 4 * PANEL_ROWS;

/// Bytes of the levels of a superblock of a panel, and of each of its planes.
const PLANE: usize = PANEL_ROWS * SUPERBLOCK;

impl TileMachine {
    /// One superblock of `PlanesPanels::planes`: `(level - center) scale`,
    /// from a superblock of `LevelsPanels::levels` and of `LevelsPanels::scales`. Wrong where a
    /// product is beyond 16 bits; panics unless all are as long as a superblock.
    pub fn multiply_levels(self, levels: &[u8], center: u8, scales: &[i16], planes: &mut [u8]) {
        assert!(levels.len() == PLANE && planes.len() == 2 * PLANE);
        let n_blocks = scales.len() / (2 * PANEL_ROWS);
        assert!(n_blocks * 2 * PANEL_ROWS == scales.len() && [8, 16].contains(&n_blocks));
        let center = i16::from(center);
        dispatch(InstructionSet::best(), Multiply { levels, center, scales, n_blocks, planes });
    }

    /// One superblock of `LevelsPanels::factors` from one of `LevelsPanels::scales` and one of
    /// `LevelsPanels::d`. Panics unless all are as long as a superblock.
    pub fn multiply_scales(self, scales: &[i16], d: &[f32], factors: &mut [f32]) {
        assert!(d.len() == PANEL_ROWS && factors.len().is_multiple_of(PANEL_ROWS));
        assert!(scales.len() == 2 * factors.len());
        dispatch(InstructionSet::best(), MultiplyScales { scales, d, factors });
    }
}

struct MultiplyScales<'a> {
    scales: &'a [i16],
    d: &'a [f32],
    factors: &'a mut [f32],
}

impl Kernel for MultiplyScales<'_> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        let parts = self.scales.chunks_exact(2 * PANEL_ROWS);
        for (scales, factors) in parts.zip(self.factors.chunks_exact_mut(PANEL_ROWS)) {
            for ((scale, d), factor) in scales.chunks_exact(2).zip(self.d).zip(factors) {
                *factor = f32::from(scale[0]) * d;
            }
        }
    }
}

struct Multiply<'a> {
    levels: &'a [u8],
    center: i16,
    scales: &'a [i16],
    n_blocks: usize,
    planes: &'a mut [u8],
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        let block = PLANE / self.n_blocks;
        let (low, high) = self.planes.split_at_mut(PLANE);
        let scales = self.scales.chunks_exact(2 * PANEL_ROWS);
        let planes = low.chunks_exact_mut(block).zip(high.chunks_exact_mut(block));
        for ((levels, scales), (low, high)) in
            self.levels.chunks_exact(block).zip(scales).zip(planes)
        {
            let planes = low.chunks_exact_mut(STEP).zip(high.chunks_exact_mut(STEP));
            for (levels, (low, high)) in levels.chunks_exact(STEP).zip(planes) {
                step(levels, self.center, scales, low, high);
            }
        }
    }
}

/// Two levels at a time, which stand in 16 bits, as their products' bytes do.
#[inline(always)]
fn step(levels: &[u8], center: i16, scales: &[i16], low: &mut [u8], high: &mut [u8]) {
    for i in 0..STEP / 2 {
        let pair = u16::from_le_bytes([levels[2 * i], levels[2 * i + 1]]);
        let times = |level: u16| (level as i16).wrapping_sub(center).wrapping_mul(scales[i]) as u16;
        let (even, odd) = (times(pair & 255), times(pair >> 8));
        low[2 * i..2 * i + 2].copy_from_slice(&(even & 255 | odd << 8).to_le_bytes());
        high[2 * i..2 * i + 2].copy_from_slice(&(even >> 8 | odd & 0xff00).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngCore, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn planes_are_the_bytes_of_the_products() {
        let Some(machine) = TileMachine::detect() else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(21);
        // Largest level, center, least and largest scale.
        for (n_blocks, levels, center, least, largest) in
            [(8, 16, 0, 0, 63), (8, 32, 0, 0, 63), (16, 64, 32, -128, 127), (16, 8, 4, -32, 31)]
        {
            let mut bytes = vec![0; PLANE];
            rng.fill_bytes(&mut bytes);
            bytes.iter_mut().for_each(|byte| *byte %= levels);
            let span = (largest - least + 1) as u32;
            let mut scales: Vec<i16> = (0..n_blocks * PANEL_ROWS)
                .flat_map(|_| [least + (rng.next_u32() % span) as i16; 2])
                .collect();
            // The ends.
            (bytes[0], bytes[4], scales[0], scales[2]) = (0, levels - 1, least, least);
            (scales[1], scales[3]) = (least, least);
            let mut planes = vec![0; 2 * PLANE];
            machine.multiply_levels(&bytes, center, &scales, &mut planes);
            for (at, &level) in bytes.iter().enumerate() {
                let (row, block) = (at / 4 % PANEL_ROWS, at / (PLANE / n_blocks));
                let scale = i32::from(scales[(block * PANEL_ROWS + row) * 2]);
                let product = (i32::from(level) - i32::from(center)) * scale;
                let bytes = [planes[at], planes[PLANE + at]];
                assert_eq!(i32::from(i16::from_le_bytes(bytes)), product, "byte {at}");
            }
        }
    }
}
