//! What each level holds in memory.

use plotters::prelude::*;

use super::canvas::{self, Axes, Key, Look};
use super::palette::{Shade, SERIES};
use super::{both, Figure, Size};
use crate::error::Result;
use crate::eval::report::Level;

/// The parts, as they are stacked.
const PARTS: [(&str, Shade); 3] =
    [("weights", SERIES[0]), ("compute", SERIES[1]), ("state", SERIES[2])];
/// Pixels that a bar takes.
const BAR: u32 = 34;

/// One bar a level; none without a number.
pub(super) fn split(levels: &[&Level]) -> Result<Option<Figure>> {
    let bars: Vec<(String, [f64; 3])> = levels
        .iter()
        .filter_map(|level| Some((canvas::name(&level.preset), level.memory.as_ref()?.parts())))
        .collect();
    if bars.iter().all(|(_, parts)| parts.iter().sum::<f64>() == 0.0) {
        return Ok(None);
    }
    let caption = "What each level holds in memory: weights as they lie in the file, buffers of \
                   the computation, and the recurrent state of the texts in flight.";
    both("memory", "Memory", caption.into(), |size| draw(size, &bars)).map(Some)
}

fn draw(size: Size, bars: &[(String, [f64; 3])]) -> Result<String> {
    let keys: Vec<Key> = PARTS
        .iter()
        .map(|(name, shade)| Key { name: (*name).into(), look: Look::Patch(*shade) })
        .collect();
    let largest = bars.iter().map(|(_, parts)| parts.iter().sum::<f64>()).fold(0.0, f64::max);
    let longest = bars.iter().map(|(name, _)| canvas::width(name)).max().unwrap_or(0);
    let n = bars.len() as i32;
    canvas::draw(size, 84 + BAR * bars.len() as u32, &keys, |area| {
        let axes = Axes {
            x: 0.0..largest / 1e6 * 1.05,
            y: (0..n - 1).into_segmented(),
            x_name: "memory (MB of 1,000,000 bytes)",
            y_name: "level (preset)",
            ticks: (if size == Size::Wide { 8 } else { 4 }, bars.len()),
            left: longest as u32 + 38,
        };
        // The first level on top.
        let row = |i: usize| n - 1 - i as i32;
        let y_label = |value: &SegmentValue<i32>| match value {
            SegmentValue::CenterOf(at) => {
                let bar = usize::try_from(n - 1 - at).ok().and_then(|i| bars.get(i));
                bar.map_or_else(String::new, |(name, _)| name.clone())
            }
            _ => String::new(),
        };
        let mut chart = axes.draw(area, &|x| canvas::thousands(*x), &y_label)?;
        for (i, (_, parts)) in bars.iter().enumerate() {
            let mut start = 0.0;
            for (part, (_, shade)) in parts.iter().zip(PARTS) {
                let end = start + part / 1e6;
                let corners =
                    [(start, SegmentValue::Exact(row(i))), (end, SegmentValue::Exact(row(i) + 1))];
                let mut bar = Rectangle::new(corners, shade.colour().filled());
                bar.set_margin(5, 5, 0, 0);
                chart.draw_series([bar])?;
                start = end;
            }
        }
        Ok(())
    })
}
