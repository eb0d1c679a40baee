//! Longest-match lookup over the tokens of a vocabulary.
//!
//! In: byte strings with ids. Out: for a position in a text, the longest token that starts there.
//! Uses std only.

/// Most slots a table may have: 144 times what the real vocabulary takes; 192 MiB.
const MAX_SLOTS: usize = 1 << 24;

/// How far back of the end of the table a place for several children is looked for. It bounds the
/// time a node takes, whatever the vocabulary.
const SEARCH_SLOTS: usize = 1024;

/// Mark of a slot that is no node's child.
const NOBODY: u32 = u32::MAX;

/// A trie in one table: the child of node `n` by byte `b` is slot `slots[n].base + b`, if that
/// slot names `n` as its parent. One step through a text is one read of 12 bytes.
#[derive(Debug)]
pub(super) struct Trie {
    slots: Vec<Slot>,
}

/// One node, or a free place.
#[derive(Debug, Clone, Copy)]
struct Slot {
    base: u32,
    parent: u32,
    /// Id of the token that ends here; 0 for none.
    token: u32,
}

/// Why tokens make no trie.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TrieError {
    /// Two ids, the lower first, stand for the same bytes.
    Duplicate(u32, u32),
    /// The table would pass its cap.
    TooLarge,
}

impl Trie {
    /// Trie of `tokens`: ids above 0 with their bytes, at least one byte each.
    pub(super) fn build(tokens: Vec<(u32, &[u8])>) -> Result<Self, TrieError> {
        let tokens = sorted(&tokens);
        let mut builder = Builder::with_capacity(2 * tokens.len());
        // Nodes still to be filled: the slot, the tokens that pass through it, and its depth.
        let mut open = vec![(0u32, 0..tokens.len(), 0usize)];
        let mut children = Vec::with_capacity(256);
        while let Some((node, mut range, depth)) = open.pop() {
            if tokens.get(range.start).is_some_and(|(_, bytes)| bytes.len() == depth) {
                let id = tokens[range.start].0;
                range.start += 1;
                builder.slots[node as usize].token = id;
                if !range.is_empty() && tokens[range.start].1.len() == depth {
                    return Err(TrieError::Duplicate(id, tokens[range.start].0));
                }
            }
            children.clear();
            split_by_byte(&tokens, range, depth, &mut children);
            if children.is_empty() {
                continue;
            }
            let base = builder.place(node, &children)?;
            for (byte, range) in children.drain(..) {
                open.push((base + u32::from(byte), range, depth + 1));
            }
        }
        Ok(Self { slots: builder.slots })
    }

    /// Id and length of the longest token that `text` starts with.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let (mut node, mut base) = (0u32, self.slots[0].base);
        let mut best = None;
        for (depth, &byte) in text.iter().enumerate() {
            let child = base + u32::from(byte);
            match self.slots.get(child as usize) {
                Some(slot) if slot.parent == node => {
                    if slot.token != 0 {
                        best = Some((slot.token, depth + 1));
                    }
                    (node, base) = (child, slot.base);
                }
                _ => break,
            }
        }
        best
    }
}

/// `tokens` by bytes, then by id.
fn sorted<'a>(tokens: &[(u32, &'a [u8])]) -> Vec<(u32, &'a [u8])> {
    // Nearly every comparison is one of two numbers: a tenth of the time of comparing the bytes.
    let mut order: Vec<(u64, usize)> =
        tokens.iter().enumerate().map(|(i, (_, bytes))| (prefix(bytes), i)).collect();
    order.sort_unstable_by(|a, b| {
        let rest = |i: usize| (tokens[i].1, tokens[i].0);
        a.0.cmp(&b.0).then_with(|| rest(a.1).cmp(&rest(b.1)))
    });
    order.into_iter().map(|(_, i)| tokens[i]).collect()
}

/// The first eight bytes as a number that sorts as they do.
fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let n = bytes.len().min(8);
    first[..n].copy_from_slice(&bytes[..n]);
    u64::from_be_bytes(first)
}

/// The sorted tokens of `range` by their byte at `depth`.
fn split_by_byte(
    tokens: &[(u32, &[u8])],
    range: std::ops::Range<usize>,
    depth: usize,
    children: &mut Vec<(u8, std::ops::Range<usize>)>,
) {
    for i in range {
        let byte = tokens[i].1[depth];
        match children.last_mut() {
            Some((last, range)) if *last == byte => range.end = i + 1,
            _ => children.push((byte, i..i + 1)),
        }
    }
}

/// The table while it grows.
struct Builder {
    slots: Vec<Slot>,
    /// One bit a slot, set while it is free. Slots past the end are free too.
    free: Vec<u64>,
    /// All words of `free` before this one are 0.
    first_free: usize,
}

impl Builder {
    /// A table with a root. `n_slots` is a guess: World tokens take 1.8 slots each.
    fn with_capacity(n_slots: usize) -> Self {
        let mut builder = Self { slots: Vec::with_capacity(n_slots), free: vec![], first_free: 0 };
        builder.grow(1);
        builder.free[0] = !1;
        builder
    }

