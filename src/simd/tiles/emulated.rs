//! What the AVX-512 instructions of [`vnni`](super::vnni) do, written down lane by lane, and that
//! file's products held against those of AVX2 or plain sums.

// The names are those that the processor's maker gave.
#![allow(non_camel_case_types)]

/// Sixteen floats.
pub(super) type __m512 = [f32; 16];

/// Sixteen whole numbers of 32 bits; what is narrower lies in their bytes, lowest first.
pub(super) type __m512i = [i32; 16];

fn zip<A: Copy, B: Copy, C>(a: [A; 16], b: [B; 16], f: impl Fn(A, B) -> C) -> [C; 16] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

fn shorts(lane: i32) -> [i32; 2] {
    [i32::from(lane as i16), lane >> 16]
}

pub(super) fn _mm512_setzero_ps() -> __m512 {
    [0.0; 16]
}

pub(super) fn _mm512_setzero_si512() -> __m512i {
    [0; 16]
}

pub(super) fn _mm512_set1_ps(value: f32) -> __m512 {
    [value; 16]
}

pub(super) fn _mm512_set1_epi32(value: i32) -> __m512i {
    [value; 16]
}

/// # Safety
/// Sixteen values can be read.
pub(super) unsafe fn _mm512_loadu_ps(from: *const f32) -> __m512 {
    // SAFETY: by the contract; an array of floats may begin where a float may.
    unsafe { from.cast::<__m512>().read_unaligned() }
}

/// # Safety
/// 64 bytes can be read.
pub(super) unsafe fn _mm512_loadu_si512(from: *const __m512i) -> __m512i {
    // SAFETY: by the contract.
    unsafe { from.read_unaligned() }
}

/// # Safety
/// Sixteen values can be written.
pub(super) unsafe fn _mm512_storeu_ps(to: *mut f32, value: __m512) {
    // SAFETY: by the contract.
    unsafe { to.cast::<__m512>().write_unaligned(value) }
}

pub(super) fn _mm512_add_ps(a: __m512, b: __m512) -> __m512 {
    zip(a, b, |a, b| a + b)
}

pub(super) fn _mm512_mul_ps(a: __m512, b: __m512) -> __m512 {
    zip(a, b, |a, b| a * b)
}

/// `a b + c`, rounded once.
pub(super) fn _mm512_fmadd_ps(a: __m512, b: __m512, c: __m512) -> __m512 {
    std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
}

/// `c - a b`, rounded once.
pub(super) fn _mm512_fnmadd_ps(a: __m512, b: __m512, c: __m512) -> __m512 {
    std::array::from_fn(|i| (-a[i]).mul_add(b[i], c[i]))
}

pub(super) fn _mm512_cvtepi32_ps(a: __m512i) -> __m512 {
    a.map(|lane| lane as f32)
}

/// Shifts to the right, the sign coming in from the left.
pub(super) fn _mm512_srai_epi32<const BITS: u32>(a: __m512i) -> __m512i {
    a.map(|lane| lane >> BITS)
}

/// Each lane of `sum` plus the four products of the unsigned bytes of `a` and the signed of `b`.
pub(super) fn _mm512_dpbusd_epi32(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    let products = zip(a, b, |a, b| {
        let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
        pairs.map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum::<i32>()
    });
    zip(sum, products, i32::wrapping_add)
}

/// Each lane of `sum` plus the two products of the signed 16-bit halves of `a` and `b`.
pub(super) fn dpwssd(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    let products = zip(a, b, |a, b| {
        let ([a0, a1], [b0, b1]) = (shorts(a), shorts(b));
        (a0 * b0).wrapping_add(a1 * b1)
    });
    zip(sum, products, i32::wrapping_add)
}

/// Each lane of `sum` plus the two products of the BF16 halves of `a` and `b`. Denormals, which the
/// instruction takes as zero, are of no account in the tests.
pub(super) fn dpbf16(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    let halves = |lane: i32| [lane << 16, lane & !0xffff].map(|bits| f32::from_bits(bits as u32));
    let products = zip(a, b, |a, b| {
        let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
        [a0 * b0, a1 * b1]
    });
    zip(sum, products, |sum, [low, high]| sum + high + low)
}

