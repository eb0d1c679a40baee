//! The colours of figures and of the page, for light and for dark.
//!
//! Figures are drawn in the light ones. A page maps each to its dark one by a rule on the colour, so
//! no two entries may share a light colour.

use plotters::style::RGBColor;

/// A colour and its counterpart on a dark surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shade {
    /// Name of the custom property in the page's style sheet.
    pub name: &'static str,
    /// On a light surface.
    pub light: [u8; 3],
    /// On a dark surface.
    pub dark: [u8; 3],
}

const fn shade(name: &'static str, light: u32, dark: u32) -> Shade {
    const fn bytes(rgb: u32) -> [u8; 3] {
        [(rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8]
    }
    Shade { name, light: bytes(light), dark: bytes(dark) }
}

/// Behind everything.
pub const SURFACE: Shade = shade("surface", 0xFFFFFF, 0x14171C);
/// Behind warnings, codes and every other row.
pub const RAISED: Shade = shade("raised", 0xF1F3F6, 0x1F242C);
/// Text.
pub const INK: Shade = shade("ink", 0x1B1F24, 0xE9EDF2);
/// Captions, axes and what is said beside.
pub const MUTED: Shade = shade("muted", 0x545D69, 0xA9B4C1);
/// Lines of the grid and of tables; says nothing.
pub const GRID: Shade = shade("grid", 0xDDE2E8, 0x323A45);
/// Text of a warning.
pub const WARNING: Shade = shade("warning", 0x8A2C0D, 0xFFB79A);
/// Links, buttons and the mark of the keyboard.
pub const ACCENT: Shade = shade("accent", 0x0B57A4, 0x8CC2FF);

/// What stands for a level, in the order of the levels; then again from the first.
pub const SERIES: [Shade; 8] = [
    shade("series-1", 0x0068A6, 0x5DB7F0),
    shade("series-2", 0xC24A00, 0xFF9A52),
    shade("series-3", 0x00785A, 0x41CFA0),
    shade("series-4", 0x8547B8, 0xC8A0F4),
    shade("series-5", 0xB8266D, 0xF58CC0),
    shade("series-6", 0x83600A, 0xE2B84C),
    shade("series-7", 0x00798A, 0x52D3E6),
    shade("series-8", 0x5A4FCF, 0xA9A4FF),
];

/// All of them.
pub fn all() -> impl Iterator<Item = Shade> {
    [SURFACE, RAISED, INK, MUTED, GRID, WARNING, ACCENT].into_iter().chain(SERIES)
}

/// `#RRGGBB`, as figures have it.
pub fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Contrast of two colours by WCAG 2: `(L1 + 0.05) / (L2 + 0.05)`, `L1` being the larger of the two
/// relative luminances; 1 to 21.
pub fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn luminance(rgb: [u8; 3]) -> f64 {
    let [r, g, b] = rgb.map(|value| {
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

impl Shade {
    /// As the plotting crate has colours.
    pub(super) fn colour(self) -> RGBColor {
        let [r, g, b] = self.light;
        RGBColor(r, g, b)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn text_reaches_4_5_and_what_stands_for_a_level_3() {
        for text in [INK, MUTED, WARNING, ACCENT] {
            for behind in [SURFACE, RAISED] {
                for (text_rgb, behind_rgb) in [(text.light, behind.light), (text.dark, behind.dark)]
                {
                    let found = contrast(text_rgb, behind_rgb);
                    assert!(found >= 4.5, "{} on {}: {found:.2}", text.name, behind.name);
                }
            }
        }
        for series in SERIES {
            for (rgb, behind) in [(series.light, SURFACE.light), (series.dark, SURFACE.dark)] {
                let found = contrast(rgb, behind);
                assert!(found >= 3.0, "{}: {found:.2}", series.name);
            }
        }
    }

    #[test]
    fn contrast_of_known_colours() {
        assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 1e-9);
        assert!((contrast([119; 3], [255; 3]) - 4.48).abs() < 0.01);
        assert_eq!(contrast([9, 99, 200], [9, 99, 200]), 1.0);
    }

    #[test]
    fn each_light_colour_stands_for_one_dark_one() {
        let lights: BTreeSet<_> = all().map(|shade| shade.light).collect();
        assert_eq!(lights.len(), all().count());
    }
}
