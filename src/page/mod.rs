//! Reports as one page that needs nothing else.
//!
//! In: reports. Out: HTML with its style, its figures and a script that sorts tables; nothing is
//! fetched. It follows the reader's choice of light or dark and fits a phone. A report is data, not
//! markup: every string is escaped, and a policy in the page lets no other script run. May use
//! `eval`, `figures` and `error`.

mod style;
mod tables;

use maud::{html, Markup, PreEscaped, DOCTYPE};

use crate::error::Result;
use crate::eval::report::{Host, Report, Run};
use crate::figures::{self, Figure};

const SORT: &str = include_str!("sort.js");

/// The page of `reports`, in their order.
pub fn render(reports: &[Report]) -> Result<String> {
    let sections = reports.iter().map(section).collect::<Result<Vec<_>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(style::policy(SORT));
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title(reports)) }
                style { (PreEscaped(style::sheet())) }
            }
            body {
                main { @for section in &sections { (section) } }
                script { (PreEscaped(SORT)) }
            }
        }
    };
    Ok(page.into_string())
}

fn title(reports: &[Report]) -> String {
    let mut names: Vec<&str> =
        reports.iter().flat_map(|r| &r.runs).map(|run| run.dataset.name.as_str()).collect();
    names.dedup();
    format!("{}: quality, speed and memory of each level", names.join(", "))
}

fn section(report: &Report) -> Result<Markup> {
    let runs =
        report.runs.iter().map(|run| run_section(report, run)).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        header {
            h1 { "What quantization costs" }
            p.beside {
                "Measured by " (report.tool.name) " " (report.tool.version) ", " (report.created)
            }
        }
        (warnings(report))
        @for run in &runs { (run) }
        (origin(report))
    })
}

fn warnings(report: &Report) -> Markup {
    html! {
        @if !report.warnings.is_empty() {
            section.warnings aria-label="Warnings" {
                h2 { "Read this first" }
                ul { @for warning in &report.warnings { li { (warning) } } }
            }
        }
    }
}

fn run_section(report: &Report, run: &Run) -> Result<Markup> {
    let pictures = figures::of_run(run)?;
    let data = &run.dataset;
    Ok(html! {
        section {
            h2 {
                (data.name)
                @if let Some(split) = &data.split { " " (split) }
                ", " (run.protocol) " protocol"
            }
            (facts(report, run))
            @for picture in &pictures { (figure(picture)) }
            (tables::levels(run))
            (tables::without_model(run))
            (tables::layers(run))
        }
    })
}

/// What was measured, and how.
fn facts(report: &Report, run: &Run) -> Markup {
    let (data, tokenizer) = (&run.dataset, &run.tokenizer);
    html! {
        dl {
            dt { "pairs" }
            dd {
                (data.n_pairs)
                @if let Some(n) = data.n_positive { ", " (n) " of them positive" }
                ", " (data.text_variant) " text"
            }
            @if let Some(largest) = data.max_spearman.filter(|&largest| largest < 1.0) {
                dt { "largest Spearman" }
                dd { (format!("{largest:.3}")) ": equal labels keep even a perfect order below 1" }
            }
            dt { "tokenizer" }
            dd {
                (tokenizer.kind) ", " (tokenizer.vocab_size) " tokens, "
                @if tokenizer.matches_model { "the model's own ids" }
                @else { strong { "not the ids that the model was made for" } }
            }
            dt { "embedding" }
            dd { (report.pooling) " over the tokens, compared by cosine" }
            @if let Some(level) = run.reference() {
                dt { "reference" }
                dd { (level.preset) }
            }
            @if let Some(from) = &run.threshold_from {
                dt { "threshold from" }
                dd {
                    (from.name)
                    @if let Some(split) = &from.split { " " (split) }
                    ", " (from.n_pairs) " pairs"
                }
            }
        }
    }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        figure {
            h3 { (figure.title) }
            // Ours, with every name of the report escaped by the backend that wrote it.
            div.wide role="img" aria-label=(figure.caption) { (PreEscaped(&figure.wide)) }
            div.narrow role="img" aria-label=(figure.caption) { (PreEscaped(&figure.narrow)) }
            figcaption { (figure.caption) }
        }
    }
}

/// The command and the machine.
fn origin(report: &Report) -> Markup {
    let Host { cpu, cores, isa, ram_bytes, os, gpu } = &report.host;
    html! {
        section {
            h2 { "Command and machine" }
            pre { (report.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")) }
            dl {
                dt { "processor" }
                dd { (cpu.as_deref().unwrap_or("unknown")) ", " (cores) " cores in use, " (isa.join(" ")) }
                @if let Some(bytes) = ram_bytes {
                    dt { "memory" }
                    dd { (format!("{:.1} GB", *bytes as f64 / 1e9)) }
                }
                @if let Some(gpu) = gpu {
                    dt { "GPU" }
                    dd { (gpu) }
                }
                dt { "system" }
                dd { (os) }
                dt { "program" }
                dd { (report.tool.name) " " (report.tool.version) ", ggml " (report.tool.ggml) }
                dt { "seed" }
                dd { (report.seed) }
            }
        }
    }
}

/// An argument as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