mod tests {
    use half::bf16;
    use rand::{Rng, RngCore, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use crate::simd::tiles::{
        BlockPanels, BytesRow, LevelsPanels, LevelsRow, LevelsShape, Set, TileMachine, WideRow,
        PANEL_ROWS, SUPERBLOCK, TILE_TOKENS, WIDE_BLOCK,
    };

    /// Two at a time and one alone.
    const N_PANELS: usize = 3;

    /// Sums `[token][panel][row]` by a set of instructions.
    fn sums_of(set: Set, run: impl Fn(TileMachine, &mut [f32])) -> Vec<f32> {
        let mut sums = vec![f32::NAN; N_PANELS * PANEL_ROWS * TILE_TOKENS];
        run(TileMachine(set), &mut sums);
        assert!(sums.iter().all(|sum| sum.is_finite()));
        sums
    }

    /// Sums by AVX2 and by the file under test; `None` where there is no AVX2 to compare with.
    fn both(run: impl Fn(TileMachine, &mut [f32])) -> Option<[Vec<f32>; 2]> {
        TileMachine::detect()?;
        Some([Set::Avx2, Set::Vnni].map(|set| sums_of(set, &run)))
    }

    /// Sums `[token][panel][row]` of `weight(panel, row, k) * value(token, k)` for all k below `n`.
    fn plain_sums(
        n: usize,
        weight: impl Fn(usize, usize, usize) -> f64,
        value: impl Fn(usize, usize) -> f64,
    ) -> Vec<f32> {
        let places = (0..TILE_TOKENS * N_PANELS * PANEL_ROWS).map(|at| {
            let (token, row) = (at / (N_PANELS * PANEL_ROWS), at % PANEL_ROWS);
            let panel = at / PANEL_ROWS % N_PANELS;
            (0..n).map(|k| weight(panel, row, k) * value(token, k)).sum::<f64>() as f32
        });
        places.collect()
    }

    /// Equal but for the last bits of what was added up.
    fn assert_near([a, b]: &[Vec<f32>; 2], what: &str) {
        let size = a.iter().fold(0f32, |size, x| size.max(x.abs()));
        assert!(size > 0.0, "{what}");
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() <= 2e-6 * size, "{what}: sum {i} is {a} and {b}");
        }
    }

    fn floats(n: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        (0..n).map(|_| rng.random_range(-1.0..1.0f32)).collect()
    }

    #[test]
    fn levels_agree() {
        use LevelsShape::{Block16Levels32, Block16Levels64, Block32Levels16, Block32Levels32};
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let shapes = [
            (Block32Levels16, 16),
            (Block32Levels32, 32),
            (Block16Levels32, 32),
            (Block16Levels64, 64),
        ];
        for (shape, levels) in shapes {
            for n in [1, 3] {
                let n_blocks = SUPERBLOCK / shape.block();
                let all = N_PANELS * n * PANEL_ROWS;
                let mut bytes = vec![0u8; all * SUPERBLOCK];
                rng.fill_bytes(&mut bytes);
                bytes.iter_mut().for_each(|byte| *byte %= levels);
                bytes[..PANEL_ROWS * SUPERBLOCK].fill(levels - 1);
                // Each scale twice, those of Q6_K with a sign.
                let scale = |_| [rng.random_range(-128..=127i16); 2];
                let scales: Vec<i16> = (0..all * n_blocks).flat_map(scale).collect();
                let mins: Vec<i16> =
                    (0..all * n_blocks).map(|_| rng.random_range(-4096..=4064)).collect();
                let (d, d_min) = (floats(all, &mut rng), floats(all, &mut rng));
                let panels = LevelsPanels {
                    levels: &bytes,
                    scales: &scales,
                    mins: &mins,
                    d: &d,
                    d_min: &d_min,
                };
                let n_quants = TILE_TOKENS * n * SUPERBLOCK;
                let mut quants: Vec<i8> =
                    (0..n_quants).map(|_| rng.random_range(-127..=127)).collect();
                // The largest sums that there can be.
                quants[..SUPERBLOCK].fill(-127);
                let sums: Vec<i16> = quants
                    .chunks_exact(shape.block())
                    .map(|block| block.iter().map(|&q| i16::from(q)).sum())
                    .collect();
                let scales = floats(TILE_TOKENS * n, &mut rng);
                let rows = std::array::from_fn(|t| LevelsRow {
                    quants: &quants[t * n * SUPERBLOCK..][..n * SUPERBLOCK],
                    scales: &scales[t * n..][..n],
                    sums: &sums[t * n * n_blocks..][..n * n_blocks],
                });
                let sums = both(|machine, sums| machine.levels(shape, panels, rows, sums));
                sums.iter().for_each(|sums| assert_near(sums, &format!("{shape:?} {n}")));
            }
        }
    }

    #[test]
    fn rows_of_bytes_are_the_plain_sums() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for n in [1, 5] {
            let len = n * WIDE_BLOCK;
            let mut weights = vec![0u8; N_PANELS * PANEL_ROWS * len];
            rng.fill_bytes(&mut weights);
            let mut quants: Vec<i8> =
                (0..TILE_TOKENS * len).map(|_| rng.random_range(-127..=127)).collect();
            // The largest sums that there can be, of either sign.
            weights[..PANEL_ROWS * WIDE_BLOCK].fill(0);
            weights[PANEL_ROWS * len..][..PANEL_ROWS * WIDE_BLOCK].fill(255);
            quants[..WIDE_BLOCK].fill(-127);
            quants[len..][..WIDE_BLOCK].fill(127);
            let d = floats(N_PANELS * n * PANEL_ROWS, &mut rng);
            let scales = floats(TILE_TOKENS * n, &mut rng);
            let offsets: Vec<i32> = quants
                .chunks_exact(WIDE_BLOCK)
                .map(|block| -128 * block.iter().map(|&q| i32::from(q)).sum::<i32>())
                .collect();
            let rows = std::array::from_fn(|t| BytesRow {
                quants: &quants[t * len..][..len],
                scales: &scales[t * n..][..n],
                offsets: &offsets[t * n..][..n],
            });
            let panels = BlockPanels { weights: &weights, d: &d };
            let sums = sums_of(Set::Vnni, |machine, sums| machine.bytes(panels, rows, sums));
            let weight = |panel: usize, row: usize, k: usize| {
                let byte = weights[(panel * len + k / 4 * 4) * PANEL_ROWS + 4 * row + k % 4];
                let d = d[(panel * n + k / WIDE_BLOCK) * PANEL_ROWS + row];
                f64::from(d) * (f64::from(byte) - 128.0)
            };
            let value = |token: usize, k: usize| {
                let scale = scales[token * n + k / WIDE_BLOCK];
                f64::from(scale) * f64::from(quants[token * len + k])
            };
            assert_near(&[plain_sums(len, weight, value), sums], &format!("{n}"));
        }
    }

    #[test]
    fn wide_rows_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for (w_max, a_max, n) in [(128, i16::MAX, 1), (128, i16::MAX, 5), (8191, 8191, 5)] {
            let len = n * WIDE_BLOCK;
            let mut weights: Vec<i16> = (0..N_PANELS * PANEL_ROWS * len)
                .map(|_| rng.random_range(-w_max..=w_max))
                .collect();
            let mut quants: Vec<i16> =
                (0..TILE_TOKENS * len).map(|_| rng.random_range(-a_max..=a_max)).collect();
            // The largest sums that there can be, of either sign.
            weights[..PANEL_ROWS * WIDE_BLOCK].fill(-w_max);
            quants[..WIDE_BLOCK].fill(-a_max);
            quants[len..][..WIDE_BLOCK].fill(a_max);
            let d = floats(N_PANELS * n * PANEL_ROWS, &mut rng);
            let scales = floats(TILE_TOKENS * n, &mut rng);
            let rows = std::array::from_fn(|t| WideRow {
                quants: &quants[t * len..][..len],
                scales: &scales[t * n..][..n],
            });
            let panels = BlockPanels { weights: &weights, d: &d };
            let weight = |panel: usize, row: usize, k: usize| {
                let number = weights[(panel * len + k / 2 * 2) * PANEL_ROWS + 2 * row + k % 2];
                let d = d[(panel * n + k / WIDE_BLOCK) * PANEL_ROWS + row];
                f64::from(d) * f64::from(number)
            };
            let value = |token: usize, k: usize| {
                let scale = scales[token * n + k / WIDE_BLOCK];
                f64::from(scale) * f64::from(quants[token * len + k])
            };
            let plain = plain_sums(len, weight, value);
            for sums in both(|machine, sums| machine.wide(panels, rows, sums)).iter().flatten() {
                assert_near(&[plain.clone(), sums.clone()], &format!("{w_max} {a_max} {n}"));
            }
        }
    }

    #[test]
    fn pairs_are_the_plain_sums() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        for n in [2, 4, 258, 600] {
            let halves = |n, rng: &mut ChaCha8Rng| -> Vec<u16> {
                floats(n, rng).into_iter().map(|x| bf16::from_f32(x).to_bits()).collect()
            };
            let panels = halves(N_PANELS * PANEL_ROWS * n, &mut rng);
            let row = halves(TILE_TOKENS * n, &mut rng);
            let rows = std::array::from_fn(|t| &row[t * n..][..n]);
            let sums = sums_of(Set::Bf16, |machine, sums| machine.pairs(&panels, rows, sums));
            let worth = |bits: u16| bf16::from_bits(bits).to_f64();
            let weight = |panel: usize, r: usize, k: usize| {
                worth(panels[(panel * n + k / 2 * 2) * PANEL_ROWS + 2 * r + k % 2])
            };
            let value = |token: usize, k: usize| worth(row[token * n + k]);
            assert_near(&[plain_sums(n, weight, value), sums], &format!("{n}"));
        }
    }

    #[test]
    fn float_rows_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for n in [1, 2, 257, 600] {
            let panels = floats(N_PANELS * PANEL_ROWS * n, &mut rng);
            let row = floats(TILE_TOKENS * n, &mut rng);
            let rows = std::array::from_fn(|t| &row[t * n..][..n]);
            let sums = both(|machine, sums| machine.floats(&panels, rows, sums));
            sums.iter().for_each(|sums| assert_near(sums, &format!("{n}")));
        }
    }
}
