//! Metadata of the files we write: keys, types and order as llama.cpp writes them.

use serde_json::{Map, Value as Json};

use crate::arch::{keys, rwkv6, Hparams};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gguf::{Array, Metadata, Value};
use crate::recipe::TensorLayout;
use crate::tokenizer::WorldVocab;

/// Version of ggml's quantized formats.
const QUANTIZATION_VERSION: u32 = 2;

/// The token that ends a turn in chats with World models: two line feeds.
const END_OF_TURN: u32 = 261;

/// Token of `config.json` and its key in a GGUF.
const SPECIAL_TOKENS: [(&str, &str); 7] = [
    ("bos_token_id", "tokenizer.ggml.bos_token_id"),
    ("eos_token_id", "tokenizer.ggml.eos_token_id"),
    ("unk_token_id", "tokenizer.ggml.unknown_token_id"),
    ("sep_token_id", "tokenizer.ggml.seperator_token_id"),
    ("pad_token_id", "tokenizer.ggml.padding_token_id"),
    ("cls_token_id", "tokenizer.ggml.cls_token_id"),
    ("mask_token_id", "tokenizer.ggml.mask_token_id"),
];

/// Hint of `generation_config.json`, its key in a GGUF, and whether it is an integer.
const SAMPLING: [(&str, &str, bool); 11] = [
    ("top_k", "top_k", true),
    ("top_p", "top_p", false),
    ("min_p", "min_p", false),
    ("xtc_probability", "xtc_probability", false),
    ("xtc_threshold", "xtc_threshold", false),
    ("temperature", "temp", false),
    ("penalty_last_n", "penalty_last_n", true),
    ("penalty_repeat", "penalty_repeat", false),
    ("mirostat", "mirostat", true),
    ("mirostat_tau", "mirostat_tau", false),
    ("mirostat_eta", "mirostat_eta", false),
];

/// Metadata for a file made from a checkpoint.
pub(super) fn of_checkpoint(
    checkpoint: &Checkpoint,
    hparams: &Hparams,
    vocab: &WorldVocab,
    file_type: u32,
    layout: TensorLayout,
) -> Result<Metadata> {
    let mut all = Metadata::new();
    let mut put = |key: &str, value: Value| all.push((key.to_owned(), value));
    put(keys::ARCHITECTURE, Value::String(keys::RWKV6.into()));
    put("general.type", Value::String("model".into()));
    sampling(checkpoint.generation_config(), &mut put);
    put(keys::NAME, Value::String(checkpoint.name().into()));
    put("general.size_label", Value::String(size_label(checkpoint)));
    put(keys::CONTEXT_LENGTH, Value::U32(rwkv6::CONTEXT_LENGTH));
    let sizes = [(keys::EMBEDDING_LENGTH, hparams.n_embd), (keys::BLOCK_COUNT, hparams.n_layer)];
    for (key, size) in sizes {
        put(key, u32_value(checkpoint, key, size)?);
    }
    put(keys::LAYER_NORM_EPSILON, Value::F32(hparams.layer_norm_eps));
    let sizes = [
        (keys::RESCALE_EVERY, hparams.rescale_every),
        (keys::HEAD_SIZE, hparams.head_size),
        (keys::TIME_MIX_EXTRA_DIM, hparams.low_rank_mix),
        (keys::TIME_DECAY_EXTRA_DIM, hparams.low_rank_decay),
        (keys::FEED_FORWARD_LENGTH, hparams.n_ff),
    ];
    for (key, size) in sizes {
        put(key, u32_value(checkpoint, key, size)?);
    }
    put(keys::FILE_TYPE, Value::U32(file_type));
    put(keys::HEAD_COUNT, Value::U32(0));
    put(keys::QUANTIZATION_VERSION, Value::U32(QUANTIZATION_VERSION));
    let (tokens, types) = vocab.gguf_tokens(hparams.n_vocab)?;
    put(keys::TOKENIZER_MODEL, Value::String("rwkv".into()));
    put(keys::TOKENS, Value::Array(Array::String(tokens)));
    put(keys::TOKEN_TYPES, Value::Array(Array::I32(types)));
    special_tokens(checkpoint.config(), &mut put);
    added_tokens(checkpoint.tokenizer_config(), &mut put);
    Ok(match layout {
        TensorLayout::Converter => all,
        TensorLayout::Quantized => requantized(all, file_type),
    })
}

