//! A conversion that meets a fault at every call that changes a file: whatever happens, the path of
//! the result holds the old file or the new one.
#![cfg(target_os = "linux")]

mod embed;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::Silent;
use tempfile::TempDir;

/// A checkpoint, an old result, and what the new one must be.
struct Bench {
    folder: TempDir,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Bench {
    fn new(spec: &Spec) -> Self {
        let folder = tempfile::tempdir().unwrap();
        random::write(&folder.path().join("m"), spec, &Silent).unwrap();
        let bench = Self { folder, old: b"an older file\n".to_vec(), new: Vec::new() };
        let output = bench.convert().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let new = fs::read(bench.out()).unwrap();
        Self { new, ..bench }
    }

    fn small() -> Self {
        Self::new(&Spec { n_layer: 1, n_embd: 32, n_vocab: 300, ..Spec::default() })
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.gguf")
    }

    fn convert(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
        command.arg("convert").arg(self.folder.path().join("m")).args(["--preset", "q8_0", "-o"]);
        command.arg(self.out()).args(["--overwrite", "--threads", "2"]).stdin(Stdio::null());
        command
    }

    /// Puts the old file in place of whatever is there.
    fn reset(&self) {
        for path in self.partials() {
            fs::remove_file(path).unwrap();
        }
        fs::write(self.out(), &self.old).unwrap();
    }

    fn partials(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "partial")).collect()
    }
}

/// How runs ended.
#[derive(Debug, Default)]
struct Counts {
    /// The old file is still there.
    old: usize,
    /// The new one is, whole.
    new: usize,
    /// Anything else is.
    corrupt: usize,
    /// Neither is.
    lost: usize,
    /// Partial files that are left.
    partial: usize,
}

impl Counts {
    fn add(&mut self, bench: &Bench) {
        match fs::read(bench.out()) {
            Ok(bytes) if bytes == bench.old => self.old += 1,
            Ok(bytes) if bytes == bench.new => self.new += 1,
            Ok(_) => self.corrupt += 1,
            Err(_) => self.lost += 1,
        }
        self.partial += bench.partials().len();
    }

    #[track_caller]
    fn assert_sound(&self, what: &str) {
        println!("{what}: {self:?}");
        assert_eq!((self.corrupt, self.lost), (0, 0), "{what}: {self:?}");
    }
}

/// Builds the library that makes calls fail; `None`, with a message, where there is no compiler.
fn shim(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
    let library = folder.join("shim.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    match compiler.output() {
        Ok(output) if output.status.success() => Some(library),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(e) => {
            eprintln!("skipped: no C compiler ({e})");
            None
        }
    }
}

fn with_fault(bench: &Bench, shim: &Path, at: usize, how: &str) -> Output {
    let mut command = bench.convert();
    command.env("LD_PRELOAD", shim).env("FAULT_AT", at.to_string()).env("FAULT_HOW", how);
    command.output().unwrap()
}

#[test]
fn every_call_can_fail() {
    let bench = Bench::small();
    let Some(shim) = shim(bench.folder.path()) else { return };
    let log = bench.folder.path().join("calls");
    let mut command = bench.convert();
    command.env("LD_PRELOAD", &shim).env("FAULT_LOG", &log);
    assert!(command.output().unwrap().status.success());
    let n_calls: usize = fs::read_to_string(&log).unwrap().trim().parse().unwrap();
    // A header, a few pieces of data, two syncs, a reservation and a renaming at the least.
    assert!(n_calls >= 6, "{n_calls} calls seen");
    for how in ["enospc", "eio", "eintr", "short", "kill"] {
        let mut counts = Counts::default();
        // Threads share the work anew each time: calls may be one more or less.
        for at in 1..=n_calls {
            bench.reset();
            let output = with_fault(&bench, &shim, at, how);
            counts.add(&bench);
            let what = format!("{how} at {at}: {output:?}");
            let whole = fs::read(bench.out()).unwrap() == bench.new;
            match how {
                "short" => assert!(output.status.success() && whole, "{what}"),
                "kill" => assert_eq!(output.status.signal(), Some(9), "{what}"),
                _ => assert_failed_in_order(&output, whole, how, &what),
            }
        }
        counts.assert_sound(&format!("{how}, {n_calls} calls"));
        assert!(how == "kill" || counts.partial == 0, "{how}: {counts:?}");
    }
}

