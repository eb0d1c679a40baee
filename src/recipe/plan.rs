//! A recipe applied to one model: every tensor's type and the rule that decided it.

use super::{Choice, Recipe, Rule, TensorLayout};
use crate::error::{Error, Result};
use crate::ggml::{requires_importance, TensorType};
use crate::shape::Shape;

/// A tensor to plan for.
#[derive(Debug, Clone)]
pub struct PlanTensor {
    /// Name in the GGUF.
    pub name: String,
    /// Shape in the GGUF.
    pub shape: Shape,
    /// Type it has, or would have if it is not quantized.
    pub ty: TensorType,
}

/// One tensor of the file to write.
#[derive(Debug, Clone)]
pub struct PlanRow {
    /// Index in the list the plan was made for.
    pub source: usize,
    /// Name in the GGUF.
    pub name: String,
    /// Shape in the GGUF, with the rank that is written.
    pub shape: Shape,
    /// Type before.
    pub from: TensorType,
    /// Type after.
    pub to: TensorType,
    /// Bytes after.
    pub bytes: u64,
    /// The reason of the rule that decided, or what stood in for the type it named.
    pub why: String,
    /// The type that the rule named, where its blocks do not fill the rows.
    pub instead_of: Option<TensorType>,
    /// True if an importance matrix has weights for it.
    pub weighted: bool,
}

/// What to write, in order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the preset.
    pub preset: String,
    /// Value of `general.file_type`.
    pub file_type: u32,
    /// Order and ranks.
    pub layout: TensorLayout,
    /// The tensors.
    pub rows: Vec<PlanRow>,
}

impl Plan {
    /// Applies `recipe` to `tensors` of a model with `n_layer` layers. `has_weights` tells which
    /// of them an importance matrix covers.
    pub fn new(
        recipe: &Recipe,
        layout: TensorLayout,
        n_layer: usize,
        tensors: &[PlanTensor],
        has_weights: &dyn Fn(&PlanTensor) -> bool,
    ) -> Result<Self> {
        let mut rows = tensors
            .iter()
            .enumerate()
            .map(|(source, tensor)| {
                let row = plan_row(recipe, layout, n_layer, source, tensor)?;
                weigh(row, recipe.file_type, has_weights(tensor))
            })
            .collect::<Result<Vec<_>>>()?;
        if layout == TensorLayout::Quantized {
            rows.sort_by(|a, b| sort_key(&a.name).cmp(&sort_key(&b.name)));
        }
        let plan = Self { preset: recipe.name.clone(), file_type: recipe.file_type, layout, rows };
        plan.total_bytes()?;
        Ok(plan)
    }

    /// Bytes of all tensors, without padding.
    pub fn total_bytes(&self) -> Result<u64> {
        let sum = self.rows.iter().try_fold(0u64, |sum, row| sum.checked_add(row.bytes));
        sum.ok_or_else(|| Error::argument("the model is larger than any file can be"))
    }

    /// Bits per weight over all tensors.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: f64 = self.rows.iter().map(|row| row.shape.n_elements() as f64).sum();
        let bytes: f64 = self.rows.iter().map(|row| row.bytes as f64).sum();
        bytes * 8.0 / weights
    }
}

/// The type that stands in for `ty` where its blocks do not fill rows of `n_cols` weights, as
/// llama.cpp chooses it; `None` if there is no such type.
pub fn fallback(ty: TensorType, n_cols: usize) -> Option<TensorType> {
    use TensorType as T;
    if n_cols.is_multiple_of(ty.block_len()) {
        return Some(ty);
    }
    let narrower = match ty {
        T::Q2_K | T::Q3_K | T::TQ1_0 | T::TQ2_0 => T::Q4_0,
        T::Q4_K => T::Q5_0,
        T::Q5_K => T::Q5_1,
        T::Q6_K => T::Q8_0,
        T::IQ1_S | T::IQ1_M | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS | T::IQ3_S => {
            T::IQ4_NL
        }
        T::IQ4_XS => T::IQ4_NL,
        _ if ty.block_len() <= 32 => T::F16,
        _ => return None,
    };
    Some(if n_cols.is_multiple_of(narrower.block_len()) { narrower } else { T::F16 })
}

