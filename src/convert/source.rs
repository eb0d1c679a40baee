//! What the left half reads: a checkpoint through its mapping, or a GGUF.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::gguf::Metadata;
use crate::mmap::Access;
use crate::recipe::{PlanTensor, TensorLayout};

use super::{CheckpointSource, GgufSource};

/// Tensors of the GGUF to be, before any of them is quantized.
pub trait TensorSource: std::fmt::Debug + Sync {
    /// The folder or file.
    fn path(&self) -> &Path;

    /// Base name, for the files that are written.
    fn name(&self) -> &str;

    /// Number of layers.
    fn n_layer(&self) -> usize;

    /// The tensors, in the order in which a converter writes them.
    fn tensors(&self) -> &[PlanTensor];

    /// The layout that a preset of layout `asked` gets from this source.
    fn layout(&self, asked: TensorLayout) -> TensorLayout;

    /// All metadata of a file with this `general.file_type` and layout.
    fn metadata(&self, file_type: u32, layout: TensorLayout) -> Result<Metadata>;

    /// True if tensor `index` can be read in pieces; the others are small.
    fn in_pieces(&self, index: usize) -> bool;

    /// Elements of tensor `index` from `first` on, in the GGUF's order, as f32.
    fn read(&self, index: usize, first: usize, out: &mut [f32]) -> Result<()>;

    /// Every file that is read.
    fn inputs(&self) -> Vec<&Path>;

    /// What the user may want to know about the source: values that were not believed.
    fn notes(&self) -> &[String];

    /// What the user should know: things that may go wrong later.
    fn warnings(&self) -> &[String];
}

/// Opens `path`: a Hugging Face folder, a safetensors or PyTorch file, or an F32, F16 or BF16 GGUF.
/// `vocab` is a World vocabulary to use in place of the folder's own.
pub fn open(path: impl AsRef<Path>, vocab: Option<PathBuf>) -> Result<Box<dyn TensorSource>> {
    open_with(path, vocab, Access::default())
}

/// The same with a choice of how a GGUF gets into memory; other files are neither mapped nor read
/// as a whole.
pub fn open_with(
    path: impl AsRef<Path>,
    vocab: Option<PathBuf>,
    access: Access,
) -> Result<Box<dyn TensorSource>> {
    let path = path.as_ref();
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if kind.is_file() && starts_with_magic(path)? {
        return Ok(Box::new(GgufSource::open(path, access)?));
    }
    Ok(Box::new(CheckpointSource::open(path, vocab)?))
}

fn starts_with_magic(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut magic = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(4).read_to_end(&mut magic).map_err(|e| Error::io(path, e))?;
    Ok(magic == crate::gguf::MAGIC)
}
