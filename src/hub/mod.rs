//! Models by hub id and data sets by name: the way from `RWKV/v6-Finch-1B6-HF` to a local folder.
//!
//! In: the id of a repository of the Hugging Face hub, or the name of a data set. Out: the path of
//! a snapshot in the cache that all clients of the hub share, so that nothing is fetched twice,
//! whoever fetched it. Only the files that are read are downloaded; each is resumed after a cut
//! and kept only if its size and hash are what the hub says. Uses `error` and `progress`.
//!
//! Whose fault an error is: what was asked for does not exist or may not be had is
//! [`Error::Argument`]; answers that contradict each other, or contents with another hash, are
//! [`Error::Malformed`]; a hub that cannot be reached, and anything missing while offline, is
//! [`Error::Io`].
//!
//! ```no_run
//! use rwkvq::hub::{Hub, HubOptions, RepoId};
//!
//! let hub = Hub::new(HubOptions::from_env()?)?;
//! let folder = hub.model(&RepoId::parse("RWKV/v6-Finch-1B6-HF")?, &rwkvq::Silent)?;
//! let source = rwkvq::convert::open(folder, None)?;
//! # Ok::<(), rwkvq::Error>(())
//! ```

mod cache;
mod client;
mod datasets;
mod download;
mod id;
mod listing;
mod options;
mod selection;

use std::io;
use std::path::{Path, PathBuf};

use cache::Place;
use client::{Client, Failure};
use download::{encoded, Download};
use listing::{Listing, RemoteFile};

pub use datasets::{NamedDataset, DATASETS};
pub use id::RepoId;
pub use options::HubOptions;

use crate::error::{shown, Error, Result};
use crate::progress::Progress;

/// Where the hub keeps its own conversion of a data set that is stored otherwise.
const CONVERTED: &str = "refs/convert/parquet";

/// The hub and its cache.
pub struct Hub {
    options: HubOptions,
    client: Client,
}

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Dataset,
}

impl Kind {
    fn singular(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }

    /// In front of the id in the address of a file.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

impl Hub {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// [`Error::Argument`] if the options make no request; [`Error::Io`] or [`Error::Malformed`] if
    /// the file of certificates cannot be used.
    pub fn new(options: HubOptions) -> Result<Self> {
        options.check()?;
        let client = Client::new(&options)?;
        Ok(Self { options, client })
    }

    /// The folder with the model `id`: configuration, vocabulary, and weights as safetensors, or
    /// as `pytorch_model*.bin` where there are no others. What is missing in the cache is
    /// downloaded.
    ///
    /// # Errors
    /// As the head of this module says; [`Error::Unsupported`] if the repository holds no weights
    /// or another model than an RWKV-6; [`Error::Interrupted`] if `progress` asks to stop. What has
    /// arrived by then is kept and is the start of the next attempt.
    pub fn model(&self, id: &RepoId, progress: &dyn Progress) -> Result<PathBuf> {
        let place = Place::new(&self.options.cache, Kind::Model, id);
        if self.options.offline {
            let commit = place.known_commit().ok_or_else(|| self.not_cached(&id.to_string()))?;
            return Ok(place.snapshot(&commit));
        }
        let listing = self.list(Kind::Model, id, progress)?;
        let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
        let wanted = selection::of_model(&names).ok_or_else(|| no_weights(id, &names))?;
        let mut files: Vec<&RemoteFile> = Vec::with_capacity(wanted.len());
        for name in wanted {
            files.extend(listing.files.iter().find(|file| file.name == name));
        }
        self.fetch(Kind::Model, id, &place, &listing.commit, &files, progress)
    }

