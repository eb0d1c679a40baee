//! `embed --resume`: what was stopped, and how, leaves no trace in the result.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};
use rwkvq::checkpoint::random::Spec;
use serde_json::Value;

use crate::args;
use crate::workplace::{command, run, succeeds, Outcome, Workplace};

const OUTS: [&str; 3] = ["out.jsonl", "out.npy", "out.safetensors"];

struct Job {
    place: Workplace,
    out: &'static str,
}

impl Job {
    /// Texts of about ten tokens each; a group of texts takes 512.
    fn new(out: &'static str, n_texts: usize) -> Self {
        let place = Workplace::with(&Spec { n_layer: 3, n_vocab: 300, ..Spec::default() });
        let model = place.path("m.gguf");
        succeeds(args!["convert", place.path("m"), "--preset", "f32", "-o", model]);
        let texts: String = (0..n_texts).map(|i| format!("text {}\n", i * 7919)).collect();
        place.write("texts.txt", texts);
        Self { place, out }
    }

    fn args(&self, more: &[&str]) -> Vec<OsString> {
        let (model, texts) = (self.place.path("m.gguf"), self.place.path("texts.txt"));
        let mut args = args!["embed", model, "--input", texts, "--layers", "0,final"];
        args.extend(args!["--batch-tokens", "32", "--threads", "1", "-o", self.out()]);
        args.extend(more.iter().map(OsString::from));
        args
    }

    fn out(&self) -> PathBuf {
        self.place.path(self.out)
    }

    fn partial(&self) -> PathBuf {
        self.place.path(&format!("{}.partial", self.out))
    }

    fn record(&self) -> PathBuf {
        self.place.path(&format!("{}.resume", self.out))
    }

    /// Texts that the record counts.
    fn kept(&self) -> u64 {
        let record = fs::read(self.record()).unwrap_or_default();
        let record: Value = serde_json::from_slice(&record).unwrap_or_default();
        record["texts"].as_u64().unwrap_or(0)
    }

    /// The result of a run that nothing stops, which is taken away.
    fn whole(&self) -> Vec<u8> {
        succeeds(self.args(&[]));
        let whole = fs::read(self.out()).unwrap();
        fs::remove_file(self.out()).unwrap();
        whole
    }

    #[track_caller]
    fn assert_is(&self, whole: &[u8]) {
        assert!(fs::read(self.out()).unwrap() == whole, "{}: not the same bytes", self.out);
        assert!(!self.partial().exists() && !self.record().exists(), "{}: leftovers", self.out);
    }

    /// Begins a run and waits until it has kept more texts than `kept`, or ended.
    fn spawn_until(&self, kept: u64) -> Child {
        let mut command = command(&self.args(&["--resume"]));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        while self.kept() <= kept && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }

    /// A run that has failed on a line that is no text, with some kept; the line is then taken
    /// away.
    fn stopped(&self) -> Outcome {
        let texts = fs::read(self.place.path("texts.txt")).unwrap();
        self.place.write("texts.txt", [&texts[..], b"\xff\n"].concat());
        let outcome = run(self.args(&[]));
        assert_eq!(outcome.code, 3, "{}", outcome.stderr);
        self.place.write("texts.txt", texts);
        outcome
    }
}

#[test]
fn killed_again_and_again() {
    for out in OUTS {
        let job = Job::new(out, 600);
        let whole = job.whole();
        let mut kills = 0;
        while kills < 5 {
            let mut child = job.spawn_until(job.kept());
            // It may have ended already.
            let _ = child.kill();
            if child.wait().unwrap().success() {
                break;
            }
            kills += 1;
            assert!(!job.out().exists(), "half of it has its name");
        }
        assert!(kills > 1, "{out}: {kills} kills");
        if !job.out().exists() {
            succeeds(job.args(&["--resume"]));
        }
        job.assert_is(&whole);
    }
}

#[test]
fn ctrl_c_keeps_what_is_done() {
    let job = Job::new("out.npy", 3000);
    let whole = job.whole();
    let child = job.spawn_until(0);
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let (partial, kept) = (job.partial(), job.kept());
    let note = format!("{kept} texts are kept in {}", partial.display());
    assert_eq!(
        stderr,
        format!("note: {note}; the same with --resume goes on\nerror: interrupted\n")
    );
    assert_eq!(succeeds(job.args(&["--resume"])).stderr, "");
    job.assert_is(&whole);
}

#[test]
fn a_line_that_was_mended() {
    for out in OUTS {
        let job = Job::new(out, 200);
        let whole = job.whole();
        let stderr = job.stopped().stderr;
        let kept = job.kept();
        assert!(kept > 50 && stderr.contains(&format!("note: {kept} texts are kept")), "{stderr}");
        assert!(stderr.contains("texts.txt: line 201: not UTF-8 at byte 0"), "{stderr}");
        succeeds(job.args(&["--resume"]));
        job.assert_is(&whole);
    }
}

/// Whatever stands behind the texts that the record counts is cut off.
#[test]
fn a_torn_end() {
    for out in OUTS {
        let job = Job::new(out, 200);
        let whole = job.whole();
        job.stopped();
        let (partial, record) = (fs::read(job.partial()).unwrap(), fs::read(job.record()).unwrap());
        let json: Value = serde_json::from_slice(&record).unwrap();
        let counted = json["output_bytes"].as_u64().unwrap() as usize;
        for end in [counted, counted + 1, counted + 1000] {
            let mut torn = partial.clone();
            torn.resize(end, 0xff);
            fs::write(job.partial(), torn).unwrap();
            fs::write(job.record(), &record).unwrap();
            succeeds(job.args(&["--resume"]));
            job.assert_is(&whole);
        }
    }
}

