//! `rwkvq eval`: one report from models, or from a source that is converted first.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use rwkvq::eval::Report;
use rwkvq::gguf::GgufFile;

use crate::args;
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
    // Kept files are the user's: they are not replaced.
    place.refused([args, args!["--keep", keep]].concat(), 2, &["m-f16.gguf exists"]);
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
    let nowhere = place.path("nowhere/scores.json");
    let nowhere = nowhere.to_str().unwrap();
    refused(&["--keep-scores", nowhere], 4, &["nowhere: No such file or directory"]);
    let pairs = place.write("pairs.tsv", PAIRS);
    let args = args!["eval", model, "--dataset", pairs, "--report", nowhere];
    place.refused(args, 4, &["nowhere: No such file or directory"]);
    let source = place.path("m");
    let args = eval(&place, &[&source, &model], &["--preset", "q8_0"]);
    place.refused(args, 2, &["--preset converts one source"]);
}
