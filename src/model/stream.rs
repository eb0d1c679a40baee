//! Packs texts of any length into chunks of rows.
//!
//! Texts follow each other in a few lanes; one that does not fit is continued in the next chunk with
//! the state carried over. How they lie there, [`Packing`] says. No row is wasted but separators
//! and, in the last chunk only, the tail of the lanes that end early.
//!
//! The rows of a chunk are a multiple of [`ROW_STEP`], the last chunk is filled up to it. ggml
//! chooses its kernels by the number of rows: one row, an odd number and fewer than eight each
//! have their own. They differ in the last bit of an f32; where activations are quantized, a value
//! that so comes to lie on the other side of a rounding boundary moves a hidden vector by a
//! hundredth. With this step a text always meets the same kernels, whatever its neighbours.

mod beginnings;

use beginnings::Beginnings;

/// Rows of a chunk are a multiple of this.
pub(super) const ROW_STEP: usize = 8;

/// How texts lie in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Each row after the one that stands before it, and between two texts a row that empties the
    /// state: a recurrence may go from row to row.
    Separated,
    /// Texts of a chunk that begin alike share the rows of their beginning, which are those of the
    /// first of them: a row may stand behind any one above it. Nothing between texts.
    Shared,
}

/// Rows of one text that end inside of a chunk, each standing behind the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Index of the text.
    pub(super) text: usize,
    /// The last row.
    pub(super) last: usize,
    /// How many.
    pub(super) n_rows: usize,
    /// True if the text ends here.
    pub(super) complete: bool,
}

/// Rows of all lanes, one lane after the other, each `len` long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Rows of each lane.
    pub(super) len: usize,
    /// Token of each row; 0 in separators and padding.
    pub(super) tokens: Vec<i32>,
    /// The row before each row, as `Io::shift` wants it.
    pub(super) shift: Vec<i32>,
    /// True for rows that hold a token.
    pub(super) keep: Vec<bool>,
    /// Where the texts are.
    pub(super) segments: Vec<Segment>,
}

/// Distributes texts over lanes, chunk by chunk.
#[derive(Debug)]
pub(super) struct Packer<'a> {
    texts: &'a [&'a [u32]],
    packing: Packing,
    /// Rows of a lane in a chunk are a multiple of this.
    step: usize,
    next: usize,
    lanes: Vec<Lane>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    /// The text in progress and how many of its tokens are done.
    current: Option<(usize, usize)>,
    /// True once the state may hold anything.
    used: bool,
}

/// What stands before a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// The end of the lane in the chunk before.
    Carried,
    /// A row of the lane.
    Row(usize),
}

/// A lane's part of a chunk, rows counted from its first.
#[derive(Debug, Default)]
struct LaneRows {
    /// Token, if there is one, and what stands before.
    rows: Vec<(Option<u32>, Before)>,
    segments: Vec<Segment>,
}

impl LaneRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    /// A row without a token.
    fn separate(&mut self) {
        self.rows.push((None, Before::Nothing));
    }
}

