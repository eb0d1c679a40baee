//! The numbers, in tables that sort.

use maud::{html, Markup};

use crate::eval::report::{Layer, Level, Memory, Run, Speed};

/// A cell: what is shown, and what it sorts by.
struct Cell {
    shown: String,
    value: String,
}

/// All levels at the layer where the reference is best.
pub(super) fn levels(run: &Run) -> Markup {
    let at = run.compared_layer();
    let caption = match at {
        Some("final") => "Levels after the output norm, where the reference is best".into(),
        Some(name) => format!("Levels after layer {name}, where the reference is best"),
        None => "Levels".to_string(),
    };
    let mut head = vec!["level", "bits per\nweight", "file\n(MB)"];
    head.extend(LAYER_HEAD);
    head.extend(["best layer\n(\u{3c1})", "speed\n(tokens/s)", "time\n(s/pair)", "load\n(s)"]);
    head.extend(["peak RSS\n(MB)", "weights\n(MB)", "compute\n(MB)", "state\n(MB)"]);
    let row = |level: &Level| {
        let mut cells = vec![text(&level.preset), number(Some(level.bits_per_weight), 2)];
        cells.push(megabytes(Some(level.file_bytes)));
        cells.extend(layer_cells(at.and_then(|name| level.layer(name))));
        cells.push(best(level));
        let speed = |get: fn(&Speed) -> f64| level.speed.as_ref().map(get);
        cells.push(number(speed(|s| s.tokens_per_second), 1));
        cells.push(number(speed(|s| s.seconds_per_pair), 5));
        cells.push(number(speed(|s| s.load_seconds), 3));
        let memory = |get: fn(&Memory) -> Option<u64>| level.memory.as_ref().and_then(get);
        cells.push(megabytes(memory(|m| m.peak_rss_bytes)));
        cells.push(megabytes(memory(|m| m.weights_bytes)));
        cells.push(megabytes(memory(|m| m.compute_bytes)));
        cells.push(megabytes(memory(|m| m.state_bytes)));
        cells
    };
    let rows = run.levels.iter().map(|level| (row(level), level.error.as_deref())).collect();
    table(&caption, &head, rows)
}

/// Baselines and controls.
pub(super) fn without_model(run: &Run) -> Markup {
    let baselines = run.baselines.iter().map(|b| {
        let cells =
            [text(&b.name), number(b.spearman, 4), range(b.spearman_ci95), text("95 % interval")];
        (cells.into_iter().chain([percent(b.oov_rate)]).collect(), None)
    });
    let controls = run.controls.iter().map(|c| {
        let of = match c.seeds.len() {
            0 => text(""),
            n => text(&format!("over {n} seeds")),
        };
        let cells = [text(&c.name), number(c.spearman, 4), range(c.spearman_range), of];
        (cells.into_iter().chain([percent(None)]).collect(), None)
    });
    let rows: Vec<_> = baselines.chain(controls).collect();
    let head = [
        "without the model",
        "Spearman\n(\u{3c1})",
        "range\n(\u{3c1})",
        "range of",
        "unknown\nwords (%)",
    ];
    html! {
        @if !rows.is_empty() {
            (table("Similarities made without the model: what does not beat these shows nothing of meaning", &head, rows))
        }
    }
}

/// Every level at every layer.
pub(super) fn layers(run: &Run) -> Markup {
    let mut head = vec!["level", "layer"];
    head.extend(LAYER_HEAD);
    let mut rows: Vec<Row> = Vec::new();
    for level in &run.levels {
        for (i, layer) in level.layers.iter().enumerate() {
            let name = Cell { shown: layer.layer.clone(), value: i.to_string() };
            let cells = [text(&level.preset), name].into_iter().chain(layer_cells(Some(layer)));
            rows.push((cells.collect(), None));
        }
    }
    html! {
        @if !rows.is_empty() {
            details {
                summary { "All layers" }
                (table("Every level after every layer", &head, rows))
            }
        }
    }
}

const LAYER_HEAD: [&str; 11] = [
    "Spearman\n(\u{3c1})",
    "95 % interval\n(\u{3c1})",
    "Pearson\n(r)",
    "difference\n(\u{3c1})",
    "95 % interval\n(\u{3c1})",
    "p, Holm",
    "mean\ncosine",
    "least\ncosine",
    "\u{3c1} of\nsimilarities",
    "accuracy\n(%)",
    "F1\n(%)",
];

fn layer_cells(layer: Option<&Layer>) -> [Cell; 11] {
    let delta = layer.and_then(|layer| layer.delta_spearman.as_ref());
    let fidelity = layer.and_then(|layer| layer.fidelity.as_ref());
    let binary = layer.and_then(|layer| layer.binary.as_ref());
    [
        number(layer.and_then(|layer| layer.spearman), 4),
        range(layer.and_then(|layer| layer.spearman_ci95)),
        number(layer.and_then(|layer| layer.pearson), 4),
        signed(delta.map(|delta| delta.value)),
        range(delta.and_then(|delta| delta.ci95)),
        number(delta.and_then(|delta| delta.p_holm), 4),
        number(fidelity.and_then(|fidelity| fidelity.mean_cosine), 6),
        number(fidelity.and_then(|fidelity| fidelity.min_cosine), 6),
        number(fidelity.and_then(|fidelity| fidelity.similarity_spearman), 4),
        percent(binary.map(|binary| binary.accuracy)),
        percent(binary.map(|binary| binary.f1)),
    ]
}

/// Cells of a row, and why it has no numbers.
type Row<'a> = (Vec<Cell>, Option<&'a str>);

fn table(caption: &str, head: &[&str], rows: Vec<Row>) -> Markup {
    html! {
        div.table tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { span { (caption) "." } }
                thead { tr { @for name in head { th scope="col" { button type="button" { (name) } } } } }
                tbody {
                    @for (cells, error) in &rows {
                        tr {
                            @if let Some(error) = error {
                                td data-value=(cells[0].value) { (cells[0].shown) }
                                td.failed colspan=(head.len() - 1) { (error) }
                            } @else {
                                @for cell in cells { td data-value=(cell.value) { (cell.shown) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn text(text: &str) -> Cell {
    Cell { shown: text.into(), value: text.into() }
}

fn missing() -> Cell {
    Cell { shown: "\u{2013}".into(), value: String::new() }
}

fn number(value: Option<f64>, digits: usize) -> Cell {
    value.map_or_else(missing, |value| Cell {
        shown: format!("{value:.digits$}"),
        value: value.to_string(),
    })
}

fn signed(value: Option<f64>) -> Cell {
    value.map_or_else(missing, |value| Cell {
        shown: format!("{value:+.4}"),
        value: value.to_string(),
    })
}

fn percent(share: Option<f64>) -> Cell {
    number(share.map(|share| share * 100.0), 1)
}

fn range(range: Option<[f64; 2]>) -> Cell {
    range.map_or_else(missing, |[low, high]| Cell {
        shown: format!("{low:.4} to {high:.4}"),
        value: low.to_string(),
    })
}

fn megabytes(bytes: Option<u64>) -> Cell {
    number(bytes.map(|bytes| bytes as f64 / 1e6), 1)
}

fn best(level: &Level) -> Cell {
    level.best().map_or_else(missing, |(layer, rho)| Cell {
        shown: format!("{} ({rho:.4})", layer.layer),
        value: rho.to_string(),
    })
}
