//! Text to embeddings: hidden vectors of every layer asked for, pooled over the tokens.
//!
//! In: a model, texts. Out: [`Embeddings`].

mod pooling;

use std::sync::Arc;

pub use pooling::Pooling;

use crate::error::{Error, Result};
use crate::model::{Layer, LayerSelection, Model, Session, SessionOptions, Workload};
use crate::tokenizer::Tokenizer;

/// What to compute and how.
#[derive(Debug, Clone)]
pub struct EmbedOptions {
    /// Which layers.
    pub layers: LayerSelection,
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// Scale each vector to length one.
    pub normalize: bool,
    /// How the model runs.
    pub session: SessionOptions,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self {
            layers: LayerSelection::only_final(),
            pooling: Pooling::Mean,
            normalize: false,
            session: SessionOptions::default(),
        }
    }
}

/// Vectors of some texts: `[n_texts][n_layers][n_embd]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// The layers, ascending.
    pub layers: Vec<Layer>,
    /// Length of a vector.
    pub n_embd: usize,
    /// Tokens of each text.
    pub n_tokens: Vec<usize>,
    /// All vectors, `[text][layer][n_embd]`.
    pub values: Vec<f32>,
}

impl Embeddings {
    /// Number of texts.
    pub fn n_texts(&self) -> usize {
        self.n_tokens.len()
    }

    /// The vector of text `text` at the layer with index `layer` in [`layers`](Self::layers).
    ///
    /// # Panics
    /// If there is no such text or layer, or the fields do not fit together.
    pub fn get(&self, text: usize, layer: usize) -> &[f32] {
        let start = (text * self.layers.len() + layer) * self.n_embd;
        &self.values[start..start + self.n_embd]
    }
}

/// Turns texts into embeddings with one session of its own.
#[derive(Debug)]
pub struct Embedder {
    session: Session,
    layers: Vec<Layer>,
    pooling: Pooling,
    normalize: bool,
}

impl Embedder {
    /// An embedder over `model`. Fails if a layer is not there or memory is short.
    pub fn new(model: &Arc<Model>, options: EmbedOptions) -> Result<Self> {
        let layers = options.layers.resolve(model.hparams().n_layer)?;
        let session = Session::new(Arc::clone(model), options.session)?;
        Ok(Self { session, layers, pooling: options.pooling, normalize: options.normalize })
    }

    /// The layers it computes, ascending.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The session it runs.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Rows computed so far.
    pub fn workload(&self) -> Workload {
        self.session.workload()
    }

    /// Embeds `texts` with the model's own tokenizer.
    pub fn embed(&mut self, texts: &[&str]) -> Result<Embeddings> {
        let model = Arc::clone(self.session.model());
        self.embed_with(model.tokenizer()?, texts)
    }

    /// Embeds `texts` with another tokenizer.
    pub fn embed_with(&mut self, tokenizer: &Tokenizer, texts: &[&str]) -> Result<Embeddings> {
        let encode = |(i, text): (usize, &&str)| match tokenizer.encode(text)? {
            ids if ids.is_empty() => Err(Error::argument(format!("text {} is empty", i + 1))),
            ids => Ok(ids),
        };
        let ids: Vec<_> = texts.iter().enumerate().map(encode).collect::<Result<_>>()?;
        self.embed_ids(&ids)
    }

    /// Embeds texts given as token ids.
    pub fn embed_ids(&mut self, texts: &[Vec<u32>]) -> Result<Embeddings> {
        let n_embd = self.session.model().hparams().n_embd;
        let width = self.layers.len() * n_embd;
        let mut values = vec![0f32; texts.len() * width];
        self.embed_each(texts, |text, vectors| {
            values[text * width..(text + 1) * width].copy_from_slice(vectors);
            Ok(())
        })?;
        let n_tokens = texts.iter().map(Vec::len).collect();
        Ok(Embeddings { layers: self.layers.clone(), n_embd, n_tokens, values })
    }

    /// Embeds texts given as token ids and hands over the index and the vectors
    /// `[n_layers][n_embd]` of each as soon as they are known: in order, if the session has one
    /// lane. Ends with the first error that `receive` returns.
    pub fn embed_each(
        &mut self,
        texts: &[Vec<u32>],
        mut receive: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let n_embd = self.session.model().hparams().n_embd;
        let mut vectors = vec![0f32; self.layers.len() * n_embd];
        let (pooling, normalize) = (self.pooling, self.normalize);
        self.session.run(texts, &self.layers, pooling.segment(), |pooled| {
            let outs = vectors.chunks_exact_mut(n_embd);
            for (values, out) in pooled.values.chunks_exact(n_embd).zip(outs) {
                pooling.finish(values, texts[pooled.text].len(), normalize, out);
            }
            receive(pooled.text, &vectors)
        })
    }
}
