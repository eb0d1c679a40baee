//! Every way this crate can fail, sorted by whose fault it is.
//!
//! In: what went wrong and where. Out: one line, lower case, no full stop, the remedy last.
//! Uses std only.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. The variant says whose fault it was; the text names the file, the tensor or
/// key, what was expected and what was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A GPU or its driver refused an operation.
    Device {
        /// The device, such as `cuda:0`.
        device: String,
        /// What was said, and what to do.
        what: String,
    },
    /// A file breaks its own format.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the byte, line, tensor or key.
        what: String,
    },
    /// A file is valid, but of a kind this crate does not handle.
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// A tensor (or key) is not what the rest of the file says it must be.
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Name of the tensor or key.
        name: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A weight or an activation is NaN or infinite.
    NonFinite {
        /// The file it comes from.
        path: PathBuf,
        /// Tensor or layer, and element.
        what: String,
    },
    /// The caller asked for something impossible.
    Argument {
        /// What, and what would be possible.
        what: String,
    },
    /// A result failed this crate's own check; the input is not to blame.
    SelfCheck {
        /// Which check.
        what: String,
    },
    /// The caller's `Progress` asked to stop.
    Interrupted,
}

impl Error {
    /// An operating-system error on `path`.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { path: path.as_ref().into(), source }
    }

    /// A failure of `device`.
    pub fn device(device: impl fmt::Display, what: impl Into<String>) -> Self {
        Self::Device { device: device.to_string(), what: what.into() }
    }

    /// `path` breaks its format.
    pub fn malformed(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self::Malformed { path: path.as_ref().into(), what: what.into() }
    }

    /// `path` is of a kind that is not handled.
    pub fn unsupported(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.as_ref().into(), what: what.into() }
    }

    /// `name` in `path` is not what it must be.
    pub fn mismatch(
        path: impl AsRef<Path>,
        name: impl Into<String>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self::Mismatch {
            path: path.as_ref().into(),
            name: name.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// A value in `path` is NaN or infinite.
    pub fn non_finite(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self::NonFinite { path: path.as_ref().into(), what: what.into() }
    }

    /// The caller's mistake.
    pub fn argument(what: impl Into<String>) -> Self {
        Self::Argument { what: what.into() }
    }

    /// Our own mistake.
    pub fn self_check(what: impl Into<String>) -> Self {
        Self::SelfCheck { what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Device { device, what } => write!(f, "{device}: {what}"),
            Self::Malformed { path, what }
            | Self::Unsupported { path, what }
            | Self::NonFinite { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Mismatch { path, name, expected, found } => {
                write!(f, "{}: {name}: expected {expected}, found {found}", path.display())
            }
            Self::Argument { what } => f.write_str(what),
            Self::SelfCheck { what } => write!(f, "self-check failed: {what}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// Text from a file, fit for one line of a message: cut, and without characters that would break
/// the line or steer a terminal.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut line = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '"' | '\'' | '\\' => line.push(c),
            _ => line.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("..");
    }
    line
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
