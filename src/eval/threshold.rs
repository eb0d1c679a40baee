//! Binary labels as a decision: similar from a threshold on.
//!
//! In: similarities and labels that are 0 or 1. Out: the threshold that is right most often, and
//! how often another set's pairs are judged rightly by it. A threshold must come from other pairs
//! than those it is judged on, or the result flatters.

/// How often a threshold is right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// `(tp + tn) / n`
    pub accuracy: f64,
    /// `2 tp / (2 tp + fp + fn)`, label 1 being the positive one; 0 without any.
    pub f1: f64,
}

/// The similarity from which on calling a pair positive is right most often: half-way between two
/// neighbouring similarities, the lowest one (all positive), or just above the highest (none). Of
/// equally good ones the lowest.
///
/// `None` without pairs or if a similarity is not finite. Panics if the lengths differ.
pub fn best(similarities: &[f64], labels: &[f64]) -> Option<f64> {
    assert_eq!(similarities.len(), labels.len(), "similarities and labels of different length");
    if similarities.iter().any(|similarity| !similarity.is_finite()) {
        return None;
    }
    let mut pairs: Vec<(f64, bool)> =
        similarities.iter().zip(labels).map(|(&s, &label)| (s, label == 1.0)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (lowest, highest) = (pairs.first()?.0, pairs.last()?.0);
    // From all positive upwards: each pair that falls below the threshold turns negative.
    let mut right = pairs.iter().filter(|(_, positive)| *positive).count();
    let mut best = (right, lowest);
    for (i, &(similarity, positive)) in pairs.iter().enumerate() {
        right = if positive { right - 1 } else { right + 1 };
        let next = pairs.get(i + 1).map(|pair| pair.0);
        if right > best.0 && next != Some(similarity) {
            best = (right, next.map_or(highest.next_up(), |next| between(similarity, next)));
        }
    }
    Some(best.1)
}

/// Above `low`, at most `high`, half-way where there is room.
fn between(low: f64, high: f64) -> f64 {
    let middle = low + (high - low) / 2.0;
    if middle > low {
        middle
    } else {
        high
    }
}

/// Judges each pair by `similarity >= threshold`. `None` without pairs. Panics if the lengths
/// differ.
pub fn judge(similarities: &[f64], labels: &[f64], threshold: f64) -> Option<Judged> {
    assert_eq!(similarities.len(), labels.len(), "similarities and labels of different length");
    let (mut right, mut tp, mut wrong) = (0usize, 0usize, 0usize);
    for (&similarity, &label) in similarities.iter().zip(labels) {
        let (said, is) = (similarity >= threshold, label == 1.0);
        right += usize::from(said == is);
        tp += usize::from(said && is);
        wrong += usize::from(said != is);
    }
    let n = similarities.len();
    (n > 0).then(|| Judged {
        accuracy: right as f64 / n as f64,
        f1: 2.0 * tp as f64 / (2 * tp + wrong).max(1) as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_threshold_of_small_sets() {
        // Right are 1 (all positive), 2, 3 (from 0.4 on), 2, 3 (none): the lowest of the best.
        let similarities = [0.1, 0.3, 0.5, 0.7];
        assert_eq!(best(&similarities, &[0.0, 0.0, 1.0, 0.0]), Some(0.4));
        assert_eq!(best(&similarities, &[1.0, 1.0, 1.0, 1.0]), Some(0.1));
        assert!(best(&similarities, &[0.0; 4]).is_some_and(|t| t > 0.7 && t < 0.700_001));
        // Equal similarities fall on one side together.
        assert_eq!(best(&[0.2, 0.2, 0.2, 0.6], &[0.0, 1.0, 0.0, 1.0]), Some(0.4));
        assert_eq!(best(&[], &[]), None);
        assert_eq!(best(&[f64::NAN], &[1.0]), None);
        let close = [0.5, 0.5f64.next_up()];
        assert_eq!(best(&close, &[0.0, 1.0]), Some(close[1]));
    }

    #[test]
    fn the_best_threshold_is_no_worse_than_any_other() {
        let similarities: Vec<f64> = (0..60).map(|i| f64::from(i * 17 % 23) / 23.0).collect();
        for k in 1..40 {
            let labels: Vec<f64> = (0..60).map(|i| f64::from(i * k % 7 % 2)).collect();
            let accuracy = |t: f64| judge(&similarities, &labels, t).unwrap().accuracy;
            let found = accuracy(best(&similarities, &labels).unwrap());
            for t in similarities.iter().chain(&[f64::INFINITY]) {
                assert!(found >= accuracy(*t), "{k} {t}");
            }
        }
    }

    #[test]
    fn accuracy_and_f1_by_hand() {
        // tp 1, fp 1, fn 1, tn 2.
        let labels = [1.0, 0.0, 1.0, 0.0, 0.0];
        let found = judge(&[0.9, 0.8, 0.1, 0.2, 0.3], &labels, 0.5).unwrap();
        assert_eq!(found, Judged { accuracy: 3.0 / 5.0, f1: 2.0 / 4.0 });
        let none = judge(&[0.1], &[0.0], 0.5).unwrap();
        assert_eq!(none, Judged { accuracy: 1.0, f1: 0.0 });
        assert_eq!(judge(&[], &[], 0.5), None);
    }
}
