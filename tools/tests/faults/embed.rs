//! `embed` that meets a fault at every call that changes a file: the path of the result holds the
//! old file or the new one, and a run with `--resume` makes the new one of what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::Silent;
use tempfile::TempDir;

use crate::shim;

/// A model, texts, an old result, and what the new one must be.
struct Job {
    folder: TempDir,
    out: &'static str,
    new: Vec<u8>,
}

impl Job {
    fn new(out: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec { n_layer: 1, n_embd: 32, n_vocab: 300, ..Spec::default() };
        random::write(&folder.path().join("m"), &spec, &Silent).unwrap();
        let mut convert = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
        convert.current_dir(&folder).args(["convert", "m", "--preset", "f32", "-o", "m.gguf"]);
        assert!(convert.output().unwrap().status.success());
        // 128 tokens a group: four of them.
        let texts: String = (0..16).map(|i| format!("the text with number {i:08}\n")).collect();
        fs::write(folder.path().join("texts.txt"), texts).unwrap();
        let job = Self { folder, out, new: Vec::new() };
        let output = job.embed(&[]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let new = fs::read(job.path(out)).unwrap();
        Self { new, ..job }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn embed(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
        command.current_dir(&self.folder).args(["embed", "m.gguf", "-i", "texts.txt"]);
        command.args(["--batch-tokens", "8", "--threads", "1", "-o", self.out]).args(more);
        command.stdin(Stdio::null());
        command
    }

    fn with_fault(&self, shim: &Path, at: usize, how: &str) -> Output {
        let mut command = self.embed(&[]);
        command.env("LD_PRELOAD", shim).env("FAULT_AT", at.to_string()).env("FAULT_HOW", how);
        command.output().unwrap()
    }

    /// What there is of the result but itself.
    fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(self.out) && name != self.out).collect()
    }
}

fn every_call_can_fail(out: &'static str, faults: &[&str]) {
    let job = Job::new(out);
    let Some(shim) = shim(job.folder.path()) else { return };
    let log = job.path("calls");
    let mut command = job.embed(&[]);
    command.env("LD_PRELOAD", &shim).env("FAULT_LOG", &log);
    assert!(command.output().unwrap().status.success());
    let n_calls: usize = fs::read_to_string(&log).unwrap().trim().parse().unwrap();
    // Cut, write, sync; write, sync and rename a record, sync its folder; rename and sync again.
    assert!(n_calls >= 10, "{n_calls} calls seen");
    let (mut old, mut new, mut resumed) = (0, 0, 0);
    for how in faults {
        // How many records there are depends on the time that they take: calls may be fewer.
        for at in 1..=n_calls {
            fs::write(job.path(out), "an older file\n").unwrap();
            let output = job.with_fault(&shim, at, how);
            let what = format!("{how} at {at}: {output:?}");
            let found = fs::read(job.path(out)).unwrap();
            assert!(found == job.new || found == b"an older file\n", "{what}: half a file");
            *(if found == job.new { &mut new } else { &mut old }) += 1;
            let stderr = String::from_utf8_lossy(&output.stderr);
            let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
            match output.status.code() {
                Some(0) => assert!(found == job.new, "{what}"),
                Some(4) => assert!(errors == 1 && *how != "short", "{what}"),
                code => assert!(code.is_none() && *how == "kill", "{what}"),
            }
            resumed += usize::from(job.path(&format!("{out}.resume")).exists());
            let output = job.embed(&["--resume"]).output().unwrap();
            assert!(output.status.success(), "{what}, then {output:?}");
            assert!(fs::read(job.path(out)).unwrap() == job.new, "{what}: lost or repeated");
            assert_eq!(job.leftovers(), [""; 0], "{what}");
        }
    }
    println!("{out}, {n_calls} calls: {old} old, {new} new, {resumed} with a record, 0 corrupt");
    assert!(resumed > 0);
}

#[test]
fn every_call_of_an_array_can_fail() {
    every_call_can_fail("out.npy", &["enospc", "eintr", "short", "kill"]);
}

#[test]
fn every_call_of_lines_can_be_the_last() {
    every_call_can_fail("out.jsonl", &["kill"]);
}
