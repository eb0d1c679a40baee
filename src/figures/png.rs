//! SVG to PNG, with a font of our own: the picture is the same on every machine.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use crate::error::{Error, Result};

/// Latin and Greek of DejaVu Sans; its licence lies beside it.
const FONT: &[u8] = include_bytes!("DejaVuSans-subset.ttf");

/// `figure` as a PNG of `scale` pixels for each of its own. Fails with [`Error::Argument`] on a
/// scale that is not 1 to 8, and with [`Error::SelfCheck`] on a figure that is not ours.
pub fn to_png(figure: &str, scale: u32) -> Result<Vec<u8>> {
    if !(1..=8).contains(&scale) {
        return Err(Error::argument(format!("a scale of {scale}: give 1 to 8")));
    }
    let options =
        Options { fontdb: fonts(), font_family: "DejaVu Sans".into(), ..Options::default() };
    let tree = Tree::from_str(figure, &options)
        .map_err(|fault| Error::self_check(format!("a figure: {fault}")))?;
    let size = tree.size().to_int_size();
    let mut pixels = Pixmap::new(size.width() * scale, size.height() * scale)
        .ok_or_else(|| Error::self_check("a figure without a size"))?;
    resvg::render(&tree, Transform::from_scale(scale as f32, scale as f32), &mut pixels.as_mut());
    pixels.encode_png().map_err(|fault| Error::self_check(format!("a figure: {fault}")))
}

fn fonts() -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let load = || {
        let mut fonts = Database::new();
        fonts.load_font_data(FONT.to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    };
    FONTS.get_or_init(load).clone()
}