impl<'a> Packer<'a> {
    /// `texts` in order over `n_lanes` lanes whose state is empty. No text may be empty. Rows of a
    /// chunk are a multiple of `row_step`, a power of two.
    pub(super) fn new(
        texts: &'a [&'a [u32]],
        n_lanes: usize,
        row_step: usize,
        packing: Packing,
    ) -> Self {
        let step = (row_step >> n_lanes.trailing_zeros()).max(1);
        Self { texts, packing, step, next: 0, lanes: vec![Lane::default(); n_lanes] }
    }

    /// The next chunk of at most `max_rows` rows in all lanes together, or of as few as the row
    /// step and two rows a lane allow; `None` at the end.
    pub(super) fn next_chunk(&mut self, max_rows: usize) -> Option<Chunk> {
        let n_lanes = self.lanes.len();
        let least = self.step.max(2);
        let max_len = (max_rows / n_lanes / self.step * self.step).max(least);
        let lanes: Vec<LaneRows> = (0..n_lanes).map(|lane| self.fill(lane, max_len)).collect();
        // Less than `max_len` only where texts end: then rows may be added at the end.
        let len = lanes.iter().map(LaneRows::len).max().filter(|&len| len > 0)?;
        Some(chunk(&lanes, len.next_multiple_of(self.step)))
    }

    fn fill(&mut self, lane: usize, max_len: usize) -> LaneRows {
        let separates = self.packing == Packing::Separated;
        let mut all = LaneRows::default();
        let mut beginnings = Beginnings::default();
        // Texts that are there already have no rows; what comes out of a chunk is bounded as well.
        while all.len() < max_len && all.segments.len() < max_len {
            let lane = &mut self.lanes[lane];
            let (text, done) = match lane.current {
                Some(current) => current,
                None if self.next == self.texts.len() => break,
                // A separator in the last row would only push the text to the next chunk; it is
                // as good at its beginning.
                None if separates && lane.used && all.len() + 1 == max_len => {
                    all.separate();
                    lane.used = false;
                    break;
                }
                None => {
                    if separates && lane.used {
                        all.separate();
                    }
                    self.next += 1;
                    (self.next - 1, 0)
                }
            };
            lane.used = true;
            let tokens = self.texts[text];
            let (known, mut before) = match done {
                0 if separates => (0, Before::Nothing),
                0 => match beginnings.of(tokens, all.len()) {
                    Some((n, row)) => (n, Before::Row(row)),
                    None => (0, Before::Nothing),
                },
                _ => (done, Before::Carried),
            };
            let end = tokens.len().min(known + max_len - all.len());
            for &token in &tokens[known..end] {
                let row = all.len();
                all.rows.push((Some(token), before));
                if !separates && done == 0 {
                    beginnings.add(before, token, row);
                }
                before = Before::Row(row);
            }
            let Before::Row(last) = before else { unreachable!("no text is empty") };
            let complete = end == tokens.len();
            all.segments.push(Segment { text, last, n_rows: end - done, complete });
            lane.current = (!complete).then_some((text, end));
        }
        all
    }
}

fn chunk(lanes: &[LaneRows], len: usize) -> Chunk {
    let n_rows = len * lanes.len();
    let mut chunk = Chunk {
        len,
        tokens: vec![0; n_rows],
        shift: vec![0; n_rows],
        keep: vec![false; n_rows],
        segments: Vec::new(),
    };
    for (l, lane) in lanes.iter().enumerate() {
        for (i, &(token, before)) in lane.rows.iter().enumerate() {
            let row = l * len + i;
            chunk.tokens[row] = token.map_or(0, |token| token as i32);
            chunk.keep[row] = token.is_some();
            chunk.shift[row] = match before {
                Before::Nothing => 0,
                Before::Carried => 1 + l as i32,
                Before::Row(row) => (1 + lanes.len() + l * len + row) as i32,
            };
        }
        let segments = lane.segments.iter();
        chunk.segments.extend(segments.map(|s| Segment { last: l * len + s.last, ..*s }));
    }
    chunk
}

impl Chunk {
    /// The last row of each segment, row 0 for those up to `n_segments` that are not there.
    pub(super) fn last_rows(&self, n_segments: usize) -> Vec<i32> {
        let mut rows: Vec<i32> = self.segments.iter().map(|s| s.last as i32).collect();
        rows.resize(n_segments, 0);
        rows
    }

    /// 1 where a row belongs to a segment, else 0: `[n_segments][n_rows]`. For separated texts.
    pub(super) fn mask(&self, n_segments: usize) -> Vec<f32> {
        let n_rows = self.tokens.len();
        let mut mask = vec![0.0; n_segments * n_rows];
        for (segment, row) in self.segments.iter().zip(mask.chunks_exact_mut(n_rows)) {
            row[segment.last + 1 - segment.n_rows..=segment.last].fill(1.0);
        }
        mask
    }

