//! Which hidden vectors are asked for.

use std::fmt;

use crate::error::{Error, Result};

/// A place in the network whose output can be pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The residual stream after this layer, counted from 0.
    Block(usize),
    /// After the output norm.
    Final,
}

impl Layer {
    /// Blocks of a model of `n_layer` that have to run for it.
    pub fn n_blocks(self, n_layer: usize) -> usize {
        match self {
            Self::Block(il) => il + 1,
            Self::Final => n_layer,
        }
    }

    /// Fails if a model of `n_layer` layers has no such place.
    pub(super) fn check(self, n_layer: usize) -> Result<()> {
        match self {
            Self::Block(il) if il >= n_layer => {
                let last = n_layer.saturating_sub(1);
                let what = format!("layer {il}: the model has 0 to {last} and final");
                Err(Error::argument(what))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(il) => write!(f, "{il}"),
            Self::Final => f.write_str("final"),
        }
    }
}

/// Layers as a user names them, for a model of any depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSelection(Vec<Item>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Index(usize),
    Last,
    Final,
    All,
}

impl LayerSelection {
    /// Every layer and the final norm.
    pub fn all() -> Self {
        Self(vec![Item::All])
    }

    /// The final norm alone.
    pub fn only_final() -> Self {
        Self(vec![Item::Final])
    }

    /// Reads a comma-separated list of indices, `last`, `final` and `all`.
    pub fn parse(text: &str) -> Result<Self> {
        let item = |word: &str| match word.trim() {
            "all" => Ok(Item::All),
            "last" => Ok(Item::Last),
            "final" => Ok(Item::Final),
            word => word.parse().map(Item::Index).map_err(|_| {
                let what = format!("layer {word:?}: give indices, last, final or all, with commas");
                Error::argument(what)
            }),
        };
        text.split(',').map(item).collect::<Result<_>>().map(Self)
    }

    /// The layers of a model of `n_layer` layers: ascending, each once.
    pub fn resolve(&self, n_layer: usize) -> Result<Vec<Layer>> {
        let mut layers = self.listed(n_layer)?;
        layers.sort_unstable();
        layers.dedup();
        Ok(layers)
    }

    /// False if [`resolve`](Self::resolve) changes the order in which the layers are named.
    pub fn is_ascending(&self, n_layer: usize) -> Result<bool> {
        Ok(self.listed(n_layer)?.is_sorted())
    }

    /// The layers as they are named.
    fn listed(&self, n_layer: usize) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for item in &self.0 {
            match *item {
                Item::Index(il) if il == n_layer => layers.push(Layer::Final),
                Item::Index(il) => {
                    let layer = Layer::Block(il);
                    layer.check(n_layer)?;
                    layers.push(layer);
                }
                Item::Last => layers.push(Layer::Block(n_layer.saturating_sub(1))),
                Item::Final => layers.push(Layer::Final),
                Item::All => {
                    layers.extend((0..n_layer).map(Layer::Block));
                    layers.push(Layer::Final);
                }
            }
        }
        Ok(layers)
    }
}

impl From<&[Layer]> for LayerSelection {
    fn from(layers: &[Layer]) -> Self {
        let item = |layer: &Layer| match *layer {
            Layer::Block(il) => Item::Index(il),
            Layer::Final => Item::Final,
        };
        Self(layers.iter().map(item).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Vec<String> {
        let layers = LayerSelection::parse(text).unwrap().resolve(4).unwrap();
        layers.iter().map(Layer::to_string).collect()
    }

    #[test]
    fn words_and_indices() {
        assert_eq!(resolve("all"), ["0", "1", "2", "3", "final"]);
        assert_eq!(resolve("3,1,1,last"), ["1", "3"]);
        assert_eq!(resolve("4,final"), ["final"]);
    }

    #[test]
    fn a_changed_order_is_known() {
        for (text, ascending) in [("all", true), ("1,1,last,final", true), ("3,1", false)] {
            let selection = LayerSelection::parse(text).unwrap();
            assert_eq!(selection.is_ascending(4).unwrap(), ascending, "{text}");
        }
    }

    #[test]
    fn layers_that_are_not_there() {
        assert!(LayerSelection::parse("1,x").is_err());
        assert!(LayerSelection::parse("").is_err());
        let error = LayerSelection::parse("5").unwrap().resolve(4).unwrap_err();
        assert_eq!(error.to_string(), "layer 5: the model has 0 to 3 and final");
    }
}
