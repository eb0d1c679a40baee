//! Packs texts of any length into chunks of rows.
//!
//! Texts follow each other in a few lanes. Between two texts stands one separator row, which
//! empties the state of its lane, so that a text never feels its neighbours; a text that does not
//! fit is continued in the next chunk with the state carried over. No row is wasted but the
//! separators and, in the last chunk only, the tail of the lanes that end early.
//!
//! The rows of a chunk are a multiple of [`ROW_STEP`], the last chunk is filled up to it. ggml
//! chooses its kernels by the number of rows: one row, an odd number and fewer than eight each
//! have their own. They differ in the last bit of an f32; where activations are quantized, a value
//! that so comes to lie on the other side of a rounding boundary moves a hidden vector by a
//! hundredth. With this step a text always meets the same kernels, whatever its neighbours.

/// Rows of a chunk are a multiple of this.
pub(super) const ROW_STEP: usize = 8;

/// A run of rows of one text inside a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Index of the text.
    pub(super) text: usize,
    /// First row.
    pub(super) first: usize,
    /// Row after the last.
    pub(super) end: usize,
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

impl<'a> Packer<'a> {
    /// `texts` in order over `n_lanes` lanes whose state is empty. No text may be empty. Rows of a
    /// chunk are a multiple of `row_step`, a power of two.
    pub(super) fn new(texts: &'a [&'a [u32]], n_lanes: usize, row_step: usize) -> Self {
        let step = (row_step >> n_lanes.trailing_zeros()).max(1);
        Self { texts, step, next: 0, lanes: vec![Lane::default(); n_lanes] }
    }

    /// The next chunk of at most `max_rows` rows in all lanes together, or of as few as the row
    /// step and two rows a lane allow; `None` at the end.
    pub(super) fn next_chunk(&mut self, max_rows: usize) -> Option<Chunk> {
        let n_lanes = self.lanes.len();
        let least = self.step.max(2);
        let max_len = (max_rows / n_lanes / self.step * self.step).max(least);
        let lanes: Vec<Vec<Row>> = (0..n_lanes).map(|lane| self.fill(lane, max_len)).collect();
        // Less than `max_len` only when all texts are done: then rows may be added at the end.
        let len = lanes.iter().map(Vec::len).max().filter(|&len| len > 0)?;
        Some(chunk(&lanes, len.next_multiple_of(self.step)))
    }

    fn fill(&mut self, lane: usize, max_len: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        while rows.len() < max_len {
            let lane = &mut self.lanes[lane];
            let (text, done) = match lane.current {
                Some(current) => current,
                None if self.next == self.texts.len() => break,
                // A separator in the last row would only push the text to the next chunk; it is
                // as good at its beginning.
                None if lane.used && rows.len() + 1 == max_len => {
                    rows.push(Row::Separator);
                    lane.used = false;
                    break;
                }
                None => {
                    if lane.used {
                        rows.push(Row::Separator);
                    }
                    self.next += 1;
                    (self.next - 1, 0)
                }
            };
            lane.used = true;
            let tokens = self.texts[text];
            let end = tokens.len().min(done + max_len - rows.len());
            let complete = end == tokens.len();
            for (i, &token) in tokens[done..end].iter().enumerate() {
                let first = done + i == 0;
                let last = complete && done + i + 1 == end;
                rows.push(Row::Token { text, token, first, last });
            }
            lane.current = (!complete).then_some((text, end));
        }
        rows
    }
}

#[derive(Debug, Clone, Copy)]
enum Row {
    Token { text: usize, token: u32, first: bool, last: bool },
    Separator,
}

fn chunk(lanes: &[Vec<Row>], len: usize) -> Chunk {
    let n_rows = len * lanes.len();
    let mut chunk = Chunk {
        len,
        tokens: Vec::with_capacity(n_rows),
        shift: Vec::with_capacity(n_rows),
        keep: Vec::with_capacity(n_rows),
        segments: Vec::new(),
    };
    for (l, rows) in lanes.iter().enumerate() {
        for i in 0..len {
            chunk.push(rows.get(i).copied().unwrap_or(Row::Separator), l, i, lanes.len());
        }
    }
    chunk
}

