//! A report as pictures.
//!
//! In: a run of a report. Out: figures as SVG, each in two widths, and as PNG. They show what the
//! report says and compute nothing anew. Strings of a report are data: they are cut and escaped.
//! May use `eval` and `error`.

mod canvas;
mod layers;
mod memory;
pub mod palette;
mod png;
mod trade_off;

use crate::error::Result;
use crate::eval::report::{Level, Run};

pub use png::to_png;

/// Most levels that a figure shows; the tables have them all.
pub const MAX_LEVELS: usize = 24;

/// A picture of a run.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it is called in a file name.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it shows, in one sentence.
    pub caption: String,
    /// For a page or a paper: 860 pixels wide.
    pub wide: String,
    /// For a phone: 360 pixels wide.
    pub narrow: String,
}

/// How wide a figure is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Wide,
    Narrow,
}

impl Size {
    fn width(self) -> u32 {
        match self {
            Self::Wide => 860,
            Self::Narrow => 360,
        }
    }

    /// Height of the axes and what is between them.
    fn height(self) -> u32 {
        match self {
            Self::Wide => 420,
            Self::Narrow => 320,
        }
    }
}

/// All figures that the numbers of `run` allow; none if every level failed.
pub fn of_run(run: &Run) -> Result<Vec<Figure>> {
    let levels: Vec<&Level> =
        run.levels.iter().filter(|level| level.error.is_none()).take(MAX_LEVELS).collect();
    if levels.is_empty() {
        return Ok(Vec::new());
    }
    let mut figures = vec![layers::spearman(run, &levels)?];
    figures.extend(layers::difference(run, &levels)?);
    figures.extend(trade_off::spearman(run, &levels)?);
    figures.extend(trade_off::fidelity(run, &levels)?);
    figures.extend(memory::split(&levels)?);
    Ok(figures)
}

/// Draws in both widths.
fn both(
    name: &'static str,
    title: &'static str,
    caption: String,
    draw: impl Fn(Size) -> Result<String>,
) -> Result<Figure> {
    Ok(Figure { name, title, caption, wide: draw(Size::Wide)?, narrow: draw(Size::Narrow)? })
}
