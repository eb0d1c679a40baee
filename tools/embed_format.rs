//! The files `rwkvq embed` writes: JSON lines, or one NumPy array.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rwkvq::embed::Embeddings;
use rwkvq::model::Layer;
use rwkvq::{Error, Result};
use serde_json::{Map, Value};

/// Bytes before the data of a .npy file, a multiple of 64; room for any shape.
const NPY_HEADER: usize = 128;

/// How embeddings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object a line.
    Jsonl,
    /// `[n_texts, n_layers, n_embd]` f32.
    Npy,
}

impl Format {
    /// The format called `name`, or that of the extension of `output`.
    pub fn choose(name: Option<&str>, output: &Path) -> Result<Self> {
        let extension = output.extension().and_then(|extension| extension.to_str());
        match name.or(extension) {
            Some("jsonl" | "json" | "ndjson") => Ok(Self::Jsonl),
            Some("npy") => Ok(Self::Npy),
            Some(other) if name.is_some() => {
                Err(Error::argument(format!("format {other:?}: give jsonl or npy")))
            }
            _ => Ok(Self::Jsonl),
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
    File(BufWriter<tempfile::NamedTempFile<File>>),
}

impl Sink {
    /// Opens `path`, `-` for stdout.
    pub fn create(path: &Path, format: Format, layers: &[Layer], n_embd: usize) -> Result<Self> {
        let out = if path == Path::new("-") {
            if format == Format::Npy {
                return Err(Error::argument("npy needs a file: give --output"));
            }
            Out::Stdout(BufWriter::new(io::stdout()))
        } else {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let file = tempfile::Builder::new()
                .prefix(".rwkvq-")
                .suffix(".partial")
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(folder)
                .map_err(|e| Error::io(folder, e))?;
            Out::File(BufWriter::new(file))
        };
        let (layers, path) = (layers.to_vec(), path.to_owned());
        let mut sink = Self { path, format, layers, n_embd, n_texts: 0, out };
        if format == Format::Npy {
            sink.write(&[0; NPY_HEADER])?;
        }
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
            Format::Npy => {
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
        let header = npy_header(self.n_texts, self.layers.len(), self.n_embd);
        match self.out {
            Out::Stdout(ref mut out) => out.flush().map_err(|e| Error::io("stdout", e)),
            Out::File(out) => {
                let mut file = out.into_inner().map_err(|e| failed(e.into_error()))?;
                if self.format == Format::Npy {
                    file.as_file_mut().seek(SeekFrom::Start(0)).map_err(failed)?;
                    file.as_file_mut().write_all(&header).map_err(failed)?;
                }
                file.as_file().sync_all().map_err(failed)?;
                file.persist(&path).map_err(|e| failed(e.error))?;
                Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(choose(None, "-").unwrap(), Format::Jsonl);
        assert!(choose(Some("parquet"), "a").is_err());
    }
}
