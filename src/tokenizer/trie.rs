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

/// An id and its bytes.
type Token<'a> = (u32, &'a [u8]);

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
    pub(super) fn build(tokens: Vec<Token<'_>>) -> Result<Self, TrieError> {
        let tokens = sorted(&tokens);
        let mut builder = Builder::with_capacity(tokens.len().saturating_mul(2));
        // Nodes still to be filled: the slot, the tokens that pass through it, and its depth.
        let mut open = vec![(0u32, &tokens[..], 0usize)];
        let mut children = Vec::with_capacity(256);
        while let Some((node, passing, depth)) = open.pop() {
            let (ending, passing) = ending_at(passing, depth);
            match *ending {
                [] => {}
                [(id, _)] => builder.name(node, id),
                [(first, _), (second, _), ..] => {
                    return Err(TrieError::Duplicate(first, second));
                }
            }
            children.clear();
            children.extend(by_byte(passing, depth));
            if children.is_empty() {
                continue;
            }
            let base = builder.place(node, &children)?;
            for (byte, passing) in children.drain(..) {
                open.push((child(base, byte), passing, depth.saturating_add(1)));
            }
        }
        Ok(Self { slots: builder.slots })
    }

    /// Id and length of the longest token that `text` starts with.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let (mut node, mut base) = (0u32, self.slots.first()?.base);
        let mut best = None;
        for (n_bytes, &byte) in (1..).zip(text) {
            let child = child(base, byte);
            match self.slots.get(child as usize) {
                Some(slot) if slot.parent == node => {
                    if slot.token != 0 {
                        best = Some((slot.token, n_bytes));
                    }
                    (node, base) = (child, slot.base);
                }
                _ => break,
            }
        }
        best
    }
}

/// The slot of the child by `byte` of a node with `base`. Bases are below [`MAX_SLOTS`], so it does
/// not wrap.
fn child(base: u32, byte: u8) -> u32 {
    base.wrapping_add(byte.into())
}

/// `tokens` by bytes, then by id.
fn sorted<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    // Nearly every comparison is one of two numbers: a tenth of the time of comparing the bytes.
    let mut order: Vec<(u64, &Token<'_>)> =
        tokens.iter().map(|token| (prefix(token.1), token)).collect();
    order.sort_unstable_by(|(a, (id_a, bytes_a)), (b, (id_b, bytes_b))| {
        a.cmp(b).then_with(|| (bytes_a, id_a).cmp(&(bytes_b, id_b)))
    });
    order.into_iter().map(|(_, token)| *token).collect()
}

/// The first eight bytes as a number that sorts as they do.
fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(first)
}

/// Those of the sorted `tokens` that have `depth` bytes, and those that have more.
fn ending_at<'t, 'a>(tokens: &'t [Token<'a>], depth: usize) -> (&'t [Token<'a>], &'t [Token<'a>]) {
    let n = tokens.iter().take_while(|(_, bytes)| bytes.len() == depth).count();
    tokens.split_at(n)
}

/// The sorted `tokens` by their byte at `depth`, which all of them have.
fn by_byte<'t, 'a>(
    tokens: &'t [Token<'a>],
    depth: usize,
) -> impl Iterator<Item = (u8, &'t [Token<'a>])> {
    let byte = move |token: &Token<'_>| token.1.get(depth).copied();
    let runs = tokens.chunk_by(move |a, b| byte(a) == byte(b));
    runs.filter_map(move |run| Some((byte(run.first()?)?, run)))
}

/// The table while it grows.
struct Builder {
    slots: Vec<Slot>,
    /// One bit a slot, set while it is free. Slots past the end are free too.
    free: Vec<u64>,
    /// All words of `free` before this one are 0.
    first_free: usize,
}

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "slots are numbered below MAX_SLOTS, a search goes at most 64 and a byte beyond, and \
              what is taken lies in the table because it was grown to hold it"
)]
impl Builder {
    /// A table with a root. `n_slots` is a guess: World tokens take 1.8 slots each.
    fn with_capacity(n_slots: usize) -> Self {
        let mut builder = Self { slots: Vec::with_capacity(n_slots), free: vec![], first_free: 0 };
        builder.grow(1);
        builder.free[0] = !1;
        builder
    }

    /// Lets the token `id` end at `node`.
    fn name(&mut self, node: u32, id: u32) {
        self.slots[node as usize].token = id;
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
        let tokens: Vec<Token<'_>> = vec![(1, b"x"), (7, b"same"), (4, b"same")];
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
        let kept: Vec<Token<'_>> = kept.map(|(i, token)| (i as u32, &token[..])).collect();
        let trie = Trie::build(kept.clone()).unwrap();
        for text in &tokens {
            let found = kept.iter().filter(|(_, token)| text.starts_with(token));
            let expected = found.max_by_key(|(_, token)| token.len());
            assert_eq!(trie.longest(text), expected.map(|&(id, token)| (id, token.len())));
        }
    }
}
