//! Unpacks rows to panels.

use std::ops::Range;

use super::decode::{bits, center, half, superblock};
use super::panels::Panels;
use super::{Activations, Format, Machine, Matrix, PANEL_ROWS};
use crate::simd::tiles::{
    BlockPanels, LevelsPanels, LevelsShape, PlanesPanels, WinogradPanels, SUPERBLOCK, WIDE_BLOCK,
    WINOGRAD_BLOCK,
};

/// Memory for panels, to be used again for the next.
#[derive(Debug, Default)]
pub struct Scratch {
    levels: Vec<u8>,
    scales: Vec<i16>,
    factors: Vec<f32>,
    mins: Vec<i16>,
    d: Vec<f32>,
    d_min: Vec<f32>,
    corrections: Vec<i32>,
    bytes: Vec<u8>,
    wide: Vec<i16>,
    pairs: Vec<u16>,
    floats: Vec<f32>,
}

/// The same columns of the rows of a panel.
type Rows<'a> = [&'a [u8]; PANEL_ROWS];

/// Unpacks `cols` of `rows`; rows that a panel wants and that are not there are copies of the last
/// one.
pub(super) fn fill<'a>(
    machine: Machine,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    cols: Range<usize>,
    scratch: &'a mut Scratch,
) -> Panels<'a> {
    let format = matrix.format;
    let bytes = matrix.bytes_of(&cols);
    let panels: Vec<Rows<'_>> = rows
        .clone()
        .step_by(PANEL_ROWS)
        .map(|first| {
            let row = |row: usize| &matrix.row((first + row).min(rows.end - 1))[bytes.clone()];
            std::array::from_fn(row)
        })
        .collect();
    let n_cols = cols.len();
    if let Some(shape) = format.levels() {
        return if machine.has_planes() {
            Panels::Planes(planes(machine, format, shape, &panels, scratch))
        } else {
            Panels::Levels(shape, levels(machine, format, shape, &panels, scratch))
        };
    }
    match format.activations(machine) {
        Activations::Bytes => {
            let Scratch { bytes, d, .. } = scratch;
            Panels::Bytes(q8_0(machine, &panels, bytes, d, Machine::unpack_bytes))
        }
        Activations::Wide { largest } if format == Format::BF16 => {
            Panels::Wide(scaled(machine, largest, &panels, n_cols, scratch))
        }
        Activations::Wide { .. } => {
            let Scratch { wide, d, .. } = scratch;
            Panels::Wide(q8_0(machine, &panels, wide, d, Machine::unpack_wide))
        }
        Activations::Winograd => Panels::Winograd(winograd(machine, &panels, n_cols, scratch)),
        Activations::Pairs => Panels::Pairs(pairs(machine, &panels, n_cols, scratch)),
        _ => Panels::Float(floats(machine, format, &panels, n_cols, scratch)),
    }
}

fn levels<'a>(
    machine: Machine,
    format: Format,
    shape: LevelsShape,
    panels: &[Rows<'_>],
    scratch: &'a mut Scratch,
) -> LevelsPanels<'a> {
    let n = panels.len() * (panels[0][0].len() / format.block_bytes());
    let n_scales = n_scales(shape);
    let levels = aligned(&mut scratch.levels, n * PANEL_ROWS * SUPERBLOCK);
    // Factors take the place of scales but for one superblock.
    let with_factors = machine.has_factors();
    let (stored, n_factors) = if with_factors { (1, n) } else { (n, 0) };
    let scales = aligned(&mut scratch.scales, stored * n_scales);
    let factors = aligned(&mut scratch.factors, n_factors * n_scales / 2);
    let mins = aligned(&mut scratch.mins, n * n_scales / 2);
    let d = aligned(&mut scratch.d, n * PANEL_ROWS);
    let d_min = aligned(&mut scratch.d_min, n * PANEL_ROWS);
    let parts = levels
        .chunks_exact_mut(PANEL_ROWS * SUPERBLOCK)
        .zip(mins.chunks_exact_mut(n_scales / 2))
        .zip(d.chunks_exact_mut(PANEL_ROWS).zip(d_min.chunks_exact_mut(PANEL_ROWS)));
    let blocks = blocks(panels, format.block_bytes());
    for (i, (blocks, ((levels, mins), (d, d_min)))) in blocks.zip(parts).enumerate() {
        let at = if with_factors { 0 } else { i };
        let scales = &mut scales[at * n_scales..][..n_scales];
        let d = &mut *d;
        superblocks(machine, format, blocks, Unpacked { levels, scales, mins, d, d_min });
        if with_factors {
            let factors = &mut factors[i * n_scales / 2..][..n_scales / 2];
            machine.multiply_scales(scales, d, factors);
        }
    }
    let scales = if with_factors { &[][..] } else { scales };
    LevelsPanels { levels, scales, factors, mins, d, d_min }
}

