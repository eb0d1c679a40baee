//! What all figures share: sheet, legend, axes, text.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::Shift;
use plotters::element::{DashedPathElement, DynElement, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::palette::{self, Shade};
use super::Size;
use crate::error::{Error, Result};

/// The area that is drawn on.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Height of text; the backend writes it as 1/1.24 of this.
const FONT: u32 = 16;
/// Width of a character, on average, and height of a line of the legend.
const CHAR: i32 = 7;
const LINE: i32 = 22;
/// Longest name of a level, a data set or a control that is drawn.
const LONGEST_NAME: usize = 26;
/// Room at the left of the legend, and of the keys in it.
const EDGE: i32 = 12;
const KEY: i32 = 26;

/// One entry of a legend.
pub(super) struct Key {
    pub(super) name: String,
    pub(super) look: Look,
}

/// How a thing is drawn.
#[derive(Clone, Copy)]
pub(super) enum Look {
    /// A level's line: the colour and the mark of its place.
    Level(usize),
    /// A dashed line across: the length of its dashes.
    Dashed(u32),
    /// A filled patch.
    Patch(Shade),
}

/// Draws a figure of `width` by `height` pixels under a legend of `keys`.
pub(super) fn draw(
    size: Size,
    height: u32,
    keys: &[Key],
    body: impl FnOnce(&Area) -> Drawn,
) -> Result<String> {
    let legend = Legend::new(keys, size.width() as i32);
    let full = height + legend.height();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (size.width(), full)).into_drawing_area();
        let drawn = (|| {
            root.fill(&palette::SURFACE.colour())?;
            let (head, rest) = root.split_vertically(legend.height());
            legend.draw(&head)?;
            body(&rest)?;
            root.present()?;
            Ok(())
        })();
        drawn.map_err(|fault: Fault| Error::self_check(format!("a figure: {fault}")))?;
    }
    Ok(svg)
}

/// What can go wrong on a sheet in memory: a layout that does not fit.
pub(super) type Fault = DrawingAreaErrorKind<std::io::Error>;
pub(super) type Drawn = std::result::Result<(), Fault>;

/// Axes with their names, a grid and ticks.
pub(super) struct Axes<'a, X, Y> {
    pub(super) x: X,
    pub(super) y: Y,
    pub(super) x_name: &'a str,
    pub(super) y_name: &'a str,
    /// Most ticks.
    pub(super) ticks: (usize, usize),
    /// Pixels at the left for the labels of the ticks.
    pub(super) left: u32,
}

/// A chart whose axes are drawn.
pub(super) type Chart<'a, 'b, X, Y> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<<X as AsRangedCoord>::CoordDescType, <Y as AsRangedCoord>::CoordDescType>,
>;

impl<X: AsRangedCoord, Y: AsRangedCoord> Axes<'_, X, Y>
where
    X::CoordDescType: ValueFormatter<X::Value>,
    Y::CoordDescType: ValueFormatter<Y::Value>,
{
    /// Draws the axes; `x_label` and `y_label` write the ticks.
    pub(super) fn draw<'a, 'b>(
        self,
        area: &'a Area<'b>,
        x_label: &dyn Fn(&X::Value) -> String,
        y_label: &dyn Fn(&Y::Value) -> String,
    ) -> std::result::Result<Chart<'a, 'b, X, Y>, Fault> {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(20)
            .x_label_area_size(52)
            .y_label_area_size(self.left)
            .build_cartesian_2d(self.x, self.y)?;
        let muted = palette::MUTED.colour();
        chart
            .configure_mesh()
            .bold_line_style(palette::GRID.colour())
            .light_line_style(palette::GRID.colour().mix(0.0))
            .axis_style(muted)
            .x_labels(self.ticks.0)
            .y_labels(self.ticks.1)
            .x_desc(self.x_name)
            .y_desc(self.y_name)
            .x_label_formatter(x_label)
            .y_label_formatter(y_label)
            .label_style(("sans-serif", FONT - 1, &muted))
            .axis_desc_style(("sans-serif", FONT, &palette::INK.colour()))
            .draw()?;
        Ok(chart)
    }
}

/// The shade of the level at `place`.
pub(super) fn shade(place: usize) -> Shade {
    palette::SERIES[place % palette::SERIES.len()]
}

