//! How the rows of a text become one vector.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::SegmentPool;

/// Mean, last or element-wise maximum over the tokens of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all tokens.
    Mean,
    /// The last token.
    Last,
    /// The maximum of each element.
    Max,
}

impl Pooling {
    /// What the graph computes of it.
    pub(super) fn segment(self) -> SegmentPool {
        match self {
            Self::Mean => SegmentPool::Sum,
            Self::Last => SegmentPool::Last,
            Self::Max => SegmentPool::Max,
        }
    }

    /// From the graph's result over `n_tokens` tokens to the vector.
    pub(super) fn finish(self, pooled: &[f64], n_tokens: usize, normalize: bool, out: &mut [f32]) {
        let mut scale = if self == Self::Mean { 1.0 / n_tokens as f64 } else { 1.0 };
        if normalize {
            let norm = pooled.iter().map(|value| value * value).sum::<f64>().sqrt();
            scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        }
        for (out, value) in out.iter_mut().zip(pooled) {
            *out = (value * scale) as f32;
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Last => "last",
            Self::Max => "max",
        })
    }
}

impl FromStr for Pooling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "mean" => Ok(Self::Mean),
            "last" => Ok(Self::Last),
            "max" => Ok(Self::Max),
            other => Err(Error::argument(format!("pooling {other:?}: give mean, last or max"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_divides_and_normalize_gives_unit_length() {
        let mut out = [0.0; 2];
        Pooling::Mean.finish(&[6.0, 8.0], 2, false, &mut out);
        assert_eq!(out, [3.0, 4.0]);
        Pooling::Mean.finish(&[6.0, 8.0], 2, true, &mut out);
        assert_eq!(out, [0.6, 0.8]);
        Pooling::Last.finish(&[6.0, 8.0], 2, false, &mut out);
        assert_eq!(out, [6.0, 8.0]);
    }

    #[test]
    fn a_zero_vector_stays_zero() {
        let mut out = [1.0; 2];
        Pooling::Max.finish(&[0.0, 0.0], 3, true, &mut out);
        assert_eq!(out, [0.0, 0.0]);
    }
}
