//! Lines over the layers of the model.

use std::ops::Range;

use plotters::prelude::*;
use plotters::series::DashedLineSeries;

use super::canvas::{self, Area, Axes, Drawn, Key, Look};
use super::{both, palette, Figure, Size};
use crate::error::Result;
use crate::eval::report::{Layer, Level, Run};

/// A value and its interval.
#[derive(Clone, Copy)]
struct Point {
    value: f64,
    interval: Option<[f64; 2]>,
}

/// Spearman of every level, and of what knows nothing of meaning.
pub(super) fn spearman(run: &Run, levels: &[&Level]) -> Result<Figure> {
    let point =
        |layer: &Layer| Some(Point { value: layer.spearman?, interval: layer.spearman_ci95 });
    let lines = lines(levels, &point);
    let others = others(run);
    let caption = "How well the cosines of the pairs follow the labels after each layer, one line \
                   per level in the band of its 95 % bootstrap interval, with dashed lines for \
                   similarities made without the model.";
    both("spearman-by-layer", "Spearman against layer", caption.into(), |size| {
        draw(size, levels, &lines, &others, "Spearman correlation (\u{3c1}, no unit)")
    })
}

/// Difference of every level to the reference; none without anything to compare.
pub(super) fn difference(run: &Run, levels: &[&Level]) -> Result<Option<Figure>> {
    let point = |layer: &Layer| {
        let delta = layer.delta_spearman.as_ref()?;
        Some(Point { value: delta.value, interval: delta.ci95 })
    };
    let lines = lines(levels, &point);
    let Some(reference) = run.reference().filter(|_| !lines.is_empty()) else { return Ok(None) };
    let name = canvas::name(&reference.preset);
    let caption = format!(
        "What each level adds to or takes from the Spearman correlation of {name} after each \
         layer, in the band of the paired 95 % bootstrap interval: a band that holds 0 shows no \
         difference."
    );
    let zero = [Across { name, value: 0.0, dash: 6 }];
    let figure = both("difference-by-layer", "Difference to the reference", caption, |size| {
        draw(size, levels, &lines, &zero, "difference in Spearman (\u{3c1}, no unit)")
    });
    figure.map(Some)
}

/// A level's points: place in the list of levels, and for each layer a value or none.
struct Line {
    place: usize,
    points: Vec<Option<Point>>,
}

fn lines(levels: &[&Level], point: &dyn Fn(&Layer) -> Option<Point>) -> Vec<Line> {
    let line = |(i, level): (usize, &&Level)| {
        let points: Vec<_> = level.layers.iter().map(point).collect();
        points.iter().any(Option::is_some).then_some(Line { place: i, points })
    };
    levels.iter().enumerate().filter_map(line).collect()
}

/// A value that has no layer.
struct Across {
    name: String,
    value: f64,
    dash: u32,
}

/// Baselines and controls, each with dashes of its own length.
fn others(run: &Run) -> Vec<Across> {
    let baselines = run.baselines.iter().map(|b| (&b.name, b.spearman));
    let controls = run.controls.iter().map(|c| (&c.name, c.spearman));
    let known = baselines.chain(controls).filter_map(|(name, rho)| Some((name, rho?)));
    let across = |(i, (name, value)): (usize, (&String, f64))| Across {
        name: canvas::name(name),
        value,
        dash: [8, 5, 3, 2][i % 4],
    };
    known.take(8).enumerate().map(across).collect()
}

