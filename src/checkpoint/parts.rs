//! Which files make up a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{config, json};
use crate::error::{shown, Error, Result};

/// How the files of tensors in a folder are called.
struct Naming {
    start: &'static str,
    end: &'static str,
    /// The list that says which shard holds which tensor.
    index: &'static str,
}

/// In this order: where there are safetensors files, the others are not looked at.
const NAMINGS: [Naming; 2] = [
    Naming { start: "model", end: ".safetensors", index: "model.safetensors.index.json" },
    Naming { start: "pytorch_model", end: ".bin", index: "pytorch_model.bin.index.json" },
];

/// Most bytes of an index: 65,536 tensors with the longest names allowed.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Most shards. Each stays open.
const MAX_PARTS: usize = 512;

/// The files of a checkpoint.
#[derive(Debug)]
pub(super) struct Files {
    /// Where config and vocabulary are looked for.
    pub(super) folder: PathBuf,
    /// Name of the model.
    pub(super) name: String,
    /// Files of tensors, sorted by name.
    pub(super) parts: Vec<PathBuf>,
    /// The list of what is in them.
    pub(super) index: Option<Index>,
}

/// Which shard holds which tensor.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) path: PathBuf,
    weight_map: BTreeMap<String, String>,
}

/// The files of the checkpoint at `path`, a folder or a file. No file of tensors is opened.
pub(super) fn find(path: &Path) -> Result<Files> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if meta.is_dir() {
        return in_folder(path);
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into();
    Ok(Files { folder: folder.into(), name, parts: vec![path.into()], index: None })
}

fn in_folder(folder: &Path) -> Result<Files> {
    let names = file_names(folder)?;
    let Some(naming) = NAMINGS.iter().find(|naming| naming.is_used(&names)) else {
        return Err(nothing_to_read(folder, &names));
    };
    let parts: BTreeSet<String> = names.iter().filter(|name| naming.fits(name)).cloned().collect();
    let (parts, index) = if names.contains(naming.index) {
        let index = Index::open(folder.join(naming.index))?;
        (index.shards(&names, &parts)?, Some(index))
    } else {
        all_shards_present(folder, &parts, naming.end)?;
        (parts, None)
    };
    if parts.len() > MAX_PARTS {
        let n = parts.len();
        return Err(Error::malformed(folder, format!("{n} shards exceed the limit {MAX_PARTS}")));
    }
    let parts = parts.iter().map(|name| folder.join(name)).collect();
    Ok(Files { folder: folder.into(), name: folder_name(folder), parts, index })
}

impl Naming {
    fn fits(&self, name: &str) -> bool {
        name.starts_with(self.start) && name.ends_with(self.end)
    }

    fn is_used(&self, names: &BTreeSet<String>) -> bool {
        names.contains(self.index) || names.iter().any(|name| self.fits(name))
    }
}

impl Index {
    fn open(path: PathBuf) -> Result<Self> {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(deserialize_with = "json::unique_keys")]
            weight_map: BTreeMap<String, String>,
        }
        let bytes = config::read(&path, MAX_INDEX_BYTES)?;
        let fields: Fields = serde_json::from_slice(&bytes)
            .map_err(|e| config::bad_json(&path, "not a shard index", &e))?;
        Ok(Self { path, weight_map: fields.weight_map })
    }

    /// The shards it names: plain file names, all among `present`; and all of `parts` are named.
    fn shards(
        &self,
        present: &BTreeSet<String>,
        parts: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>> {
        let refuse = |what: String| Err(Error::malformed(&self.path, what));
        let shards: BTreeSet<String> = self.weight_map.values().cloned().collect();
        if shards.is_empty() {
            return refuse("index names no tensors".into());
        }
        if let Some(name) = shards.iter().find(|name| !is_plain(name)) {
            let name = shown(name);
            return refuse(format!("index names \"{name}\", which is not a plain file name"));
        }
        if let Some(name) = shards.difference(present).next() {
            return refuse(format!("index names {} which is absent", shown(name)));
        }
        if let Some(name) = parts.difference(&shards).next() {
            let name = shown(name);
            return refuse(format!("index does not name {name}, which is there; remove either"));
        }
        Ok(shards)
    }

    /// Checks that the tensors, each found by `find`, are those listed, each in the shard named.
    pub(super) fn check<'a>(
        &self,
        find: impl Fn(&str) -> Option<&'a Path>,
        mut tensors: impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        let refuse = |what: String| Err(Error::malformed(&self.path, what));
        for (name, shard) in &self.weight_map {
            let found = find(name).and_then(Path::file_name);
            if found.is_none_or(|file| file != shard.as_str()) {
                let (name, shard) = (shown(name), shown(shard));
                return refuse(format!("tensor \"{name}\" is not in {shard}, as the index says"));
            }
        }
        match tensors.find(|&name| !self.weight_map.contains_key(name)) {
            Some(name) => refuse(format!("tensor {name:?} is in a shard but not in the index")),
            None => Ok(()),
        }
    }
}