/// The mark of the level at `place`.
pub(super) fn mark<'b, C: Clone + 'static>(
    place: usize,
    at: C,
) -> DynElement<'static, SVGBackend<'b>, C>
where
    for<'c> &'c Circle<C, u32>: PointCollection<'c, C>,
    for<'c> &'c TriangleMarker<C, u32>: PointCollection<'c, C>,
    for<'c> &'c Cross<C, u32>: PointCollection<'c, C>,
{
    let colour = shade(place).colour();
    match place % 3 {
        0 => Circle::new(at, 4, colour.filled()).into_dyn(),
        1 => TriangleMarker::new(at, 6, colour.filled()).into_dyn(),
        _ => Cross::new(at, 4, colour.stroke_width(2)).into_dyn(),
    }
}

/// A name from a report, fit to be drawn: cut, and without characters that SVG may not hold.
pub(super) fn name(text: &str) -> String {
    let forbidden = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    let visible = |c: char| if forbidden(c) { '\u{fffd}' } else { c };
    let mut name: String = text.chars().take(LONGEST_NAME).map(visible).collect();
    if text.chars().nth(LONGEST_NAME).is_some() {
        name.push('\u{2026}');
    }
    name
}

/// The lowest and the highest of `values`, with some room; at least `least` apart.
pub(super) fn extent(values: impl Iterator<Item = f64>, least: f64) -> [f64; 2] {
    let start = [f64::INFINITY, f64::NEG_INFINITY];
    let [low, high] = values.fold(start, |[low, high], v| [low.min(v), high.max(v)]);
    if low > high {
        return [0.0, 1.0];
    }
    let room = ((high - low) * 0.06).max(least / 2.0);
    [low - room, high + room]
}

/// Digits after the point that tell the ticks of an axis of this length apart.
pub(super) fn digits(length: f64) -> usize {
    (2.0 - length.log10().floor()).clamp(2.0, 7.0) as usize
}

/// Pixels at the left of an axis whose ticks have so many digits, its name included.
pub(super) fn left(digits: usize) -> u32 {
    30 + 8 * (digits as u32 + 2)
}

/// A number on an axis with so many digits after the point; zero has no sign.
pub(super) fn decimal(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.chars().all(|c| c == '0' || c == '.') => zero.to_string(),
        _ => text,
    }
}

/// A number on an axis: `12,500`, `0.5`.
pub(super) fn thousands(value: f64) -> String {
    if value.abs() < 10.0 {
        // As few digits as it has.
        return format!("{:.3}", value).trim_end_matches('0').trim_end_matches('.').into();
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Width of `text` in pixels, about.
pub(super) fn width(text: &str) -> i32 {
    CHAR * text.chars().count() as i32
}

/// Text of the legend.
pub(super) fn text_style(shade: Shade) -> TextStyle<'static> {
    let style = ("sans-serif", FONT).into_font().color(&shade.colour());
    style.pos(Pos::new(HPos::Left, VPos::Center))
}

/// Keys in as many lines as they need.
struct Legend<'a> {
    placed: Vec<(&'a Key, i32, i32)>,
    lines: i32,
}

impl<'a> Legend<'a> {
    fn new(keys: &'a [Key], sheet: i32) -> Self {
        let (mut x, mut line) = (EDGE, 0);
        let mut placed = Vec::new();
        for key in keys {
            let wide = KEY + width(&key.name) + 16;
            if x + wide > sheet && x > EDGE {
                (x, line) = (EDGE, line + 1);
            }
            placed.push((key, x, 8 + LINE * line + LINE / 2));
            x += wide;
        }
        Self { placed, lines: if keys.is_empty() { 0 } else { line + 1 } }
    }

    fn height(&self) -> u32 {
        (8 + LINE * self.lines) as u32
    }

    fn draw(&self, area: &Area) -> Drawn {
        for (key, x, y) in &self.placed {
            let ends = [(*x, *y), (x + 20, *y)];
            match key.look {
                Look::Level(place) => {
                    let line = shade(place).colour().stroke_width(2);
                    area.draw(&PathElement::new(ends, line))?;
                    area.draw(&mark(place, (x + 10, *y)))?;
                }
                Look::Dashed(dash) => {
                    let line = palette::MUTED.colour().stroke_width(2);
                    area.draw(&DashedPathElement::new(ends, dash, dash, line))?;
                }
                Look::Patch(shade) => {
                    let patch = [(*x, y - 7), (x + 16, y + 7)];
                    area.draw(&Rectangle::new(patch, shade.colour().filled()))?;
                }
            }
            area.draw_text(&key.name, &text_style(palette::INK), (x + KEY, *y))?;
        }
        Ok(())
    }
}
