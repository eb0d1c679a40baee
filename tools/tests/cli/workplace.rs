//! A folder with a small checkpoint, and the binary run on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::ggml::TensorType;
use rwkvq::Silent;
use tempfile::TempDir;

/// Arguments of any kind of text.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$(std::ffi::OsString::from(&$arg)),*] };
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The binary, with `args`.
pub fn command(args: &[OsString]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub fn run(args: Vec<OsString>) -> Outcome {
    let output = command(&args).output().expect("the binary starts");
    Outcome {
        code: output.status.code().unwrap_or_else(|| panic!("{args:?}: {}", output.status)),
        stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
    }
}

/// Runs the binary, which must succeed.
#[track_caller]
pub fn succeeds(args: Vec<OsString>) -> Outcome {
    let outcome = run(args.clone());
    assert_eq!(outcome.code, 0, "{args:?}: {}", outcome.stderr);
    outcome
}

/// Two layers of width 32 and 300 tokens, f32.
pub fn tiny() -> Spec {
    Spec { n_layer: 2, n_embd: 32, n_vocab: 300, ..Spec::default() }
}

/// A folder that goes away with the value; `m` in it is a checkpoint.
pub struct Workplace(TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self::with(&tiny())
    }

    pub fn with(spec: &Spec) -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        random::write(&place.path("m"), spec, &Silent).expect("a valid spec");
        place
    }

    /// The checkpoint as a GGUF.
    pub fn with_gguf(preset: &str) -> (Self, PathBuf) {
        Self::with_gguf_of(&tiny(), preset)
    }

    /// One of another shape as a GGUF.
    pub fn with_gguf_of(spec: &Spec, preset: &str) -> (Self, PathBuf) {
        let place = Self::with(spec);
        let path = place.path("m.gguf");
        succeeds(args!["convert", place.path("m"), "--preset", preset, "-o", path]);
        (place, path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file in the temporary folder");
        path
    }

    /// Every file and folder, with its bytes.
    pub fn contents(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a readable folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path.clone());
                    all.insert(path, None);
                } else {
                    let bytes = fs::read(&path).expect("a readable file");
                    all.insert(path, Some(bytes));
                }
            }
        }
        all
    }

    /// Runs the binary, which must end with `code`, say why in one line that has all of `parts`,
    /// and leave the folder as it was.
    #[track_caller]
    pub fn refused(&self, args: Vec<OsString>, code: i32, parts: &[&str]) -> String {
        let before = self.contents();
        let outcome = run(args);
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        let line = error_line(&outcome);
        for part in parts {
            assert!(line.contains(part), "{line}\nhas no {part:?}");
        }
        let after = self.contents();
        let differs =
            |(path, bytes): &(&PathBuf, &Option<Vec<u8>>)| before.get(*path) != Some(bytes);
        let left: Vec<&Path> =
            after.iter().filter(differs).map(|(path, _)| path.as_path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        assert_eq!(after.len(), before.len(), "something was removed");
        line
    }

    /// Converts the checkpoint to q8_0, which must be refused as bad input.
    #[track_caller]
    pub fn convert_refused(&self, parts: &[&str]) -> String {
        self.convert_to_refused("q8_0", parts)
    }

    /// The same for any preset.
    #[track_caller]
    pub fn convert_to_refused(&self, preset: &str, parts: &[&str]) -> String {
        let args = args!["convert", self.path("m"), "--preset", preset, "-o", self.path("out/sub")];
        let line = self.refused(args, 3, parts);
        assert!(line.contains(self.path("m").to_str().expect("UTF-8")), "{line}");
        line
    }
}

/// The one line of a failed run, which has printed nothing else.
#[track_caller]
pub fn error_line(outcome: &Outcome) -> String {
    assert_eq!(outcome.stdout, "", "a failed run prints no data");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let [line] = lines.as_slice() else { panic!("not one line: {:?}", outcome.stderr) };
    let what = line.strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {line}"));
    assert!(!what.ends_with('.'), "{line}");
    what.to_owned()
}

/// A model wide enough for superblocks.
pub fn wide() -> Spec {
    Spec {
        n_layer: 1,
        n_embd: 256,
        head_size: 64,
        n_ff: Some(256),
        n_vocab: 257,
        low_rank_mix: 8,
        low_rank_decay: 8,
        ty: TensorType::F32,
        ..Spec::default()
    }
}
