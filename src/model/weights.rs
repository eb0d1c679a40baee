//! Finds every tensor of the model and checks type and shape, so that nothing after it has to.
//!
//! Fields follow the paper's letters. A field is a number in the list of mapped tensors.

use std::collections::HashSet;

use crate::arch::Hparams;
use crate::error::{Error, Result};
use crate::ggml::{MappedTensor, TensorType};
use crate::gguf::GgufFile;
use crate::shape::Shape;

/// Number of a tensor in the mapped list.
pub(super) type Index = usize;

/// Layer norm or group norm: weight and bias, both `{n_embd}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    pub(super) weight: Index,
    pub(super) bias: Index,
}

/// The five interpolations of the token shift, order w k v r g.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lerps {
    /// `{n_embd, 1, 1, 5}`.
    Fused(Index),
    /// Five of `{n_embd}`, in files written before they were fused.
    Separate([Index; 5]),
}

/// Time mixing of one layer. C = n_embd, S = head size, H = heads, E and D the low ranks.
#[derive(Debug)]
pub(super) struct TimeMix {
    pub(super) lerp_x: Index,     // {C}
    pub(super) lerps: Lerps,      // {C, 5}
    pub(super) w1: Index,         // {C, 5 E}
    pub(super) w2: Index,         // {E, C, 5}
    pub(super) decay: Index,      // {C}
    pub(super) decay_w1: Index,   // {C, D}
    pub(super) decay_w2: Index,   // {D, C}
    pub(super) first: Index,      // {S, H}
    pub(super) receptance: Index, // {C, C}, as the next four
    pub(super) key: Index,
    pub(super) value: Index,
    pub(super) gate: Index,
    pub(super) output: Index,
    pub(super) ln: Norm,
}

/// Channel mixing of one layer. F = n_ff.
#[derive(Debug)]
pub(super) struct ChannelMix {
    pub(super) lerp_k: Index,     // {C}
    pub(super) lerp_r: Index,     // {C}
    pub(super) key: Index,        // {C, F}
    pub(super) receptance: Index, // {C, C}
    pub(super) value: Index,      // {F, C}
}

/// One layer.
#[derive(Debug)]
pub(super) struct LayerWeights {
    pub(super) norm_1: Norm,
    pub(super) time_mix: TimeMix,
    pub(super) norm_2: Norm,
    pub(super) channel_mix: ChannelMix,
}

impl Norm {
    pub(super) fn tensors(&self) -> impl Iterator<Item = Index> {
        [self.weight, self.bias].into_iter()
    }
}

impl LayerWeights {
    /// Every tensor of the layer.
    pub(super) fn tensors(&self) -> Vec<Index> {
        let (t, c) = (&self.time_mix, &self.channel_mix);
        let lerps = match &t.lerps {
            Lerps::Fused(index) => std::slice::from_ref(index),
            Lerps::Separate(parts) => parts,
        };
        let time_mix = [t.lerp_x, t.w1, t.w2, t.decay, t.decay_w1, t.decay_w2, t.first];
        let matrices = [t.receptance, t.key, t.value, t.gate, t.output];
        let channel_mix = [c.lerp_k, c.lerp_r, c.key, c.receptance, c.value];
        let norms = [self.norm_1, self.norm_2, t.ln];
        let norms = norms.iter().flat_map(Norm::tensors);
        let rest = time_mix.into_iter().chain(matrices).chain(channel_mix);
        lerps.iter().copied().chain(rest).chain(norms).collect()
    }
}

/// All tensors of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) token_embd: Index, // {C, V}
    pub(super) token_embd_norm: Norm,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) output_norm: Norm,
    pub(super) output: Index, // {C, V}
}

/// What was found: the tensors in their places, and what each [`Index`] stands for.
pub(super) struct Resolved {
    pub(super) weights: Weights,
    pub(super) mapped: Vec<MappedTensor>,
    pub(super) names: Vec<String>,
}

/// Finds the tensors of an RWKV-6 model in `file`. One that the model has no use for is an error:
/// metadata and tensors would speak of different models.
pub(super) fn resolve(file: &GgufFile, hparams: &Hparams) -> Result<Resolved> {
    let n_tensors = file.tensors().len();
    let mut finder = Finder {
        file,
        mapped: Vec::with_capacity(n_tensors),
        names: Vec::with_capacity(n_tensors),
        used: HashSet::with_capacity(n_tensors),
    };
    let (c, v) = (hparams.n_embd, hparams.n_vocab);
    let weights = Weights {
        token_embd: finder.matrix("token_embd.weight", &[c, v])?,
        token_embd_norm: finder.norm("token_embd_norm", c)?,
        layers: (0..hparams.n_layer)
            .map(|il| finder.layer(hparams, &format!("blk.{il}.")))
            .collect::<Result<_>>()?,
        output_norm: finder.norm("output_norm", c)?,
        output: finder.matrix("output.weight", &[c, v])?,
    };
    if let Some(extra) = file.tensors().iter().find(|tensor| !finder.used.contains(&*tensor.name)) {
        let name = &extra.name;
        let what = format!("tensor {name:?} has no place in a model of {} layers", hparams.n_layer);
        return Err(Error::malformed(file.path(), what));
    }
    Ok(Resolved { weights, mapped: finder.mapped, names: finder.names })
}

