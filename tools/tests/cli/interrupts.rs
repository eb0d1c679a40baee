//! Signals: the run ends with the code of the signal and leaves nothing.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use rwkvq::checkpoint::random::Spec;

use crate::args;
use crate::workplace::{command, Workplace};

/// Large enough that all presets take a while; superblocks fill all rows, so nothing is warned of.
fn place() -> Workplace {
    Workplace::with(&Spec { n_layer: 6, n_ff: Some(1024), ..Spec::demo() })
}

fn convert(place: &Workplace, out: &Path) -> Vec<OsString> {
    let mut args = args!["convert", place.path("m"), "-o", out, "--threads", "1"];
    for preset in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "bf16", "f16", "f32"] {
        args.extend(args!["--preset", preset]);
    }
    args
}

/// Sends `signal` as soon as a partial file is in `out`.
fn interrupt(mut command: Command, out: &Path, signal: Signal) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let is_partial = |name: OsString| name.to_string_lossy().ends_with(".partial");
    let writes = || {
        let entries = fs::read_dir(out).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(is_partial)
    };
    while !writes() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // A process that has ended and was not waited for keeps its number.
    let _ = kill_process(pid(&child), signal);
    child.wait_with_output().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn ends_with_and_leaves_nothing(signal: Signal, code: i32) {
    let place = place();
    // The conversion may be over before the signal arrives; then it is tried again.
    for attempt in 0..20 {
        let out = place.path(&format!("out{attempt}"));
        let output = interrupt(command(&convert(&place, &out)), &out, signal);
        if output.status.code() == Some(0) {
            continue;
        }
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: interrupted\n");
        assert_eq!(output.stdout, b"");
        assert!(!out.exists(), "the folder that it made is left");
        return;
    }
    panic!("not once was a conversion interrupted");
}

#[test]
fn ctrl_c_ends_with_130() {
    ends_with_and_leaves_nothing(Signal::INT, 130);
}

#[test]
fn terminate_ends_with_143() {
    ends_with_and_leaves_nothing(Signal::TERM, 143);
}

/// The first is noted for when the work comes to it; here it waits for a text that does not come.
#[test]
#[cfg(target_os = "linux")]
fn the_second_ctrl_c_ends_it_at_once() {
    let (_place, model) = Workplace::with_gguf("f32");
    let mut child = crate::mapped_files::waiting(&model, &[]);
    let begin = Instant::now();
    let mut sent = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{sent} signals, and it goes on");
        // Signals of a kind that wait are one; so they must not come too fast.
        let _ = kill_process(pid(&child), Signal::INT);
        sent += 1;
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(130), "{status}");
    assert!(sent >= 2, "the first did not wait");
}

/// Whether the first is obeyed in time or the second ends it at once: the converted files go.
#[test]
fn two_at_once_leave_no_temporary_files() {
    let place = place();
    let pairs = place.write("pairs.tsv", "1\ta\tb\n2\tc\td\n");
    let temporary = place.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut args = args!["eval", place.path("m"), "--dataset", pairs, "--threads", "1"];
    for preset in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "bf16", "f16", "f32"] {
        args.extend(args!["--preset", preset]);
    }
    let mut child = command(&args);
    let mut child = child.env("TMPDIR", &temporary).stderr(Stdio::null()).spawn().unwrap();
    while fs::read_dir(&temporary).unwrap().count() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "ended without a temporary folder");
        std::thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..2 {
        let _ = kill_process(pid(&child), Signal::INT);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let left: Vec<_> = place
        .contents()
        .into_keys()
        .filter(|p| p.starts_with(&temporary) && *p != temporary)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// nohup: a terminal that is closed does not stop the work.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let place = place();
    let out = place.path("out");
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rwkvq")]);
    shell.args(convert(&place, &out));
    let output = interrupt(shell, &out, Signal::HUP);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 9);
}