impl Chunk {
    /// First and end row of each segment, empty ones up to `n_segments`: `[n_segments][2]`.
    pub(super) fn row_ranges(&self, n_segments: usize) -> Vec<i32> {
        let mut ranges: Vec<i32> =
            self.segments.iter().flat_map(|s| [s.first as i32, s.end as i32]).collect();
        ranges.resize(2 * n_segments, 0);
        ranges
    }

    /// The last row of each segment, row 0 for the empty ones up to `n_segments`.
    pub(super) fn last_rows(&self, n_segments: usize) -> Vec<i32> {
        let mut rows: Vec<i32> = self.segments.iter().map(|s| s.end as i32 - 1).collect();
        rows.resize(n_segments, 0);
        rows
    }

    /// 1 where a row belongs to a segment, else 0: `[n_segments][n_rows]`.
    pub(super) fn mask(&self, n_segments: usize) -> Vec<f32> {
        let n_rows = self.tokens.len();
        let mut mask = vec![0.0; n_segments * n_rows];
        for (segment, row) in self.segments.iter().zip(mask.chunks_exact_mut(n_rows)) {
            row[segment.first..segment.end].fill(1.0);
        }
        mask
    }

    fn push(&mut self, row: Row, lane: usize, i: usize, n_lanes: usize) {
        let index = self.tokens.len();
        let Row::Token { text, token, first, last } = row else {
            self.tokens.push(0);
            self.shift.push(0);
            self.keep.push(false);
            return;
        };
        self.tokens.push(token as i32);
        self.keep.push(true);
        self.shift.push(match (first, i) {
            (true, _) => 0,
            (false, 0) => 1 + lane as i32,
            (false, _) => (n_lanes + index) as i32,
        });
        match self.segments.last_mut() {
            Some(segment) if segment.text == text && !first && i > 0 => segment.end = index + 1,
            _ => {
                self.segments.push(Segment { text, first: index, end: index + 1, complete: false })
            }
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.complete = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(lengths: &[usize], n_lanes: usize, max_rows: usize) -> Vec<Chunk> {
        let texts: Vec<Vec<u32>> =
            lengths.iter().enumerate().map(|(t, &n)| vec![t as u32 + 1; n]).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let mut packer = Packer::new(&texts, n_lanes, 1);
        std::iter::from_fn(|| packer.next_chunk(max_rows)).collect()
    }

    #[test]
    fn a_single_text_has_no_separator() {
        let chunks = pack(&[3], 1, 16);
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].tokens, [1, 1, 1]);
        assert_eq!(chunks[0].shift, [0, 1 + 1, 1 + 2]);
        assert_eq!(chunks[0].segments, [Segment { text: 0, first: 0, end: 3, complete: true }]);
        assert_eq!(chunks[0].row_ranges(2), [0, 3, 0, 0]);
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
        let texts: [&[u32]; 3] = [&[1; 5], &[2; 30], &[3]];
        for n_lanes in 1..=9 {
            for max_rows in [2, 9, 20, 100] {
                let mut packer = Packer::new(&texts, n_lanes, 8);
                let chunks: Vec<_> = std::iter::from_fn(|| packer.next_chunk(max_rows)).collect();
                let kept = |chunk: &Chunk| chunk.keep.iter().filter(|&&keep| keep).count();
                assert_eq!(chunks.iter().map(kept).sum::<usize>(), 36);
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
                        seen[segment.text] += segment.end - segment.first;
                        complete[segment.text] += usize::from(segment.complete);
                        let rows = &chunk.tokens[segment.first..segment.end];
                        assert!(rows.iter().all(|&token| token == segment.text as i32 + 1));
                    }
                }
                assert_eq!(seen, lengths);
                assert_eq!(complete, [1; 7]);
            }
        }
    }
}
