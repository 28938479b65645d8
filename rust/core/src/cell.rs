//! One slot and one overflow word: every atomic operation of the crate, and the only memory orderings.
//!
//! ```text
//!  id    63                        16 15         2 1     0
//!        | fingerprint (never 0)      | generation | state |      0: never used
//!  word  see window.rs
//! ```
//!
//! The life of a slot. Every change of an id is a compare-and-swap that adds 1 to the generation:
//! ```text
//!   never used, VACANT --claim--> PENDING(B) --promote--> LIVE(B) --close--> CLOSING(B) --claim--> PENDING(C)
//!                 ^---- a twin exists ---'                    ^---- reopen ----'
//! ```
//! No state is owned: each is data that any thread can finish, undo or take over, so that a thread that stops for
//! ever between two steps is in nobody's way.
//!
//! Rules of this file
//! - An ordering has its happens-before sentence beside it and a loom test behind it (`docs/proof.md`).
//! - No SeqCst access, and no ordering that nothing needs. The fence is in [`publish_before_looking`] alone.
//! - A swap on a word may go astray: its thread slept, the slot has another owner, and the word has come to the
//!   very value that the thread had seen. [`Slot::hit`] finds out afterwards, from the id. A stray must only make a
//!   count too high or an end later; it is never undone, because undoing can go astray too. Hence [`Change::Write`]
//!   for what only raises, and [`Change::Replace`], by way of a value that cannot come back, for the rest.

use crate::sync::{AtomicU64, Ordering, fence, spin_loop};
use crate::window::{self, SYNCING};

const STATE_BITS: u32 = 2;
const GENERATION_BITS: u32 = 14;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// How often a caller looks again while a reply is being written, before it answers "no, ask again".
const PATIENCE: u32 = if cfg!(loom) { 1 } else { 100 };

/// What a slot is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Free.
    Vacant = 0,
    /// Claimed for a key; counts nothing yet.
    Pending = 1,
    /// A key's slot; there is at most one for each key.
    Live = 2,
    /// Its window has ended and somebody wants it; goes on being its key's slot if that key comes first.
    Closing = 3,
}

/// Who owns a slot, and how often it has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Id(u64);

impl Id {
    /// The id of a slot that was never used. No other id is 0, and no slot gets it back.
    pub const NEVER_USED: Self = Self(0);

    /// The fingerprint of the owner (of the last one, when vacant).
    #[must_use]
    pub fn fingerprint(self) -> u64 {
        self.0 >> (GENERATION_BITS + STATE_BITS)
    }

    /// The state.
    #[must_use]
    pub fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Vacant,
            1 => State::Pending,
            2 => State::Live,
            _ => State::Closing,
        }
    }

    /// Whether this is the live slot of the key with this fingerprint: one comparison.
    #[must_use]
    #[inline]
    pub fn is_live_of(self, fingerprint: u64) -> bool {
        self.0 & !(GENERATION_MASK << STATE_BITS)
            == (fingerprint << (GENERATION_BITS + STATE_BITS)) | State::Live as u64
    }

    /// Whether this is a slot of that key in any state but vacant.
    #[must_use]
    pub fn belongs_to(self, fingerprint: u64) -> bool {
        self.fingerprint() == fingerprint && self.state() != State::Vacant
    }

    fn generation(self) -> u64 {
        (self.0 >> STATE_BITS) & GENERATION_MASK
    }

    /// The id that follows this one.
    fn next(self, fingerprint: u64, state: State) -> Self {
        let generation = (self.generation() + 1) & GENERATION_MASK;
        Self((fingerprint << (GENERATION_BITS + STATE_BITS)) | (generation << STATE_BITS) | state as u64)
    }
}

/// What is to become of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays: a denial, or nothing to do.
    Keep,
    /// A reply is being written: look again.
    Busy,
    /// It becomes this; in the slot of another key this would only be too strict.
    Write(u64),
    /// It becomes `next`, which may admit more than before. On the way it refuses everybody until `hold_until`,
    /// which is in the future and not before either window's end.
    Replace {
        /// The word that follows.
        next: u64,
        /// The end of the word on the way.
        hold_until: u64,
    },
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// The word as it is now, and whether this call changed it.
    Done {
        /// The word.
        word: u64,
        /// Whether this call changed it.
        written: bool,
    },
    /// The slot has changed its owner: search again.
    Again,
}

/// A slot: an id and a word of one cache line.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    id: &'a AtomicU64,
    word: &'a AtomicU64,
}

impl<'a> Slot<'a> {
    /// The slot of these two.
    #[must_use]
    #[inline]
    pub fn new(id: &'a AtomicU64, word: &'a AtomicU64) -> Self {
        Self { id, word }
    }

    /// The id.
    // Acquire, with the Release of every id swap: whoever sees PENDING or LIVE of a new owner also sees the mark
    // that the claimer wrote over the old owner's word, and every step that led there.
    #[must_use]
    #[inline]
    pub fn id(self) -> Id {
        Id(self.id.load(Ordering::Acquire))
    }

