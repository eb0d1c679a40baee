//! What the user names: a path that exists, or else something of the hub.

use std::path::{Path, PathBuf};

use rwkvq::eval::Dataset;
use rwkvq::{Error, Result};

use crate::terminal::Bar;

/// Data sets that are known by name.
const NAMES: [&str; 3] = ["mrpc", "stsb", "sick"];

/// The local path of a model: `source` itself, or the snapshot of the hub id that it is.
pub fn model(source: &Path, bar: &Bar) -> Result<PathBuf> {
    match source.to_str() {
        Some(text) if !source.exists() => from_hub(text, bar),
        _ => Ok(source.to_owned()),
    }
}

/// The data set at `path`, or the one that is called so.
pub fn dataset(
    path: &Path,
    split: Option<&str>,
    limit: Option<usize>,
    bar: &Bar,
) -> Result<Dataset> {
    match path.to_str() {
        Some(name) if !path.exists() && NAMES.contains(&name) => named(name, split, limit, bar),
        Some(name) if !path.exists() && !name.contains(['/', '.']) => {
            let names = NAMES.join(", ");
            Err(Error::argument(format!(
                "{name}: no such file here, and no data set of that name; there are {names}"
            )))
        }
        _ => Dataset::open(path, split, limit),
    }
}

#[cfg(feature = "hub")]
fn from_hub(text: &str, bar: &Bar) -> Result<PathBuf> {
    use rwkvq::hub::{Hub, HubOptions, RepoId};

    if !RepoId::looks_like(text) {
        return Ok(text.into());
    }
    let folder = Hub::new(HubOptions::from_env()?)?.model(&RepoId::parse(text)?, bar);
    bar.clear();
    folder
}

#[cfg(feature = "hub")]
fn named(name: &str, split: Option<&str>, limit: Option<usize>, bar: &Bar) -> Result<Dataset> {
    use rwkvq::hub::{Hub, HubOptions, NamedDataset};

    let Some(known) = NamedDataset::find(name) else { return Dataset::open(name, split, limit) };
    let split = known.split(split)?;
    let path = Hub::new(HubOptions::from_env()?)?.dataset(known, split, bar);
    bar.clear();
    let mut dataset = Dataset::open(path?, Some(split), limit)?;
    dataset.name = known.name.into();
    Ok(dataset)
}

#[cfg(not(feature = "hub"))]
fn from_hub(text: &str, _: &Bar) -> Result<PathBuf> {
    let is_path = text.starts_with(['.', '/', '~']) || text.matches('/').count() != 1;
    if is_path || Path::new(text).extension().is_some_and(|ending| ending.len() > 2) {
        return Ok(text.into());
    }
    Err(without_hub(text))
}

#[cfg(not(feature = "hub"))]
fn named(name: &str, _: Option<&str>, _: Option<usize>, _: &Bar) -> Result<Dataset> {
    Err(without_hub(name))
}

#[cfg(not(feature = "hub"))]
fn without_hub(name: &str) -> Error {
    Error::argument(format!(
        "{name}: no such file or folder here, and this rwkvq was built without the hub; build it with the feature hub"
    ))
}

#[cfg(all(test, feature = "hub"))]
mod tests {
    #[test]
    fn the_names_are_those_of_the_library() {
        assert_eq!(rwkvq::hub::DATASETS.map(|dataset| dataset.name), super::NAMES);
    }
}