    /// Takes one slot for each child of `node` and returns the base they share.
    fn place<T>(&mut self, node: u32, children: &[(u8, T)]) -> Result<u32, TrieError> {
        let base = self.find_base(children);
        let lowest_end = base + children.last().map_or(0, |child| usize::from(child.0)) + 1;
        if lowest_end > MAX_SLOTS {
            return Err(TrieError::TooLarge);
        }
        self.grow(lowest_end);
        for (byte, _) in children {
            let slot = base + usize::from(*byte);
            self.slots[slot].parent = node;
            self.free[slot / 64] &= !(1 << (slot % 64));
        }
        while self.free.get(self.first_free) == Some(&0) {
            self.first_free += 1;
        }
        self.slots[node as usize].base = base as u32;
        Ok(base as u32)
    }

    /// The lowest base from which all children fall on free slots, 64 candidates at a time.
    /// A single child fills any hole; several look only near the end of the table.
    fn find_base<T>(&self, children: &[(u8, T)]) -> usize {
        let lowest_byte = children.first().map_or(0, |child| usize::from(child.0));
        let mut from = self.first_free * 64;
        if children.len() > 1 {
            from = from.max(self.slots.len().saturating_sub(SEARCH_SLOTS));
        }
        let mut candidates = from.saturating_sub(lowest_byte);
        loop {
            let fits = children.iter().try_fold(u64::MAX, |fits, (byte, _)| {
                Some(fits & self.free_from(candidates + usize::from(*byte))).filter(|&f| f != 0)
            });
            match fits {
                Some(fits) => return candidates + fits.trailing_zeros() as usize,
                None => candidates += 64,
            }
        }
    }

    /// The free bits of 64 slots, `slot` in the lowest.
    fn free_from(&self, slot: usize) -> u64 {
        let word = |i: usize| self.free.get(i).copied().unwrap_or(u64::MAX);
        let (i, shift) = (slot / 64, slot % 64);
        if shift == 0 {
            return word(i);
        }
        word(i) >> shift | word(i + 1) << (64 - shift)
    }

    fn grow(&mut self, n_slots: usize) {
        if n_slots > self.slots.len() {
            self.slots.resize(n_slots, Slot { base: 0, parent: NOBODY, token: 0 });
            self.free.resize(n_slots.div_ceil(64), u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie(tokens: &[&str]) -> Trie {
        Trie::build(tokens.iter().zip(1..).map(|(token, id)| (id, token.as_bytes())).collect())
            .unwrap()
    }

    #[test]
    fn the_longest_token_wins() {
        let trie = trie(&["a", "ab", "abcd", "b", "\0", "\u{ff}"]);
        assert_eq!(trie.longest(b"abcx"), Some((2, 2)));
        assert_eq!(trie.longest(b"abcde"), Some((3, 4)));
        assert_eq!(trie.longest(b"ba"), Some((4, 1)));
        assert_eq!(trie.longest(b"\0a"), Some((5, 1)));
        assert_eq!(trie.longest("\u{ff}".as_bytes()), Some((6, 2)));
        assert_eq!(trie.longest(b"\xc3"), None);
        assert_eq!(trie.longest(b"c"), None);
        assert_eq!(trie.longest(b""), None);
    }

    #[test]
    fn a_vocabulary_of_nothing_matches_nothing() {
        assert_eq!(trie(&[]).longest(b"abc"), None);
    }

    #[test]
    fn equal_tokens_are_named() {
        let tokens: Vec<(u32, &[u8])> = vec![(1, b"x"), (7, b"same"), (4, b"same")];
        assert_eq!(Trie::build(tokens).unwrap_err(), TrieError::Duplicate(4, 7));
    }

    #[test]
    fn agrees_with_a_linear_search() {
        // Every string over three distant bytes up to length five, but for some that are left out.
        let mut tokens = vec![Vec::new()];
        for _ in 0..5 {
            let longer = tokens.iter().flat_map(|token: &Vec<u8>| {
                [0u8, 97, 255].map(|byte| [token.as_slice(), &[byte]].concat())
            });
            let longer: Vec<_> = longer.collect();
            tokens.extend(longer);
        }
        tokens.sort();
        tokens.dedup();
        let kept = tokens.iter().enumerate().filter(|(i, token)| !token.is_empty() && i % 7 != 3);
        let kept: Vec<(u32, &[u8])> = kept.map(|(i, token)| (i as u32, &token[..])).collect();
        let trie = Trie::build(kept.clone()).unwrap();
        for text in &tokens {
            let found = kept.iter().filter(|(_, token)| text.starts_with(token));
            let expected = found.max_by_key(|(_, token)| token.len());
            assert_eq!(trie.longest(text), expected.map(|&(id, token)| (id, token.len())));
        }
    }
}
