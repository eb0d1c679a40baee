//! The files `rwkvq embed` writes: JSON lines, one NumPy array, or one safetensors tensor.

use std::path::Path;

use rwkvq::model::Layer;
use rwkvq::{Error, Result};
use serde_json::{Map, Value};

/// Bytes before the data of a .npy file, a multiple of 64; room for any shape.
const NPY_HEADER: usize = 128;

/// Extensions that promise what is not written here. With any other a file has lines of JSON.
const OTHER_FORMATS: [&str; 10] =
    ["npz", "csv", "tsv", "parquet", "arrow", "h5", "hdf5", "pt", "pth", "gguf"];

/// How embeddings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object a line.
    Jsonl,
    /// `[n_texts, n_layers, n_embd]` f32.
    Npy,
    /// The same as the tensor `embeddings`, with the names of the layers in the metadata.
    Safetensors,
}

impl Format {
    /// The format called `name`, or that of the extension of `output`.
    pub fn choose(name: Option<&str>, output: &Path) -> Result<Self> {
        let extension = output.extension().and_then(|extension| extension.to_str());
        let extension = extension.map(str::to_lowercase);
        match name.or(extension.as_deref()) {
            Some("jsonl" | "json" | "ndjson") => Ok(Self::Jsonl),
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            Some(other) if name.is_some() || OTHER_FORMATS.contains(&other) => {
                Err(Error::argument(format!("format {other:?}: give jsonl, npy or safetensors")))
            }
            _ => Ok(Self::Jsonl),
        }
    }

    /// What the user calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Npy => "npy",
            Self::Safetensors => "safetensors",
        }
    }
}

/// What an output looks like.
pub struct Layout {
    pub format: Format,
    pub layers: Vec<Layer>,
    pub n_embd: usize,
    /// Token ids in each line of JSON.
    pub with_ids: bool,
}

impl Layout {
    /// What stands before the data of `n_texts` texts; its length does not depend on their number.
    pub fn header(&self, n_texts: u64) -> Vec<u8> {
        match self.format {
            Format::Jsonl => Vec::new(),
            Format::Npy => npy_header(n_texts, self.layers.len(), self.n_embd),
            Format::Safetensors => safetensors_header(n_texts, &self.layers, self.n_embd),
        }
    }

    /// One text with its vectors `[n_layers][n_embd]`.
    pub fn row(&self, text: &str, ids: &[u32], vectors: &[f32]) -> Vec<u8> {
        match self.format {
            Format::Jsonl => self.json_line(text, ids, vectors).into_bytes(),
            Format::Npy | Format::Safetensors => {
                vectors.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
        }
    }

    fn json_line(&self, text: &str, ids: &[u32], vectors: &[f32]) -> String {
        let mut line = Map::new();
        line.insert("text".into(), text.into());
        line.insert("n_tokens".into(), ids.len().into());
        if self.with_ids {
            line.insert("token_ids".into(), ids.into());
        }
        let vectors = self.layers.iter().zip(vectors.chunks_exact(self.n_embd));
        let vectors: Map<String, Value> =
            vectors.map(|(layer, vector)| (layer.to_string(), vector.into())).collect();
        line.insert("embeddings".into(), vectors.into());
        let mut line = Value::Object(line).to_string();
        line.push('\n');
        line
    }
}

/// Version 1.0 of the .npy format: magic, version, length, a Python dictionary, padding.
fn npy_header(n_texts: u64, n_layers: usize, n_embd: usize) -> Vec<u8> {
    let shape = format!("({n_texts}, {n_layers}, {n_embd})");
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((NPY_HEADER - 10) as u16).to_le_bytes());
    header.extend(dictionary.as_bytes());
    header.resize(NPY_HEADER - 1, b' ');
    header.push(b'\n');
    header
}

/// Length of the header, the header as JSON, blanks: always as many as the largest number needs.
fn safetensors_header(n_texts: u64, layers: &[Layer], n_embd: usize) -> Vec<u8> {
    let names: Vec<String> = layers.iter().map(Layer::to_string).collect();
    let json = |n_texts: u64, bytes: u64| {
        serde_json::json!({
            "__metadata__": { "layers": names.join(",") },
            "embeddings": {
                "dtype": "F32",
                "shape": [n_texts, layers.len(), n_embd],
                "data_offsets": [0, bytes],
            },
        })
        .to_string()
    };
    let longest = json(u64::MAX, u64::MAX).len().next_multiple_of(8);
    let values = n_texts * layers.len() as u64 * n_embd as u64;
    let mut header = (longest as u64).to_le_bytes().to_vec();
    header.extend(json(n_texts, values * 4).as_bytes());
    header.resize(8 + longest, b' ');
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safetensors_headers_have_a_fixed_length() {
        let layers = [Layer::Block(1), Layer::Final];
        let header = safetensors_header(12, &layers, 64);
        assert_eq!(header.len(), safetensors_header(0, &layers, 64).len());
        assert_eq!(header.len() % 8, 0);
        let json: Value = serde_json::from_slice(&header[8..]).unwrap();
        assert_eq!(json["embeddings"]["shape"], serde_json::json!([12, 2, 64]));
        assert_eq!(json["embeddings"]["data_offsets"], serde_json::json!([0, 12 * 2 * 64 * 4]));
        assert_eq!(json["__metadata__"]["layers"], "1,final");
    }

    #[test]
    fn npy_headers_have_a_fixed_length_and_end_with_a_line_feed() {
        let header = npy_header(u64::MAX, 65, 4096);
        assert_eq!(header.len(), NPY_HEADER);
        assert_eq!(header.last(), Some(&b'\n'));
        assert!(String::from_utf8_lossy(&header).contains("(18446744073709551615, 65, 4096)"));
    }

    #[test]
    fn the_format_follows_the_name_then_the_extension() {
        let choose = |name, path: &str| Format::choose(name, Path::new(path));
        assert_eq!(choose(None, "a.npy").unwrap(), Format::Npy);
        assert_eq!(choose(Some("jsonl"), "a.npy").unwrap(), Format::Jsonl);
        assert_eq!(choose(None, "a.safetensors").unwrap(), Format::Safetensors);
        assert_eq!(choose(None, "-").unwrap(), Format::Jsonl);
        assert_eq!(choose(None, "a.txt").unwrap(), Format::Jsonl);
        assert!(choose(Some("parquet"), "a").is_err());
        assert!(choose(None, "a.npz").is_err() && choose(None, "a.NPZ").is_err());
        assert_eq!(choose(None, "a.NPY").unwrap(), Format::Npy);
        assert_eq!(choose(Some("npy"), "a.npz").unwrap(), Format::Npy);
    }
}
