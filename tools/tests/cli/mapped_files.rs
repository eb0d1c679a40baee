//! A model file that changes while it is in use, mapped or read.
#![cfg(target_os = "linux")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use crate::args;
use crate::workplace::{command, succeeds, Workplace};

/// `embed` of `model` that has opened it and waits for a text.
pub fn waiting(model: &Path, more: &[&str]) -> Child {
    let mut args = args!["embed", model, "--input", "-", "--threads", "1"];
    args.extend(more.iter().map(std::ffi::OsString::from));
    let mut command = command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The number of `read`, and stdin; nothing before it reads that.
    let call = if cfg!(target_arch = "x86_64") { "0 0x0 " } else { "63 0x0 " };
    let waits = |child: &Child| match fs::read_to_string(format!("/proc/{}/syscall", child.id())) {
        Ok(now) => now.starts_with(call),
        // Some systems do not tell; opening a small model takes far less than this.
        Err(_) => {
            std::thread::sleep(Duration::from_secs(2));
            true
        }
    };
    while !waits(&child) {
        assert!(child.try_wait().unwrap().is_none(), "ended before it read");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

fn give_text(mut child: Child) -> Output {
    child.stdin.take().unwrap().write_all(b"a few words\n").unwrap();
    child.wait_with_output().unwrap()
}

fn assert_ends_with_4(output: &Output, model: &Path) {
    let expected = format!(
        "error: {}: changed while in use; leave the file alone, or use --no-mmap\n",
        model.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_mapped_model_that_shrinks_ends_in_order() {
    let (_place, model) = Workplace::with_gguf("f32");
    let child = waiting(&model, &[]);
    OpenOptions::new().write(true).open(&model).unwrap().set_len(1000).unwrap();
    assert_ends_with_4(&give_text(child), &model);
}

#[test]
fn a_mapped_model_that_is_written_to_gives_no_numbers() {
    let (_place, model) = Workplace::with_gguf("f32");
    let child = waiting(&model, &[]);
    let len = fs::metadata(&model).unwrap().len();
    let file = OpenOptions::new().write(true).open(&model).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 64], len - 64).unwrap();
    assert_ends_with_4(&give_text(child), &model);
}

#[test]
fn a_mapped_model_may_lose_its_name() {
    let (place, model) = Workplace::with_gguf("f32");
    let child = waiting(&model, &[]);
    let other = place.write("other", "something else");
    fs::rename(other, &model).unwrap();
    let output = give_text(child);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What is printed or written does not depend on how a file got into memory.
#[test]
fn every_verb_that_opens_a_model_can_read_it() {
    for verb in ["convert", "inspect", "imatrix", "embed", "eval", "bench"] {
        let help = succeeds(args![verb, "--help"]).stdout;
        assert!(help.contains("--no-mmap"), "{verb}");
    }
    let (place, model) = Workplace::with_gguf("f32");
    let texts = place.write("texts.txt", "some text, and more of it\n".repeat(20));
    let (out, imatrix) = (place.path("out"), place.path("imatrix.gguf"));
    let measure =
        |out: &Path| args!["imatrix", model, "--input", texts, "--chunk", "16", "-o", out];
    succeeds(measure(&imatrix));
    let convert = args!["convert", model, "--preset", "q8_0", "--imatrix", imatrix];
    let file = out.join("m-q8_0.gguf");
    for (verb, file) in [
        (args!["inspect", model, "--tensors", "--hash"], &out),
        (args!["embed", model, "--input", texts, "-o", out], &out),
        (measure(&out), &out),
        (convert.into_iter().chain(args!["-o", out]).collect(), &file),
    ] {
        let outcome = |more| {
            let outcome = succeeds([verb.clone(), more].concat());
            let written = fs::read(file).ok();
            let _ = fs::remove_file(file);
            (outcome.stdout, written)
        };
        assert!(outcome(args![]) == outcome(args!["--no-mmap"]), "{verb:?}");
    }
}

#[test]
fn a_model_that_was_read_may_shrink() {
    let (_place, model) = Workplace::with_gguf("f32");
    let expected = give_text(waiting(&model, &[]));
    let child = waiting(&model, &["--no-mmap"]);
    OpenOptions::new().write(true).open(&model).unwrap().set_len(1000).unwrap();
    let output = give_text(child);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, expected.stdout);
}
