//! `rwkvq report` and `rwkvq compare` on what `rwkvq eval` has written.

use std::ffi::OsString;
use std::fs;

use serde_json::Value;

use crate::args;
use crate::workplace::{run, succeeds, Workplace};

const PAIRS: &str = "1\tthe cat sat\ta dog ran away\n\
                     5\tthe cat sat\tthe cat sat down\n\
                     2\train in the morning\tsnow at night\n\
                     4\train in the morning\tit rained in the morning\n\
                     3\tred metal\tred glass\n";

/// A folder with `a.json` and its scores `a.scores`.
fn measured() -> Workplace {
    let place = Workplace::new();
    let pairs = place.write("pairs.tsv", PAIRS);
    let mut args = args!["eval", place.path("m"), "--preset", "f16", "--preset", "q8_0"];
    args.extend(args!["--dataset", pairs, "--report", place.path("a.json")]);
    args.extend(args!["--keep-scores", place.path("a.scores"), "--threads", "1"]);
    succeeds(args);
    place
}

/// `b.json`: `a.json` with a Spearman of the last level changed by `by`.
fn changed(place: &Workplace, by: f64) {
    let mut report: Value =
        serde_json::from_slice(&fs::read(place.path("a.json")).unwrap()).unwrap();
    let rho = &mut report["runs"][0]["levels"][1]["layers"][0]["spearman"];
    *rho = (rho.as_f64().unwrap() + by).clamp(-1.0, 1.0).into();
    place.write("b.json", report.to_string());
}

fn compare(place: &Workplace, more: &[&str]) -> Vec<OsString> {
    let mut args = args!["compare", place.path("a.json"), place.path("b.json")];
    args.extend(more.iter().map(OsString::from));
    args
}

#[test]
fn a_page_and_figures_from_a_report() {
    let place = measured();
    let (page, report) = (place.path("page.html"), place.path("a.json"));
    let mut args = args!["report", report, "-o", page, "--svg", place.path("svg")];
    args.extend(args!["--png", place.path("figures/png")]);
    let outcome = succeeds(args);
    assert_eq!(outcome.stdout, "");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("<svg"));
    let last = outcome.stderr.lines().last().unwrap();
    assert_eq!(last, format!("wrote {}", page.display()), "the page is what to open");
    for (folder, ending, start) in
        [("svg", "svg", "<svg".as_bytes()), ("figures/png", "png", b"\x89PNG")]
    {
        let mut names: Vec<_> = fs::read_dir(place.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "difference-by-layer",
            "memory",
            "spearman-by-layer",
            "speed-and-fidelity",
            "speed-and-spearman",
        ];
        let expected = expected.map(|name| format!("pairs-native-{name}.{ending}"));
        assert_eq!(names, expected);
        let first = fs::read(place.path(folder).join(&names[0])).unwrap();
        assert!(first.starts_with(start));
    }
    // Without a file to write, tables.
    let tables = succeeds(args!["report", report]).stdout;
    assert!(tables.contains("| level"), "{tables}");
    assert!(tables.contains("word-jaccard"), "{tables}");
}

#[test]
fn files_that_are_no_report() {
    let place = Workplace::new();
    let none = place.path("none.json");
    place.refused(args!["report", none], 4, &["none.json: No such file"]);
    let bad = place.write("bad.json", "{\"schema_version\": 1}");
    place.refused(args!["report", bad, "-o", place.path("p.html")], 3, &["bad.json: not a report"]);
    place.refused(args!["compare", bad, bad], 3, &["bad.json: not a report"]);
    let latin = place.write("latin.json", b"\xff\xfe");
    place.refused(args!["report", latin], 3, &["latin.json: not UTF-8"]);
    let fine = measured();
    let nowhere = fine.path("no/where.html");
    fine.refused(args!["report", fine.path("a.json"), "-o", nowhere], 4, &["No such file"]);
}

#[test]
fn a_comparison_is_a_gate() {
    let place = measured();
    changed(&place, -0.05);
    let shown = succeeds(compare(&place, &[]));
    assert!(shown.stdout.contains("-0.0500"), "{}", shown.stdout);
    assert!(shown.stdout.contains("q8_0"), "{}", shown.stdout);
    for (allowed, code) in [("0.06", 0), ("-0.06", 0), ("0.04", 1), ("-0.04", 1), ("0", 1)] {
        let outcome = run(compare(&place, &["--fail-below", allowed]));
        assert_eq!(outcome.code, code, "{allowed}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.contains("0.0500 below, more than"), code == 1);
        assert!(outcome.stdout.contains("-0.0500"), "what failed is shown");
    }
    // What rose, or stayed, passes.
    changed(&place, 0.05);
    succeeds(compare(&place, &["--fail-below", "0.01"]));
    changed(&place, 0.0);
    succeeds(compare(&place, &["--fail-below", "0"]));
    let json = succeeds(compare(&place, &["--json"])).stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["rows"][0]["paired"], false);
    let scores = place.path("a.scores");
    let scores = scores.to_str().unwrap();
    let json = succeeds(compare(&place, &["--json", "--scores", scores, scores])).stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["rows"][0]["paired"], true);
    assert_eq!(json["rows"][0]["ci95"], serde_json::json!([0.0, 0.0]), "the same scores");
}

#[test]
fn what_cannot_be_compared() {
    let place = measured();
    let json = fs::read_to_string(place.path("a.json")).unwrap();
    let other = json.replace("\"protocol\": \"native\"", "\"protocol\": \"paper\"");
    place.write("b.json", other);
    place.refused(compare(&place, &[]), 3, &["b.json: nothing measured in both"]);
    place.refused(compare(&place, &["--fail-below", "NaN"]), 2, &["--fail-below: give a finite"]);
    let scores = place.path("a.scores");
    place.write("b.json", json.as_str());
    let others = fs::read_to_string(&scores).unwrap().replace("\"native\"", "\"paper\"");
    let others = place.write("b.scores", others);
    let args = [compare(&place, &["--scores"]), args![scores, others]].concat();
    place.refused(args, 3, &["a.scores: these scores are not those of the two reports"]);
    changed(&place, 0.01);
    let twice = [compare(&place, &["--scores"]), args![scores, scores]].concat();
    let outcome = succeeds(twice);
    assert!(outcome.stderr.contains("warning: 1 rows are not those"), "{}", outcome.stderr);
    place.write("b.json", json.replace("\"pooling\": \"mean\"", "\"pooling\": \"max\""));
    let outcome = succeeds(compare(&place, &[]));
    assert!(outcome.stdout.contains("not measured alike: pooling: mean and max"));
    let outcome = run(compare(&place, &["--fail-below", "0.5"]));
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("b.json: not measured alike: pooling"), "{}", outcome.stderr);
    let mut report: Value = serde_json::from_str(&json).unwrap();
    report["runs"][0]["levels"].as_array_mut().unwrap().pop();
    place.write("b.json", report.to_string());
    let outcome = succeeds(compare(&place, &[]));
    assert!(outcome.stdout.contains("only in the first: pairs, native protocol, q8_0"));
    let outcome = run(compare(&place, &["--fail-below", "0.5"]));
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("b.json: has no pairs, native protocol, q8_0"));
}