fn plan_row(
    recipe: &Recipe,
    layout: TensorLayout,
    n_layer: usize,
    source: usize,
    tensor: &PlanTensor,
) -> Result<PlanRow> {
    let shape = match layout {
        TensorLayout::Converter => tensor.shape,
        TensorLayout::Quantized => tensor.shape.trimmed(),
    };
    let (choice, why) = decide(recipe, n_layer, tensor);
    let wanted = match choice {
        Choice::Keep => tensor.ty,
        Choice::Type(ty) => ty,
    };
    let no_type = || {
        let n_cols = shape.n_cols();
        let what =
            format!("{}: rows of {n_cols} do not fill {wanted} blocks; add a rule", tensor.name);
        Error::argument(what)
    };
    let to = fallback(wanted, shape.n_cols()).ok_or_else(no_type)?;
    let row_bytes = to.row_bytes(shape.n_cols()).ok_or_else(no_type)?;
    let bytes = (row_bytes as u64).checked_mul(shape.n_rows() as u64).ok_or_else(no_type)?;
    let instead_of = (to != wanted).then_some(wanted);
    Ok(PlanRow {
        source,
        name: tensor.name.clone(),
        shape,
        from: tensor.ty,
        to,
        bytes,
        why,
        instead_of,
        weighted: false,
    })
}

/// The row with its weights, which some types cannot do without.
fn weigh(mut row: PlanRow, file_type: u32, has_weights: bool) -> Result<PlanRow> {
    row.weighted = has_weights && row.to != row.from && row.to.is_quantized();
    if row.to != row.from && !row.weighted && needs_weights(&row.name, row.to, file_type) {
        let what = format!(
            "{}: {} needs an importance matrix; give one that covers it with --imatrix, or choose \
             another type",
            row.name, row.to
        );
        return Err(Error::argument(what));
    }
    Ok(row)
}

/// True where ggml cannot quantize without weights, and where llama-quantize refuses to because
/// the result would be of no use.
fn needs_weights(name: &str, ty: TensorType, file_type: u32) -> bool {
    use TensorType as T;
    /// llama.cpp's number of Q2_K_S.
    const Q2_K_S: u32 = 21;
    let is_table = matches!(name, "token_embd.weight" | "output.weight");
    let is_useless = match ty {
        T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS | T::IQ1_S | T::IQ1_M => true,
        T::Q2_K => file_type == Q2_K_S,
        _ => false,
    };
    requires_importance(ty) || (is_useless && !is_table)
}

fn decide(recipe: &Recipe, n_layer: usize, tensor: &PlanTensor) -> (Choice, String) {
    if tensor.shape.trimmed().rank() < 2 || !tensor.name.ends_with(".weight") {
        return (Choice::Keep, "vectors are never quantized".into());
    }
    match recipe.rules.iter().find(|rule| applies(rule, n_layer, tensor)) {
        Some(rule) => (rule.choice, rule.why.clone()),
        None => (Choice::Type(recipe.default), "default".into()),
    }
}

fn applies(rule: &Rule, n_layer: usize, tensor: &PlanTensor) -> bool {
    let layer_fits = rule
        .layers
        .is_none_or(|range| layer_of(&tensor.name).is_some_and(|il| range.contains(il, n_layer)));
    let row_fits =
        rule.row_multiple_of.is_none_or(|multiple| tensor.shape.n_cols().is_multiple_of(multiple));
    layer_fits && row_fits && rule.tensors.is_match(&tensor.name)
}

/// The N of `blk.N.`.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// Tensors outside the layers first, by name; then by layer, by name.
fn sort_key(name: &str) -> (Option<usize>, &str) {
    (layer_of(name), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallbacks_are_llama_cpps() {
        use TensorType as T;
        let table = [
            (T::Q4_K, 256, Some(T::Q4_K)),
            (T::Q4_K, 896, Some(T::Q5_0)),
            (T::Q5_K, 96, Some(T::Q5_1)),
            (T::Q6_K, 96, Some(T::Q8_0)),
            (T::Q3_K, 96, Some(T::Q4_0)),
            (T::Q2_K, 96, Some(T::Q4_0)),
            (T::Q4_K, 33, Some(T::F16)),
            (T::Q8_0, 33, Some(T::F16)),
            (T::F16, 33, Some(T::F16)),
        ];
        for (ty, n_cols, expected) in table {
            assert_eq!(fallback(ty, n_cols), expected, "{ty} rows of {n_cols}");
        }
    }

    #[test]
    fn layers_sort_by_number_after_the_rest() {
        let mut names = ["blk.10.a", "output.weight", "blk.2.b", "blk.2.a", "token_embd.weight"];
        names.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        assert_eq!(names, ["output.weight", "token_embd.weight", "blk.2.a", "blk.2.b", "blk.10.a"]);
    }
}
