//! Help, version, and command lines that make no sense.

use crate::args;
use crate::workplace::{run, succeeds, Workplace};

#[test]
fn the_version_names_ggml_and_the_instruction_sets() {
    let long = succeeds(args!["--version"]).stdout;
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[0], format!("rwkvq {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(lines[1], format!("ggml {}", rwkvq::ggml::version()));
    assert_eq!(lines[2], format!("cpu  {}", rwkvq::ggml::isa()));
    assert!(rwkvq::ggml::version().starts_with(|c: char| c.is_ascii_digit()), "{long}");
    let short = succeeds(args!["-V"]).stdout;
    assert_eq!(short.trim_end(), lines[0]);
}

#[test]
fn every_verb_has_help() {
    let help = succeeds(args!["--help"]).stdout;
    for verb in ["convert", "inspect", "embed", "eval", "make-checkpoint"] {
        assert!(help.contains(verb), "{help}");
        let outcome = succeeds(args![verb, "--help"]);
        assert!(outcome.stdout.contains("Usage: rwkvq"), "{}", outcome.stdout);
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    let cases = [
        args![],
        args!["frobnicate"],
        args!["convert"],
        args!["convert", "m", "-o", "out"],
        args!["convert", "m", "--preset", "q8_0"],
        args!["convert", "m", "--preset", "q8_0", "-o", "out", "--fast"],
        args!["inspect"],
        args!["embed", "m.gguf"],
        args!["eval", "m.gguf"],
        args!["eval", "m.gguf", "--dataset", "d.tsv", "--keep", "out"],
    ];
    for args in cases {
        let outcome = run(args.clone());
        assert_eq!(outcome.code, 2, "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{args:?}");
        assert!(!outcome.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_checkpoint_is_made_in_a_new_folder_alone() {
    let place = Workplace::new();
    let make = |more: &[&str]| {
        let mut args = args!["make-checkpoint", place.path("m"), "--layers", "1"];
        args.extend(more.iter().map(std::ffi::OsString::from));
        args
    };
    place.refused(make(&[]), 2, &["already holds model.safetensors"]);
    place.refused(make(&["--dtype", "q8_0"]), 2, &["q8_0", "f32, f16 or bf16"]);
    place.refused(make(&["--dtype", "f8"]), 2, &["dtype \"f8\": give f32, f16 or bf16"]);
    place.refused(make(&["--shape", "gpt2"]), 2, &["shape \"gpt2\": give demo or finch-1b6"]);
    place.refused(make(&["--output-gain", "17"]), 2, &["output_gain is 17", "at most 16"]);
    place.refused(make(&["--width", "100"]), 2, &["no multiple of head_size"]);
}
