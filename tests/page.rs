//! Figures and the page: what they show, and that a report is data to them, never markup.
#![cfg(feature = "pictures")]

#[path = "common/report.rs"]
mod sample;

use rwkvq::eval::report::{Level, Memory, Report};
use rwkvq::figures::{self, palette, to_png, Figure};
use rwkvq::page;
use serde_json::Value;

fn all_figures(report: &Report) -> Vec<Figure> {
    report.runs.iter().flat_map(|run| figures::of_run(run).unwrap()).collect()
}

#[test]
fn every_figure_has_units_and_one_sentence() {
    let figures = all_figures(&sample::report());
    let names: Vec<&str> = figures.iter().map(|figure| figure.name).collect();
    let expected = [
        "spearman-by-layer",
        "difference-by-layer",
        "speed-and-spearman",
        "speed-and-fidelity",
        "memory",
    ];
    assert_eq!(names, expected);
    let axes = [
        ["layer (index", "Spearman correlation (\u{3c1}, no unit)"],
        ["layer (index", "difference in Spearman (\u{3c1}, no unit)"],
        ["speed (tokens/s)", "Spearman (\u{3c1}, no unit)"],
        ["speed (tokens/s)", "mean cosine to the reference (no unit)"],
        ["memory (MB of 1,000,000 bytes)", "level (preset)"],
    ];
    for (figure, axes) in figures.iter().zip(axes) {
        for svg in [&figure.wide, &figure.narrow] {
            for axis in axes {
                assert!(svg.contains(axis), "{}: no axis {axis}", figure.name);
            }
            for level in ["f16", "q4_k"] {
                assert!(svg.contains(level), "{}: no {level}", figure.name);
            }
        }
        let sentences = figure.caption.matches(". ").count() + 1;
        assert!(figure.caption.ends_with('.') && sentences == 1, "{}", figure.caption);
    }
    // Baselines and controls stand beside the levels.
    for other in ["glove", "random-token-vectors"] {
        assert!(figures[0].wide.contains(other), "no {other}");
    }
}

#[test]
fn pngs_have_the_size_of_the_figure_and_its_text() {
    let figures = all_figures(&sample::report());
    let png = to_png(&figures[0].wide, 2).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!(size(16), 2 * 860);
    assert!(size(20) > 800);
    // Without its text a picture is another one: the font is there.
    let text = figures[0].wide.find("<text").unwrap();
    let mute = figures[0].wide.replace("<text", "<g").replace("</text>", "</g>");
    assert!(text > 0 && to_png(&mute, 2).unwrap() != png);
    assert_eq!(to_png(&figures[0].wide, 2).unwrap(), png, "the same every time");
    for scale in [0, 9] {
        assert!(to_png(&figures[0].wide, scale).is_err());
    }
    assert!(to_png("no figure", 1).is_err());
}

#[test]
fn the_page_needs_nothing_else() {
    let page = page::render(&[sample::report()]).unwrap();
    for loads in ["src=", "href=", "url(", "@import", "fetch(", "<link", "<iframe"] {
        assert!(!page.contains(loads), "{loads}");
    }
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http://") && !outside.contains("https://"));
    assert!(page.contains("default-src 'none'"));
    assert!(page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("width=device-width"));
    // Warnings come before all numbers, the command and the machine after.
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
    let (warning, figure) = (at("the tokenizer is not the model"), at("<figure"));
    let (table, machine) = (at("<table"), at("Command and machine"));
    assert!(warning < figure && figure < table && table < machine);
    assert!(page[machine..].contains("rwkvq eval tiny-f16.gguf"));
}

/// Every colour that a figure has turns in the dark.
#[test]
fn no_colour_is_left_out_in_the_dark() {
    let known: Vec<String> = palette::all().map(|shade| palette::hex(shade.light)).collect();
    for figure in all_figures(&sample::report()) {
        for attribute in ["fill=\"#", "stroke=\"#"] {
            for (at, _) in figure.wide.match_indices(attribute) {
                let start = at + attribute.len() - 1;
                let colour = &figure.wide[start..start + 7];
                assert!(known.iter().any(|hex| hex == colour), "{}: {colour}", figure.name);
            }
        }
    }
}

