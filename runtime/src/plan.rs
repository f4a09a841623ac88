//! Memory plans: where the buffers of an entry lie in one arena.
//!
//! Buffers are placed largest first, each into the smallest gap between those that live at the same
//! time, or after them. That order leaves little waste, and small buffers fill the holes.

/// A buffer with its lifetime, to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Size.
    pub bytes: usize,
    /// First kernel that touches it.
    pub first: u32,
    /// Last kernel that touches it.
    pub last: u32,
}

/// A buffer in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// First byte, a multiple of the plan's alignment.
    pub offset: usize,
    /// Size.
    pub bytes: usize,
    /// First kernel that touches it.
    pub first: u32,
    /// Last kernel that touches it.
    pub last: u32,
}

/// Where the buffers of an entry lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The buffers of the entry by number, then `temporaries` that kernels need.
    pub buffers: Vec<Placement>,
    /// How many of the buffers are temporaries: copies of operands in another layout, shared memory.
    pub temporaries: usize,
    /// Bytes of the arena.
    pub peak_bytes: usize,
    /// The most bytes that live at one time; no plan needs less.
    pub lower_bound: usize,
}

impl Placement {
    fn lives_with(&self, other: &Request) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn end(&self, alignment: usize) -> usize {
        self.offset + self.bytes.next_multiple_of(alignment)
    }
}

/// Places buffers at multiples of an alignment, which is not 0; `None` if their sizes exceed what can
/// be addressed.
pub fn plan(requests: &[Request], alignment: usize) -> Option<MemoryPlan> {
    // Whatever is placed lies below the sum of all sizes, so that later sums cannot overflow.
    requests.iter().try_fold(0_usize, |sum, r| sum.checked_add(r.bytes.checked_next_multiple_of(alignment)?))?;
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].bytes), requests[i].first));
    // Placed buffers in ascending order of their offsets.
    let mut placed: Vec<Placement> = Vec::new();
    let mut buffers = vec![Placement { offset: 0, bytes: 0, first: 0, last: 0 }; requests.len()];
    for i in order {
        let Request { bytes, first, last } = requests[i];
        let placement = Placement { offset: best_offset(&placed, &requests[i], alignment), bytes, first, last };
        let at = placed.partition_point(|p| p.offset <= placement.offset);
        placed.insert(at, placement);
        buffers[i] = placement;
    }
    let peak_bytes = buffers.iter().map(|placement| placement.end(alignment)).max().unwrap_or(0);
    Some(MemoryPlan { buffers, temporaries: 0, peak_bytes, lower_bound: lower_bound(requests, alignment) })
}

/// The start of the smallest gap that takes a buffer.
fn best_offset(placed: &[Placement], request: &Request, alignment: usize) -> usize {
    let size = request.bytes.next_multiple_of(alignment);
    let mut end = 0;
    let mut best: Option<(usize, usize)> = None;
    for other in placed.iter().filter(|p| p.lives_with(request)) {
        if let Some(gap) = other.offset.checked_sub(end)
            && gap >= size
            && best.is_none_or(|(smallest, _)| gap < smallest)
        {
            best = Some((gap, end));
        }
        end = end.max(other.end(alignment));
    }
    best.map_or(end, |(_, offset)| offset)
}

/// The largest sum of sizes that live at one time: it is reached where some lifetime begins.
fn lower_bound(requests: &[Request], alignment: usize) -> usize {
    let mut changes: Vec<(u32, bool, usize)> = Vec::with_capacity(2 * requests.len());
    for request in requests.iter().filter(|r| r.first <= r.last) {
        let bytes = request.bytes.next_multiple_of(alignment);
        changes.push((request.first, true, bytes));
        changes.push((request.last, false, bytes));
    }
    // At one kernel, beginnings come before ends.
    changes.sort_by_key(|&(at, begins, _)| (at, !begins));
    let (mut live, mut most) = (0, 0);
    for (_, begins, bytes) in changes {
        live = if begins { live + bytes } else { live - bytes };
        most = most.max(live);
    }
    most
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::ALIGNMENT;

    fn request(bytes: usize, first: u32, last: u32) -> Request {
        Request { bytes, first, last }
    }

    #[test]
    fn buffers_share_memory_when_their_lives_do_not_meet() {
        let plan = plan(&[request(100, 0, 1), request(64, 1, 2), request(128, 2, 3)], ALIGNMENT).unwrap();
        assert_eq!(plan.peak_bytes, 192);
        assert_eq!(plan.lower_bound, 192);
        assert_eq!(plan.buffers[0].offset, plan.buffers[2].offset);
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        assert_eq!(plan(&[request(usize::MAX, 0, 0)], ALIGNMENT), None);
        let halves = [request(usize::MAX / 2, 0, 0), request(usize::MAX / 2, 1, 1), request(999, 0, 0)];
        assert_eq!(plan(&halves, ALIGNMENT), None);
        assert_eq!(plan(&[], ALIGNMENT).unwrap(), MemoryPlan::default());
    }

    proptest! {
        #[test]
        fn live_buffers_are_apart(
            raw in prop::collection::vec((0_usize..5000, 0_u32..30, 0_u32..10), 0..60),
            alignment in prop::sample::select(vec![32, 64, 256]),
        ) {
            let requests: Vec<Request> = raw.iter().map(|&(bytes, first, life)| request(bytes, first, first + life)).collect();
            let plan = plan(&requests, alignment).unwrap();
            prop_assert!(plan.peak_bytes >= plan.lower_bound);
            for (i, (a, r)) in plan.buffers.iter().zip(&requests).enumerate() {
                prop_assert_eq!((a.bytes, a.first, a.last), (r.bytes, r.first, r.last));
                prop_assert!(a.offset % alignment == 0 && a.end(alignment) <= plan.peak_bytes);
                for (b, other) in plan.buffers.iter().zip(&requests).take(i) {
                    let is_apart = a.end(alignment) <= b.offset || b.end(alignment) <= a.offset;
                    prop_assert!(is_apart || !a.lives_with(other) || a.bytes == 0 || b.bytes == 0);
                }
            }
        }
    }
}
