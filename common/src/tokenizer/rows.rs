//! A prompt's ids as rows of 77 for each encoder.

use super::{END, PAD_CLIP_G, ROW, START, TokenLength};

/// Ids of a prompt in one row: all but the two marks.
pub(super) const INNER: usize = ROW - 2;

/// Rows for CLIP-L.
pub(super) fn clip_l(ids: &[u32], length: TokenLength) -> Vec<[u32; ROW]> {
    cut(&line(ids, length, END))
}

/// Rows for OpenCLIP bigG.
///
/// Of several rows each ends as a text of its own would: a full one in the end mark, an empty one begins with it. A row
/// of its own, as in [`TokenLength::T75`], is as it should be already.
pub(super) fn clip_g(ids: &[u32], length: TokenLength) -> Vec<[u32; ROW]> {
    let mut rows = cut(&line(ids, length, PAD_CLIP_G));
    if length != TokenLength::T75 {
        rows.iter_mut().for_each(end_row);
    }
    rows
}

/// Start mark, as many ids as fit, end mark, then padding up to two more than the length.
fn line(ids: &[u32], length: TokenLength, pad: u32) -> Vec<u32> {
    let mut line = vec![START];
    line.extend(ids.iter().take(length.limit()));
    line.push(END);
    line.resize(length.limit() + 2, pad);
    line
}

/// Rows of 77: the line's first id, 75 of the inner ones, the line's last id.
fn cut(line: &[u32]) -> Vec<[u32; ROW]> {
    let [first, inner @ .., last] = line else { return Vec::new() };
    let row = |ids: &[u32]| {
        let mut row = [*last; ROW];
        row[0] = *first;
        row[1..=INNER].copy_from_slice(ids);
        row
    };
    inner.chunks_exact(INNER).map(row).collect()
}

/// The reference's two rules for a row of several; it takes a `!` within a word, id 0, for padding, and so do we.
fn end_row(row: &mut [u32; ROW]) {
    if row[ROW - 2] != END && row[ROW - 2] != PAD_CLIP_G {
        row[ROW - 1] = END;
    }
    if row[1] == PAD_CLIP_G {
        row[1] = END;
    }
}
