//! `rwkvq eval`: one report from models, or from a source that is converted first.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rwkvq::eval::report::Run;
use rwkvq::eval::Report;
use rwkvq::gguf::GgufFile;

use crate::args;
use crate::schema;
use crate::workplace::{succeeds, Workplace};

const PAIRS: &str = "score\tsentence1\tsentence2
1\tthe cat sat\ta dog ran away
5\tthe cat sat\tthe cat sat down
2\train in the morning\tsnow at night
4\train in the morning\tit rained in the morning
3\tred metal\tred glass
5\tquick brown fox\tthe quick brown fox
";

fn report(path: &Path) -> Report {
    let json = fs::read_to_string(path).unwrap();
    schema::check(&json);
    let report = Report::from_json(path, &json).unwrap();
    assert_eq!(report.to_json(), json, "nothing is lost on the way");
    report
}

fn eval(place: &Workplace, models: &[&Path], more: &[&str]) -> Vec<OsString> {
    let pairs = place.write("pairs.tsv", PAIRS);
    let mut args = args!["eval"];
    args.extend(models.iter().map(OsString::from));
    args.extend(args!["--dataset", pairs, "--report", place.path("report.json")]);
    args.extend(more.iter().map(OsString::from));
    args
}

#[test]
fn models_in_one_report() {
    let place = Workplace::new();
    let mut args = args!["convert", place.path("m"), "-o", place.path("out")];
    args.extend(args!["--preset", "f16", "--preset", "q8_0", "--preset", "q4_k"]);
    succeeds(args);
    let models = ["f16", "q8_0", "q4_k"].map(|level| place.path(&format!("out/m-{level}.gguf")));
    let models = models.each_ref().map(|path| path.as_path());
    let scores = place.path("scores.json");
    let mut args = eval(&place, &models, &["--layers", "1,final", "--json", "--keep-scores"]);
    args.push(scores.clone().into());
    let outcome = succeeds(args);
    let report = report(&place.path("report.json"));
    assert_eq!(outcome.stdout, report.to_json(), "--json prints the report");
    let run = &report.runs[0];
    assert_eq!((run.dataset.name.as_str(), run.dataset.n_pairs), ("pairs", 6));
    let levels: Vec<&str> = run.levels.iter().map(|level| level.preset.as_str()).collect();
    assert_eq!(levels, ["f16", "q8_0", "q4_k"]);
    for (level, path) in run.levels.iter().zip(models) {
        assert_eq!(level.error, None);
        assert_eq!(level.file_bytes, path.metadata().unwrap().len());
        assert_eq!(level.file_sha256, Some(GgufFile::open(path).unwrap().sha256().unwrap()));
        let layers: Vec<&str> = level.layers.iter().map(|layer| layer.layer.as_str()).collect();
        assert_eq!(layers, ["1", "final"]);
        for layer in &level.layers {
            assert!(layer.spearman.is_some_and(|rho| (-1.0..=1.0).contains(&rho)), "{layer:?}");
        }
        assert!(outcome.stderr.contains(&level.preset), "{}", outcome.stderr);
    }
    let scores: serde_json::Value =
        serde_json::from_slice(&fs::read(scores).unwrap()).expect("JSON");
    let kept = &scores["runs"][0]["levels"][2]["layers"]["final"];
    assert_eq!(kept.as_array().map(Vec::len), Some(6));
}

#[test]
fn a_source_is_converted_first() {
    let place = Workplace::new();
    let presets = ["--preset", "f16", "--preset", "q8_0", "--limit", "5"];
    let source = place.path("m");
    let before = place.contents();
    succeeds(eval(&place, &[&source], &presets));
    let mut left: Vec<_> = place.contents().into_keys().collect();
    left.retain(|path| !before.contains_key(path));
    assert_eq!(left, [place.path("pairs.tsv"), place.path("report.json")]);
    let first = report(&place.path("report.json"));

    let keep = place.path("kept/models");
    let args = eval(&place, &[&source], &presets);
    succeeds([args.clone(), args!["--keep", keep]].concat());
    let again = report(&place.path("report.json"));
    for (first, again) in first.runs[0].levels.iter().zip(&again.runs[0].levels) {
        assert_eq!(first.layers, again.layers, "the same numbers from the same bytes");
        let kept = keep.join(format!("m-{}.gguf", again.preset));
        assert_eq!(again.file_sha256, Some(GgufFile::open(&kept).unwrap().sha256().unwrap()));
    }
    assert_eq!(again.runs[0].dataset.n_pairs, 5);
    // Kept files are the user's: they are not replaced unless they may be.
    let args = [args, args!["--keep", keep]].concat();
    place.refused(args.clone(), 2, &["m-f16.gguf exists", "--overwrite"]);
    succeeds([args, args!["--overwrite"]].concat());
}

