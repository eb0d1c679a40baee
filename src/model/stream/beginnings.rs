//! What the texts of a lane begin with, as a tree of its rows.

use std::collections::{HashMap, HashSet};

use super::Before;

/// Rows behind which more than one stands, at most: the recurrence keeps a copy of the state of each.
const MAX_FORKS: usize = 64;

/// The rows of texts that begin in a lane.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    /// Row by the row before, if there is one, and token.
    rows: HashMap<(Option<usize>, u32), usize>,
    /// Rows behind which another one stands than the next.
    forks: HashSet<usize>,
}

impl Beginnings {
    /// How many tokens at the beginning of a text have rows, and the last of these; `next` is the
    /// row that comes behind it. `None` if there are none, or no more forks are allowed.
    pub(super) fn of(&mut self, tokens: &[u32], next: usize) -> Option<(usize, usize)> {
        let mut known: Vec<usize> = Vec::new();
        for &token in tokens {
            let Some(&row) = self.rows.get(&(known.last().copied(), token)) else { break };
            known.push(row);
        }
        while let Some(&row) = known.last() {
            let forks = known.len() < tokens.len() && row + 1 != next;
            if !forks || self.forks.contains(&row) || self.forks.len() < MAX_FORKS {
                if forks {
                    self.forks.insert(row);
                }
                return Some((known.len(), row));
            }
            known.pop();
        }
        None
    }

    /// A row of a text, and what stands before it. The first of equal ones stays: texts fork from
    /// rows behind it.
    pub(super) fn add(&mut self, before: Before, token: u32, row: usize) {
        let before = match before {
            Before::Row(row) => Some(row),
            Before::Nothing | Before::Carried => None,
        };
        self.rows.entry((before, token)).or_insert(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_are_limited() {
        let mut beginnings = Beginnings::default();
        let long: Vec<u32> = (0..200).collect();
        let mut before = Before::Nothing;
        for (row, &token) in long.iter().enumerate() {
            beginnings.add(before, token, row);
            before = Before::Row(row);
        }
        let other = |n: usize| [&long[..n], &[1000 + n as u32]].concat();
        for n in 1..=MAX_FORKS {
            assert_eq!(beginnings.of(&other(n), 500), Some((n, n - 1)));
        }
        // The last one that forks already.
        assert_eq!(beginnings.of(&other(150), 500), Some((MAX_FORKS, MAX_FORKS - 1)));
        // Its rows are computed once more, and others still fork where they did.
        beginnings.add(Before::Row(MAX_FORKS - 1), MAX_FORKS as u32, 500);
        beginnings.add(Before::Nothing, 0, 600);
        assert_eq!(beginnings.of(&other(9), 700), Some((9, 8)));
        // A text that is there as a whole, and one behind the last row, fork nothing.
        assert_eq!(beginnings.of(&long[..150], 500), Some((150, 149)));
        assert_eq!(beginnings.of(&other(200), 200), Some((200, 199)));
        assert_eq!(beginnings.of(&[7], 500), None);
    }
}
