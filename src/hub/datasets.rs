//! The data sets that have a name here.

use crate::error::{shown, Error, Result};

/// A data set of scored text pairs on the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedDataset {
    /// What it is called.
    pub name: &'static str,
    /// Its repository.
    pub repository: &'static str,
    /// Its part of the repository; `None` if it is all of it.
    pub config: Option<&'static str>,
    /// Its splits that have labels, the one taken without a choice first.
    pub splits: &'static [&'static str],
}

/// MRPC and the STS Benchmark as GLUE has them, and SICK. The labels of GLUE's STS test split are
/// withheld by its makers. For SICK the test split is what publications report.
pub const DATASETS: [NamedDataset; 3] = [
    NamedDataset {
        name: "mrpc",
        repository: "nyu-mll/glue",
        config: Some("mrpc"),
        splits: &["validation", "train", "test"],
    },
    NamedDataset {
        name: "stsb",
        repository: "nyu-mll/glue",
        config: Some("stsb"),
        splits: &["validation", "train"],
    },
    NamedDataset {
        name: "sick",
        repository: "RobZamp/sick",
        config: None,
        splits: &["test", "validation", "train"],
    },
];

impl NamedDataset {
    /// The data set called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        DATASETS.iter().find(|dataset| dataset.name == name)
    }

    /// The split called `asked` (`dev` is `validation`), or the usual one.
    ///
    /// # Errors
    /// [`Error::Argument`] if it has no such split with labels.
    pub fn split(&self, asked: Option<&str>) -> Result<&'static str> {
        let asked = match asked {
            None => return Ok(self.splits[0]),
            Some("dev") => "validation",
            Some(asked) => asked,
        };
        self.splits.iter().find(|split| **split == asked).copied().ok_or_else(|| {
            let (name, asked, splits) = (self.name, shown(asked), self.splits.join(", "));
            Error::argument(format!("{name} has no labelled split \"{asked}\"; choose of {splits}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::RepoId;

    #[test]
    fn every_data_set_has_a_repository_and_a_usual_split() {
        for dataset in DATASETS {
            assert!(RepoId::parse(dataset.repository).is_ok(), "{}", dataset.name);
            assert_eq!(NamedDataset::find(dataset.name), Some(&dataset));
            assert_eq!(dataset.split(None).unwrap(), dataset.splits[0]);
            assert_eq!(dataset.split(Some("dev")).unwrap(), "validation");
        }
        assert!(NamedDataset::find("stsb").unwrap().split(Some("test")).is_err());
    }
}