/// Kept models take the place of no file that is read, and nothing takes theirs.
#[test]
fn kept_models_and_other_files_keep_apart() {
    let place = Workplace::new();
    let source = place.path("m");
    let preset = concat!(env!("CARGO_MANIFEST_DIR"), "/../quant-presets/q8_0.json");
    let preset = place.write("m-mine.gguf", fs::read(preset).unwrap());
    let renamed = place.write("mine.json", fs::read(&preset).unwrap());
    let preset_name = preset.to_str().unwrap();
    let args = eval(&place, &[&source], &["--preset", preset_name, "--overwrite", "--keep"]);
    place.refused([args.clone(), args![preset]].concat(), 2, &["m-mine.gguf: give a folder"]);
    let pairs = place.path("pairs.tsv");
    let mut args = args!["eval", source, "--preset", renamed, "--dataset", pairs, "--overwrite"];
    args.extend(args!["--keep", place.path("kept"), "--report", place.path("kept/m-mine.gguf")]);
    fs::create_dir(place.path("kept")).unwrap();
    place.refused(args.clone(), 2, &["m-mine.gguf is one of the models that --keep keeps"]);
    // The preset file itself, under the name of a model.
    let at = args.iter().position(|arg| arg == "--keep").unwrap();
    args.truncate(at);
    fs::hard_link(&renamed, place.path("kept/m-mine.gguf")).unwrap();
    args.extend(args!["--keep", place.path("kept"), "--report", place.path("r.json")]);
    place.refused(args, 2, &["m-mine.gguf: output is also an input"]);
    let read = |path: &Path| fs::read(path).unwrap();
    assert_eq!(read(&place.path("kept/m-mine.gguf")), read(&preset), "still the preset");
    assert_eq!(read(&renamed), read(&preset));
}

/// GPT-2's byte-level rules with one token a byte, under ids that are not the byte's place.
fn byte_tokenizer(place: &Workplace) -> PathBuf {
    let folder = place.path("gpt2");
    fs::create_dir(&folder).unwrap();
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || b >= 174;
    let mut spare = 256..;
    let of_byte = (0..256).map(|b| if printable(b) { b } else { spare.next().unwrap() });
    let chars = of_byte.map(|c| char::from_u32(c).unwrap().to_string());
    let ids: serde_json::Map<_, _> = chars.zip((0..256).rev().map(Into::into)).collect();
    fs::write(folder.join("encoder.json"), serde_json::to_string(&ids).unwrap()).unwrap();
    fs::write(folder.join("vocab.bpe"), "#version: 0.2\n").unwrap();
    folder
}

#[test]
fn both_protocols_in_one_report() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let tokenizer = byte_tokenizer(&place);
    let binary = |rows: usize| -> String {
        let row = |i: usize| format!("{}\ta cat {i}\ta {}at {i}\n", i % 3 % 2, ["c", "r"][i % 2]);
        "score\tsentence1\tsentence2\n".to_owned() + &(0..rows).map(row).collect::<String>()
    };
    let pairs = place.write("pairs-train.tsv", binary(1005));
    let others = place.write("others.tsv", binary(30));
    let mut args = args!["eval", model, "--dataset", pairs, "--report", place.path("report.json")];
    args.extend(args!["--layers", "1,final", "--protocol", "native", "--protocol", "paper"]);
    args.extend(args!["--tokenizer", tokenizer, "--threshold-from", others, "--threads", "1"]);
    let outcome = succeeds(args.clone());
    let both = report(&place.path("report.json"));
    let [native, paper] = both.runs.as_slice() else { panic!("{} runs", both.runs.len()) };
    assert_eq!((native.protocol.as_str(), native.tokenizer.matches_model), ("native", true));
    assert_eq!((paper.protocol.as_str(), paper.tokenizer.matches_model), ("paper", false));
    assert_eq!((native.dataset.n_pairs, paper.dataset.n_pairs), (1005, 1000));
    let at_once =
        |run: &Run| run.levels[0].speed.as_ref().map(|speed| speed.texts_at_once.is_some());
    assert_eq!((at_once(native), at_once(paper)), (Some(false), Some(true)));
    assert_ne!(native.levels[0].layers[0].spearman, paper.levels[0].layers[0].spearman);
    assert!(both.warnings[0].starts_with("pairs-train train, paper protocol: the gpt2 tokenizer"));
    assert!(outcome.stderr.contains("NOT the model's"), "{}", outcome.stderr);
    for run in &both.runs {
        assert_eq!(run.threshold_from.as_ref().map(|set| set.n_pairs), Some(30));
        assert!(run.levels[0].layers.iter().all(|layer| layer.binary.is_some()));
        // A third of the pairs is positive.
        let found = run.dataset.max_spearman.unwrap();
        assert!((found - (3.0f64 * 2.0 / 9.0).sqrt()).abs() < 1e-3, "{found}");
        let controls: Vec<&str> = run.controls.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(controls, ["random-token-vectors", "word-jaccard", "length-difference"]);
    }
    // One text at a time gives the same embeddings as many.
    let last = args.iter_mut().find(|arg| *arg == "native").unwrap();
    *last = "paper".into();
    args.extend(args!["--limit", "1000"]);
    succeeds(args);
    let once = report(&place.path("report.json"));
    assert_eq!(once.runs.len(), 1, "a protocol named twice runs once");
    assert_eq!(once.runs[0].levels[0].layers, paper.levels[0].layers);
}