fn draw(
    size: Size,
    levels: &[&Level],
    lines: &[Line],
    across: &[Across],
    y_name: &str,
) -> Result<String> {
    let names: Vec<String> = levels[0].layers.iter().map(|l| canvas::name(&l.layer)).collect();
    let mut keys: Vec<Key> = lines
        .iter()
        .map(|line| Key {
            name: canvas::name(&levels[line.place].preset),
            look: Look::Level(line.place),
        })
        .collect();
    keys.extend(across.iter().map(|a| Key { name: a.name.clone(), look: Look::Dashed(a.dash) }));
    let [low, high] = extent(lines, across);
    // A single layer stands in the middle.
    let last = names.len() as i32 - 1;
    let x = if last == 0 { -1..1 } else { 0..last };
    let (ticks, x_name) = match size {
        Size::Wide => ((14, 8), "layer (index of the block; final: after the output norm)"),
        Size::Narrow => ((7, 6), "layer (index; final: output norm)"),
    };
    canvas::draw(size, size.height(), &keys, |area| {
        let left = canvas::left(canvas::digits(high - low));
        let axes = Axes { x, y: low..high, x_name, y_name, ticks, left };
        body(area, axes, &names, lines, across)
    })
}

fn body(
    area: &Area,
    axes: Axes<Range<i32>, Range<f64>>,
    names: &[String],
    lines: &[Line],
    across: &[Across],
) -> Drawn {
    let ends = [axes.x.start, axes.x.end];
    let digits = canvas::digits(axes.y.end - axes.y.start);
    let x_label = |i: &i32| {
        let name = usize::try_from(*i).ok().and_then(|i| names.get(i));
        name.cloned().unwrap_or_default()
    };
    let mut chart = axes.draw(area, &x_label, &|y| canvas::decimal(*y, digits))?;
    let alpha = (0.3 / lines.len() as f64).clamp(0.04, 0.16);
    for line in lines {
        let band = canvas::shade(line.place).colour().mix(alpha);
        for part in runs(&line.points, |point| point.interval.is_some()) {
            let low = part.iter().map(|(i, p)| (*i, p.interval.unwrap_or_default()[0]));
            let high = part.iter().rev().map(|(i, p)| (*i, p.interval.unwrap_or_default()[1]));
            let outline: Vec<_> = low.chain(high).collect();
            if part.len() > 1 {
                chart.draw_series([Polygon::new(outline, band)])?;
            } else {
                let whisker = canvas::shade(line.place).colour().mix(0.5).stroke_width(3);
                chart.draw_series([PathElement::new(outline, whisker)])?;
            }
        }
    }
    for Across { value, dash, .. } in across {
        let style = palette::MUTED.colour().stroke_width(2);
        let points = ends.map(|x| (x, *value));
        chart.draw_series(DashedLineSeries::new(points, *dash, *dash, style))?;
    }
    for line in lines {
        let style = canvas::shade(line.place).colour().stroke_width(2);
        for part in runs(&line.points, |_| true) {
            let points: Vec<_> = part.iter().map(|(i, point)| (*i, point.value)).collect();
            chart.draw_series([PathElement::new(points.clone(), style)])?;
            chart.draw_series(points.into_iter().map(|at| canvas::mark(line.place, at)))?;
        }
    }
    Ok(())
}

/// Points that follow each other without a gap, with their places.
fn runs(points: &[Option<Point>], fits: impl Fn(&Point) -> bool) -> Vec<Vec<(i32, Point)>> {
    let mut all = vec![Vec::new()];
    for (i, point) in points.iter().enumerate() {
        match point.filter(|point| fits(point)) {
            Some(point) => all.last_mut().expect("never empty").push((i as i32, point)),
            None => all.push(Vec::new()),
        }
    }
    all.retain(|part| !part.is_empty());
    all
}

/// The lowest and the highest value, intervals included, with some room.
fn extent(lines: &[Line], across: &[Across]) -> [f64; 2] {
    let of_line = |line: &Line| {
        let points: Vec<Point> = line.points.iter().flatten().copied().collect();
        points
            .into_iter()
            .flat_map(|point| [point.value].into_iter().chain(point.interval.into_iter().flatten()))
    };
    let values = lines.iter().flat_map(of_line).chain(across.iter().map(|a| a.value));
    canvas::extent(values, 0.002)
}
