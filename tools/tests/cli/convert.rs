//! `rwkvq convert`: where files go, and what stops it before it starts.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use rwkvq::gguf::GgufFile;

use crate::args;
use crate::workplace::{run, succeeds, Workplace};

fn convert(place: &Workplace, presets: &[&str], out: &str, more: &[&str]) -> Vec<OsString> {
    let mut args = args!["convert", place.path("m"), "-o", place.path(out)];
    presets.iter().for_each(|preset| args.extend(args!["--preset", preset]));
    args.extend(more.iter().map(OsString::from));
    args
}

#[test]
fn several_presets_go_to_a_folder_that_is_made() {
    let place = Workplace::new();
    let outcome = succeeds(convert(&place, &["f16", "q8_0"], "a/b", &[]));
    assert_eq!(outcome.stdout, "", "data only where it is asked for");
    for preset in ["f16", "q8_0"] {
        let path = place.path("a/b").join(format!("m-{preset}.gguf"));
        assert!(outcome.stderr.contains(path.to_str().unwrap()), "{}", outcome.stderr);
        GgufFile::open(&path).unwrap();
    }
    assert_eq!(fs::read_dir(place.path("a/b")).unwrap().count(), 2);
    let mode = fs::metadata(place.path("a/b/m-f16.gguf")).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "others may read it, as any file");
}

#[test]
fn several_presets_do_not_go_to_one_file() {
    let place = Workplace::new();
    let args = convert(&place, &["f16", "q8_0"], "out.gguf", &[]);
    place.refused(args, 2, &["2 presets need a folder, not ", "out.gguf"]);
    let args = convert(&place, &["f16", "f16"], "out", &[]);
    place.refused(args, 2, &["m-f16.gguf would be written twice"]);
}

#[test]
fn files_that_exist_are_replaced_on_request_alone() {
    let place = Workplace::new();
    let out = place.write("out.gguf", "old");
    let args = convert(&place, &["q8_0"], "out.gguf", &[]);
    place.refused(args, 2, &["out.gguf exists; pass --overwrite to replace it"]);
    fs::create_dir(place.path("out")).unwrap();
    place.write("out/m-q8_0.gguf", "old");
    let args = convert(&place, &["f16", "q8_0"], "out", &[]);
    place.refused(args, 2, &["m-q8_0.gguf exists"]);
    succeeds(convert(&place, &["q8_0"], "out.gguf", &["--overwrite"]));
    GgufFile::open(&out).unwrap();
}

#[test]
fn an_input_is_never_the_output() {
    let (place, model) = Workplace::with_gguf("f32");
    let link = place.path("link.gguf");
    std::os::unix::fs::symlink(&model, &link).unwrap();
    let second_name = place.path("second.gguf");
    fs::hard_link(&model, &second_name).unwrap();
    for out in [&model, &link, &second_name] {
        let args = args!["convert", model, "--preset", "q8_0", "-o", out, "--overwrite"];
        place.refused(args, 2, &["output is also an input"]);
    }
}

#[test]
fn presets_that_are_not_there_or_not_right() {
    let place = Workplace::new();
    let args = convert(&place, &["q9_z"], "out", &[]);
    place.refused(args, 2, &["no preset \"q9_z\"", "q4_k_m", "path of a preset file"]);
    let preset = |text: &str| {
        let path = place.write("own.json", text);
        convert(&place, &[path.to_str().unwrap()], "out", &[])
    };
    place.refused(preset("{"), 3, &["own.json: not JSON"]);
    place.refused(preset("{\"abuot\": \"\"}"), 3, &["own.json: preset: unknown field \"abuot\""]);
    let head = r#""about": "a", "file_type": 7, "layout": "quantized""#;
    let unknown = format!("{{{head}, \"default\": \"q9\", \"rules\": []}}");
    place.refused(preset(&unknown), 3, &["own.json: preset: default: expected a tensor type"]);
    let rule = r#"{"tensors": "*", "type": "q8_0", "whi": "x"}"#;
    let unknown = format!("{{{head}, \"default\": \"q8_0\", \"rules\": [{rule}]}}");
    place.refused(preset(&unknown), 3, &["own.json: rule 1: unknown field \"whi\""]);
    let rule = r#"{"tensors": "*.key.weight", "type": "iq2_xxs", "why": "x"}"#;
    let importance = format!("{{{head}, \"default\": \"q8_0\", \"rules\": [{rule}]}}");
    fs::write(place.path("own.json"), importance.replace("*.key", "*_key")).unwrap();
    let args = convert(&place, &[place.path("own.json").to_str().unwrap()], "out", &[]);
    let line = run(args);
    // Rows of 32 fill no such block; the type that stands in for it needs no matrix.
    assert_eq!(line.code, 0, "{}", line.stderr);
    assert!(place.path("out/m-own.gguf").is_file());
}