#[test]
fn thresholds_come_from_other_pairs() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let pairs = place.write("pairs.tsv", "1\ta\ta\n0\ta\tb\n1\tb c\tb\n0\tc\tq\n");
    let graded = place.write("graded.tsv", PAIRS);
    let run = |from: &Path| {
        args!["eval", model, "--dataset", pairs, "--threshold-from", from, "--report"]
            .into_iter()
            .chain(args![place.path("report.json")])
            .collect::<Vec<_>>()
    };
    succeeds(run(&pairs));
    let same = report(&place.path("report.json"));
    assert_eq!(same.runs[0].threshold_from, None);
    let warned = |what: &str| same.warnings.iter().any(|warning| warning.contains(what));
    assert!(warned("give --threshold-from another split"), "{:?}", same.warnings);
    fs::remove_file(place.path("report.json")).unwrap();
    place.refused(run(&graded), 2, &["graded.tsv: a threshold needs labels that are 0 or 1"]);
}

/// Both names end with the preset, so both levels would be called so.
#[test]
fn levels_of_one_preset_are_called_by_their_files() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let names = ["a-q8_0.gguf", "b-q8_0.gguf", "c-f16.gguf"];
    let [a, b, c] = names.map(|name| place.path(name));
    fs::copy(&model, &a).unwrap();
    fs::copy(&model, &b).unwrap();
    succeeds(args!["convert", place.path("m"), "--preset", "f16", "-o", c]);
    let args = eval(&place, &[&a, &b, &c], &["--reference", "a-q8_0", "--no-mmap"]);
    let outcome = succeeds(args);
    let report = report(&place.path("report.json"));
    let levels: Vec<&str> = report.runs[0].levels.iter().map(|l| l.preset.as_str()).collect();
    assert_eq!(levels, ["a-q8_0", "b-q8_0", "f16"]);
    assert_eq!(report.runs[0].reference().unwrap().preset, "a-q8_0");
    assert!(outcome.stderr.contains("warning: a-q8_0 and b-q8_0 hold"), "{}", outcome.stderr);
    // A report differs nowhere from itself.
    let path = place.path("report.json");
    let outcome = succeeds(args!["compare", path, path, "--fail-below", "0"]);
    assert_eq!(outcome.stdout.matches("+0.0000").count(), 9, "{}", outcome.stdout);

    fs::remove_file(&path).unwrap();
    let folder = place.path("other");
    fs::create_dir(&folder).unwrap();
    let twin = folder.join("a-q8_0.gguf");
    fs::copy(&model, &twin).unwrap();
    let args = eval(&place, &[&a, &twin], &[]);
    place.refused(args, 2, &["would both be called a-q8_0"]);
}

/// Rows of 32 do not fill superblocks: both presets give q8_0.
#[test]
fn levels_that_differ_in_name_only() {
    let place = Workplace::new();
    let presets = ["--preset", "f16", "--preset", "q8_0", "--preset", "q6_k", "--threads", "1"];
    succeeds(eval(&place, &[&place.path("m")], &presets));
    let warnings = report(&place.path("report.json")).warnings;
    let found = warnings.iter().find(|warning| warning.contains("of the same types"));
    let found = found.unwrap_or_else(|| panic!("{warnings:?}"));
    assert!(found.starts_with("q8_0 and q6_k hold"), "{found}");
}