struct Finder<'a> {
    file: &'a GgufFile,
    mapped: Vec<MappedTensor>,
    used: HashSet<&'a str>,
    names: Vec<String>,
}

impl Finder<'_> {
    fn layer(&mut self, hparams: &Hparams, blk: &str) -> Result<LayerWeights> {
        Ok(LayerWeights {
            norm_1: self.norm(&format!("{blk}attn_norm"), hparams.n_embd)?,
            time_mix: self.time_mix(hparams, &format!("{blk}time_mix"))?,
            norm_2: self.norm(&format!("{blk}attn_norm_2"), hparams.n_embd)?,
            channel_mix: self.channel_mix(hparams, &format!("{blk}channel_mix"))?,
        })
    }

    fn time_mix(&mut self, hparams: &Hparams, prefix: &str) -> Result<TimeMix> {
        let (c, s, h) = (hparams.n_embd, hparams.head_size, hparams.n_head());
        let (e, d) = (hparams.low_rank_mix, hparams.low_rank_decay);
        let name = |rest: &str| format!("{prefix}_{rest}.weight");
        Ok(TimeMix {
            lerp_x: self.f32(&name("lerp_x"), &[c])?,
            lerps: self.lerps(prefix, c)?,
            w1: self.matrix(&name("w1"), &[c, 5 * e])?,
            w2: self.matrix(&name("w2"), &[e, c, 5])?,
            decay: self.f32(&name("decay"), &[c])?,
            decay_w1: self.matrix(&name("decay_w1"), &[c, d])?,
            decay_w2: self.matrix(&name("decay_w2"), &[d, c])?,
            first: self.f32(&name("first"), &[s, h])?,
            receptance: self.matrix(&name("receptance"), &[c, c])?,
            key: self.matrix(&name("key"), &[c, c])?,
            value: self.matrix(&name("value"), &[c, c])?,
            gate: self.matrix(&name("gate"), &[c, c])?,
            output: self.matrix(&name("output"), &[c, c])?,
            ln: self.norm(&format!("{prefix}_ln"), c)?,
        })
    }

    fn lerps(&mut self, prefix: &str, c: usize) -> Result<Lerps> {
        let fused = format!("{prefix}_lerp_fused.weight");
        let separate = |letter: &str| format!("{prefix}_lerp_{letter}.weight");
        if self.file.tensor(&fused).is_some() || self.file.tensor(&separate("w")).is_none() {
            return Ok(Lerps::Fused(self.f32(&fused, &[c, 1, 1, 5])?));
        }
        let mut parts = [0; 5];
        for (part, letter) in parts.iter_mut().zip(crate::arch::rwkv6::LERP_ORDER) {
            *part = self.f32(&separate(letter), &[c])?;
        }
        Ok(Lerps::Separate(parts))
    }

    fn channel_mix(&mut self, hparams: &Hparams, prefix: &str) -> Result<ChannelMix> {
        let (c, f) = (hparams.n_embd, hparams.n_ff);
        let name = |rest: &str| format!("{prefix}_{rest}.weight");
        Ok(ChannelMix {
            lerp_k: self.f32(&name("lerp_k"), &[c])?,
            lerp_r: self.f32(&name("lerp_r"), &[c])?,
            key: self.matrix(&name("key"), &[c, f])?,
            receptance: self.matrix(&name("receptance"), &[c, c])?,
            value: self.matrix(&name("value"), &[f, c])?,
        })
    }

    fn norm(&mut self, prefix: &str, c: usize) -> Result<Norm> {
        Ok(Norm {
            weight: self.f32(&format!("{prefix}.weight"), &[c])?,
            bias: self.f32(&format!("{prefix}.bias"), &[c])?,
        })
    }

    /// A tensor that element-wise operations read: f32 only.
    fn f32(&mut self, name: &str, dims: &[usize]) -> Result<Index> {
        let index = self.matrix(name, dims)?;
        match self.mapped[index].ty {
            TensorType::F32 => Ok(index),
            other => {
                Err(Error::mismatch(self.file.path(), format!("tensor {name:?}"), "f32", other))
            }
        }
    }

    /// A tensor of any type, with the dimensions `dims` (trailing ones aside).
    fn matrix(&mut self, name: &str, dims: &[usize]) -> Result<Index> {
        let path = self.file.path();
        let found = self.file.tensor(name);
        let found =
            found.ok_or_else(|| Error::malformed(path, format!("missing tensor {name:?}")))?;
        let expected = Shape::new(dims).map(|shape| shape.ne());
        if expected != Some(found.shape.ne()) {
            let name = format!("tensor {name:?}");
            return Err(Error::mismatch(path, name, format!("shape {dims:?}"), found.shape));
        }
        let start = self.file.data_offset().saturating_add(found.offset);
        let offset =
            usize::try_from(start).map_err(|_| Error::malformed(path, "too large to map"))?;
        self.used.insert(&found.name);
        self.mapped.push(MappedTensor {
            ty: found.ty,
            shape: found.shape,
            offset,
            on_device: false,
        });
        self.names.push(name.to_owned());
        Ok(self.mapped.len() - 1)
    }
}