#[test]
fn a_type_that_needs_an_importance_matrix() {
    let place = Workplace::with(&crate::workplace::wide());
    let rule = r#"{"about": "a", "file_type": 19, "layout": "quantized", "default": "iq2_xxs", "rules": []}"#;
    let path = place.write("own.json", rule);
    let args = convert(&place, &[path.to_str().unwrap()], "out", &[]);
    place.refused(
        args,
        2,
        &["iq2_xxs needs an importance matrix; give one that covers it with --imatrix"],
    );
}

#[test]
fn numbers_of_threads() {
    let place = Workplace::new();
    for n in ["0", "513", "1000000000000"] {
        let args = convert(&place, &["q8_0"], "out", &["--threads", n]);
        place.refused(args, 2, &[n, "threads: give 1 to 512"]);
    }
    for n in ["-1", "many"] {
        let outcome = run(convert(&place, &["q8_0"], "out", &["--threads", n]));
        assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    }
    let files = ["1", "3"].map(|n| {
        succeeds(convert(&place, &["q8_0"], n, &["--threads", n]));
        fs::read(place.path(n).join("m-q8_0.gguf")).unwrap()
    });
    assert!(files[0] == files[1]);
}

#[test]
fn a_folder_that_may_not_be_written_to() {
    let place = Workplace::new();
    let folder = place.path("locked");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("x"), "").is_ok() {
        println!("skipped: this user may write everywhere (root)");
        return;
    }
    for out in ["locked/out.gguf", "locked", "locked/new/folder"] {
        let args = convert(&place, &["q8_0"], out, &[]);
        place.refused(args, 4, &["locked", "Permission denied"]);
    }
}

#[test]
fn a_folder_that_is_a_file() {
    let place = Workplace::new();
    place.write("file", "text");
    let refused = |out, code, expected| {
        place.refused(convert(&place, &["q8_0"], out, &[]), code, &[expected]);
    };
    refused("file", 2, "file is a file; give a folder, or a name ending in .gguf");
    refused("file/out.gguf", 4, "file: ");
}

#[test]
fn presets_in_capitals() {
    let place = Workplace::new();
    succeeds(convert(&place, &["Q8_0"], "out", &[]));
    assert!(place.path("out/m-q8_0.gguf").exists());
}

#[test]
fn a_preset_file_is_never_the_output() {
    let place = Workplace::new();
    let preset = concat!(env!("CARGO_MANIFEST_DIR"), "/../quant-presets/q8_0.json");
    let preset = place.write("mine.gguf", fs::read(preset).unwrap());
    let args = convert(&place, &[preset.to_str().unwrap()], "mine.gguf", &["--overwrite"]);
    place.refused(args, 2, &["mine.gguf: output is also an input"]);
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let place = Workplace::new();
    let before = place.contents();
    let outcome = succeeds(convert(&place, &["f16", "q4_k_m"], "new/folder", &["--dry-run"]));
    assert_eq!(place.contents(), before);
    let path = place.path("new/folder/m-q4_k_m.gguf");
    assert!(outcome.stdout.contains(path.to_str().unwrap()), "{}", outcome.stdout);
    for part in ["blk.1.time_mix_decay_w2.weight", "instead of q4_k", "bits per weight"] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
    assert!(outcome.stderr.contains("warning: q4_k_m: 17 tensors get another type"));
    // What cannot work does not look as if it could.
    fs::remove_file(place.path("m/rwkv_vocab_v20230424.txt")).unwrap();
    let args = convert(&place, &["f16"], "new", &["--dry-run"]);
    place.refused(args, 3, &["no rwkv_vocab_v20230424.txt"]);
}
