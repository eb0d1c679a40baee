//! The numbers of one layer of one level.

use super::level::Measured;
use super::report::{Binary, Delta, Fidelity, Layer};
use super::{bootstrap, fidelity, metrics, threshold};
use crate::error::Result;
use crate::model;

/// What a level is held against.
pub(super) struct Against<'a> {
    pub(super) labels: &'a [f64],
    /// Labels of the pairs that choose a threshold.
    pub(super) threshold_labels: Option<&'a [f64]>,
    /// The reference level; absent if it failed.
    pub(super) reference: Option<&'a Measured>,
    pub(super) seed: u64,
}

impl Against<'_> {
    /// Row of `layer`, the `i`-th measured, and the p-value of its difference to the reference.
    pub(super) fn layer(
        &self,
        layer: model::Layer,
        i: usize,
        level: &Measured,
        is_reference: bool,
    ) -> Result<(Layer, Option<f64>)> {
        let similarities = &level.similarities[i];
        let reference = self.reference.filter(|_| !is_reference);
        let difference = reference.and_then(|reference| {
            bootstrap::spearman_difference(
                similarities,
                &reference.similarities[i],
                self.labels,
                bootstrap::RESAMPLES,
                self.seed,
            )
        });
        let row = Layer {
            layer: layer.to_string(),
            spearman: metrics::spearman(similarities, self.labels),
            spearman_ci95: bootstrap::spearman_interval(
                similarities,
                self.labels,
                bootstrap::RESAMPLES,
                self.seed,
            ),
            pearson: metrics::pearson(similarities, self.labels),
            binary: self.binary(i, level),
            delta_spearman: difference.map(|difference| Delta {
                value: difference.value,
                ci95: Some(difference.ci95),
                p_holm: None,
            }),
            fidelity: reference.map(|reference| fidelity_of(reference, level, i)).transpose()?,
        };
        Ok((row, difference.map(|difference| difference.p_value)))
    }

    fn binary(&self, i: usize, level: &Measured) -> Option<Binary> {
        let threshold = threshold::best(&level.threshold_similarities[i], self.threshold_labels?)?;
        let judged = threshold::judge(&level.similarities[i], self.labels, threshold)?;
        Some(Binary { threshold, accuracy: judged.accuracy, f1: judged.f1 })
    }
}

fn fidelity_of(reference: &Measured, level: &Measured, layer: usize) -> Result<Fidelity> {
    let (a, b) = (reference.embeddings.layer(layer)?, level.embeddings.layer(layer)?);
    let cosines = fidelity::embedding_fidelity(&a, &b, level.embeddings.n_embd());
    Ok(Fidelity {
        mean_cosine: cosines.as_ref().map(|cosines| cosines.mean_cosine),
        min_cosine: cosines.as_ref().map(|cosines| cosines.min_cosine),
        similarity_spearman: fidelity::similarity_spearman(
            &reference.similarities[layer],
            &level.similarities[layer],
        ),
    })
}
