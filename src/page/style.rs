//! The style sheet, and what the page may do.

use std::fmt::Write as _;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use sha2::{Digest, Sha256};

use crate::figures::palette;

const RULES: &str = include_str!("style.css");

/// Colours for light and dark, then the rules. Figures have their light colours in attributes: in
/// the dark a rule for each takes its place.
pub(super) fn sheet() -> String {
    let (mut light, mut dark, mut figures) = (String::new(), String::new(), String::new());
    for shade in palette::all() {
        let (name, on_light, on_dark) =
            (shade.name, palette::hex(shade.light), palette::hex(shade.dark));
        let _ = write!(light, "--{name}:{on_light};");
        let _ = write!(dark, "--{name}:{on_dark};");
        for attribute in ["fill", "stroke"] {
            let _ =
                writeln!(figures, "figure [{attribute}=\"{on_light}\"]{{{attribute}:{on_dark}}}");
        }
    }
    format!(
        ":root{{color-scheme:light dark;{light}}}\n\
         @media (prefers-color-scheme: dark){{\n:root{{{dark}}}\n{figures}}}\n{RULES}"
    )
}

/// Nothing is loaded, and of scripts `script` alone runs.
pub(super) fn policy(script: &str) -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(script));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; \
         base-uri 'none'; form-action 'none'"
    )
}
