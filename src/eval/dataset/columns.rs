//! Which column is the score and which are the texts, by name.
//!
//! Names are compared without regard to case. The first name of a list that a file has wins.

use std::fmt::Write as _;

/// Names of a score column. SICK has a `label` for entailment beside its `relatedness_score`.
pub(super) const SCORES: [&str; 7] =
    ["score", "relatedness_score", "similarity_score", "label", "similarity", "quality", "gold"];

/// Names of the two text columns.
pub(super) const TEXTS: [(&str, &str); 6] = [
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("a", "b"),
    ("#1 string", "#2 string"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
];

/// Where the three values of a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    pub score: usize,
    pub a: usize,
    pub b: usize,
    /// Fields that every row must have.
    pub n_fields: usize,
    /// The texts are in MRPC's `#1 String` and `#2 String`, the score in its `Quality`.
    pub is_mrpc: bool,
}

impl Columns {
    /// Score, text, text: a file without a header.
    pub fn headless() -> Self {
        Self { score: 0, a: 1, b: 2, n_fields: 3, is_mrpc: false }
    }

    /// Reads a header. `None` if it lacks a score or a pair of texts.
    pub fn from_header(header: &[&str]) -> Option<Self> {
        let at =
            |name: &str| header.iter().position(|field| field.trim().eq_ignore_ascii_case(name));
        let score = SCORES.iter().find_map(|name| at(name))?;
        let (a, b) = TEXTS.iter().find_map(|(a, b)| Some((at(a)?, at(b)?)))?;
        let is_mrpc = at("quality") == Some(score) && at("#1 string") == Some(a);
        Some(Self { score, a, b, n_fields: header.len(), is_mrpc })
    }
}

impl Columns {
    /// Score and texts of a row; `None` if it has not as many fields as it must.
    pub fn of_row<'f, T: ?Sized>(&self, fields: &[&'f T]) -> Option<(&'f T, &'f T, &'f T)> {
        if fields.len() != self.n_fields {
            return None;
        }
        Some((fields.get(self.score)?, fields.get(self.a)?, fields.get(self.b)?))
    }
}

/// The names that would do, for an error message.
pub(super) fn known_names() -> String {
    let mut text = format!("a score column ({}) and two text columns (", SCORES.join(", "));
    for (i, (a, b)) in TEXTS.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{a}/{b}");
    }
    text + ")"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_any_order() {
        let mrpc = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"];
        let columns = Columns::from_header(&mrpc).unwrap();
        assert_eq!((columns.score, columns.a, columns.b, columns.n_fields), (0, 3, 4, 5));
        assert!(columns.is_mrpc);

        let columns = Columns::from_header(&["B", "gold", "A"]).unwrap();
        assert_eq!((columns.score, columns.a, columns.b), (1, 2, 0));
        assert!(!columns.is_mrpc);
    }

    #[test]
    fn a_header_without_score_or_text_is_none() {
        assert_eq!(Columns::from_header(&["sentence1", "sentence2"]), None);
        assert_eq!(Columns::from_header(&["score", "sentence1", "text2"]), None);
        assert_eq!(Columns::from_header(&["3.5", "one", "two"]), None);
    }
}