    /// Rows that hold a token.
    pub(super) fn n_kept(&self) -> usize {
        self.keep.iter().filter(|&&keep| keep).count()
    }

    /// Tokens that needed no row of their own.
    pub(super) fn n_shared(&self) -> usize {
        self.segments.iter().map(|segment| segment.n_rows).sum::<usize>() - self.n_kept()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(texts: &[&[u32]], n_lanes: usize, max_rows: usize, packing: Packing) -> Vec<Chunk> {
        let mut packer = Packer::new(texts, n_lanes, 1, packing);
        std::iter::from_fn(|| packer.next_chunk(max_rows)).collect()
    }

    fn pack(lengths: &[usize], n_lanes: usize, max_rows: usize) -> Vec<Chunk> {
        let texts: Vec<Vec<u32>> =
            lengths.iter().enumerate().map(|(t, &n)| vec![t as u32 + 1; n]).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        chunks(&texts, n_lanes, max_rows, Packing::Separated)
    }

    #[test]
    fn a_single_text_has_no_separator() {
        let chunks = pack(&[3], 1, 16);
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].tokens, [1, 1, 1]);
        assert_eq!(chunks[0].shift, [0, 1 + 1, 1 + 2]);
        assert_eq!(chunks[0].segments, [Segment { text: 0, last: 2, n_rows: 3, complete: true }]);
        assert_eq!(chunks[0].last_rows(2), [2, 0]);
        assert_eq!(chunks[0].mask(2), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn texts_are_separated_and_continued() {
        let chunks = pack(&[2, 5], 1, 4);
        assert_eq!(chunks[0].tokens, [1, 1, 0, 2]);
        assert_eq!(chunks[0].keep, [true, true, false, true]);
        assert_eq!(chunks[0].shift, [0, 2, 0, 0]);
        assert_eq!(chunks[1].tokens, [2, 2, 2, 2]);
        // the first row continues lane 0
        assert_eq!(chunks[1].shift, [1, 2, 3, 4]);
        assert!(!chunks[0].segments[1].complete && chunks[1].segments[0].complete);
    }

    #[test]
    fn a_separator_at_the_end_of_a_chunk_is_not_repeated() {
        let chunks = pack(&[3, 2], 1, 4);
        assert_eq!(chunks[0].tokens, [1, 1, 1, 0]);
        assert_eq!(chunks[1].tokens, [2, 2]);
        assert_eq!(chunks[1].shift, [0, 2]);
    }

    #[test]
    fn rows_are_a_multiple_of_the_step() {
        let texts: [&[u32]; 4] = [&[1; 5], &[2; 30], &[3], &[2; 9]];
        let packings = [Packing::Separated, Packing::Shared];
        for (n_lanes, packing) in (1..=9).flat_map(|n| packings.map(|packing| (n, packing))) {
            for max_rows in [2, 9, 20, 100] {
                let mut packer = Packer::new(&texts, n_lanes, 8, packing);
                let chunks: Vec<_> = std::iter::from_fn(|| packer.next_chunk(max_rows)).collect();
                let tokens = chunks.iter().map(|chunk| chunk.n_kept() + chunk.n_shared());
                assert_eq!(tokens.sum::<usize>(), 45);
                for (i, chunk) in chunks.iter().enumerate() {
                    assert_eq!(chunk.tokens.len(), chunk.len * n_lanes);
                    assert_eq!(chunk.tokens.len() % 8, 0, "{n_lanes} lanes, chunk {i}");
                    assert!(chunk.tokens.len() <= max_rows.max(8 * n_lanes));
                }
            }
        }
    }

    #[test]
    fn every_token_is_in_exactly_one_segment() {
        for n_lanes in [1, 2, 3] {
            for max_rows in [3, 7, 64] {
                let lengths = [1, 9, 2, 30, 1, 1, 17];
                let mut seen = [0; 7];
                let mut complete = [0; 7];
                for chunk in pack(&lengths, n_lanes, max_rows) {
                    for segment in &chunk.segments {
                        seen[segment.text] += segment.n_rows;
                        complete[segment.text] += usize::from(segment.complete);
                        let rows = &chunk.tokens[segment.last + 1 - segment.n_rows..=segment.last];
                        assert!(rows.iter().all(|&token| token == segment.text as i32 + 1));
                    }
                }
                assert_eq!(seen, lengths);
                assert_eq!(complete, [1; 7]);
            }
        }
    }

    #[test]
    fn texts_share_rows_of_their_beginnings() {
        let texts: [&[u32]; 6] = [&[1, 2, 3], &[1, 2, 4], &[1, 2, 3], &[1, 2, 4, 5], &[7], &[2]];
        let [chunk] = &chunks(&texts, 1, 16, Packing::Shared)[..] else { panic!("one chunk") };
        assert_eq!(chunk.tokens, [1, 2, 3, 4, 5, 7, 2]);
        // 0 nothing, else row + 2
        assert_eq!(chunk.shift, [0, 2, 3, 3, 5, 0, 0]);
        assert_eq!(chunk.last_rows(6), [2, 3, 2, 4, 5, 6]);
        let n_rows: Vec<usize> = chunk.segments.iter().map(|segment| segment.n_rows).collect();
        assert_eq!(n_rows, [3, 3, 3, 4, 1, 1]);
        assert_eq!((chunk.n_kept(), chunk.n_shared()), (7, 8));
    }

    #[test]
    fn equal_texts_do_not_all_come_in_one_chunk() {
        let texts = vec![&[1u32, 2, 3][..]; 1000];
        let chunks = chunks(&texts, 2, 64, Packing::Shared);
        assert!(chunks.iter().all(|chunk| chunk.segments.len() <= 64 && chunk.n_kept() <= 6));
        assert_eq!(chunks.iter().map(|chunk| chunk.segments.len()).sum::<usize>(), 1000);
    }

    /// What rows stand for is every text, whatever is shared and wherever chunks end.
    #[test]
    fn rows_behind_each_other_are_the_texts() {
        let mut texts: Vec<Vec<u32>> = Vec::new();
        let mut random = 1u32;
        for n in 0..200 {
            // A few tokens, so that much is alike.
            let token = |_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                1 + (random >> 24) % 3
            };
            texts.push((0..1 + n % 13).map(token).collect());
        }
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        for packing in [Packing::Separated, Packing::Shared] {
            for (n_lanes, max_rows) in [(1, 2), (1, 7), (1, 64), (3, 30), (1, 10_000)] {
                let mut found = vec![Vec::new(); texts.len()];
                let mut saved = 0;
                for chunk in chunks(&texts, n_lanes, max_rows, packing) {
                    saved += chunk.n_shared();
                    for segment in &chunk.segments {
                        let (mut tokens, mut row) = (Vec::new(), segment.last);
                        let first = loop {
                            tokens.push(chunk.tokens[row] as u32);
                            let before = chunk.shift[row] as usize;
                            if before <= n_lanes {
                                break before;
                            }
                            let next = before - 1 - n_lanes;
                            assert!(next < row && next / chunk.len == row / chunk.len);
                            row = next;
                        };
                        assert_eq!(tokens.len(), segment.n_rows);
                        // A text goes on where the lane ended in the chunk before.
                        let lane = segment.last / chunk.len;
                        let text = &mut found[segment.text];
                        assert_eq!(first, if text.is_empty() { 0 } else { 1 + lane });
                        assert!(text.is_empty() || row == lane * chunk.len);
                        text.extend(tokens.into_iter().rev());
                    }
                }
                assert_eq!(found, texts, "{packing:?} {n_lanes} {max_rows}");
                assert!(packing == Packing::Shared || saved == 0);
                assert!(packing == Packing::Separated || saved > 0 || max_rows < 64);
            }
        }
    }
}
