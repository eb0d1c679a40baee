//! What instructions of a [`Dot`] do, written down lane by lane, and the kernels with it held against
//! plain sums: few machines have all the instructions.

use super::dot::{Dot, DotPairs};
use super::winograd::DotWinograd;

/// A register of `LANES` rows, whose weights in bytes are signed or not.
#[derive(Clone, Copy)]
pub(super) struct Emulated<const LANES: usize, const SIGNED: bool>;

fn zip<A: Copy, B: Copy, C, const N: usize>(a: [A; N], b: [B; N], f: impl Fn(A, B) -> C) -> [C; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl<const LANES: usize, const SIGNED: bool> Dot for Emulated<LANES, SIGNED> {
    const LANES: usize = LANES;
    type Int = [i32; LANES];
    type Float = [f32; LANES];
    /// The address of four steps.
    type Four = *const [u8; 4];
    type Wide = [i32; LANES];

    fn ints(value: i32) -> [i32; LANES] {
        [value; LANES]
    }

    fn floats(value: f32) -> [f32; LANES] {
        [value; LANES]
    }

    unsafe fn load_ints(from: *const u8) -> [i32; LANES] {
        // SAFETY: by the contract.
        unsafe { from.cast::<[i32; LANES]>().read_unaligned() }
    }

    unsafe fn load_wide(from: *const u8) -> [i32; LANES] {
        // SAFETY: by the contract.
        unsafe { Self::load_ints(from) }
    }

    unsafe fn load_floats(from: *const f32) -> [f32; LANES] {
        // SAFETY: by the contract.
        unsafe { from.cast::<[f32; LANES]>().read() }
    }

    unsafe fn store(to: *mut f32, value: [f32; LANES]) {
        // SAFETY: by the contract.
        unsafe { to.cast::<[f32; LANES]>().write(value) }
    }

    unsafe fn four(from: *const u8) -> *const [u8; 4] {
        from.cast()
    }

    unsafe fn one(from: *const u8) -> *const [u8; 4] {
        from.cast()
    }

    fn to_floats(ints: [i32; LANES]) -> [f32; LANES] {
        ints.map(|lane| lane as f32)
    }

    fn add(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        zip(a, b, |a, b| a + b)
    }

    fn mul(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        zip(a, b, |a, b| a * b)
    }

    fn fma(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    fn fnma(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| (-a[i]).mul_add(b[i], c[i]))
    }

    unsafe fn bytes<const STEP: i32>(
        sum: [i32; LANES],
        w: [i32; LANES],
        a: *const [u8; 4],
    ) -> [i32; LANES] {
        // SAFETY: by the contract.
        let a = unsafe { a.add(STEP as usize).read() };
        zip(sum, w, |sum, w| four_bytes::<SIGNED>(sum, w.to_le_bytes(), a))
    }

    unsafe fn wide<const STEP: i32>(
        sum: [i32; LANES],
        w: [i32; LANES],
        a: *const [u8; 4],
    ) -> [i32; LANES] {
        // SAFETY: by the contract.
        let a = shorts(i32::from_le_bytes(unsafe { a.add(STEP as usize).read() }));
        zip(sum, w, |sum, w| sum + shorts(w)[0] * a[0] + shorts(w)[1] * a[1])
    }

    unsafe fn product<const STEP: i32>(
        sum: [f32; LANES],
        w: [f32; LANES],
        a: *const [u8; 4],
    ) -> [f32; LANES] {
        // SAFETY: by the contract.
        let a = f32::from_le_bytes(unsafe { a.add(STEP as usize).read() });
        zip(sum, w, |sum, w| w.mul_add(a, sum))
    }
}

impl<const LANES: usize, const SIGNED: bool> DotPairs for Emulated<LANES, SIGNED> {
    unsafe fn pairs<const STEP: i32>(
        sum: [f32; LANES],
        w: [i32; LANES],
        a: *const [u8; 4],
    ) -> [f32; LANES] {
        // SAFETY: by the contract.
        let a = unsafe { a.add(STEP as usize).read() };
        zip(sum, w, |sum, w| two_halves(sum, w.to_le_bytes(), a))
    }
}

impl<const LANES: usize, const SIGNED: bool> DotWinograd for Emulated<LANES, SIGNED> {
    unsafe fn wides(from: *const u8) -> [i32; LANES] {
        // SAFETY: by the contract.
        [i32::from_le_bytes(unsafe { from.cast::<[u8; 4]>().read() }); LANES]
    }

    fn add_wide(a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        zip(a, b, |a, b| {
            let ([a0, a1], [b0, b1]) = (shorts(a), shorts(b));
            i32::from((a0 + b0) as i16) & 0xffff | (a1 + b1) << 16
        })
    }

    fn add_ints(a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        zip(a, b, i32::wrapping_add)
    }

    fn multiply_wide(sum: [i32; LANES], a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        let products = zip(a, b, |a, b| {
            let ([a0, a1], [b0, b1]) = (shorts(a), shorts(b));
            (a0 * b0).wrapping_add(a1 * b1)
        });
        zip(sum, products, i32::wrapping_add)
    }
}

/// `sum` and the products of weights, with a sign or not, and activations, which have one.
pub(super) fn four_bytes<const SIGNED: bool>(sum: i32, w: [u8; 4], a: [u8; 4]) -> i32 {
    let weight = |w: u8| if SIGNED { i32::from(w as i8) } else { i32::from(w) };
    w.into_iter().zip(a).fold(sum, |sum, (w, a)| sum + weight(w) * i32::from(a as i8))
}

/// `sum` and the products of BF16. Denormals, which some processors take as zero, are of no account
/// in the tests.
pub(super) fn two_halves(sum: f32, w: [u8; 4], a: [u8; 4]) -> f32 {
    let halves = |bytes| {
        let lane = u32::from_le_bytes(bytes);
        [lane << 16, lane & !0xffff].map(f32::from_bits)
    };
    sum + halves(w)[1] * halves(a)[1] + halves(w)[0] * halves(a)[0]
}

/// The lower and the upper half of a lane.
fn shorts(lane: i32) -> [i32; 2] {
    [i32::from(lane as i16), lane >> 16]
}

pub(super) mod tests {
    use bytemuck::cast_slice;
    use half::bf16;
    use rand::{Rng, RngCore, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::Emulated;
    use crate::simd::tiles::products::{run, Bytes, Floats, Levels, Pairs, Wide};
    use crate::simd::tiles::winograd::{run_winograd, Winograd};
    use crate::simd::tiles::{
        BlockPanels, Columns, LevelsPanels, LevelsShape, Tokens, WinogradPanels, PANEL_ROWS,
        SUPERBLOCK, TILE_TOKENS, WIDE_BLOCK, WINOGRAD_BLOCK, WINOGRAD_LARGEST, WINOGRAD_NORM,
    };
    use crate::simd::Ahead;

    /// Two at a time and one alone.
    pub(in crate::simd::tiles) const N_PANELS: usize = 3;

    /// The last panel has rows for which there is no column.
    pub(in crate::simd::tiles) const N_ROWS: usize = N_PANELS * PANEL_ROWS - 6;

    /// Eight at a time, and a tile that is left.
    const N_TOKENS: usize = 3 * TILE_TOKENS;

    /// Sums `[token][row]` by registers of sixteen rows, of which two are met at a time and
    /// one is left, of eight, and of four.
    macro_rules! all_sums {
        ($out:ident => $work:expr) => {
            all_sums!(false, $out => $work)
        };
        ($signed:literal, $out:ident => $work:expr) => {
            [16, 8, 4].map(|lanes| {
                let mut all = vec![f32::NAN; N_TOKENS * N_ROWS];
                for add in [false, true] {
                    let mut columns = Columns::all(&mut all, N_ROWS);
                    let $out = &mut columns.part(0..N_ROWS, add);
                    let work = $work;
                    // SAFETY: emulated registers need no features; the lengths were checked.
                    unsafe {
                        match lanes {
                            16 => run::<Emulated<16, $signed>, _, 2, 8>(&work, $out),
                            8 => run::<Emulated<8, $signed>, _, 2, TILE_TOKENS>(&work, $out),
                            _ => run::<Emulated<4, $signed>, _, 4, TILE_TOKENS>(&work, $out),
                        }
                    }
                }
                // Added to themselves.
                all.iter_mut().for_each(|sum| *sum /= 2.0);
                all
            })
        };
    }

    /// Sums `[token][row]` of `weight(panel, row, k) * value(token, k)` for all k below `n`.
    fn plain_sums(
        n: usize,
        weight: impl Fn(usize, usize, usize) -> f64,
        value: impl Fn(usize, usize) -> f64,
    ) -> Vec<f32> {
        let places = (0..N_TOKENS * N_ROWS).map(|at| {
            let (token, row) = (at / N_ROWS, at % N_ROWS);
            let (panel, row) = (row / PANEL_ROWS, row % PANEL_ROWS);
            (0..n).map(|k| weight(panel, row, k) * value(token, k)).sum::<f64>() as f32
        });
        places.collect()
    }

    /// Rows of which each has its share of the numbers, the scales and the sums, and bytes that
    /// nobody reads behind them.
    pub(in crate::simd::tiles) struct Rows {
        bytes: Vec<u8>,
        stride: usize,
        scales: usize,
        sums: usize,
    }

    impl Rows {
        pub(in crate::simd::tiles) fn new(
            n_tokens: usize,
            numbers: &[u8],
            scales: &[u8],
            sums: &[u8],
        ) -> Self {
            let parts = [numbers, scales, sums];
            let share = |part: &[u8], t: usize| {
                let len = part.len() / n_tokens;
                part[t * len..][..len].to_vec()
            };
            let row = |t| [&parts.map(|part| share(part, t)).concat()[..], &[0xff; 12]].concat();
            let bytes: Vec<u8> = (0..n_tokens).flat_map(row).collect();
            let scales_at = numbers.len() / n_tokens;
            Self {
                stride: bytes.len() / n_tokens,
                scales: scales_at,
                sums: scales_at + scales.len() / n_tokens,
                bytes,
            }
        }

        pub(in crate::simd::tiles) fn tokens(&self) -> Tokens<'_> {
            let Self { ref bytes, stride, scales, sums } = *self;
            Tokens { bytes, stride, numbers: 0, scales, sums }
        }
    }

    /// Equal but for the last bits of what was added up.
    fn assert_near(a: &[f32], b: &[f32], what: &str) {
        let size = a.iter().fold(0f32, |size, x| size.max(x.abs()));
        assert!(size > 0.0, "{what}");
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() <= 2e-6 * size, "{what}: sum {i} is {a} and {b}");
        }
    }

    pub(in crate::simd::tiles) fn floats(n: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
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
                let factors: Vec<f32> = (0..all * n_blocks)
                    .map(|i| {
                        let d = d[i / (n_blocks * PANEL_ROWS) * PANEL_ROWS + i % PANEL_ROWS];
                        f32::from(scales[2 * i]) * d
                    })
                    .collect();
                let panels = LevelsPanels {
                    levels: &bytes,
                    scales: &scales,
                    factors: &factors,
                    mins: &mins,
                    d: &d,
                    d_min: &d_min,
                };
                let n_quants = N_TOKENS * n * SUPERBLOCK;
                let mut quants: Vec<i8> =
                    (0..n_quants).map(|_| rng.random_range(-127..=127)).collect();
                // The largest sums that there can be.
                quants[..SUPERBLOCK].fill(-127);
                let sums: Vec<i16> = quants
                    .chunks_exact(shape.block())
                    .map(|block| block.iter().map(|&q| i16::from(q)).sum())
                    .collect();
                let scales = floats(N_TOKENS * n, &mut rng);
                let rows = Rows::new(
                    N_TOKENS,
                    cast_slice(&quants),
                    cast_slice(&scales),
                    cast_slice(&sums),
                );
                let weight = |panel: usize, row: usize, k: usize| {
                    let superblock = panel * n + k / SUPERBLOCK;
                    let block = superblock * n_blocks + k % SUPERBLOCK / shape.block();
                    let level =
                        bytes[(panel * n * SUPERBLOCK + k / 4 * 4) * PANEL_ROWS + 4 * row + k % 4];
                    let scale = panels.scales[(block * PANEL_ROWS + row) * 2];
                    let min = mins[(block / 2 * PANEL_ROWS + row) * 2 + block % 2];
                    let at = superblock * PANEL_ROWS + row;
                    f64::from(d[at]) * f64::from(scale) * f64::from(level)
                        - f64::from(d_min[at]) * f64::from(min)
                };
                let value = |token: usize, k: usize| {
                    let scale = scales[token * n + k / SUPERBLOCK];
                    f64::from(scale) * f64::from(quants[token * n * SUPERBLOCK + k])
                };
                let plain = plain_sums(n * SUPERBLOCK, weight, value);
                for sums in all_sums!(out => Levels::new(shape, panels, rows.tokens(), n, out)) {
                    assert_near(&plain, &sums, &format!("{shape:?} {n}"));
                }
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
                (0..N_TOKENS * len).map(|_| rng.random_range(-127..=127)).collect();
            // The largest sums that there can be, of either sign.
            weights[..PANEL_ROWS * WIDE_BLOCK].fill(0);
            weights[PANEL_ROWS * len..][..PANEL_ROWS * WIDE_BLOCK].fill(255);
            quants[..WIDE_BLOCK].fill(-127);
            quants[len..][..WIDE_BLOCK].fill(127);
            let d = floats(N_PANELS * n * PANEL_ROWS, &mut rng);
            let scales = floats(N_TOKENS * n, &mut rng);
            let offsets: Vec<i32> = quants
                .chunks_exact(WIDE_BLOCK)
                .map(|block| -128 * block.iter().map(|&q| i32::from(q)).sum::<i32>())
                .collect();
            let rows =
                Rows::new(N_TOKENS, cast_slice(&quants), cast_slice(&scales), cast_slice(&offsets));
            let panels = BlockPanels { weights: &weights, d: &d };
            let weight = |panel: usize, row: usize, k: usize| {
                let byte = weights[(panel * len + k / 4 * 4) * PANEL_ROWS + 4 * row + k % 4];
                let d = d[(panel * n + k / WIDE_BLOCK) * PANEL_ROWS + row];
                f64::from(d) * (f64::from(byte) - 128.0)
            };
            let value = |token: usize, k: usize| {
                let scale = scales[token * n + k / WIDE_BLOCK];
                f64::from(scale) * f64::from(quants[token * len + k])
            };
            let plain = plain_sums(len, weight, value);
            for sums in all_sums!(out => Bytes::new(panels, rows.tokens(), n, out)) {
                assert_near(&plain, &sums, &format!("{n}"));
            }
            // The same weights without the offset.
            let weights: Vec<u8> = weights.iter().map(|byte| byte ^ 0x80).collect();
            let panels = BlockPanels { weights: &weights, d: &d };
            let none = vec![0; 4 * offsets.len()];
            let rows = Rows::new(N_TOKENS, cast_slice(&quants), cast_slice(&scales), &none);
            for sums in all_sums!(true, out => Bytes::new(panels, rows.tokens(), n, out)) {
                assert_near(&plain, &sums, &format!("{n}, signed"));
            }
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
                (0..N_TOKENS * len).map(|_| rng.random_range(-a_max..=a_max)).collect();
            // The largest sums that there can be, of either sign.
            weights[..PANEL_ROWS * WIDE_BLOCK].fill(-w_max);
            quants[..WIDE_BLOCK].fill(-a_max);
            quants[len..][..WIDE_BLOCK].fill(a_max);
            let d = floats(N_PANELS * n * PANEL_ROWS, &mut rng);
            let scales = floats(N_TOKENS * n, &mut rng);
            let rows = Rows::new(N_TOKENS, cast_slice(&quants), cast_slice(&scales), &[]);
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
            for sums in all_sums!(out => Wide::new(panels, rows.tokens(), n, out)) {
                assert_near(&plain, &sums, &format!("{w_max} {a_max} {n}"));
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
            let row = halves(N_TOKENS * n, &mut rng);
            let rows = Rows::new(N_TOKENS, cast_slice(&row), &[], &[]);
            let worth = |bits: u16| bf16::from_bits(bits).to_f64();
            let weight = |panel: usize, r: usize, k: usize| {
                worth(panels[(panel * n + k / 2 * 2) * PANEL_ROWS + 2 * r + k % 2])
            };
            let value = |token: usize, k: usize| worth(row[token * n + k]);
            let plain = plain_sums(n, weight, value);
            let ahead = Ahead::new(cast_slice(&panels), 64, 64);
            for sums in all_sums!(out => Pairs::new(&panels, rows.tokens(), n / 2, &ahead, out)) {
                assert_near(&plain, &sums, &format!("{n}"));
            }
        }
    }

    /// Numbers in blocks as large as they may be.
    fn winograd_numbers(n_rows: usize, n: usize, rng: &mut ChaCha8Rng) -> Vec<i16> {
        let row = |i: usize| {
            let mut row: Vec<i16> = Vec::new();
            for start in (0..n).step_by(WINOGRAD_BLOCK) {
                let len = WINOGRAD_BLOCK.min(n - start);
                let largest = f64::from(WINOGRAD_NORM) / (len as f64).sqrt();
                let largest = (largest as i16).min(WINOGRAD_LARGEST);
                // The largest sums that there can be, of either sign.
                row.extend((0..len).map(|_| match i {
                    0 => largest,
                    1 => -largest,
                    _ => rng.random_range(-largest..=largest),
                }));
            }
            row
        };
        (0..n_rows).flat_map(row).collect()
    }

    #[test]
    fn rows_by_winograd_are_the_plain_sums() {
        let mut rng = ChaCha8Rng::seed_from_u64(22);
        for n in [4usize, 8, 252, 256, 260, 700] {
            let n_blocks = n.div_ceil(WINOGRAD_BLOCK);
            let weights = winograd_numbers(N_PANELS * PANEL_ROWS, n, &mut rng);
            let values = winograd_numbers(N_TOKENS, n, &mut rng);
            let correction = |block: &[i16]| {
                let products = block.chunks_exact(2).map(|p| i32::from(p[0]) * i32::from(p[1]));
                products.fold(0, i32::wrapping_sub)
            };
            let d = floats(N_PANELS * n_blocks * PANEL_ROWS, &mut rng);
            let scales = floats(N_TOKENS * n_blocks, &mut rng);
            // Where things lie, from the shapes that are documented.
            let mut panels = vec![0i16; weights.len()];
            let mut corrections = vec![0i32; d.len()];
            for (row, numbers) in weights.chunks_exact(n).enumerate() {
                let (panel, row) = (row / PANEL_ROWS, row % PANEL_ROWS);
                for (k, &number) in numbers.iter().enumerate() {
                    let step = (panel * n / 4 + k / 4) * 2 + k % 2;
                    panels[(step * PANEL_ROWS + row) * 2 + k % 4 / 2] = number;
                }
                for (block, numbers) in numbers.chunks(WINOGRAD_BLOCK).enumerate() {
                    let at = (panel * n_blocks + block) * PANEL_ROWS + row;
                    corrections[at] = correction(numbers);
                }
            }
            let numbers: Vec<i16> =
                values.chunks_exact(4).flat_map(|a| [a[1], a[3], a[0], a[2]]).collect();
            let sums: Vec<i32> = values
                .chunks_exact(n)
                .flat_map(|row| row.chunks(WINOGRAD_BLOCK).map(correction))
                .collect();
            let rows =
                Rows::new(N_TOKENS, cast_slice(&numbers), cast_slice(&scales), cast_slice(&sums));
            let weight = |panel: usize, row: usize, k: usize| {
                let d = d[(panel * n_blocks + k / WINOGRAD_BLOCK) * PANEL_ROWS + row];
                f64::from(d) * f64::from(weights[(panel * PANEL_ROWS + row) * n + k])
            };
            let value = |token: usize, k: usize| {
                let scale = scales[token * n_blocks + k / WINOGRAD_BLOCK];
                f64::from(scale) * f64::from(values[token * n + k])
            };
            let plain = plain_sums(n, weight, value);
            let panels = WinogradPanels { weights: &panels, d: &d, corrections: &corrections };
            let ahead = Ahead::new(cast_slice(&d), 64, 64);
            let mut all = vec![f32::NAN; N_TOKENS * N_ROWS];
            for add in [false, true] {
                let mut columns = Columns::all(&mut all, N_ROWS);
                let mut out = columns.part(0..N_ROWS, add);
                let work = Winograd::new(panels, rows.tokens(), n / 4, &ahead, &out);
                // SAFETY: emulated registers need no features; the lengths were checked.
                unsafe { run_winograd::<Emulated<16, false>, 2>(&work, &mut out) };
            }
            // Added to themselves.
            all.iter_mut().for_each(|sum| *sum /= 2.0);
            assert_near(&plain, &all, &format!("{n}"));
        }
    }

    #[test]
    fn float_rows_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for n in [1, 2, 257, 600] {
            let panels = floats(N_PANELS * PANEL_ROWS * n, &mut rng);
            let row = floats(N_TOKENS * n, &mut rng);
            let rows = Rows::new(N_TOKENS, cast_slice(&row), &[], &[]);
            let weight = |panel: usize, r: usize, k: usize| {
                f64::from(panels[(panel * n + k) * PANEL_ROWS + r])
            };
            let value = |token: usize, k: usize| f64::from(row[token * n + k]);
            let plain = plain_sums(n, weight, value);
            let ahead = Ahead::new(cast_slice(&panels), 64, 64);
            for sums in all_sums!(out => Floats::new(&panels, rows.tokens(), n, &ahead, out)) {
                assert_near(&plain, &sums, &format!("{n}"));
            }
        }
    }
}
