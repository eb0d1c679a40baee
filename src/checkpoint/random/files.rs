//! The files of a random checkpoint. The config comes last: a folder that has one is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{json, Map, Value};

use super::weights::{self, Tensor};
use super::{vocabulary, Spec};
use crate::error::{Error, Result};
use crate::ggml::TensorType;
use crate::progress::Progress;

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";
const VOCABULARY: &str = "rwkv_vocab_v20230424.txt";

/// Bytes of weights in memory at a time.
const CHUNK_BYTES: usize = 8 << 20;

pub(super) fn write(dir: &Path, spec: &Spec, progress: &dyn Progress) -> Result<()> {
    let tensors = weights::tensors(spec);
    let shards = split(&tensors, spec.shards);
    let mut names: Vec<String> = (0..shards.len()).map(|i| shard_name(i, shards.len())).collect();
    names.extend([INDEX, VOCABULARY, CONFIG].map(String::from));
    refuse_existing(dir, &names)?;
    let new_dir = !dir.exists();
    fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    let mut written = Written { paths: Vec::new(), new_dir: new_dir.then(|| dir.into()) };
    write_all(dir, spec, &tensors, &shards, progress, &mut written)?;
    written.keep();
    Ok(())
}

fn write_all(
    dir: &Path,
    spec: &Spec,
    tensors: &[Tensor],
    shards: &[Range<usize>],
    progress: &dyn Progress,
    written: &mut Written,
) -> Result<()> {
    let total: u64 = tensors.iter().map(|tensor| n_bytes(tensor, spec.ty)).sum();
    progress.begin("random weights", total);
    let mut places = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = shard_name(i, shards.len());
        write_shard(dir.join(&name), &tensors[shard.clone()], spec, progress, written)?;
        places
            .extend(tensors[shard.clone()].iter().map(|tensor| (tensor.name.clone(), json!(name))));
    }
    if shards.len() > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
        write_text(dir.join(INDEX), &pretty(&index), written)?;
    }
    write_text(dir.join(VOCABULARY), &vocabulary::text(spec.n_vocab), written)?;
    write_text(dir.join(CONFIG), &pretty(&config(spec)), written)
}

/// The keys of the published configs, with what is known to be wrong in them: 64 heads whatever
/// the width, and no width of the channel mix (unless it is not the derived one, which a reader
/// could not guess).
fn config(spec: &Spec) -> Value {
    let own_width = spec.n_ff.filter(|&width| width != spec.derived_ff_width());
    json!({
        "architectures": ["Rwkv6ForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_rwkv6.Rwkv6Config",
            "AutoModelForCausalLM": "modeling_rwkv6.Rwkv6ForCausalLM"
        },
        "attention_hidden_size": spec.n_embd,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "head_size": spec.head_size,
        "head_size_divisor": 8,
        "hidden_size": spec.n_embd,
        "intermediate_size": own_width,
        "layer_norm_epsilon": 1e-5,
        "model_type": "rwkv6",
        "num_attention_heads": 64,
        "num_hidden_layers": spec.n_layer,
        "rescale_every": spec.rescale_every,
        "tie_word_embeddings": false,
        "transformers_version": "4.34.0",
        "use_cache": true,
        "vocab_size": spec.n_vocab
    })
}

fn write_shard(
    path: PathBuf,
    tensors: &[Tensor],
    spec: &Spec,
    progress: &dyn Progress,
    written: &mut Written,
) -> Result<()> {
    let mut file = written.create(&path)?;
    let io = |e| Error::io(&path, e);
    file.write_all(&header(tensors, spec.ty)).map_err(io)?;
    let size = spec.ty.block_bytes();
    let mut chunk = vec![0u8; CHUNK_BYTES];
    for tensor in tensors {
        let n = tensor.n_elements();
        for start in (0..n).step_by(CHUNK_BYTES / size) {
            if progress.cancelled() {
                return Err(Error::Interrupted);
            }
            let bytes = &mut chunk[..CHUNK_BYTES.min((n - start) * size)];
            tensor.fill(spec.seed, start, spec.ty, bytes);
            file.write_all(bytes).map_err(io)?;
            progress.advance(bytes.len() as u64);
        }
    }
    file.flush().map_err(io)
}

/// u64 length, then JSON padded with spaces to a multiple of 8.
fn header(tensors: &[Tensor], ty: TensorType) -> Vec<u8> {
    let dtype = ty.name().to_uppercase();
    let mut map = Map::new();
    map.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + n_bytes(tensor, ty);
        let entry = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, end] });
        map.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut json = Value::Object(map).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    header
}

fn n_bytes(tensor: &Tensor, ty: TensorType) -> u64 {
    tensor.n_elements() as u64 * ty.block_bytes() as u64
}

/// Ranges of tensors with about the same number of weights, none of them empty.
fn split(tensors: &[Tensor], n_shards: usize) -> Vec<Range<usize>> {
    let total: u128 = tensors.iter().map(|tensor| tensor.n_elements() as u128).sum();
    let (mut start, mut sum) = (0, 0u128);
    let mut shards = Vec::new();
    for i in 1..=n_shards {
        let last_start = tensors.len() - (n_shards - i);
        let mut end = start;
        while end < last_start && (end == start || sum * (n_shards as u128) < total * i as u128) {
            sum += tensors[end].n_elements() as u128;
            end += 1;
        }
        shards.push(start..end);
        start = end;
    }
    shards
}

fn shard_name(i: usize, n: usize) -> String {
    match n {
        1 => "model.safetensors".into(),
        _ => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn write_text(path: PathBuf, text: &str, written: &mut Written) -> Result<()> {
    let mut file = BufWriter::new(written.create(&path)?);
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(|e| Error::io(&path, e))
}

fn refuse_existing(dir: &Path, names: &[String]) -> Result<()> {
    match names.iter().find(|name| dir.join(name).symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(name) => Err(Error::argument(format!(
            "{} already holds {name}; choose an empty or a new folder",
            dir.display()
        ))),
    }
}

/// Files made so far; dropped without `keep`, it removes them again.
struct Written {
    paths: Vec<PathBuf>,
    new_dir: Option<PathBuf>,
}

impl Written {
    fn create(&mut self, path: &Path) -> Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|e| Error::io(path, e))?;
        self.paths.push(path.into());
        Ok(file)
    }

    fn keep(mut self) {
        self.paths.clear();
        self.new_dir = None;
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // A file that will not go is no worse than the error already under way.
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
        if let Some(dir) = &self.new_dir {
            let _ = fs::remove_dir(dir);
        }
    }
}