/// True for a file name without any way to another folder.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
        && !name.contains(['/', '\\', '\0'])
}

/// Names of the files (or links to files) in `folder`.
fn file_names(folder: &Path) -> Result<BTreeSet<String>> {
    let io = |e| Error::io(folder, e);
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if let (true, Ok(name)) = (entry.path().is_file(), entry.file_name().into_string()) {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Base name of `folder`, also when it is given as `.` or ends in `..`. A snapshot in the cache of
/// the hub, `models--OWNER--NAME/snapshots/COMMIT`, is called after its repository.
fn folder_name(folder: &Path) -> String {
    if let Some(name) = repository_name(folder) {
        return name;
    }
    let resolved = match folder.file_name() {
        Some(_) => folder.into(),
        None => folder.canonicalize().unwrap_or_default(),
    };
    match resolved.file_name() {
        Some(name) => name.to_string_lossy().into(),
        None => "model".into(),
    }
}

fn repository_name(folder: &Path) -> Option<String> {
    let mut steps = folder.components().rev().map(|step| step.as_os_str().to_str());
    let (commit, snapshots, repository) = (steps.next()??, steps.next()??, steps.next()??);
    let is_commit = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    let (_, name) = repository.strip_prefix("models--")?.split_once("--")?;
    (is_commit && snapshots == "snapshots" && !name.is_empty()).then(|| name.into())
}

/// Without an index, the names themselves say how many shards there are.
fn all_shards_present(folder: &Path, parts: &BTreeSet<String>, end: &str) -> Result<()> {
    for (stem, n) in parts.iter().filter_map(|name| shard_count(name, end)) {
        let shard = |i: usize| format!("{stem}-{i:05}-of-{n:05}{end}");
        if let Some(name) = (1..=n).map(shard).find(|name| !parts.contains(name)) {
            return Err(Error::malformed(folder, format!("shard {name} is absent")));
        }
    }
    Ok(())
}

/// `("model", 2)` of `model-00001-of-00002` with `end` behind it.
fn shard_count<'a>(name: &'a str, end: &str) -> Option<(&'a str, usize)> {
    let (rest, n) = name.strip_suffix(end)?.rsplit_once("-of-")?;
    let (stem, i) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(i) && is_number(n)).then(|| n.parse().ok())?.map(|n| (stem, n))
}

fn nothing_to_read(folder: &Path, names: &BTreeSet<String>) -> Error {
    let kinds = [".safetensors", ".pth", ".pt", ".bin"];
    let other = kinds.iter().find_map(|end| names.iter().find(|name| name.ends_with(end)));
    let mut what = "no model*.safetensors and no pytorch_model*.bin in it".to_owned();
    if let Some(name) = other {
        what.push_str(&format!("; to read {}, give its path", shown(name)));
    }
    Error::malformed(folder, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_plain() {
        assert!(is_plain("model-00001-of-00002.safetensors"));
        for name in ["", ".", "..", "../x", "/x", "a/b", "a\\b", "./x", "x/", "x\0"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn snapshots_are_called_after_their_repository() {
        let name = |path: &str| folder_name(Path::new(path));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(name(&format!("/hub/models--RWKV--v6-HF/snapshots/{commit}")), "v6-HF");
        assert_eq!(name(&format!("/hub/models--RWKV--v6-HF/{commit}")), commit);
        assert_eq!(name("/hub/models--RWKV--v6-HF/snapshots/main"), "main");
    }

    #[test]
    fn shards_are_counted_by_name() {
        let end = ".safetensors";
        assert_eq!(shard_count("model-00001-of-00012.safetensors", end), Some(("model", 12)));
        assert_eq!(shard_count("m-00001-of-00002.bin", ".bin"), Some(("m", 2)));
        for name in ["model.safetensors", "model-1-of-2.safetensors", "model-00001-of-00002.bin"] {
            assert_eq!(shard_count(name, end), None, "{name}");
        }
    }
}
