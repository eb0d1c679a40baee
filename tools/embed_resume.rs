//! What a stopped run of `rwkvq embed` leaves beside its output, so that `--resume` can go on.
//!
//! `OUT.partial` holds the output so far and `OUT.resume`, a JSON object, says how much of it is
//! whole, how far the input was read for it, and which run it was:
//!
//! ```text
//! {"job": {"program": .., "model": .., "layers": .., ..},
//!  "texts": 900, "output_bytes": 81920,
//!  "input": {"bytes": 65536, "lines": 901, "sha256": ".."}}
//! ```

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rwkvq::model::Model;
use rwkvq::{Error, Result};
use serde_json::{json, Map, Value};

use crate::embed_input::Place;
use crate::output::sync_folder;

/// A record longer than this is none.
const MAX_BYTES: u64 = 1 << 20;

/// All that decides the bytes of an output, but the input: option by option.
pub type Terms = Map<String, Value>;

/// The terms of a run. The hash of the model takes a while, so it is made when first needed.
pub struct Job {
    options: Terms,
    model: Arc<Model>,
    terms: OnceCell<Terms>,
}

impl Job {
    pub fn new(options: Terms, model: Arc<Model>) -> Self {
        Self { options, model, terms: OnceCell::new() }
    }

    /// About how long the hash of the model will take, on a processor with instructions for it;
    /// nothing if it is there, or if nobody would notice.
    pub fn hash_time(&self) -> Duration {
        const BYTES_PER_S: f64 = 1e9;
        const NOTICED: Duration = Duration::from_millis(50);
        let seconds = self.model.file().file_bytes() as f64 / BYTES_PER_S;
        let time = Duration::from_secs_f64(seconds);
        if self.terms.get().is_some() || time < NOTICED {
            Duration::ZERO
        } else {
            time
        }
    }

    pub fn terms(&self) -> Result<&Terms> {
        if let Some(terms) = self.terms.get() {
            return Ok(terms);
        }
        let mut terms = self.options.clone();
        terms.insert("model".into(), self.model.file().sha256()?.into());
        Ok(self.terms.get_or_init(|| terms))
    }
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Reached {
    /// Texts whose vectors are in the output.
    pub n_texts: u64,
    /// Bytes of the output up to their end.
    pub output_bytes: u64,
    /// Where their input ends.
    pub place: Place,
}

/// What stands in the file beside the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub terms: Terms,
    pub reached: Reached,
}

/// The name of the output of `path` while it is not whole.
pub fn partial_path(path: &Path) -> PathBuf {
    with_suffix(path, ".partial")
}

/// The name of the record beside it.
pub fn record_path(path: &Path) -> PathBuf {
    with_suffix(path, ".resume")
}

/// All files that a run with the output `path` writes or removes.
pub fn written_for(path: &Path) -> [PathBuf; 4] {
    let record = record_path(path);
    [path.to_owned(), partial_path(path), new_record_path(&record), record]
}

/// The name of a record while it is not whole.
fn new_record_path(record: &Path) -> PathBuf {
    with_suffix(record, ".new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Record {
    /// Reads the record at `path`; none if there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let failed = |e| Error::io(path, e);
        let size = match fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            size => size.map_err(failed)?.len(),
        };
        let bytes = if size > MAX_BYTES { Vec::new() } else { fs::read(path).map_err(failed)? };
        let record = serde_json::from_slice(&bytes).ok().and_then(|json| Self::from_json(&json));
        record.map(Some).ok_or_else(|| {
            let what = "not a record that embed has written; remove it to begin again";
            Error::malformed(path, what)
        })
    }

    /// Puts the record at `path` in place of the former one, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let Reached { n_texts, output_bytes, place } = &self.reached;
        let json = json!({
            "job": self.terms,
            "texts": n_texts,
            "output_bytes": output_bytes,
            "input": { "bytes": place.bytes, "lines": place.lines, "sha256": place.sha256 },
        });
        // The name is always the same, so that killed runs do not leave more and more files.
        let new = new_record_path(path);
        let mut file = File::create(&new).map_err(|e| Error::io(&new, e))?;
        file.write_all(json.to_string().as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, path))
            .map_err(|e| Error::io(&new, e))?;
        sync_folder(path)
    }

    /// Removes the record at `path`, and what a killed run may have left of one.
    pub fn remove(path: &Path) -> Result<()> {
        for path in [new_record_path(path), path.to_owned()] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(&path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Fails, naming the first difference, if this is the record of a run on other terms.
    pub fn check(&self, terms: &Terms, path: &Path) -> Result<()> {
        let differs = |name: &&String| self.terms.get(*name) != terms.get(*name);
        let Some(name) = self.terms.keys().chain(terms.keys()).find(differs) else {
            return Ok(());
        };
        let show = |terms: &Terms| terms.get(name).map_or("none".into(), Value::to_string);
        Err(Error::argument(format!(
            "--resume: {}: the stopped run had {name} {}, this one has {}; give what it had, or \
             remove that file to begin again",
            path.display(),
            show(&self.terms),
            show(terms)
        )))
    }

    fn from_json(json: &Value) -> Option<Self> {
        let input = json.get("input")?;
        let number = |json: &Value, key: &str| json.get(key)?.as_u64();
        let place = Place {
            bytes: number(input, "bytes")?,
            lines: number(input, "lines")?,
            sha256: input.get("sha256")?.as_str()?.to_owned(),
        };
        let (n_texts, output_bytes) = (number(json, "texts")?, number(json, "output_bytes")?);
        let terms = json.get("job")?.as_object()?.clone();
        Some(Self { terms, reached: Reached { n_texts, output_bytes, place } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(layers: &str) -> Record {
        let mut terms = Terms::new();
        terms.insert("layers".into(), layers.into());
        let place = Place { bytes: 7, lines: 2, sha256: "ab".into() };
        Record { terms, reached: Reached { n_texts: 2, output_bytes: 99, place } }
    }

    #[test]
    fn a_record_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.resume");
        assert_eq!(Record::read(&path).unwrap(), None);
        record("1").write(&path).unwrap();
        record("1,3").write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record("1,3")));
        for text in ["", "{}", "[1]", "{\"job\": {}, \"texts\": -1}"] {
            fs::write(&path, text).unwrap();
            let message = Record::read(&path).unwrap_err().to_string();
            assert!(message.contains("remove it to begin again"), "{text}: {message}");
        }
    }

    #[test]
    fn other_terms_are_named() {
        let path = Path::new("out.resume");
        record("1").check(&record("1").terms, path).unwrap();
        let message = record("1").check(&record("final").terms, path).unwrap_err().to_string();
        let expected = "the stopped run had layers \"1\", this one has \"final\"";
        assert!(message.contains(expected), "{message}");
        let message = record("1").check(&Terms::new(), path).unwrap_err().to_string();
        assert!(message.contains("this one has none"), "{message}");
    }
}
