//! Speed against quality, memory as the size of a bubble.

use plotters::prelude::*;

use super::canvas::{self, Axes, Key, Look};
use super::{both, Figure, Size};
use crate::error::Result;
use crate::eval::report::{Layer, Level, Run};

/// Radius of the largest bubble, pixels.
const LARGEST: f64 = 20.0;

/// A level as a bubble.
struct Bubble {
    place: usize,
    name: String,
    tokens_per_second: f64,
    quality: f64,
    interval: Option<[f64; 2]>,
    bytes: f64,
}

/// Tokens per second against Spearman.
pub(super) fn spearman(run: &Run, levels: &[&Level]) -> Result<Option<Figure>> {
    let Some(layer) = chosen_layer(run) else { return Ok(None) };
    let bubbles =
        bubbles(run, levels, &layer, |layer, _| Some((layer.spearman?, layer.spearman_ci95)));
    let caption =
        format!(
        "Speed against Spearman after {}, where {} is best, with 95 % intervals and memory as the \
         area of a bubble ({}): up and right is better.",
        layer.shown, layer.reference, largest(&bubbles)
    );
    figure(
        "speed-and-spearman",
        "Speed against quality",
        caption,
        &bubbles,
        "Spearman (\u{3c1}, no unit)",
    )
}

/// Tokens per second against the mean cosine to the reference.
pub(super) fn fidelity(run: &Run, levels: &[&Level]) -> Result<Option<Figure>> {
    let Some(layer) = chosen_layer(run) else { return Ok(None) };
    let bubbles = bubbles(run, levels, &layer, |found, is_reference| match &found.fidelity {
        Some(fidelity) => Some((fidelity.mean_cosine?, None)),
        None => is_reference.then_some((1.0, None)),
    });
    if bubbles.len() < 2 {
        return Ok(None);
    }
    let caption =
        format!(
        "Speed against fidelity, the mean cosine of the embeddings to those of {} after {}, with \
         memory as the area of a bubble ({}): up and right is better.",
        layer.reference, layer.shown, largest(&bubbles)
    );
    figure(
        "speed-and-fidelity",
        "Speed against fidelity",
        caption,
        &bubbles,
        "mean cosine to the reference (no unit)",
    )
}

/// The one layer at which all levels are compared.
struct Chosen {
    name: String,
    /// As it is called in a sentence.
    shown: String,
    reference: String,
}

fn chosen_layer(run: &Run) -> Option<Chosen> {
    let name = run.compared_layer()?;
    let shown = match name {
        "final" => "the output norm".into(),
        number => format!("layer {}", canvas::name(number)),
    };
    Some(Chosen { name: name.into(), shown, reference: canvas::name(&run.reference()?.preset) })
}

/// Levels with a speed and a quality, which `quality` takes from the layer and whether the level is
/// the reference.
fn bubbles(
    run: &Run,
    levels: &[&Level],
    chosen: &Chosen,
    quality: impl Fn(&Layer, bool) -> Option<(f64, Option<[f64; 2]>)>,
) -> Vec<Bubble> {
    let bubble = |(place, level): (usize, &&Level)| {
        let layer = level.layer(&chosen.name)?;
        let (quality, interval) = quality(layer, run.is_reference(level))?;
        Some(Bubble {
            place,
            name: canvas::name(&level.preset),
            tokens_per_second: level.speed.as_ref()?.tokens_per_second,
            quality,
            interval,
            bytes: level.memory.as_ref().map_or(0.0, |memory| memory.parts().iter().sum()),
        })
    };
    levels.iter().enumerate().filter_map(bubble).collect()
}

fn largest(bubbles: &[Bubble]) -> String {
    let bytes = bubbles.iter().map(|bubble| bubble.bytes).fold(0.0, f64::max);
    format!("the largest {:.1} MB", bytes / 1e6)
}

fn figure(
    name: &'static str,
    title: &'static str,
    caption: String,
    bubbles: &[Bubble],
    y_name: &str,
) -> Result<Option<Figure>> {
    if bubbles.is_empty() {
        return Ok(None);
    }
    both(name, title, caption, |size| draw(size, bubbles, y_name)).map(Some)
}

fn draw(size: Size, bubbles: &[Bubble], y_name: &str) -> Result<String> {
    let keys: Vec<Key> = bubbles
        .iter()
        .map(|bubble| Key { name: bubble.name.clone(), look: Look::Level(bubble.place) })
        .collect();
    let fastest = bubbles.iter().map(|bubble| bubble.tokens_per_second).fold(0.0, f64::max);
    let x = 0.0..if fastest > 0.0 { fastest * 1.12 } else { 1.0 };
    let values = bubbles
        .iter()
        .flat_map(|b| [b.quality].into_iter().chain(b.interval.into_iter().flatten()));
    let [low, high] = canvas::extent(values, 2e-5);
    // Room for half a bubble above and below.
    let (low, high) = (low - 0.08 * (high - low), high + 0.08 * (high - low));
    let heaviest = bubbles.iter().map(|bubble| bubble.bytes).fold(f64::MIN_POSITIVE, f64::max);
    let digits = canvas::digits(high - low);
    let ticks = if size == Size::Wide { (8, 8) } else { (4, 6) };
    canvas::draw(size, size.height(), &keys, |area| {
        let axes = Axes {
            x,
            y: low..high,
            x_name: "speed (tokens/s)",
            y_name,
            ticks,
            left: canvas::left(digits),
        };
        // Neither a correlation nor a cosine goes beyond 1.
        let within = |y: f64| y.abs() < 1.0 + 1e-9;
        let y_label =
            |y: &f64| if within(*y) { canvas::decimal(*y, digits) } else { String::new() };
        let mut chart = axes.draw(area, &|x| canvas::thousands(*x), &y_label)?;
        for bubble in bubbles {
            let colour = canvas::shade(bubble.place).colour();
            let at = (bubble.tokens_per_second, bubble.quality);
            let radius = (LARGEST * (bubble.bytes / heaviest).sqrt()).max(4.0) as u32;
            if let Some(ends) = bubble.interval {
                let whisker = ends.map(|y| (bubble.tokens_per_second, y)).to_vec();
                chart.draw_series([PathElement::new(whisker, colour.mix(0.6).stroke_width(2))])?;
            }
            chart.draw_series([Circle::new(at, radius, colour.mix(0.35).filled())])?;
            chart.draw_series([Circle::new(at, radius, colour.stroke_width(2))])?;
            chart.draw_series([canvas::mark(bubble.place, at)])?;
        }
        Ok(())
    })
}
