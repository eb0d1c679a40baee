//! The files `rwkvq embed` writes: JSON lines, one NumPy array, or one safetensors tensor.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rwkvq::embed::Embeddings;
use rwkvq::model::Layer;
use rwkvq::{Error, Result};
use serde_json::{Map, Value};

use crate::output::{partial_beside, put_in_place};

/// Bytes before the data of a .npy file, a multiple of 64; room for any shape.
const NPY_HEADER: usize = 128;

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
        match name.or(extension) {
            Some("jsonl" | "json" | "ndjson") => Ok(Self::Jsonl),
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            Some(other) if name.is_some() => {
                Err(Error::argument(format!("format {other:?}: give jsonl, npy or safetensors")))
            }
            _ => Ok(Self::Jsonl),
        }
    }

    /// What stands before the data of `n_texts` texts; its length does not depend on their number.
    fn header(self, n_texts: usize, layers: &[Layer], n_embd: usize) -> Vec<u8> {
        match self {
            Self::Jsonl => Vec::new(),
            Self::Npy => npy_header(n_texts, layers.len(), n_embd),
            Self::Safetensors => safetensors_header(n_texts, layers, n_embd),
        }
    }
}

/// One text beside its vectors.
pub struct Record<'a> {
    pub text: &'a str,
    pub ids: &'a [u32],
    pub with_ids: bool,
}

/// Takes embeddings in order and writes them; the file appears under its name when it is whole.
pub struct Sink {
    path: PathBuf,
    format: Format,
    layers: Vec<Layer>,
    n_embd: usize,
    n_texts: usize,
    out: Out,
}

enum Out {
    Stdout(BufWriter<io::Stdout>),
    File(BufWriter<tempfile::NamedTempFile>),
}

impl Sink {
    /// Opens `path`, `-` for stdout.
    pub fn create(path: &Path, format: Format, layers: &[Layer], n_embd: usize) -> Result<Self> {
        let out = if path == Path::new("-") {
            if format != Format::Jsonl {
                return Err(Error::argument("npy and safetensors need a file: give --output"));
            }
            Out::Stdout(BufWriter::new(io::stdout()))
        } else {
            Out::File(BufWriter::new(partial_beside(path)?))
        };
        let mut sink = Self {
            path: path.to_owned(),
            format,
            layers: layers.to_vec(),
            n_embd,
            n_texts: 0,
            out,
        };
        let header = format.header(0, layers, n_embd);
        sink.write(&header)?;
        Ok(sink)
    }

    /// Writes the vectors of text `index` of `embeddings`.
    pub fn push(
        &mut self,
        record: &Record<'_>,
        embeddings: &Embeddings,
        index: usize,
    ) -> Result<()> {
        self.n_texts += 1;
        match self.format {
            Format::Jsonl => {
                let line = json_line(record, embeddings, index);
                self.write(line.as_bytes())
            }
            Format::Npy | Format::Safetensors => {
                let width = self.layers.len() * self.n_embd;
                let values = &embeddings.values[index * width..(index + 1) * width];
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.write(&bytes)
            }
        }
    }

    /// Flushes; gives the file its name.
    pub fn finish(mut self) -> Result<()> {
        let path = self.path.clone();
        let failed = |e: io::Error| Error::io(&path, e);
        let header = self.format.header(self.n_texts, &self.layers, self.n_embd);
        match self.out {
            Out::Stdout(ref mut out) => out.flush().map_err(|e| Error::io("stdout", e)),
            Out::File(out) => {
                let mut file = out.into_inner().map_err(|e| failed(e.into_error()))?;
                file.as_file_mut().seek(SeekFrom::Start(0)).map_err(failed)?;
                file.as_file_mut().write_all(&header).map_err(failed)?;
                put_in_place(file, &path)
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let result = match &mut self.out {
            Out::Stdout(out) => out.write_all(bytes),
            Out::File(out) => out.write_all(bytes),
        };
        result.map_err(|e| Error::io(&self.path, e))
    }
}

fn json_line(record: &Record<'_>, embeddings: &Embeddings, index: usize) -> String {
    let mut line = Map::new();
    line.insert("text".into(), record.text.into());
    line.insert("n_tokens".into(), record.ids.len().into());
    if record.with_ids {
        line.insert("token_ids".into(), record.ids.into());
    }
    let vectors: Map<String, Value> = embeddings
        .layers
        .iter()
        .enumerate()
        .map(|(i, layer)| (layer.to_string(), embeddings.get(index, i).into()))
        .collect();
    line.insert("embeddings".into(), vectors.into());
    let mut line = Value::Object(line).to_string();
    line.push('\n');
    line
}

/// Version 1.0 of the .npy format: magic, version, length, a Python dictionary, padding.
fn npy_header(n_texts: usize, n_layers: usize, n_embd: usize) -> Vec<u8> {
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
fn safetensors_header(n_texts: usize, layers: &[Layer], n_embd: usize) -> Vec<u8> {
    let names: Vec<String> = layers.iter().map(Layer::to_string).collect();
    let json = |n_texts: usize, bytes: u64| {
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
    let longest = json(usize::MAX, u64::MAX).len().next_multiple_of(8);
    let values = n_texts as u64 * layers.len() as u64 * n_embd as u64;
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
        let header = npy_header(usize::MAX, 65, 4096);
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
        assert!(choose(Some("parquet"), "a").is_err());
    }
}