/// Levels times scales. Where there are no minima, levels have a sign.
fn planes<'a>(
    machine: Machine,
    format: Format,
    shape: LevelsShape,
    panels: &[Rows<'_>],
    scratch: &'a mut Scratch,
) -> PlanesPanels<'a> {
    const LEVELS: usize = PANEL_ROWS * SUPERBLOCK;
    let n = panels.len() * (panels[0][0].len() / format.block_bytes());
    let n_scales = n_scales(shape);
    let center = center(format);
    let levels = aligned(&mut scratch.levels, LEVELS);
    let scales = aligned(&mut scratch.scales, n_scales);
    let planes = aligned(&mut scratch.bytes, n * 2 * LEVELS);
    let mins = aligned(&mut scratch.mins, n * n_scales / 2);
    let d = aligned(&mut scratch.d, n * PANEL_ROWS);
    let d_min = aligned(&mut scratch.d_min, n * PANEL_ROWS);
    let parts = planes
        .chunks_exact_mut(2 * LEVELS)
        .zip(mins.chunks_exact_mut(n_scales / 2))
        .zip(d.chunks_exact_mut(PANEL_ROWS).zip(d_min.chunks_exact_mut(PANEL_ROWS)));
    let blocks = blocks(panels, format.block_bytes());
    for (blocks, ((planes, mins), (d, d_min))) in blocks.zip(parts) {
        let (levels, scales) = (&mut *levels, &mut *scales);
        superblocks(machine, format, blocks, Unpacked { levels, scales, mins, d, d_min });
        machine.multiply_levels(levels, center, scales, planes);
    }
    PlanesPanels { planes, mins: if center > 0 { &[] } else { mins }, d, d_min }
}

/// Scales of a superblock of sixteen rows, each twice; of minima there are half as many.
fn n_scales(shape: LevelsShape) -> usize {
    SUPERBLOCK / shape.block() * 2 * PANEL_ROWS
}

/// A superblock of each of sixteen rows, as [`LevelsPanels`] has it.
struct Unpacked<'a> {
    levels: &'a mut [u8],
    scales: &'a mut [i16],
    mins: &'a mut [i16],
    d: &'a mut [f32],
    d_min: &'a mut [f32],
}

fn superblocks(machine: Machine, format: Format, blocks: Rows<'_>, out: Unpacked<'_>) {
    let (mut low, mut high) = ([&[][..]; PANEL_ROWS], [&[][..]; PANEL_ROWS]);
    let mut halves = [[0; PANEL_ROWS]; 2];
    for (row, block) in blocks.into_iter().enumerate() {
        let part = superblock(format, block);
        (low[row], high[row]) = (part.low, part.high);
        (halves[0][row], halves[1][row]) = (part.d, part.d_min);
        // [sub-block][row][2] and [pair of sub-blocks][row][2]
        for (scales, scale) in out.scales.chunks_exact_mut(2 * PANEL_ROWS).zip(part.scales) {
            scales[2 * row..2 * row + 2].fill(scale);
        }
        let pairs = part.mins.chunks_exact(2);
        for (mins, pair) in out.mins.chunks_exact_mut(2 * PANEL_ROWS).zip(pairs) {
            mins[2 * row..2 * row + 2].copy_from_slice(pair);
        }
    }
    machine.unpack_levels(bits(format), low, high, out.levels);
    out.d.copy_from_slice(&machine.halves(&halves[0]));
    out.d_min.copy_from_slice(&machine.halves(&halves[1]));
}

