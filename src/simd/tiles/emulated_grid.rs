//! What tiles do, sum by sum, and the loops over them held against plain sums. Registers are those
//! of [`emulated`](super::emulated).

use bytemuck::cast_slice;
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::emulated::tests::{floats, Rows, N_PANELS, N_ROWS};
use super::emulated::{four_bytes, two_halves, Emulated};
use super::grid::{run, Grid, GridWork, Operands, Planes, Shape, Sums};
use super::products::{Bytes, Pairs};
use super::{BlockPanels, Columns, PlanesPanels, PANEL_ROWS, SUPERBLOCK, WIDE_BLOCK};
use crate::simd::Ahead;

/// Sums of `n` tiles of steps by `dot`, of four bytes of a row and of a token, from `zero` on,
/// for the tokens of `rows` and sixteen rows; others of `out` are left.
///
/// # Safety
/// All of that can be read and written.
unsafe fn one<T: Copy>(
    (rows, steps, n): (usize, usize, usize),
    (tokens, stride): (*const u8, usize),
    panel: *const u8,
    out: *mut u8,
    zero: T,
    dot: impl Fn(T, [u8; 4], [u8; 4]) -> T,
) {
    for token in 0..rows {
        for row in 0..PANEL_ROWS {
            let mut sum = zero;
            for (tile, step) in (0..n).flat_map(|t| (0..steps).map(move |s| (t, s))) {
                // SAFETY: by the contract; tiles of steps lie 64 bytes apart in a token, and
                // 1024 in a panel.
                unsafe {
                    let a = tokens.add(token * stride + 64 * tile + 4 * step);
                    let b = panel.add(1024 * tile + 64 * step + 4 * row);
                    sum = dot(sum, b.cast::<[u8; 4]>().read(), a.cast::<[u8; 4]>().read());
                }
            }
            // SAFETY: by the contract.
            unsafe { out.cast::<T>().add(token * PANEL_ROWS + row).write(sum) };
        }
    }
}

/// # Safety
/// As for [`one`].
unsafe fn four<T: Copy>(
    shape: Shape,
    operands: Operands,
    out: &mut Sums,
    zero: T,
    dot: impl Fn(T, [u8; 4], [u8; 4]) -> T + Copy,
) {
    let Operands { n, tokens, stride, panels } = operands;
    for at in 0..4 {
        let (of, from) = ((shape.rows[at / 2], shape.steps, n), (tokens[at / 2], stride));
        // SAFETY: by the contract; each of the four has 1024 bytes.
        unsafe {
            let out = out.as_mut_ptr().add(1024 * at);
            one(of, from, panels[at % 2], out, zero, dot);
        }
    }
}

impl<const SIGNED: bool> Grid for Emulated<16, SIGNED> {
    unsafe fn configure(_: Shape) {}

    unsafe fn byte_tiles<const BOTH: bool>(shape: Shape, operands: Operands, out: &mut Sums) {
        // SAFETY: by the contract.
        unsafe { four(shape, operands, out, 0, four_bytes::<BOTH>) }
    }

    unsafe fn byte_tile<const SECOND: bool>(
        shape: Shape,
        tokens: *const u8,
        stride: usize,
        panel: *const u8,
        out: *mut u8,
    ) {
        let of = (shape.rows[usize::from(SECOND)], shape.steps, 1);
        // SAFETY: by the contract.
        unsafe { one(of, (tokens, stride), panel, out, 0, four_bytes::<true>) }
    }

    unsafe fn pair_tiles(shape: Shape, operands: Operands, out: &mut Sums) {
        // SAFETY: by the contract.
        unsafe { four(shape, operands, out, 0.0, two_halves) }
    }
}

type Unit = Emulated<16, true>;

/// Less than a tile, more than one, and groups of which the last is not full.
const N_TOKENS: [usize; 3] = [4, 20, 76];