#[test]
fn strings_of_a_report_are_never_markup() {
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</style></svg></title><b onmouseover='alert(1)'>",
        "]]>&lt;&#60;\u{0}\u{1b}\u{202e}\u{ffff}",
    ];
    for text in hostile {
        let mut json = serde_json::to_value(sample::report()).unwrap();
        spoil(&mut json, text);
        // Levels have names of their own, and one of them is the reference.
        json["runs"][0]["levels"][1]["preset"] = format!("{text}2").into();
        let report = Report::from_json("r.json", &json.to_string()).unwrap();
        assert_eq!(report.runs[0].levels[0].preset, text);
        let page = page::render(std::slice::from_ref(&report)).unwrap();
        assert_eq!(page.matches("<script").count(), 1, "our own alone");
        for tag in ["<img", "<b ", "<script>alert"] {
            assert!(!page.contains(tag), "{tag} of {text:?}");
        }
        for end in ["</style>", "</title>"] {
            assert_eq!(page.matches(end).count(), 1, "{end} of {text:?}");
        }
        for figure in all_figures(&report) {
            to_png(&figure.wide, 1).unwrap_or_else(|e| panic!("{} {text:?}: {e}", figure.name));
        }
    }
}

/// Puts `text` in place of every string but the names of layers.
fn spoil(value: &mut Value, text: &str) {
    match value {
        Value::String(old) => *old = text.into(),
        Value::Array(values) => values.iter_mut().for_each(|value| spoil(value, text)),
        Value::Object(map) => {
            map.iter_mut().filter(|(key, _)| *key != "layer").for_each(|(_, v)| spoil(v, text));
        }
        _ => {}
    }
}

#[test]
fn odd_reports_are_drawn_too() {
    type Change = fn(&mut Report);
    let changes: [Change; 9] = [
        |r| r.runs[0].levels.truncate(1),
        |r| r.runs[0].levels.iter_mut().for_each(|level| level.layers.truncate(1)),
        |r| r.runs[0].levels.iter_mut().for_each(|level| level.speed = None),
        |r| r.runs[0].levels.iter_mut().for_each(|level| level.memory = None),
        |r| {
            for level in &mut r.runs[0].levels {
                for layer in &mut level.layers {
                    (layer.spearman, layer.spearman_ci95) = (None, None);
                    (layer.delta_spearman, layer.fidelity) = (None, None);
                }
            }
        },
        |r| {
            let huge = Memory {
                weights_bytes: Some(u64::MAX),
                compute_bytes: Some(u64::MAX),
                state_bytes: Some(u64::MAX),
                ..r.runs[0].levels[0].memory.clone().unwrap()
            };
            r.runs[0].levels[1].memory = Some(huge);
            let speed = r.runs[0].levels[1].speed.as_mut().unwrap();
            speed.tokens_per_second = 1e15;
        },
        |r| {
            for level in &mut r.runs[0].levels {
                level.speed.as_mut().unwrap().tokens_per_second = 0.0;
                level.layers[1].spearman = None;
            }
        },
        |r| {
            let failed = r.runs[0].levels.iter_mut();
            failed.for_each(|level| {
                (level.error, level.speed) = (Some("out of memory".into()), None);
                (level.layers, level.memory) = (Vec::new(), None);
            });
        },
        |r| {
            let level = r.runs[0].levels[1].clone();
            let named = (0..100).map(|i| Level { preset: i.to_string(), ..level.clone() });
            r.runs[0].levels.extend(named);
            r.runs[0].levels[7].preset = "a very long name ".repeat(30);
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut report = sample::report();
        change(&mut report);
        report.check().unwrap();
        let page = page::render(&[report.clone()]).unwrap();
        assert!(page.ends_with("</html>"), "change {i}");
        for figure in all_figures(&report) {
            assert!(!figure.wide.contains("NaN") && !figure.wide.contains("inf"), "change {i}");
            to_png(&figure.narrow, 1).unwrap();
        }
    }
}