/// No correlation is defined, and the table would show dashes alone.
#[test]
fn labels_without_spread() {
    let (place, model) = Workplace::with_gguf("q8_0");
    for (rows, expected) in [
        ("2\ta\tb\n2\tc\td\n", "labels that are all equal have no correlation"),
        ("2\ta\tb\n", "one pair has no correlation"),
    ] {
        let args = eval(&place, &[&model], &[]);
        place.write("pairs.tsv", rows);
        succeeds(args);
        let warnings = report(&place.path("report.json")).warnings;
        assert!(warnings[0].contains(expected), "{warnings:?}");
    }
}

#[test]
fn data_sets_that_cannot_be_read() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let cases = [
        ("", "pairs.tsv: "),
        ("score\tsentence1\tsentence2\n", "pairs.tsv: empty data set"),
        ("score\tsentence1\tsentence2\n1\ta\tb\n2\ta\n", "pairs.tsv: line 3"),
        ("score\tsentence1\tsentence2\nx\ta\tb\n", "pairs.tsv: line 2"),
        ("score\tsentence1\tsentence2\nNaN\ta\tb\n", "pairs.tsv: line 2"),
    ];
    for (text, expected) in cases {
        let args = eval(&place, &[&model], &[]);
        place.write("pairs.tsv", text);
        place.refused(args, 3, &[expected]);
    }
    let mut args = args!["eval", model, "--dataset", place.path("none.tsv")];
    place.refused(args.clone(), 4, &["none.tsv: No such file or directory"]);
    args.extend(args!["--limit", "0"]);
    place.refused(args, 2, &["0 rows"]);
}

/// Found before any level runs, with the place.
#[test]
fn texts_that_the_tokenizer_cannot_take() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let tokenizer = r#"{"pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 999}, "merges": []}}"#;
    let tokenizer = place.write("tokenizer.json", tokenizer);
    let refused = |rows: &str, code: i32, expected: &str| {
        let args = eval(&place, &[&model], &["--tokenizer", tokenizer.to_str().unwrap()]);
        place.write("pairs.tsv", rows);
        place.refused(args, code, &[expected]);
    };
    refused("1\ta\tb\n2\ta\td\n", 3, "pairs.tsv: pair 2: character 'd' of the text is no token of");
    refused(
        "1\ta\tb\n2\ta\t  \n",
        3,
        "pairs.tsv: pair 2: the huggingface tokenizer makes no token",
    );
    refused("1\ta\tb\n2\tc\ta\n", 2, "pairs.tsv: pair 2: token id 999 of the huggingface");
}

#[test]
fn what_cannot_work_fails_before_it_runs() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let refused = |more: &[&str], code: i32, parts: &[&str]| {
        let args = eval(&place, &[&model], more);
        place.refused(args, code, parts)
    };
    refused(&["--layers", "9"], 2, &["layer 9: the model has 0 to 1 and final"]);
    refused(&["--threads", "0"], 2, &["0 threads"]);
    refused(&["--baseline", "word2vec=x"], 2, &["baseline \"word2vec=x\": give glove=FILE"]);
    refused(&["--reference", "q1"], 2, &["q1", "q8_0"]);
    refused(&["--protocol", "paper"], 2, &["GPT-2's ids", "--tokenizer encoder.json"]);
    let world = place.path("m/rwkv_vocab_v20230424.txt");
    let world = ["--protocol", "paper", "--tokenizer", world.to_str().unwrap()];
    refused(&world, 2, &["World vocabulary", "GPT-2's encoder.json"]);
    let gpt2 = byte_tokenizer(&place);
    let gpt2 = gpt2.to_str().unwrap();
    let paper = ["--protocol", "paper", "--tokenizer", gpt2, "--layers", "1", "--pooling", "max"];
    refused(&paper, 2, &["pools by mean, not max"]);
    refused(&paper[..4], 2, &["layer 3: the model has 0 to 1 and final"]);
    let nowhere = place.path("nowhere/scores.json");
    let nowhere = nowhere.to_str().unwrap();
    refused(&["--keep-scores", nowhere], 4, &["nowhere: No such file or directory"]);
    let pairs = place.write("pairs.tsv", PAIRS);
    let roundabout = place.path("m/../out.json");
    let args = args!["eval", model, "--dataset", pairs, "--report", place.path("out.json")];
    let args = [args, args!["--keep-scores", roundabout]].concat();
    place.refused(args, 2, &["--report and --keep-scores name the same file"]);
    let args = args!["eval", model, "--dataset", pairs, "--report", nowhere];
    place.refused(args, 4, &["nowhere: No such file or directory"]);
    let source = place.path("m");
    let args = eval(&place, &[&source, &model], &["--preset", "q8_0"]);
    place.refused(args, 2, &["--preset converts one source"]);
}