    /// The Parquet file with `split` of a data set that has a name here.
    ///
    /// # Errors
    /// As [`model`](Self::model).
    pub fn dataset(
        &self,
        dataset: &NamedDataset,
        split: &str,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let main = RepoId::parse(dataset.repository)?;
        for id in [main.clone(), main.at(CONVERTED)] {
            let place = Place::new(&self.options.cache, Kind::Dataset, &id);
            if self.options.offline {
                let Some(commit) = place.known_commit() else { continue };
                let snapshot = place.snapshot(&commit);
                let names = parquet_files(&snapshot);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                if let Some(name) = one(dataset, split, &names)? {
                    return Ok(snapshot.join(name));
                }
                continue;
            }
            let listing = self.list(Kind::Dataset, &id, progress)?;
            let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
            let Some(name) = one(dataset, split, &names)? else { continue };
            let files: Vec<_> = listing.files.iter().filter(|file| file.name == name).collect();
            let commit = &listing.commit;
            let folder = self.fetch(Kind::Dataset, &id, &place, commit, &files, progress)?;
            return Ok(folder.join(name));
        }
        if self.options.offline {
            return Err(self.not_cached(&format!("{} ({split}, of {main})", dataset.name)));
        }
        let what = format!("holds no Parquet file with the split {split} of {}", dataset.name);
        Err(Error::unsupported(main.to_string(), what))
    }

    fn list(&self, kind: Kind, id: &RepoId, progress: &dyn Progress) -> Result<Listing> {
        let name = id.to_string();
        // A slash inside a revision is a part of it, not of the address.
        let revision = encoded(id.revision()).replace('/', "%2F");
        let path = format!("api/{}s/{}/revision/{revision}?blobs=true", kind.singular(), id.path());
        let json = patiently(&self.options, progress, || self.client.bytes(&path));
        let json = json?.map_err(|failure| self.explain(failure, kind, id))?;
        Listing::parse(&json).map_err(|what| Error::malformed(name, format!("the hub gave {what}")))
    }

    fn fetch(
        &self,
        kind: Kind,
        id: &RepoId,
        place: &Place,
        commit: &str,
        files: &[&RemoteFile],
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let (name, snapshot) = (id.to_string(), place.snapshot(commit));
        let sizes = files.iter().map(|file| file.size.unwrap_or(0));
        progress.begin(&format!("downloading {name}"), sizes.fold(0, u64::saturating_add));
        let missing = files.iter().filter(|file| !snapshot.join(&file.name).exists());
        let missing = missing.map(|file| file.size.unwrap_or(0)).fold(0, u64::saturating_add);
        cache::check_space(place.folder(), missing)?;
        let explain = |failure| self.explain(failure, kind, id);
        let download = Download {
            client: &self.client,
            options: &self.options,
            id: &name,
            address: format!("{}{}", kind.prefix(), id.path()),
            place,
            commit,
            progress,
            explain: &explain,
        };
        for file in files {
            download.fetch(file)?;
            if kind == Kind::Model && file.name == "config.json" {
                check_architecture(&name, &snapshot.join(&file.name))?;
            }
        }
        place.remember(commit)?;
        Ok(snapshot)
    }

    fn explain(&self, failure: Failure, kind: Kind, id: &RepoId) -> Error {
        let name = id.to_string();
        match failure {
            Failure::Refused { status, code } => self.refused(status, &code, kind, id),
            Failure::Odd(what) => Error::malformed(name, format!("the hub gave {what}")),
            Failure::Transport(what) => {
                let place = Place::new(&self.options.cache, kind, id);
                let remedy = match place.known_commit() {
                    Some(_) => "HF_HUB_OFFLINE=1 uses what is in the cache",
                    None => "check the network, HF_ENDPOINT and the proxy, or give a local path",
                };
                let what = format!("the hub cannot be reached: {what}; {remedy}");
                Error::io(name, io::Error::other(what))
            }
        }
    }

