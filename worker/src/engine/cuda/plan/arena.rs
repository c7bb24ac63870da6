//! Places in one buffer: two buffers may share bytes only if no instruction needs both.

use std::cmp::Reverse;

/// Every buffer begins at a multiple of this many bytes.
pub const ALIGNMENT: usize = 256;

/// Instructions from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First instruction that touches the buffer.
    pub first: usize,
    /// Last one.
    pub last: usize,
}

impl Interval {
    /// Whether an instruction needs both.
    pub fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where each buffer lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arena {
    /// Offset of each buffer in bytes; `None` for those that nothing touches.
    pub offsets: Vec<Option<usize>>,
    /// Bytes in all.
    pub bytes: usize,
}

/// Finds a place for every buffer with a life, given their bytes: the largest first, each at the lowest offset where it
/// meets nobody (greedy by size, Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
/// The same buffers give the same places.
pub fn place(buffers: &[(usize, Option<Interval>)]) -> Arena {
    let mut order: Vec<usize> = (0..buffers.len()).filter(|buffer| buffers[*buffer].1.is_some()).collect();
    order.sort_by_key(|buffer| (Reverse(buffers[*buffer].0), *buffer));
    let mut arena = Arena { offsets: vec![None; buffers.len()], bytes: 0 };
    // Those that have a place: offset, end and life, sorted by offset.
    let mut placed: Vec<(usize, usize, Interval)> = Vec::with_capacity(order.len());
    for buffer in order {
        let (bytes, Some(life)) = buffers[buffer] else { continue };
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        let mut offset = 0;
        for (from, to, _) in placed.iter().filter(|(.., other)| other.meets(life)) {
            if offset + bytes <= *from {
                break;
            }
            offset = offset.max(*to);
        }
        let at = placed.partition_point(|(from, ..)| *from <= offset);
        placed.insert(at, (offset, offset + bytes, life));
        arena.offsets[buffer] = Some(offset);
        arena.bytes = arena.bytes.max(offset + bytes);
    }
    arena
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64) -> Vec<(usize, Option<Interval>)> {
        // A linear congruential generator with Knuth's constants.
        let mut state = seed;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % n) as usize
        };
        let count = 1 + below(200);
        (0..count)
            .map(|_| {
                let (first, length) = (below(300), below(40));
                let life = (below(10) > 0).then_some(Interval { first, last: first + length });
                (below(100_000), life)
            })
            .collect()
    }

    #[test]
    fn buffers_that_live_at_once_never_share_a_byte() {
        for seed in 0..200 {
            let buffers = random(seed);
            let arena = place(&buffers);
            let mut most = 0;
            for (i, (bytes, life)) in buffers.iter().enumerate() {
                let Some(life) = life else {
                    assert_eq!(arena.offsets[i], None);
                    continue;
                };
                let from = arena.offsets[i].unwrap();
                assert_eq!(from % ALIGNMENT, 0);
                assert!(from + bytes <= arena.bytes);
                most = most.max(from + bytes);
                for (j, (others, other)) in buffers.iter().enumerate().skip(i + 1) {
                    let Some(other) = other.filter(|other| other.meets(*life)) else { continue };
                    let at = arena.offsets[j].unwrap();
                    assert!(from + bytes <= at || at + others <= from, "seed {seed}: {life:?} {other:?}");
                }
            }
            assert!(arena.bytes < most + ALIGNMENT + 1);
            assert_eq!(arena, place(&buffers), "the places are the same every time");
        }
    }

    #[test]
    fn what_is_done_with_makes_room() {
        let live = |first, last| Some(Interval { first, last });
        let arena = place(&[(256, live(0, 1)), (256, live(1, 2)), (256, live(2, 3)), (100, live(3, 4))]);
        assert_eq!(arena.bytes, 512);
    }
}
