//! Which RWKV a checkpoint is, from the names of its tensors.

use std::fmt;
use std::path::Path;

use super::Named;
use crate::error::{Error, Result};

/// Who named the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `rwkv.blocks.0.attention.time_maa_x`, as Hugging Face repositories.
    HuggingFace,
    /// `blocks.0.att.time_maa_x`, as BlinkDL's original files.
    BlinkDl,
}

impl Dialect {
    /// The Hugging Face spelling of `name`, without the `rwkv.` in front.
    pub fn canonical(self, name: &str) -> String {
        match self {
            Self::HuggingFace => name.strip_prefix("rwkv.").unwrap_or(name).to_owned(),
            Self::BlinkDl => match name.strip_prefix("emb.") {
                Some(rest) => format!("embeddings.{rest}"),
                None => name
                    .replace(".att.", ".attention.")
                    .replace(".ffn.", ".feed_forward.")
                    .replace(".ln0.", ".pre_ln."),
            },
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HuggingFace => "Hugging Face names",
            Self::BlinkDl => "BlinkDL names",
        })
    }
}

/// Tensors that only one architecture has, the most telling first. RWKV-6 is not in this list.
const OTHERS: [(&str, &str); 9] = [
    (".r_k", "RWKV-7"),
    (".x_r", "RWKV-7"),
    (".attn.x_x", "RWKV-7"),
    (".x_proj.", "an fla RWKV-6"),
    (".time_mix_g", "RWKV-5"),
    (".attention.gate.", "RWKV-5"),
    (".att.gate.", "RWKV-5"),
    (".time_first", "RWKV-4"),
    (".time_mix_k", "RWKV-4"),
];

/// The naming dialect of an RWKV-6 checkpoint; an error that names the architecture otherwise.
pub fn detect(path: &Path, model_type: Option<&str>, tensors: &[Named<'_>]) -> Result<Dialect> {
    let has = |part: &str| tensors.iter().any(|tensor| tensor.name.contains(part));
    let dialects =
        [(".attention.time_maa_w1", Dialect::HuggingFace), (".att.time_maa_w1", Dialect::BlinkDl)];
    if let Some((_, dialect)) = dialects.iter().find(|(telling, _)| has(telling)) {
        return match model_type {
            None | Some("rwkv6") => Ok(*dialect),
            Some(other) => {
                let what = "model_type in config.json";
                Err(Error::mismatch(path, what, "rwkv6 (as the tensors are)", other))
            }
        };
    }
    let found = OTHERS.iter().find(|(telling, _)| has(telling)).map(|(_, name)| *name);
    Err(Error::unsupported(path, unsupported(found, model_type)))
}

fn unsupported(found: Option<&str>, model_type: Option<&str>) -> String {
    let what = match (found, model_type) {
        (Some(name), _) => format!("this is {name}"),
        (None, Some(model_type)) => format!("this is a {model_type:?} model"),
        (None, None) => "no RWKV tensors were found".to_owned(),
    };
    format!("{what}; only RWKV-6 (Finch) is supported")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    fn detect_names(names: &[&str]) -> Result<Dialect> {
        let shape = Shape::new(&[1]).unwrap();
        let named: Vec<_> = names.iter().map(|name| Named { name, shape }).collect();
        detect(Path::new("m"), None, &named)
    }

    #[test]
    fn both_dialects_of_rwkv6() {
        let hf = detect_names(&["rwkv.blocks.0.attention.time_maa_w1"]).unwrap();
        assert_eq!(hf, Dialect::HuggingFace);
        assert_eq!(hf.canonical("rwkv.blocks.1.ln1.weight"), "blocks.1.ln1.weight");
        let original = detect_names(&["blocks.0.att.time_maa_w1"]).unwrap();
        assert_eq!(original, Dialect::BlinkDl);
        assert_eq!(original.canonical("emb.weight"), "embeddings.weight");
        assert_eq!(original.canonical("blocks.0.ln0.bias"), "blocks.0.pre_ln.bias");
        assert_eq!(
            original.canonical("blocks.3.ffn.key.weight"),
            "blocks.3.feed_forward.key.weight"
        );
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        let cases = [
            ("rwkv.blocks.0.attention.time_first", "RWKV-4"),
            ("rwkv.blocks.0.attention.time_mix_gate", "RWKV-5"),
            ("blocks.0.att.r_k", "RWKV-7"),
            ("model.layers.0.attn.x_r", "RWKV-7"),
            ("model.layers.0.attn.x_proj.0.weight", "fla RWKV-6"),
            ("model.layers.0.self_attn.q_proj.weight", "no RWKV tensors"),
        ];
        for (name, expected) in cases {
            let message = detect_names(&[name]).unwrap_err().to_string();
            assert!(message.contains(expected), "{name}: {message}");
        }
    }
}