/// Sums `[token][row]`, added to ones.
fn sums<W: GridWork<Unit>>(n: usize, work: impl FnOnce(&Columns<'_>) -> W) -> Vec<f32> {
    let mut all = vec![1.0; n * N_ROWS];
    let mut columns = Columns::all(&mut all, N_ROWS);
    let mut out = columns.part(0..N_ROWS, true);
    let work = work(&out);
    // SAFETY: emulated registers and tiles need no features; the lengths were checked.
    unsafe { run(&work, &mut out) };
    all
}

/// Holds `sums` to `weight(panel, row of it, k) value(token, k)` for all `k` below `len`.
fn check(
    sums: &[f32],
    len: usize,
    weight: impl Fn(usize, usize, usize) -> f64,
    value: impl Fn(usize, usize) -> f64,
    what: &str,
) {
    for (at, &sum) in sums.iter().enumerate() {
        let (token, row) = (at / N_ROWS, at % N_ROWS);
        let terms =
            (0..len).map(|k| weight(row / PANEL_ROWS, row % PANEL_ROWS, k) * value(token, k));
        let (plain, size) = terms.fold((1.0, 1.0), |(sum, size), x| (sum + x, size + x.abs()));
        let error = (f64::from(sum) - plain).abs();
        assert!(error <= 1e-6 * size, "{what}: token {token} row {row}: {sum} and {plain}");
    }
}

fn planes_agree<const MINS: usize>() {
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    for (n_tokens, n) in N_TOKENS.into_iter().zip([1, 3, 2]) {
        let (all, len) = (N_PANELS * n * PANEL_ROWS, n * SUPERBLOCK);
        let planes: Vec<u8> = (0..all * 2 * SUPERBLOCK).map(|_| rng.random()).collect();
        let mins: Vec<i16> = (0..all * MINS * 2).map(|_| rng.random_range(0..64)).collect();
        let (d, d_min) = (floats(all, &mut rng), floats(all, &mut rng));
        let panels = PlanesPanels { planes: &planes, mins: &mins, d: &d, d_min: &d_min };
        let quants: Vec<i8> = (0..n_tokens * len).map(|_| rng.random_range(-127..=127)).collect();
        let scales = floats(n_tokens * n, &mut rng);
        let block = SUPERBLOCK / (2 * MINS).max(1);
        let sum = |block: &[i8]| block.iter().map(|&q| i16::from(q)).sum();
        let block_sums: Vec<i16> = quants.chunks(block).map(sum).collect();
        let parts = [cast_slice(&quants), cast_slice(&scales), cast_slice(&block_sums)];
        let rows = Rows::new(n_tokens, parts[0], parts[1], parts[2]);
        let found = sums(n_tokens, |out| Planes::<MINS>::new(panels, rows.tokens(), n, out));
        let weight = |panel: usize, row: usize, k: usize| {
            let superblock = panel * n + k / SUPERBLOCK;
            let (at, k) = (superblock * PANEL_ROWS + row, k % SUPERBLOCK);
            let byte = superblock * 2 * PANEL_ROWS * SUPERBLOCK + k / 4 * 64 + 4 * row + k % 4;
            let number = [planes[byte], planes[byte + PANEL_ROWS * SUPERBLOCK]];
            let number = f64::from(i16::from_le_bytes(number));
            let min = match MINS {
                0 => 0.0,
                _ => {
                    let pair = superblock * MINS + k / block / 2;
                    f64::from(mins[(pair * PANEL_ROWS + row) * 2 + k / block % 2])
                }
            };
            f64::from(d[at]) * number - f64::from(d_min[at]) * min
        };
        let value = |token: usize, k: usize| {
            f64::from(quants[token * len + k]) * f64::from(scales[token * n + k / SUPERBLOCK])
        };
        check(&found, len, weight, value, &format!("{MINS} {n_tokens}"));
    }
}

#[test]
fn planes_are_the_plain_sums() {
    planes_agree::<0>();
    planes_agree::<4>();
    planes_agree::<8>();
}

#[test]
fn tiles_of_bytes_are_the_plain_sums() {
    let mut rng = ChaCha8Rng::seed_from_u64(32);
    for (n_tokens, n) in N_TOKENS.into_iter().zip([1, 7, 4]) {
        let len = n * WIDE_BLOCK;
        let weights: Vec<u8> = (0..N_PANELS * PANEL_ROWS * len).map(|_| rng.random()).collect();
        let d = floats(N_PANELS * n * PANEL_ROWS, &mut rng);
        let quants: Vec<i8> = (0..n_tokens * len).map(|_| rng.random_range(-127..=127)).collect();
        let scales = floats(n_tokens * n, &mut rng);
        // An offset for each block, which signed bytes do not have.
        let offsets = vec![0; 4 * scales.len()];
        let rows = Rows::new(n_tokens, cast_slice(&quants), cast_slice(&scales), &offsets);
        let panels = BlockPanels { weights: &weights, d: &d };
        let found = sums(n_tokens, |out| Bytes::new(panels, rows.tokens(), n, out));
        let weight = |panel: usize, row: usize, k: usize| {
            let byte = weights[(panel * len + k / 4 * 4) * PANEL_ROWS + 4 * row + k % 4] as i8;
            let at = (panel * n + k / WIDE_BLOCK) * PANEL_ROWS + row;
            f64::from(d[at]) * f64::from(byte)
        };
        let value = |token: usize, k: usize| {
            f64::from(quants[token * len + k]) * f64::from(scales[token * n + k / WIDE_BLOCK])
        };
        check(&found, len, weight, value, &format!("{n_tokens}"));
    }
}

#[test]
fn tiles_of_pairs_are_the_plain_sums() {
    let mut rng = ChaCha8Rng::seed_from_u64(33);
    for (n_tokens, n_tiles) in N_TOKENS.into_iter().zip([1, 3, 9]) {
        let len = n_tiles * 32;
        let halves = |n: usize, rng: &mut ChaCha8Rng| -> Vec<u16> {
            floats(n, rng).into_iter().map(|x| bf16::from_f32(x).to_bits()).collect()
        };
        let weights = halves(N_PANELS * PANEL_ROWS * len, &mut rng);
        let values = halves(n_tokens * len, &mut rng);
        let rows = Rows::new(n_tokens, cast_slice(&values), &[], &[]);
        let ahead = Ahead::none();
        let found = sums(n_tokens, |out| Pairs::new(&weights, rows.tokens(), len / 2, &ahead, out));
        let worth = |bits: u16| bf16::from_bits(bits).to_f64();
        let weight = |panel: usize, row: usize, k: usize| {
            worth(weights[(panel * len + k / 2 * 2) * PANEL_ROWS + 2 * row + k % 2])
        };
        let value = |token: usize, k: usize| worth(values[token * len + k]);
        check(&found, len, weight, value, &format!("{n_tokens}"));
    }
}
