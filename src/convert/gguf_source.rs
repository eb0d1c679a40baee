//! A GGUF in full or half precision, to be quantized.

use std::path::Path;

use super::metadata;
use super::source::TensorSource;
use crate::arch::keys;
use crate::error::{Error, Result};
use crate::ggml::{self, TensorType};
use crate::gguf::{GgufFile, Metadata};
use crate::mmap::Access;
use crate::recipe::{PlanTensor, TensorLayout};

/// Reads an F32, F16 or BF16 GGUF of an RWKV-6 model.
#[derive(Debug)]
pub struct GgufSource {
    file: GgufFile,
    name: String,
    n_layer: usize,
    tensors: Vec<PlanTensor>,
}

impl GgufSource {
    /// Opens `path` and checks that none of its tensors is quantized.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let file = GgufFile::open_with(path, access)?;
        let architecture = file.required_str(keys::ARCHITECTURE)?;
        if architecture != keys::RWKV6 {
            let what = format!("architecture {architecture:?}; only rwkv6 (Finch) is supported");
            return Err(Error::unsupported(path, what));
        }
        if let Some(tensor) = file.tensors().iter().find(|tensor| tensor.ty.is_quantized()) {
            let what = format!(
                "tensor {:?} is {} already; quantize from an f32, f16 or bf16 file",
                tensor.name, tensor.ty
            );
            return Err(Error::unsupported(path, what));
        }
        let n_layer = file.required_u32(keys::BLOCK_COUNT)? as usize;
        let tensors = file.tensors().iter().map(|tensor| PlanTensor {
            name: tensor.name.clone(),
            shape: tensor.shape,
            ty: tensor.ty,
        });
        let tensors = tensors.collect();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Self { name: name.unwrap_or_default(), n_layer, tensors, file })
    }
}

impl TensorSource for GgufSource {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn n_layer(&self) -> usize {
        self.n_layer
    }

    fn tensors(&self) -> &[PlanTensor] {
        &self.tensors
    }

    /// Whatever the preset, this is what llama-quantize does.
    fn layout(&self, _asked: TensorLayout) -> TensorLayout {
        TensorLayout::Quantized
    }

    fn metadata(&self, file_type: u32, _layout: TensorLayout) -> Result<Metadata> {
        Ok(metadata::requantized(self.file.metadata().to_vec(), file_type))
    }

    fn in_pieces(&self, _index: usize) -> bool {
        true
    }

    fn read(&self, index: usize, first: usize, out: &mut [f32]) -> Result<()> {
        let tensor = &self.file.tensors()[index];
        let width = tensor.ty.block_bytes();
        let bytes = self.file.data(tensor);
        let range = first * width..(first + out.len()) * width;
        ggml::to_f32(tensor.ty, &bytes[range], out);
        debug_assert!(matches!(tensor.ty, TensorType::F32 | TensorType::F16 | TensorType::BF16));
        // Weights of two files would be in the result, or none that anyone has seen.
        self.file.check_unchanged()
    }

    fn inputs(&self) -> Vec<&Path> {
        vec![self.file.path()]
    }

    fn notes(&self) -> &[String] {
        &[]
    }

    fn warnings(&self) -> &[String] {
        &[]
    }
}