    /// The word.
    // Acquire, with the Release of every word swap: the load of the id that follows it (in `hit`) is not earlier,
    // so an id that is still the same says whose word this was.
    #[must_use]
    #[inline]
    pub fn word(self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    // Release publishes all that was done to the slot before (the mark above all) to whoever reads the new id. No Acquire:
    // an id does not come back, so that the swap reads the very store that the load before it has acquired. Relaxed
    // on failure: what was there is not used.
    fn swap_id(self, from: Id, to: Id) -> bool {
        self.id.compare_exchange(from.0, to.0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    // AcqRel. Release: a claimer whose mark goes over this word has seen what the caller did before. Acquire: a
    // caller whose swap comes after the claimer's mark (in the word's one order) sees CLOSING when it validates, even
    // when the mark had the same value: that is why the claimer swaps and never merely reads. Relaxed on failure, as
    // above.
    #[inline]
    fn swap_word(self, from: u64, to: u64) -> bool {
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The hot path: changes the word of the slot's `owner` as `decide` says, in one swap.
    #[inline]
    pub fn hit(self, owner: Id, mut decide: impl FnMut(u64) -> Change) -> Hit {
        let mut patience = PATIENCE;
        loop {
            let word = self.word();
            // The id was `owner` before the word was read and is after it: the word is the owner's.
            if self.id() != owner {
                return Hit::Again;
            }
            let (first, second) = match decide(word) {
                Change::Keep => return Hit::Done { word, written: false },
                Change::Busy if patience == 0 => return Hit::Done { word, written: false },
                Change::Busy => {
                    patience -= 1;
                    spin_loop();
                    continue;
                }
                Change::Write(next) => (next, None),
                Change::Replace { next, hold_until } => (window::pack(hold_until, SYNCING), Some(next)),
            };
            if !self.swap_word(word, first) {
                continue;
            }
            if !self.is_still(owner) {
                return Hit::Again;
            }
            let Some(next) = second else {
                return Hit::Done { word: first, written: true };
            };
            // This swap cannot go astray. Until `hold_until` the word is live, so the slot keeps its owner; after
            // it, a new owner's words all end later, so that this value does not come back.
            return if self.swap_word(first, next) {
                Hit::Done { word: next, written: true }
            } else {
                Hit::Again
            };
        }
    }

    /// Validates a swap on the word: whether the slot is still `owner`'s. One that a claimer began to close is opened
    /// again, which also defeats that claimer's next swap.
    #[inline]
    fn is_still(self, owner: Id) -> bool {
        let id = self.id();
        id == owner || self.is_still_reopened(owner, id)
    }

    #[cold]
    fn is_still_reopened(self, owner: Id, id: Id) -> bool {
        let closing = owner.next(owner.fingerprint(), State::Closing);
        let reopened = closing.next(owner.fingerprint(), State::Live);
        id == reopened || (id == closing && (self.swap_id(closing, reopened) || self.id() == reopened))
    }

    /// CLOSING -> LIVE of the same key.
    pub fn reopen(self, closing: Id) -> bool {
        self.swap_id(closing, closing.next(closing.fingerprint(), State::Live))
    }

    /// Claims the slot for another key if its window has ended at `now`; gives the PENDING id.
    pub fn claim(self, seen: Id, fingerprint: u64, now: u64) -> Claim {
        let mut id = seen;
        if id.state() == State::Live {
            if window::is_live(self.word(), now) {
                return Claim::Taken;
            }
            let closing = id.next(id.fingerprint(), State::Closing);
            if !self.swap_id(id, closing) {
                return Claim::Changed;
            }
            id = closing;
        }
        if id.state() == State::Closing {
            let word = self.word();
            if window::is_live(word, now) {
                // Its owner rolled it in the meantime.
                self.reopen(id);
                return Claim::Taken;
            }
            if !self.swap_word(word, window::pack(id.generation(), window::ENDED)) {
                return Claim::Changed;
            }
        }
        let pending = id.next(fingerprint, State::Pending);
        if self.swap_id(id, pending) { Claim::Pending(pending) } else { Claim::Changed }
    }

    /// PENDING -> LIVE.
    pub fn promote(self, pending: Id) -> bool {
        self.swap_id(pending, pending.next(pending.fingerprint(), State::Live))
    }

    /// PENDING -> VACANT.
    pub fn vacate(self, pending: Id) -> bool {
        self.swap_id(pending, pending.next(pending.fingerprint(), State::Vacant))
    }
}

/// What came of claiming a slot.
pub enum Claim {
    /// It is pending for the key.
    Pending(Id),
    /// It has a live owner.
    Taken,
    /// Another thread changed it: search again.
    Changed,
}

/// A home line's overflow word: a window that is shared by every key of the line that found no room. It never
/// changes its owner, so that one swap is all.
#[derive(Clone, Copy)]
pub struct Overflow<'a>(&'a AtomicU64);

impl<'a> Overflow<'a> {
    /// The overflow word there.
    #[must_use]
    pub fn new(word: &'a AtomicU64) -> Self {
        Self(word)
    }

    /// The word.
    // Relaxed, as the swap below: one order of all changes of this word is what bounds the count, and what orders it
    // against a key's entry is the fence.
    #[must_use]
    pub fn word(self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes the word as `decide` says.
    pub fn change(self, mut decide: impl FnMut(u64) -> Change) -> (u64, bool) {
        loop {
            let word = self.word();
            let next = match decide(word) {
                Change::Keep | Change::Busy => return (word, false),
                Change::Write(next) | Change::Replace { next, .. } => next,
            };
            if self.0.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return (next, true);
            }
        }
    }
}

/// Stands between publishing something and looking for what others have published.
///
/// Two threads that each publish, come by here, and look, cannot both miss the other: the fences have one order, and
/// the second one's thread sees what was written before the first. It is used thrice: two threads that enter one key
/// (each its PENDING), and a key that enters while the overflow admits it (its PENDING against the overflow's swap).
pub fn publish_before_looking() {
    fence(Ordering::SeqCst);
}
