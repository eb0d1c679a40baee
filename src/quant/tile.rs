//! Sub-blocks side by side.

use crate::simd::Lanes;

/// Most lanes that any instruction set has, `Wide` ones included.
pub const MAX_LANES: usize = 32;

/// The largest lane of each of `C`; none may be NaN.
#[inline(always)]
pub fn largest<L: Lanes, const C: usize>(lanes: [L; C]) -> [f32; C] {
    let mut values = [[0.0; MAX_LANES]; C];
    for c in 0..C {
        lanes[c].store(&mut values[c]);
    }
    let mut width = L::LANES;
    while width > 1 {
        width /= 2;
        for values in &mut values {
            for t in 0..width {
                let (a, b) = (values[t], values[t + width]);
                values[t] = if a > b { a } else { b };
            }
        }
    }
    values.map(|values| values[0])
}

/// `N` elements of each of `L::LANES` sub-blocks: element `i` of each is in `tile[i]`.
pub type Tile<L, const N: usize> = [L; N];

/// The tile of consecutive sub-blocks of `N` values, a multiple of four.
#[inline(always)]
pub fn transpose<L: Lanes, const N: usize>(values: &[f32]) -> Tile<L, N> {
    let values = &values[..L::LANES * N];
    let mut tile = [L::zero(); N];
    for i in (0..N).step_by(4) {
        tile[i..i + 4].copy_from_slice(&L::columns(&values[i..], N));
    }
    tile
}

/// Lane by lane products of two tiles.
#[inline(always)]
pub fn products<L: Lanes, const N: usize>(a: &Tile<L, N>, b: &Tile<L, N>) -> Tile<L, N> {
    let mut out = *a;
    for i in 0..N {
        out[i] = a[i] * b[i];
    }
    out
}

/// Importance times the root of a mean square plus the element's own square.
#[inline(always)]
pub fn weigh<L: Lanes, const N: usize>(
    x: &Tile<L, N>,
    importance: &Tile<L, N>,
    mean_square: L,
) -> Tile<L, N> {
    let mut w = *x;
    for i in 0..N {
        w[i] = importance[i] * (mean_square + x[i] * x[i]).sqrt();
    }
    w
}