#[test]
fn without_anything_to_resume_it_begins() {
    let job = Job::new("out.jsonl", 20);
    let whole = job.whole();
    succeeds(job.args(&["--resume"]));
    job.assert_is(&whole);
    // What a run leaves that is killed before its first record, and after it gave the file its name.
    fs::write(job.partial(), "{\"te").unwrap();
    succeeds(job.args(&[]));
    job.assert_is(&whole);
    let record = r#"{"job": {}, "texts": 3, "output_bytes": 9,
        "input": {"bytes": 9, "lines": 3, "sha256": "ab"}}"#;
    fs::write(job.record(), record).unwrap();
    succeeds(job.args(&["--resume"]));
    job.assert_is(&whole);
    // A file of that name that is something else stays.
    fs::remove_file(job.out()).unwrap();
    fs::write(job.record(), "{\"texts\": 3}").unwrap();
    for more in [&["--resume"][..], &[]] {
        job.place.refused(job.args(more), 3, &["out.jsonl.resume: not a record", "remove it"]);
    }
}

#[test]
fn another_run_is_not_gone_on_with() {
    let job = Job::new("out.npy", 200);
    let whole = job.whole();
    job.stopped();
    let kept = job.kept();
    let refused = |more: &[&str], code, parts: &[&str]| {
        job.place.refused(job.args(more), code, parts);
    };
    let resumed = |more: &[&str], parts: &[&str]| {
        refused(&[&["--resume"], more].concat(), 2, parts);
    };
    refused(
        &[],
        2,
        &[&format!("out.npy.partial: {kept} texts of a stopped run; --resume goes on")],
    );
    resumed(&["--pooling", "max"], &["had pooling \"mean\", this one has \"max\""]);
    resumed(&["--normalize"], &["had normalize false, this one has true"]);
    resumed(&["--format", "jsonl"], &["had format \"npy\", this one has \"jsonl\""]);
    resumed(&["--token-ids"], &["had token_ids false, this one has true"]);
    resumed(&["--skip-empty"], &["had skip_empty false, this one has true"]);
    let vocabulary = job.place.path("m");
    resumed(&["--tokenizer", vocabulary.to_str().unwrap()], &["had tokenizer \"the model's\""]);
    for (flag, value, term) in [
        ("--layers", "1", "had layers \"0,final\", this one has \"1\""),
        ("--threads", "2", "had threads 1, this one has 2"),
        ("--batch-tokens", "64", "had batch_tokens 32, this one has 64"),
    ] {
        let mut args = job.args(&["--resume"]);
        let at = args.iter().position(|arg| arg == flag).unwrap();
        args[at + 1] = value.into();
        job.place.refused(args, 2, &[term, "remove that file to begin again"]);
    }
    let model = fs::read(job.place.path("m.gguf")).unwrap();
    let mut changed = model.clone();
    *changed.last_mut().unwrap() ^= 1;
    job.place.write("m.gguf", changed);
    resumed(&[], &["had model "]);
    job.place.write("m.gguf", model);
    let texts = fs::read_to_string(job.place.path("texts.txt")).unwrap();
    job.place.write("texts.txt", texts.replacen("text 0", "text 1", 1));
    refused(&["--resume"], 3, &["texts.txt: its first ", "give the same input"]);
    job.place.write("texts.txt", texts);
    let file = File::options().write(true).open(job.partial()).unwrap();
    file.lock().unwrap();
    resumed(&[], &["out.npy.partial: another run is writing it"]);
    file.unlock().unwrap();
    // None of this has cost what was kept.
    succeeds(job.args(&["--resume"]));
    job.assert_is(&whole);
}

#[test]
fn what_is_left_can_be_broken() {
    let job = Job::new("out.npy", 200);
    job.stopped();
    let record = fs::read(job.record()).unwrap();
    fs::write(job.record(), "{}").unwrap();
    job.place.refused(job.args(&["--resume"]), 3, &["out.npy.resume: not a record"]);
    fs::write(job.record(), record).unwrap();
    File::options().write(true).open(job.partial()).unwrap().set_len(9).unwrap();
    job.place.refused(job.args(&["--resume"]), 3, &["out.npy.partial: 9 bytes, but ", "counts"]);
}

#[test]
fn what_cannot_be_resumed() {
    let job = Job::new("out.jsonl", 3);
    let mut args = job.args(&["--resume"]);
    let at = args.iter().position(|arg| arg == "-o").unwrap();
    args[at + 1] = "-".into();
    job.place.refused(args, 2, &["--resume needs a file: give --output"]);
    let mut args = job.args(&["--resume"]);
    let at = args.iter().position(|arg| arg == "--input").unwrap();
    args[at + 1] = "-".into();
    job.place.refused(args, 2, &["--resume: this input cannot be read again; give a file"]);
}

/// Eight times the texts, and far more bytes than the rise in memory that is allowed.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_input() {
    let job = Job::new("out.jsonl", 0);
    let peak = |n_texts: usize| {
        let blank = "\n".repeat(300);
        let texts: String = (0..n_texts).map(|i| format!("{}{blank}", i % 10)).collect();
        job.place.write("texts.txt", &texts);
        let args = job.args(&["--skip-empty"]);
        let mut child = command(&args).spawn().unwrap();
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let path = format!("/proc/{}/status", child.id());
            let status = fs::read_to_string(path).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let found = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            peak = peak.max(found.unwrap_or(0) << 10);
            std::thread::sleep(Duration::from_millis(2));
        }
        (peak, texts.len() as u64 + fs::metadata(job.out()).unwrap().len())
    };
    let ((few, _), (many, bytes)) = (peak(1500), peak(12_000));
    assert!(bytes > 16 << 20, "{bytes} bytes read and written");
    assert!(many < few + (4 << 20), "peak of {few} bytes, then {many}");
}
