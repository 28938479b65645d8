//! What a store holds at one instant, for a person to look at.
//!
//! Rules of this file: it only reads, from a buffer that others may be writing. What it says of a key is its
//! fingerprint; what it says at all was true of each slot when it was looked at.

use crate::cell::{Overflow, Slot, State};
use crate::layout::{Layout, SLOTS_OF_A_LINE, WORDS_OF_A_LINE};
use crate::sync::AtomicU64;
use crate::table::LINES_OF_A_PAGE;
use crate::window;

/// One key's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The key's fingerprint.
    pub fingerprint: u64,
    /// The count, or its mark.
    pub count: u64,
    /// When the window ends.
    pub end: u64,
}

/// What one table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Keys whose window runs.
    pub live: u64,
    /// Overflow words whose window runs.
    pub overflowing: u64,
    /// The fullest of the live ones, fullest first.
    pub fullest: Vec<Bucket>,
}

/// Looks at one table of a buffer, and keeps its `most` fullest buckets.
#[must_use]
pub fn census(buffer: &[AtomicU64], layout: Layout, table: usize, now: u64, most: usize) -> Census {
    let [slots, overflow, touched] = layout.table(buffer, table);
    let mut census = Census { live: 0, overflowing: 0, fullest: Vec::new() };
    let used = |line: usize| {
        let page = line / LINES_OF_A_PAGE;
        touched[page / 64].load(crate::sync::Ordering::Relaxed) >> (page % 64) & 1 == 1
    };
    for (number, line) in slots.chunks_exact(WORDS_OF_A_LINE).enumerate().filter(|&(number, _)| used(number))
    {
        let word = Overflow::new(&overflow[number]).word();
        census.overflowing += u64::from(window::is_live(word, now));
        for position in 0..SLOTS_OF_A_LINE {
            let slot = Slot::new(&line[2 * position], &line[2 * position + 1]);
            let (id, word) = (slot.id(), slot.word());
            if !matches!(id.state(), State::Live | State::Closing) || !window::is_live(word, now) {
                continue;
            }
            census.live += 1;
            let (count, end) = (window::count_of(word), window::end_of(word));
            let rank = census.fullest.partition_point(|other| other.count >= count);
            if rank < most {
                census.fullest.insert(rank, Bucket { fingerprint: id.fingerprint(), count, end });
                census.fullest.truncate(most);
            }
        }
    }
    census
}
