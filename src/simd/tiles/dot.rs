//! Registers in which products of a panel's rows add up, a row in each 32-bit lane: what the
//! [kernels](super::kernels) are written with.
//!
//! The types that implement [`Dot`] are private to `tiles`, and a kernel is instantiated with one
//! only inside a function that has its features, by a [`TileMachine`](super::TileMachine), which is
//! the proof that the processor has them. That is what makes those methods safe that touch no
//! memory. All are `#[inline(always)]`: what is not inlined is compiled for the baseline.

use super::kernels::{self, Sums, Superblocks};
use super::tokens::Token;

/// Methods on registers alone.
macro_rules! registers {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty { $body:expr })*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe)]
        fn $name($($arg: $ty),*) -> $out {
            // SAFETY: see the head of `dot.rs`.
            unsafe { $body }
        }
    )*};
}
pub(super) use registers;

/// Methods that read or write memory, by their contract.
macro_rules! memory {
    ($(
        fn $name:ident $(<const $step:ident>)? ($($arg:ident: $ty:ty),*) $(-> $out:ty)? { $body:expr }
    )*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe)]
        unsafe fn $name $(<const $step: i32>)? ($($arg: $ty),*) $(-> $out)? {
            // SAFETY: by the contract, and as the head of `dot.rs` says.
            unsafe { $body }
        }
    )*};
}
pub(super) use memory;

/// Bytes of activations that meet the rows of a panel in one step: four bytes, two numbers of 16
/// bits or one of 32.
pub(super) const STEP_BYTES: usize = 4;

/// A register, and the instructions on it.
pub(super) trait Dot: Copy {
    /// Rows in a register.
    const LANES: usize;
    /// Whether products of levels want [factors](super::LevelsPanels::factors), or scales.
    const FACTORS: bool = true;
    /// Lanes of whole numbers; what is narrower lies in their bytes, lowest first.
    type Int: Copy;
    /// Lanes of f32.
    type Float: Copy;
    /// Activations of four steps, or where they lie.
    type Four: Copy;
    /// Weights of a step of two numbers of 16 bits.
    type Wide: Copy;

    /// The same whole number in all lanes.
    fn ints(value: i32) -> Self::Int;
    /// The same float in all lanes.
    fn floats(value: f32) -> Self::Float;

    /// # Safety
    /// Four bytes a lane can be read.
    unsafe fn load_ints(from: *const u8) -> Self::Int;
    /// # Safety
    /// Four bytes a lane can be read.
    unsafe fn load_wide(from: *const u8) -> Self::Wide;
    /// # Safety
    /// A value a lane can be read.
    unsafe fn load_floats(from: *const f32) -> Self::Float;
    /// # Safety
    /// A value a lane can be written.
    unsafe fn store(to: *mut f32, value: Self::Float);
    /// # Safety
    /// Four steps can be read, here and wherever the result is used.
    unsafe fn four(from: *const u8) -> Self::Four;
    /// Only step 0 of the result may be used.
    ///
    /// # Safety
    /// One step can be read, here and wherever the result is used.
    unsafe fn one(from: *const u8) -> Self::Four;

    /// To the nearest floats.
    fn to_floats(ints: Self::Int) -> Self::Float;
    /// `a + b`
    fn add(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a b`
    fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a b + c`, rounded once.
    fn fma(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// `c - a b`, rounded once.
    fn fnma(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;

    /// `sum` and the four products of the bytes of each lane of `w` with those of step `STEP`,
    /// which are signed. Weights of a register that takes them as signed are so, else not: see
    /// [`TileMachine::byte_offset`](super::TileMachine::byte_offset).
    ///
    /// # Safety
    /// The activations can still be read.
    unsafe fn bytes<const STEP: i32>(sum: Self::Int, w: Self::Int, a: Self::Four) -> Self::Int;
    /// `sum` and the two products of signed 16-bit numbers.
    ///
    /// # Safety
    /// The activations can still be read.
    unsafe fn wide<const STEP: i32>(sum: Self::Int, w: Self::Wide, a: Self::Four) -> Self::Int;
    /// `sum` and the product of f32, rounded once.
    ///
    /// # Safety
    /// The activations can still be read.
    unsafe fn product<const STEP: i32>(
        sum: Self::Float,
        w: Self::Float,
        a: Self::Four,
    ) -> Self::Float;

    /// [`kernels::levels`], where no other way is faster. `FLUSH` steps fit into 16 bits.
    ///
    /// # Safety
    /// The superblocks and the rows are `n` superblocks long. Where a few registers are a panel, as
    /// many come together, in the order of its rows.
    #[inline(always)]
    unsafe fn levels<const BLOCK: usize, const FLUSH: usize, const R: usize, const T: usize>(
        n: usize,
        panels: [Superblocks; R],
        rows: &[Token; T],
    ) -> Sums<Self::Float, R, T> {
        // SAFETY: by the contract.
        unsafe { kernels::levels::<Self, BLOCK, R, T>(n, panels, rows) }
    }
}

/// A register of a processor that has products of BF16.
pub(super) trait DotPairs: Dot {
    /// `sum` and the two products of BF16.
    ///
    /// # Safety
    /// The activations can still be read.
    unsafe fn pairs<const STEP: i32>(sum: Self::Float, w: Self::Int, a: Self::Four) -> Self::Float;
}

/// One of the products of [`Dot`] and [`DotPairs`].
pub(super) trait Product<D: Dot> {
    /// A register of sums.
    type Sum: Copy;
    /// A register of weights.
    type Weights: Copy;
    /// # Safety
    /// Four bytes a lane can be read.
    unsafe fn load(from: *const u8) -> Self::Weights;
    /// # Safety
    /// The activations can still be read.
    unsafe fn add<const STEP: i32>(sum: Self::Sum, w: Self::Weights, a: D::Four) -> Self::Sum;
}

macro_rules! products {
    ($($name:ident<$dot:ident>: $sum:ident, $weights:ident, $load:ident, $method:ident;)*) => {$(
        pub(super) struct $name;

        impl<D: $dot> Product<D> for $name {
            type Sum = D::$sum;
            type Weights = D::$weights;

            #[inline(always)]
            unsafe fn load(from: *const u8) -> D::$weights {
                // SAFETY: by the contract.
                unsafe { D::$load(from.cast()) }
            }

            #[inline(always)]
            unsafe fn add<const STEP: i32>(
                sum: D::$sum,
                w: D::$weights,
                a: D::Four,
            ) -> D::$sum {
                // SAFETY: by the contract.
                unsafe { D::$method::<STEP>(sum, w, a) }
            }
        }
    )*};
}

products! {
    Bytes<Dot>: Int, Int, load_ints, bytes;
    Wide<Dot>: Int, Wide, load_wide, wide;
    Pairs<DotPairs>: Float, Int, load_ints, pairs;
    Floats<Dot>: Float, Float, load_floats, product;
}
