//! Which layers a rule is for: `edges/8`, `0-3`, `5`.

/// A set of layers, for a model of any depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerRange {
    /// The first and the last `1/n` of the layers, at least one each.
    Edges(usize),
    /// From one index to another, both included.
    Indices(usize, usize),
}

impl LayerRange {
    /// Reads `edges/8`, `0-3` or `5`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(part) = text.strip_prefix("edges/") {
            return part.parse().ok().filter(|&part| part > 0).map(Self::Edges);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(Self::Indices(first, last))
    }

    /// True if layer `il` of `n_layer` belongs to the set.
    pub fn contains(self, il: usize, n_layer: usize) -> bool {
        match self {
            Self::Edges(part) => {
                let width = n_layer.div_ceil(part).max(1);
                il < width || il.saturating_add(width) >= n_layer
            }
            Self::Indices(first, last) => (first..=last).contains(&il),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_and_ranges() {
        let edges = LayerRange::parse("edges/8").unwrap();
        let inside: Vec<_> = (0..24).filter(|&il| edges.contains(il, 24)).collect();
        assert_eq!(inside, [0, 1, 2, 21, 22, 23]);
        assert!(LayerRange::parse("2-4").unwrap().contains(4, 24));
        assert!(!LayerRange::parse("2").unwrap().contains(3, 24));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "edges", "edges/0", "4-2", "-1", "a-b"] {
            assert_eq!(LayerRange::parse(text), None, "{text:?}");
        }
    }
}
