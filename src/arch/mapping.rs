//! From the tensors of a checkpoint to those of the GGUF.

use std::collections::HashMap;
use std::path::Path;

use super::rwkv6::{Row, GLOBAL, LAYER};
use super::{Dialect, Hparams, Named};
use crate::error::{Error, Result};
use crate::shape::Shape;

/// What happens to a tensor's elements and dimensions on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    Keep,
    /// Dimensions of one disappear.
    Squeeze,
    /// Rows become columns.
    Transpose,
    /// The two fastest dimensions of three are exchanged.
    SwapPlanes,
    /// The tensor becomes this row of a stack.
    Stack(usize),
    /// Every element is divided by two to the power of the layer's halvings.
    Divide,
}

/// One tensor of the GGUF.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name in the GGUF.
    pub name: String,
    /// Shape in the GGUF, with the rank that llama.cpp's converter gives it.
    pub shape: Shape,
    /// Index of each source tensor, in stacking order.
    pub sources: Vec<usize>,
    /// How they become this tensor.
    pub transform: Transform,
    /// Elements are divided by two to this power.
    pub halvings: u32,
}

/// Maps every tensor of a checkpoint. Targets come in the order in which llama.cpp's converter
/// writes them: by full Hugging Face name, a stack where its last part is met. A tensor that is
/// missing, of another shape, or in no row of the table is an error.
pub fn map(
    path: &Path,
    dialect: Dialect,
    tensors: &[Named<'_>],
    hparams: &Hparams,
) -> Result<Vec<Target>> {
    let rows = rows(hparams.n_layer);
    let mut by_source: HashMap<&str, (&Expected, usize)> =
        rows.iter().map(|row| (row.source.as_str(), (row, usize::MAX))).collect();
    for (index, tensor) in tensors.iter().enumerate() {
        let canonical = dialect.canonical(tensor.name);
        let slot = by_source.get_mut(canonical.as_str()).ok_or_else(|| {
            Error::malformed(
                path,
                format!("unknown tensor {:?}; RWKV-6 has none of this name", tensor.name),
            )
        })?;
        slot.0.check(path, tensor, hparams)?;
        slot.1 = index;
    }
    let is_missing = |row: &&Expected| {
        by_source.get(row.source.as_str()).is_none_or(|(_, index)| *index == usize::MAX)
    };
    if let Some(row) = rows.iter().find(is_missing) {
        return Err(Error::malformed(path, format!("missing tensor {:?}", row.source)));
    }
    let mut sources: Vec<(&str, &Expected, usize)> =
        by_source.iter().map(|(&source, &(row, index))| (source, row, index)).collect();
    sources.sort_by_key(|(source, ..)| full_name(source));
    Ok(collect(&sources, tensors, hparams))
}

/// A row of the table for one layer.
struct Expected {
    source: String,
    target: String,
    layer: usize,
    row: Row,
}

impl Expected {
    fn check(&self, path: &Path, tensor: &Named<'_>, hparams: &Hparams) -> Result<()> {
        let dims: Vec<usize> = self.row.dims.iter().map(|&dim| hparams.dim(dim)).collect();
        let expected =
            Shape::from_torch(&dims).filter(|shape| shape.squeezed() == tensor.shape.squeezed());
        if expected.is_some() {
            return Ok(());
        }
        let mut found = tensor.shape.dims().to_vec();
        found.reverse();
        let name = format!("tensor {:?}", tensor.name);
        Err(Error::mismatch(path, name, format!("shape {dims:?}"), format!("{found:?}")))
    }
}

fn rows(n_layer: usize) -> Vec<Expected> {
    let global = GLOBAL.iter().map(|row| Expected {
        source: row.source.to_owned(),
        target: row.target.to_owned(),
        layer: 0,
        row: *row,
    });
    let layers = (0..n_layer).flat_map(|layer| {
        LAYER.iter().map(move |row| Expected {
            source: format!("blocks.{layer}.{}", row.source),
            target: format!("blk.{layer}.{}", row.target),
            layer,
            row: *row,
        })
    });
    global.chain(layers).collect()
}

/// The name that decides the order: with `rwkv.` in front of everything but the head.
fn full_name(canonical: &str) -> String {
    if canonical.starts_with("head.") {
        canonical.to_owned()
    } else {
        format!("rwkv.{canonical}")
    }
}

#[expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "every row has been found among the tensors, with the shape that the row asks for; \
              the table has five rows of a stack"
)]
fn collect(
    sources: &[(&str, &Expected, usize)],
    tensors: &[Named<'_>],
    hparams: &Hparams,
) -> Vec<Target> {
    let mut stacks: HashMap<&str, [Option<usize>; 5]> = HashMap::new();
    let mut targets = Vec::new();
    for &(_, row, index) in sources {
        let shape = tensors[index].shape;
        let mut target = Target {
            name: row.target.clone(),
            shape,
            sources: vec![index],
            transform: row.row.transform,
            halvings: 0,
        };
        match row.row.transform {
            Transform::Keep => {}
            Transform::Squeeze => target.shape = shape.squeezed(),
            Transform::Divide => target.halvings = hparams.halvings_before(row.layer),
            Transform::Transpose | Transform::SwapPlanes => {
                let mut dims = shape.dims().to_vec();
                dims.swap(0, 1);
                target.shape = Shape::new(&dims).expect("a permutation of valid dimensions");
            }
            Transform::Stack(position) => {
                let parts = stacks.entry(&row.target).or_default();
                parts[position] = Some(index);
                let complete: Vec<usize> = parts.iter().flatten().copied().collect();
                if complete.len() < parts.len() {
                    continue;
                }
                let dims = [hparams.n_embd, 1, 1, parts.len()];
                target.shape = Shape::new(&dims).expect("five rows of a valid width");
                target.sources = complete;
            }
        }
        targets.push(target);
    }
    targets
}
