//! Types a tensor can have, sizes asked of ggml.

use std::ffi::CStr;
use std::fmt;

use ggml_sys as sys;

macro_rules! tensor_types {
    ($($(#[$doc:meta])* $variant:ident = $id:ident),* $(,)?) => {
        /// Type of one tensor's elements, as ggml numbers them.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum TensorType {
            $($(#[$doc])* $variant = sys::$id,)*
        }

        impl TensorType {
            /// Every type this crate reads.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
        }
    };
}

tensor_types! {
    /// 32-bit float.
    F32 = GGML_TYPE_F32,
    /// 16-bit IEEE float.
    F16 = GGML_TYPE_F16,
    /// 16-bit brain float.
    BF16 = GGML_TYPE_BF16,
    /// 4.5 bits a weight, blocks of 32.
    Q4_0 = GGML_TYPE_Q4_0,
    /// 5 bits a weight, blocks of 32 with a minimum.
    Q4_1 = GGML_TYPE_Q4_1,
    /// 5.5 bits a weight, blocks of 32.
    Q5_0 = GGML_TYPE_Q5_0,
    /// 6 bits a weight, blocks of 32 with a minimum.
    Q5_1 = GGML_TYPE_Q5_1,
    /// 8.5 bits a weight, blocks of 32.
    Q8_0 = GGML_TYPE_Q8_0,
    /// 2.625 bits a weight, superblocks of 256.
    Q2_K = GGML_TYPE_Q2_K,
    /// 3.4375 bits a weight, superblocks of 256.
    Q3_K = GGML_TYPE_Q3_K,
    /// 4.5 bits a weight, superblocks of 256.
    Q4_K = GGML_TYPE_Q4_K,
    /// 5.5 bits a weight, superblocks of 256.
    Q5_K = GGML_TYPE_Q5_K,
    /// 6.5625 bits a weight, superblocks of 256.
    Q6_K = GGML_TYPE_Q6_K,
    /// 2.0625 bits a weight, by codebook.
    IQ2_XXS = GGML_TYPE_IQ2_XXS,
    /// 2.3125 bits a weight, by codebook.
    IQ2_XS = GGML_TYPE_IQ2_XS,
    /// 2.5625 bits a weight, by codebook.
    IQ2_S = GGML_TYPE_IQ2_S,
    /// 3.0625 bits a weight, by codebook.
    IQ3_XXS = GGML_TYPE_IQ3_XXS,
    /// 3.4375 bits a weight, by codebook.
    IQ3_S = GGML_TYPE_IQ3_S,
    /// 1.5625 bits a weight, by codebook.
    IQ1_S = GGML_TYPE_IQ1_S,
    /// 1.75 bits a weight, by codebook.
    IQ1_M = GGML_TYPE_IQ1_M,
    /// 4.5 bits a weight, non-linear, blocks of 32.
    IQ4_NL = GGML_TYPE_IQ4_NL,
    /// 4.25 bits a weight, non-linear, superblocks of 256.
    IQ4_XS = GGML_TYPE_IQ4_XS,
    /// 1.6875 bits a weight, ternary.
    TQ1_0 = GGML_TYPE_TQ1_0,
    /// 2.0625 bits a weight, ternary.
    TQ2_0 = GGML_TYPE_TQ2_0,
}

impl TensorType {
    /// The type with ggml's number `id`, if it is one this crate reads.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.id() == id)
    }

    /// The type called `name` (`q4_k`), in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// ggml's number of this type.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Name in lower case, `q4_k`.
    pub fn name(self) -> String {
        // SAFETY: `id` is a member of ggml's enum, for which ggml returns a static C string.
        let name = unsafe { CStr::from_ptr(sys::ggml_type_name(self.id())) };
        name.to_string_lossy().to_ascii_lowercase()
    }

    /// Weights that share one scale: 1, 32 or 256.
    pub fn block_len(self) -> usize {
        // SAFETY: `id` is a member of ggml's enum; the call only reads a static table.
        let len = unsafe { sys::ggml_blck_size(self.id()) };
        usize::try_from(len).expect("ggml's block sizes are positive")
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        // SAFETY: as in `block_len`.
        unsafe { sys::ggml_type_size(self.id()) }
    }

    /// Bytes of a row of `n_cols` weights; `None` if `n_cols` is no multiple of the block length
    /// or the size overflows.
    pub fn row_bytes(self, n_cols: usize) -> Option<usize> {
        let blocks = n_cols.checked_div(self.block_len())?;
        if blocks * self.block_len() != n_cols {
            return None;
        }
        blocks.checked_mul(self.block_bytes())
    }

    /// True for every type that stores a scale beside integers.
    pub fn is_quantized(self) -> bool {
        // SAFETY: as in `block_len`.
        unsafe { sys::ggml_is_quantized(self.id()) }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_round_trip() {
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_id(ty.id()), Some(ty));
            assert_eq!(TensorType::from_name(&ty.name()), Some(ty));
        }
        assert_eq!(TensorType::from_id(4), None);
        assert_eq!(TensorType::from_id(u32::MAX), None);
    }

    #[test]
    fn sizes_are_those_of_the_format() {
        let table = [
            (TensorType::F32, 1, 4),
            (TensorType::BF16, 1, 2),
            (TensorType::Q8_0, 32, 34),
            (TensorType::Q4_K, 256, 144),
            (TensorType::Q6_K, 256, 210),
        ];
        for (ty, len, bytes) in table {
            assert_eq!((ty.block_len(), ty.block_bytes()), (len, bytes), "{ty}");
        }
        assert_eq!(TensorType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(TensorType::Q4_K.row_bytes(255), None);
    }
}