    fn refused(&self, status: u16, code: &str, kind: Kind, id: &RepoId) -> Error {
        let thing = match kind {
            Kind::Model => "model",
            Kind::Dataset => "data set",
        };
        let here = if kind == Kind::Model { "no such file or folder here, and " } else { "" };
        let has_token = self.options.token.is_some();
        let what = match (status, code) {
            (_, "GatedRepo") | (403, _) if has_token => {
                "the account of HF_TOKEN has no access; ask for it on the page of the hub".into()
            }
            (_, "GatedRepo") | (403, _) => {
                "access must be granted on its page of the hub; then set HF_TOKEN".into()
            }
            (404, "RevisionNotFound") => {
                format!("the hub has no revision {} of it", id.revision())
            }
            (404, "EntryNotFound") => "the hub lists a file that it does not have".into(),
            (404, _) => format!("{here}no such {thing} on the hub; check the name"),
            // The hub does not tell strangers whether a repository is private or not there.
            (401, _) if !has_token => {
                format!("{here}no such {thing} on the hub, or a private one; check the name, or set HF_TOKEN")
            }
            (401, _) => "the hub does not accept the token; check HF_TOKEN".into(),
            (status, code) => format!("the hub refuses with status {status} {}", shown(code)),
        };
        Error::argument(format!("{id}: {what}"))
    }

    fn not_cached(&self, name: &str) -> Error {
        let what = "not in the cache, and HF_HUB_OFFLINE is set; unset it to download";
        Error::io(name, io::Error::new(io::ErrorKind::NotFound, what))
    }
}

/// Repeats a request as long as the network fails it and the options allow.
fn patiently<T>(
    options: &HubOptions,
    progress: &dyn Progress,
    mut request: impl FnMut() -> std::result::Result<T, Failure>,
) -> Result<std::result::Result<T, Failure>> {
    let mut tries = 0;
    loop {
        match request() {
            Err(Failure::Transport(_)) if tries < options.retries => {
                tries += 1;
                pause(options, tries, progress)?;
            }
            result => return Ok(result),
        }
    }
}

/// Waits before repetition number `n`, counted from 1.
fn pause(options: &HubOptions, n: u32, progress: &dyn Progress) -> Result<()> {
    const STEP: std::time::Duration = std::time::Duration::from_millis(50);
    let mut left = options.pause.saturating_mul(1 << n.saturating_sub(1).min(5));
    while !left.is_zero() {
        if progress.cancelled() {
            return Err(Error::Interrupted);
        }
        std::thread::sleep(left.min(STEP));
        left = left.saturating_sub(STEP);
    }
    Ok(())
}

/// Gigabytes of another architecture are not worth downloading.
fn check_architecture(id: &str, config: &Path) -> Result<()> {
    let json = std::fs::read(config).map_err(|e| Error::io(config, e))?;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    match json.get("model_type").and_then(|value| value.as_str()) {
        None | Some("rwkv6") => Ok(()),
        Some(other) => {
            let other = shown(other);
            let what = format!("this is a \"{other}\" model; only RWKV-6 (Finch) is supported");
            Err(Error::unsupported(id, what))
        }
    }
}

fn no_weights(id: &RepoId, names: &[&str]) -> Error {
    let what = match names.iter().find(|name| name.ends_with(".pth") || name.ends_with(".gguf")) {
        Some(name) => {
            format!("no model*.safetensors in it; download {} and give its path", shown(name))
        }
        None => "no model*.safetensors and no pytorch_model*.bin in it".into(),
    };
    Error::unsupported(id.to_string(), what)
}

/// The one file of a split, if it is there.
fn one<'a>(dataset: &NamedDataset, split: &str, names: &[&'a str]) -> Result<Option<&'a str>> {
    match selection::of_split(names, dataset.config, split)[..] {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        [first, second, ..] => {
            let what = format!("the split {split} is in several files ({first}, {second}); download them and give their paths");
            Err(Error::unsupported(dataset.repository, what))
        }
    }
}

/// Paths of the Parquet files below `folder`, with `/` between folders.
fn parquet_files(folder: &Path) -> Vec<String> {
    const DEPTH: usize = 4;
    let mut found = Vec::new();
    let mut open = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = entry.path();
            if path.is_dir() && depth < DEPTH {
                open.push((path, format!("{prefix}{name}/"), depth + 1));
            } else if name.ends_with(".parquet") && path.is_file() {
                found.push(format!("{prefix}{name}"));
            }
        }
    }
    found
}
