//! `rwkvq devices` and `--device` on a build without GPU backends.

use serde_json::Value;

use crate::args;
use crate::workplace::{succeeds, Workplace};

#[test]
fn the_cpu_is_listed() {
    let text = succeeds(args!["devices"]).stdout;
    assert!(text.lines().any(|line| line.starts_with("| cpu ")), "{text}");
    let list: Value = serde_json::from_str(&succeeds(args!["devices", "--json"]).stdout).unwrap();
    let list = list.as_array().unwrap();
    let cpu = list.iter().find(|device| device["device"] == "cpu").unwrap();
    assert!(cpu["total_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(cpu["compute_capability"], Value::Null);
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let texts = place.write("t", "a\n");
    for verb in ["embed", "bench"] {
        let mut base = args![verb, model];
        if verb == "embed" {
            base.extend(args!["--input", texts]);
        }
        let with = |more: Vec<std::ffi::OsString>| [base.clone(), more].concat();
        for backend in ["cuda", "metal"] {
            let name = format!("device {backend}:0");
            place.refused(with(args!["--device", backend]), 2, &[&name, "--device cpu"]);
        }
        place.refused(with(args!["--device", "tpu"]), 2, &["\"tpu\"", "give auto, cpu"]);
        let part = args!["--device", "cpu", "--gpu-layers", "1"];
        place.refused(with(part), 2, &["--gpu-layers", "are for a GPU"]);
    }
    let plan = args!["devices", "--plan", model, "--device", "cpu"];
    place.refused(plan, 2, &["a plan is for the memory of a GPU", "rwkvq devices"]);
    for option in [args!["--device", "tpu"], args!["--no-mmap"], args!["--batch-tokens", "64"]] {
        let name = option[0].to_str().unwrap();
        let list = [args!["devices"], option.clone()].concat();
        place.refused(list, 2, &[&format!("{name}: without --plan no model is opened")]);
    }
}

#[test]
fn the_cpu_by_name_gives_what_the_default_gives() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let texts = place.write("t", "one\ntwo\n");
    let base = args!["embed", model, "--input", texts, "--threads", "1"];
    let named = [base.clone(), args!["--device", "cpu"]].concat();
    assert_eq!(succeeds(base).stdout, succeeds(named).stdout);
}