/// The metadata of a file that is quantized further: the two keys that say so move to the end.
pub(super) fn requantized(mut all: Metadata, file_type: u32) -> Metadata {
    all.retain(|(key, _)| {
        key != keys::QUANTIZATION_VERSION && key != keys::FILE_TYPE && !key.starts_with("split.")
    });
    all.push((keys::QUANTIZATION_VERSION.into(), Value::U32(QUANTIZATION_VERSION)));
    all.push((keys::FILE_TYPE.into(), Value::U32(file_type)));
    all
}

fn u32_value(checkpoint: &Checkpoint, key: &str, size: usize) -> Result<Value> {
    let value = u32::try_from(size);
    value
        .map(Value::U32)
        .map_err(|_| Error::mismatch(checkpoint.path(), key, "a 32-bit number", size))
}

fn sampling(config: Option<&Map<String, Json>>, put: &mut impl FnMut(&str, Value)) {
    for (field, key, is_integer) in SAMPLING {
        let mut value = config.and_then(|config| config.get(field));
        if field == "penalty_repeat" && value.is_none() {
            value = config.and_then(|config| config.get("repetition_penalty"));
        }
        let value = if is_integer {
            value.and_then(Json::as_i64).and_then(|n| i32::try_from(n).ok()).map(Value::I32)
        } else {
            value.and_then(Json::as_f64).map(|n| Value::F32(n as f32))
        };
        if let Some(value) = value {
            put(&format!("general.sampling.{key}"), value);
        }
    }
}

/// Those of config.json in the order of the table, then the end of a turn; the beginning and the
/// end of a text are 0 whatever config.json says, and follow where it says nothing.
fn special_tokens(config: Option<&Map<String, Json>>, put: &mut impl FnMut(&str, Value)) {
    let id = |field: &str| {
        let value = config.and_then(|config| config.get(field)).and_then(Json::as_u64);
        value.and_then(|id| u32::try_from(id).ok())
    };
    let is_text_end = |field: &str| matches!(field, "bos_token_id" | "eos_token_id");
    for (field, key) in SPECIAL_TOKENS {
        if let Some(id) = id(field) {
            put(key, Value::U32(if is_text_end(field) { 0 } else { id }));
        }
    }
    put("tokenizer.ggml.eot_token_id", Value::U32(END_OF_TURN));
    for (field, key) in SPECIAL_TOKENS {
        if is_text_end(field) && id(field).is_none() {
            put(key, Value::U32(0));
        }
    }
}

fn added_tokens(config: Option<&Map<String, Json>>, put: &mut impl FnMut(&str, Value)) {
    for kind in ["bos", "eos", "sep"] {
        let field = format!("add_{kind}_token");
        let value = config.and_then(|config| config.get(&field)).and_then(Json::as_bool);
        if let Some(value) = value {
            put(&format!("tokenizer.ggml.{field}"), Value::Bool(value));
        }
    }
}

/// The number of weights as people write it: `1.6B`, `169M`; two digits at least.
fn size_label(checkpoint: &Checkpoint) -> String {
    let n: f64 = checkpoint.tensors().iter().map(|tensor| tensor.shape.n_elements() as f64).sum();
    let (scaled, unit) = match n {
        n if n > 1e12 => (n / 1e12, 'T'),
        n if n > 1e9 => (n / 1e9, 'B'),
        n if n > 1e6 => (n / 1e6, 'M'),
        n => (n / 1e3, 'K'),
    };
    let digits = format!("{}", scaled.round()).len();
    format!("{scaled:.decimals$}{unit}", decimals = 2usize.saturating_sub(digits))
}
