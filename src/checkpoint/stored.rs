//! A tensor as a file declares it, and what every format requires of it.

use super::strided::Strides;
use crate::ggml::TensorType;
use crate::shape::Shape;

/// Most dimensions of a tensor.
const MAX_RANK: usize = 4;

/// A tensor and where it is in its file.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) ty: TensorType,
    pub(super) shape: Shape,
    /// Of the first element, from the start of the file.
    pub(super) offset: u64,
    /// Bytes of all elements.
    pub(super) bytes: u64,
    /// How the elements lie apart; `None` if each follows the one before.
    pub(super) strides: Option<Strides>,
}

/// Shape and bytes of a tensor with `dims`, slowest first; or why there is no such tensor.
pub(super) fn size(ty: TensorType, dims: &[u64]) -> Result<(Shape, u64), String> {
    if dims.len() > MAX_RANK {
        return Err(too_many_dimensions(dims.len()));
    }
    if dims.contains(&0) {
        return Err(format!("zero dimension in {dims:?}"));
    }
    let torch = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>();
    let shape = torch.and_then(|torch| Shape::from_torch(&torch));
    let sized = shape.and_then(|shape| {
        let bytes = shape.n_elements().checked_mul(ty.block_bytes())?;
        i64::try_from(bytes).ok().map(|bytes| (shape, bytes.unsigned_abs()))
    });
    sized.ok_or_else(|| format!("size of {dims:?} overflows"))
}

/// The message for a tensor of more dimensions than there can be.
pub(super) fn too_many_dimensions(rank: usize) -> String {
    format!("{rank} dimensions (0 to {MAX_RANK} allowed)")
}