/// Q8_0 as `unpack` leaves its blocks of signed bytes.
fn q8_0<'a, T: Copy + Default>(
    machine: Machine,
    panels: &[Rows<'_>],
    weights: &'a mut Vec<T>,
    d: &'a mut Vec<f32>,
    unpack: impl Fn(Machine, Rows<'_>, &mut [T]),
) -> BlockPanels<'a, T> {
    let block_bytes = Format::Q8_0.block_bytes();
    let n = panels.len() * (panels[0][0].len() / block_bytes);
    let weights = aligned(weights, n * PANEL_ROWS * WIDE_BLOCK);
    let d = aligned(d, n * PANEL_ROWS);
    let parts = weights.chunks_exact_mut(PANEL_ROWS * WIDE_BLOCK);
    let parts = parts.zip(d.chunks_exact_mut(PANEL_ROWS));
    for (blocks, (weights, d)) in blocks(panels, block_bytes).zip(parts) {
        // d f16 | weights 32
        d.copy_from_slice(&machine.halves(&blocks.map(half)));
        unpack(machine, blocks.map(|block| &block[2..]), weights);
    }
    BlockPanels { weights, d }
}

/// Does `unpack` with block `block` of sixteen rows, zeros behind their ends.
fn with_block<const BYTES: usize>(rows: &Rows<'_>, block: usize, unpack: impl FnOnce(Rows<'_>)) {
    let rows = rows.map(|row| &row[block * BYTES..row.len().min((block + 1) * BYTES)]);
    if rows[0].len() == BYTES {
        return unpack(rows);
    }
    let mut whole = [[0; BYTES]; PANEL_ROWS];
    for (whole, row) in whole.iter_mut().zip(rows) {
        whole[..row.len()].copy_from_slice(row);
    }
    unpack(whole.each_ref().map(|row| &row[..]));
}

/// Whole numbers with a scale for each 32 from bf16; columns of zeros fill the last block.
fn scaled<'a>(
    machine: Machine,
    largest: i16,
    panels: &[Rows<'_>],
    n_cols: usize,
    scratch: &'a mut Scratch,
) -> BlockPanels<'a, i16> {
    const BYTES: usize = 2 * WIDE_BLOCK;
    let n = n_cols.div_ceil(WIDE_BLOCK);
    let weights = aligned(&mut scratch.wide, panels.len() * n * PANEL_ROWS * WIDE_BLOCK);
    let d = aligned(&mut scratch.d, panels.len() * n * PANEL_ROWS);
    let mut parts =
        weights.chunks_exact_mut(PANEL_ROWS * WIDE_BLOCK).zip(d.chunks_exact_mut(PANEL_ROWS));
    for rows in panels {
        for (block, (weights, d)) in (0..n).zip(parts.by_ref()) {
            with_block::<BYTES>(rows, block, |rows| {
                machine.unpack_scaled(rows, largest, weights, d);
            });
        }
    }
    BlockPanels { weights, d }
}

/// Whole numbers with a scale for each 256 from bf16; columns of zeros fill the last step.
fn winograd<'a>(
    machine: Machine,
    panels: &[Rows<'_>],
    n_cols: usize,
    scratch: &'a mut Scratch,
) -> WinogradPanels<'a> {
    const BYTES: usize = 2 * WINOGRAD_BLOCK;
    const BLOCK: usize = PANEL_ROWS * WINOGRAD_BLOCK;
    let n_blocks = n_cols.div_ceil(WINOGRAD_BLOCK);
    let panel = n_cols.next_multiple_of(4) * PANEL_ROWS;
    let weights = aligned(&mut scratch.wide, panels.len() * panel);
    let d = aligned(&mut scratch.d, panels.len() * n_blocks * PANEL_ROWS);
    let corrections = aligned(&mut scratch.corrections, d.len());
    let mut sums = d.chunks_exact_mut(PANEL_ROWS).zip(corrections.chunks_exact_mut(PANEL_ROWS));
    for (rows, weights) in panels.iter().zip(weights.chunks_exact_mut(panel)) {
        let blocks = weights.chunks_mut(BLOCK).enumerate();
        for ((block, weights), (d, corrections)) in blocks.zip(sums.by_ref()) {
            with_block::<BYTES>(rows, block, |rows| {
                if weights.len() == BLOCK {
                    machine.unpack_winograd(rows, weights, d, corrections);
                } else {
                    let mut numbers = [0; BLOCK];
                    machine.unpack_winograd(rows, &mut numbers, d, corrections);
                    weights.copy_from_slice(&numbers[..weights.len()]);
                }
            });
        }
    }
    WinogradPanels { weights, d, corrections }
}

