//! Which of the two MRPC texts a data set carries.
//!
//! The Hugging Face copy is cut into tokens ("the company 's pie , he said ."), the older GLUE file
//! is ordinary text ("the company's pie, he said."). Scores differ between them, so a report says
//! which one it used.

use std::fmt;

use super::Pair;

/// How a data set's text treats punctuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextVariant {
    /// White space before punctuation, as in the Hugging Face copy of MRPC.
    Hf,
    /// Punctuation joined to the word before it, as people write.
    Raw,
    /// Neither clearly.
    Unknown,
}

impl TextVariant {
    /// The name in a report: `hf`, `raw` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Raw => "raw",
            Self::Unknown => "unknown",
        }
    }

    /// Counts the marks `. , ; : ? !` that follow white space (spaced) or a letter or digit
    /// (joined), taking only those at the end of a text or before white space. `Hf` if at least
    /// nine tenths are spaced, `Raw` if at most one tenth is, else (or without any) `Unknown`.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "ten times the marks of a file that is far smaller than memory"
    )]
    pub(super) fn of(pairs: &[Pair]) -> Self {
        let mut spaced = 0usize;
        let mut joined = 0usize;
        for text in pairs.iter().flat_map(|pair| [&pair.a, &pair.b]) {
            let (s, j) = count_marks(text);
            spaced += s;
            joined += j;
        }
        match spaced + joined {
            0 => Self::Unknown,
            all if spaced * 10 >= all * 9 => Self::Hf,
            all if spaced * 10 <= all => Self::Raw,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for TextVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[expect(clippy::arithmetic_side_effects, reason = "no more marks than the text has characters")]
fn count_marks(text: &str) -> (usize, usize) {
    let (mut spaced, mut joined) = (0, 0);
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let ends = chars.peek().is_none_or(|next| next.is_whitespace());
        if ends && matches!(c, '.' | ',' | ';' | ':' | '?' | '!') {
            match before {
                Some(b) if char::is_whitespace(b) => spaced += 1,
                Some(b) if char::is_alphanumeric(b) => joined += 1,
                _ => {}
            }
        }
        before = Some(c);
    }
    (spaced, joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(a: &str, b: &str) -> TextVariant {
        TextVariant::of(&[Pair { score: 0.0, a: a.into(), b: b.into() }])
    }

    #[test]
    fn spaced_joined_and_mixed_punctuation() {
        assert_eq!(variant("The pie , he said .", "It grew 1.5 percent ."), TextVariant::Hf);
        assert_eq!(variant("The pie, he said.", "It grew 1.5 percent."), TextVariant::Raw);
        assert_eq!(variant("The pie , he said .", "It grew, they say."), TextVariant::Unknown);
        assert_eq!(variant("no marks", "at all"), TextVariant::Unknown);
    }
}