/// An error of the system ends with 4 and one line, or was got over.
fn assert_failed_in_order(output: &Output, whole: bool, how: &str, what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // Calls that were interrupted are made again.
        assert!(whole && how == "eintr", "{what}");
        return;
    }
    assert_eq!(output.status.code(), Some(4), "{what}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{what}");
    assert_eq!(whole, stderr.contains("the file is in place, but"), "{what}");
}

/// From before the first byte to after the last: the times are spread over what a whole run takes
/// here and now.
#[test]
fn a_kill_at_any_time() {
    const N_KILLS: u32 = 200;
    let bench = Bench::new(&Spec { n_layer: 4, n_ff: Some(512), ..Spec::demo() });
    let begin = Instant::now();
    assert!(bench.convert().output().unwrap().status.success());
    let whole = begin.elapsed();
    let mut counts = Counts::default();
    for i in 0..N_KILLS {
        bench.reset();
        let mut command = bench.convert();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * i / N_KILLS * 5 / 4);
        // It may have ended already.
        let _ = child.kill();
        child.wait().unwrap();
        counts.add(&bench);
    }
    counts.assert_sound(&format!("{N_KILLS} kills"));
}

#[test]
fn what_a_killed_run_left_is_told_and_kept() {
    let bench = Bench::small();
    // No process has this number: it is above the largest that Linux gives out.
    let stale = bench.folder.path().join(".out.gguf.999999999.partial");
    fs::write(&stale, "half").unwrap();
    let output = bench.convert().output().unwrap();
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(".out.gguf.999999999.partial"), "{stderr}");
    assert_eq!(fs::read(stale).unwrap(), b"half");
}

/// Needs the right to mount; elsewhere it says that it is skipped.
#[test]
fn a_disk_that_is_full() {
    let bench = Bench::new(&Spec { n_layer: 2, n_embd: 256, n_vocab: 1000, ..Spec::default() });
    assert!(bench.new.len() > 1 << 20, "larger than the disk");
    let disk = tempfile::tempdir().unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(disk.path())
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to mount a small disk");
        return;
    }
    let out = disk.path().join("out.gguf");
    fs::write(&out, &bench.old).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
    command.arg("convert").arg(bench.folder.path().join("m")).args(["--preset", "q8_0", "-o"]);
    let output = command.arg(&out).arg("--overwrite").output().unwrap();
    let left: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    let kept = fs::read(&out);
    let unmounted = Command::new("umount").arg(disk.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("cannot reserve"), "{stderr}");
    assert_eq!(kept.unwrap(), bench.old);
    assert_eq!(left, ["out.gguf"]);
}

/// A file that may not grow further, which the system tells by a signal too.
#[test]
fn a_limit_of_size() {
    let bench = Bench::small();
    // In units of 512 bytes or of 1024, as the shell has it.
    assert!(bench.new.len() > 8 * 1024, "larger than allowed");
    bench.reset();
    let convert = bench.convert();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 8; exec \"$0\" \"$@\""]).arg(convert.get_program());
    let output = shell.args(convert.get_args()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let expected = format!("error: {}: cannot reserve ", bench.out().display());
    assert!(stderr.starts_with(&expected) && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(fs::read(bench.out()).unwrap(), bench.old);
    assert!(bench.partials().is_empty());
}

#[test]
fn two_processes_with_one_target() {
    let bench = Bench::small();
    for _ in 0..10 {
        fs::remove_file(bench.out()).unwrap();
        let run = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
            command.arg("convert").arg(bench.folder.path().join("m"));
            command.args(["--preset", "q8_0", "-o"]).arg(bench.out());
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let outputs = [run(), run()].map(|child| child.wait_with_output().unwrap());
        let won = outputs.iter().filter(|output| output.status.success()).count();
        assert_eq!(won, 1, "{outputs:?}");
        let loser = outputs.iter().find(|output| !output.status.success()).unwrap();
        assert_eq!(loser.status.code(), Some(2));
        let stderr = String::from_utf8_lossy(&loser.stderr);
        assert!(stderr.contains("out.gguf exists; pass --overwrite"), "{stderr}");
        assert_eq!(fs::read(bench.out()).unwrap(), bench.new);
        assert!(bench.partials().is_empty());
    }
}