/// Block by block of each panel: the blocks of its sixteen rows.
fn blocks<'a>(
    panels: &'a [Rows<'_>],
    block_bytes: usize,
) -> impl Iterator<Item = Rows<'a>> + use<'a> {
    panels.iter().flat_map(move |rows| {
        let n = rows[0].len() / block_bytes;
        (0..n).map(move |i| {
            let mut blocks = [&[][..]; PANEL_ROWS];
            for (block, row) in blocks.iter_mut().zip(rows) {
                *block = &row[i * block_bytes..][..block_bytes];
            }
            blocks
        })
    })
}

fn floats<'a>(
    machine: Machine,
    format: Format,
    panels: &[Rows<'_>],
    n_cols: usize,
    scratch: &'a mut Scratch,
) -> &'a [f32] {
    let memory = aligned(&mut scratch.floats, panels.len() * n_cols * PANEL_ROWS);
    for (&rows, panel) in panels.iter().zip(memory.chunks_exact_mut(n_cols * PANEL_ROWS)) {
        float_panel(machine, format, rows, panel);
    }
    memory
}

fn float_panel<'a>(machine: Machine, format: Format, rows: Rows<'a>, panel: &mut [f32]) {
    let bytes = format.block_bytes();
    let done = panel.len() / PANEL_ROWS / 8 * 8;
    let (whole, rest) = panel.split_at_mut(done * PANEL_ROWS);
    let eights = |row: &'a [u8], i: usize| &row[8 * i * bytes..];
    let parts = whole.chunks_exact_mut(8 * PANEL_ROWS).enumerate();
    match format {
        Format::F16 => {
            parts.for_each(|(i, out)| machine.unpack_f16(rows.map(|row| eights(row, i)), out));
        }
        Format::BF16 => parts.for_each(|(i, out)| {
            let wide = rows.map(|row| eight_bf16(&eights(row, i)[..16]));
            machine.unpack_f32(wide.each_ref().map(|row| bytemuck::cast_slice(row)), out);
        }),
        _ => machine.unpack_f32(rows, whole),
    }
    for (col, out) in rest.chunks_exact_mut(PANEL_ROWS).enumerate() {
        for (out, row) in out.iter_mut().zip(rows) {
            *out = value(format, &row[(done + col) * bytes..][..bytes]);
        }
    }
}

/// Eight BF16 as floats.
fn eight_bf16(bytes: &[u8]) -> [f32; 8] {
    std::array::from_fn(|k| value(Format::BF16, &bytes[2 * k..2 * k + 2]))
}

/// An odd number of columns gets another one of zeros.
fn pairs<'a>(
    machine: Machine,
    panels: &[Rows<'_>],
    n_cols: usize,
    scratch: &'a mut Scratch,
) -> &'a [u16] {
    let size = n_cols.next_multiple_of(2) * PANEL_ROWS;
    let memory = aligned(&mut scratch.pairs, panels.len() * size);
    for (&rows, panel) in panels.iter().zip(memory.chunks_exact_mut(size)) {
        let done = n_cols / 16 * 16;
        let (whole, rest) = panel.split_at_mut(done * PANEL_ROWS);
        machine.unpack_pairs(rows, whole);
        for (pair, out) in rest.chunks_exact_mut(2 * PANEL_ROWS).enumerate() {
            for (out, row) in out.chunks_exact_mut(2).zip(rows) {
                let mut values = row[2 * (done + 2 * pair)..].chunks_exact(2).map(half);
                out.fill_with(|| values.next().unwrap_or(0));
            }
        }
    }
    memory
}

/// One weight of a float format.
fn value(format: Format, bytes: &[u8]) -> f32 {
    match format {
        Format::F16 => half::f16::from_bits(half(bytes)).to_f32(),
        Format::BF16 => half::bf16::from_bits(half(bytes)).to_f32(),
        _ => f32::from_le_bytes(bytes.try_into().expect("four bytes")),
    }
}

/// `n` values from a cache line on, so that no register is loaded across two.
fn aligned<T: Copy + Default>(memory: &mut Vec<T>, n: usize) -> &mut [T] {
    const LINE: usize = 64;
    let room = n + LINE / size_of::<T>();
    if memory.len() < room {
        memory.resize(room, T::default());
    }
    let start = memory.as_ptr().align_offset(LINE);
    &mut memory[start..start + n]
}
