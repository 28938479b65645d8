//! One limit's table: finding a key's slot, giving it one, and the overflow.
//!
//! ```text
//!   lines     4 slots of {id, word} each, one cache line; a key's run is its home line and up to 7 following ones
//!   overflow  one word for each home line
//!   touched   one bit for each page of lines that was ever used, so that counting keys does not touch the others
//! ```
//!
//! How a key finds its slot. The run is searched in one order, which the key alone determines; the first slot that
//! was never used ends the search, because a key is never put behind such a slot and none becomes one again.
//!
//! How a key gets a slot. The first slot of the run that is free, or whose window has ended, is claimed as PENDING;
//! then [`Table::enter`] looks over the rest of the run: a key that is there already keeps its slot, of two PENDING
//! the earlier stays. So there are never two LIVE slots of one key (`docs/proof.md` has the argument).
//!
//! No room: the key counts in its home line's overflow word together with others, by the same arithmetic. It may be
//! refused early and is never admitted beyond its limit, for while an overflow window runs no key enters a slot
//! from there, and an admission by overflow looks for its key once more afterwards.
//!
//! Rules of this file: no atomics but by `cell.rs`. A search that meets another thread's change begins again: a
//! retry means that somebody else got on. After [`TRIES`] of them the overflow takes over.

#![cfg_attr(loom, allow(clippy::modulo_one))] // a model's lines have one slot

use crate::cell::{Change, Claim, Hit, Id, Overflow, Slot, State, publish_before_looking};
use crate::clock::Clock;
use crate::key::Key;
use crate::layout::{Counters, LINES_OF_A_RUN, SLOTS_OF_A_LINE, WORDS_OF_A_LINE};
use crate::sync::{AtomicU64, Ordering};
use crate::window::{self, Reply, Rule, SYNCING};

/// How often a key is searched again before the overflow takes over.
const TRIES: u32 = 6;
/// How many lines one bit of `touched` stands for: a page.
pub const LINES_OF_A_PAGE: usize = 64;

/// What came of an operation on one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The key's word as it is now.
    pub word: u64,
    /// Whether this call changed it.
    pub written: bool,
    /// Whether it is the overflow's word.
    pub shared: bool,
    /// The time that it was decided with.
    pub now: u64,
}

enum Found<'a> {
    Slot(Slot<'a>, Id),
    Absent,
}

enum Entry {
    /// Search again: the slot is live, or another one is.
    Settled,
    /// The overflow window of the home line runs: no key enters.
    Overflowing,
}

/// One limit's table, over a borrowed buffer.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    rule: Rule,
    lines: usize,
    run: usize,
    slots: &'a [AtomicU64],
    overflow: &'a [AtomicU64],
    touched: &'a [AtomicU64],
    counters: Counters<'a>,
}

impl<'a> Table<'a> {
    /// The table in these three parts: `WORDS_OF_A_LINE` words for each line, one word for each line, and one bit for
    /// each page.
    ///
    /// # Panics
    /// When the parts do not fit each other.
    #[must_use]
    pub fn new(
        rule: Rule,
        slots: &'a [AtomicU64],
        overflow: &'a [AtomicU64],
        touched: &'a [AtomicU64],
        counters: Counters<'a>,
    ) -> Self {
        let lines = overflow.len();
        assert!(lines > 0 && slots.len() == lines * WORDS_OF_A_LINE, "a table's parts do not fit each other");
        assert!(touched.len() * 64 * LINES_OF_A_PAGE >= lines, "a table's bits do not cover its lines");
        Self { rule, lines, run: lines.min(LINES_OF_A_RUN), slots, overflow, touched, counters }
    }

    /// The limit.
    #[must_use]
    #[inline]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The first word of a key's home line: what a caller with several keys in hand may fetch ahead.
    #[must_use]
    #[inline]
    pub fn home(&self, key: Key) -> &'a AtomicU64 {
        &self.slots[key.home(self.lines) * WORDS_OF_A_LINE]
    }

    #[inline]
    fn line(&self, line: usize) -> &'a [AtomicU64] {
        &self.slots[line * WORDS_OF_A_LINE..][..WORDS_OF_A_LINE]
    }

    #[inline]
    fn slot(line: &'a [AtomicU64], position: usize) -> Slot<'a> {
        let position = position % SLOTS_OF_A_LINE;
        Slot::new(&line[2 * position], &line[2 * position + 1])
    }

    /// The slots of a key's run, in the order in which it is searched.
    fn run(&self, key: Key) -> impl Iterator<Item = (usize, Slot<'a>)> + '_ {
        let (home, first) = (key.home(self.lines), key.first_slot());
        (0..self.run).flat_map(move |distance| {
            let number = (home + distance) % self.lines;
            let line = self.line(number);
            (0..SLOTS_OF_A_LINE).map(move |step| (number, Self::slot(line, first + step)))
        })
    }

    fn overflow_of(&self, key: Key) -> Overflow<'a> {
        Overflow::new(&self.overflow[key.home(self.lines)])
    }

    fn find(&self, key: Key) -> Found<'a> {
        let fingerprint = key.fingerprint();
        for (_, slot) in self.run(key) {
            let id = slot.id();
            if id.belongs_to(fingerprint) {
                return Found::Slot(slot, id);
            }
            if id == Id::NEVER_USED {
                break;
            }
        }
        Found::Absent
    }

    /// The key's live slot, if it is in its home line: as a rule it is. The line is compared without a branch for each
    /// slot, and the slot that the key likes best is not tried first: either would mispredict where a line holds
    /// several keys.
    #[inline]
    fn at_home(&self, key: Key) -> Option<(Slot<'a>, Id)> {
        let fingerprint = key.fingerprint();
        let line = self.line(key.home(self.lines));
        let ids: [Id; SLOTS_OF_A_LINE] = std::array::from_fn(|position| Self::slot(line, position).id());
        let matches = ids
            .iter()
            .enumerate()
            .fold(0_u32, |bits, (position, id)| bits | (u32::from(id.is_live_of(fingerprint)) << position));
        let position = matches.trailing_zeros() as usize % SLOTS_OF_A_LINE;
        (matches != 0).then(|| (Self::slot(line, position), ids[position]))
    }

    /// Changes a key's word as `decide` says, which is given the word and whether it is the overflow's; gives the key
    /// a slot if it has none and something is to be written.
    fn apply(
        &self,
        key: Key,
        clock: &impl Clock,
        mut decide: impl FnMut(u64, bool) -> Change,
    ) -> (u64, bool, bool) {
        if let Some((slot, id)) = self.at_home(key) {
            if let Hit::Done { word, written } = slot.hit(id, |word| decide(word, false)) {
                return (word, written, false);
            }
        }
        self.apply_by_search(key, clock, &mut decide)
    }

    #[cold]
    fn apply_by_search(
        &self,
        key: Key,
        clock: &impl Clock,
        decide: &mut dyn FnMut(u64, bool) -> Change,
    ) -> (u64, bool, bool) {
        loop {
            for _ in 0..TRIES {
                match self.find(key) {
                    Found::Slot(slot, id) => match id.state() {
                        State::Live => {
                            if let Hit::Done { word, written } = slot.hit(id, |word| decide(word, false)) {
                                return (word, written, false);
                            }
                        }
                        State::Closing => {
                            slot.reopen(id);
                        }
                        // What another thread began, or left behind for ever, is finished here.
                        State::Pending | State::Vacant => {
                            if let Entry::Overflowing = self.enter(key, slot, id, clock) {
                                break;
                            }
                        }
                    },
                    Found::Absent => {
                        if decide(window::EMPTY, false) == Change::Keep {
                            return (window::EMPTY, false, false);
                        }
                        if let Entry::Overflowing = self.claim(key, clock) {
                            break;
                        }
                    }
                }
            }
            let (word, written) = self.overflow_of(key).change(|word| decide(word, true));
            if !written {
                return (word, false, true);
            }
            self.counters.overflowed();
            publish_before_looking();
            // Not there, and whoever enters it from now on sees the overflow's window. If it is there, this count
            // was one too many, which is as harmless as a refusal, and its slot decides.
            if !self.is_entered(key, clock) {
                return (word, true, true);
            }
        }
    }

    fn is_entered(&self, key: Key, clock: &impl Clock) -> bool {
        loop {
            match self.find(key) {
                Found::Absent => return false,
                Found::Slot(slot, id) if id.state() == State::Pending => {
                    self.enter(key, slot, id, clock);
                }
                Found::Slot(..) => return true,
            }
        }
    }

    /// Claims the first slot of the run that can be had. One that is PENDING for another key is taken only when no
    /// other is left: as a rule its thread is about to need it.
    fn claim(&self, key: Key, clock: &impl Clock) -> Entry {
        let fingerprint = key.fingerprint();
        let now = clock.now();
        if window::is_live(self.overflow_of(key).word(), now) {
            return Entry::Overflowing;
        }
        for even_pending in [false, true] {
            for (line, slot) in self.run(key) {
                let id = slot.id();
                if id.belongs_to(fingerprint) {
                    return Entry::Settled;
                }
                if (id.state() == State::Pending) != even_pending {
                    continue;
                }
                if id == Id::NEVER_USED {
                    self.touch(line);
                }
                match slot.claim(id, fingerprint, now) {
                    Claim::Taken => {}
                    Claim::Changed => return Entry::Settled,
                    Claim::Pending(pending) => {
                        if matches!(id.state(), State::Live | State::Closing) {
                            self.counters.reused();
                        }
                        return self.enter(key, slot, pending, clock);
                    }
                }
            }
        }
        Entry::Overflowing
    }

    /// PENDING -> LIVE, or -> VACANT when the key has another slot or its overflow window runs. Any thread that has
    /// the key may do it.
    fn enter(&self, key: Key, slot: Slot<'a>, pending: Id, clock: &impl Clock) -> Entry {
        let fingerprint = key.fingerprint();
        publish_before_looking();
        if window::is_live(self.overflow_of(key).word(), clock.now()) {
            slot.vacate(pending);
            return Entry::Overflowing;
        }
        let mut is_later = false;
        for (_, other) in self.run(key) {
            loop {
                let id = other.id();
                if id == pending {
                    is_later = true;
                    break;
                }
                if id == Id::NEVER_USED {
                    slot.promote(pending);
                    return Entry::Settled;
                }
                if !id.belongs_to(fingerprint) {
                    break;
                }
                if id.state() != State::Pending || !is_later {
                    slot.vacate(pending);
                    return Entry::Settled;
                }
                if other.vacate(id) {
                    break;
                }
            }
        }
        slot.promote(pending);
        Entry::Settled
    }

    // Relaxed: a bit of one's own page is only ever set, and a count that misses it was early.
    fn touch(&self, line: usize) {
        let page = line / LINES_OF_A_PAGE;
        let (word, bit) = (&self.touched[page / 64], 1_u64 << (page % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// The key's word, without giving it a slot: its slot's, the running overflow's, or an empty one.
    #[must_use]
    pub fn read(&self, key: Key, now: u64) -> (u64, bool) {
        loop {
            match self.find(key) {
                Found::Slot(slot, id) if matches!(id.state(), State::Live | State::Closing) => {
                    let word = slot.word();
                    if slot.id() == id {
                        return (word, false);
                    }
                }
                _ => {
                    let word = self.overflow_of(key).word();
                    return if window::is_live(word, now) { (word, true) } else { (window::EMPTY, false) };
                }
            }
        }
    }

    /// Takes `cost`.
    // Two functions and not one with an option: this is the hot path, and a probe's time-out in it costs registers.
    #[inline]
    pub fn take(&self, key: Key, clock: &impl Clock, cost: u64) -> Applied {
        self.take_at_home(key, clock, |word, now| self.next(word, now, clock, cost, None))
            .unwrap_or_else(|| self.take_by_search(key, clock, cost, None))
    }

    /// Takes `cost`, but first contact is a probe of so long at most (a key without room of its own cannot probe).
    pub fn contact(&self, key: Key, clock: &impl Clock, cost: u64, timeout_ms: u64) -> Applied {
        let timeout_ms = Some(timeout_ms);
        self.take_at_home(key, clock, |word, now| self.next(word, now, clock, cost, timeout_ms))
            .unwrap_or_else(|| self.take_by_search(key, clock, cost, timeout_ms))
    }

    #[inline(always)]
    fn take_at_home(
        &self,
        key: Key,
        clock: &impl Clock,
        next: impl Fn(u64, u64) -> Option<u64>,
    ) -> Option<Applied> {
        let (slot, id) = self.at_home(key)?;
        let mut now = 0;
        let hit = slot.hit(id, |word| {
            now = clock.now();
            take_change(word, now, next(word, now))
        });
        match hit {
            Hit::Done { word, written } => Some(Applied { word, written, shared: false, now }),
            Hit::Again => None,
        }
    }

    #[cold]
    fn take_by_search(
        &self,
        key: Key,
        clock: &impl Clock,
        cost: u64,
        probe_timeout_ms: Option<u64>,
    ) -> Applied {
        let mut now = 0;
        let (word, written, shared) = self.apply_by_search(key, clock, &mut |word, shared| {
            now = clock.now();
            take_change(word, now, self.next(word, now, clock, cost, probe_timeout_ms.filter(|_| !shared)))
        });
        Applied { word, written, shared, now }
    }

    /// What a call of `cost` would make of the word; None refuses.
    #[must_use]
    #[inline]
    pub fn next(
        &self,
        word: u64,
        now: u64,
        clock: &impl Clock,
        cost: u64,
        probe_timeout_ms: Option<u64>,
    ) -> Option<u64> {
        match probe_timeout_ms {
            None => window::take(word, now, &self.rule, cost, || clock.wall_offset()),
            Some(timeout_ms) => {
                window::contact(word, now, &self.rule, cost, timeout_ms, || clock.wall_offset())
            }
        }
    }

    /// Aligns the key to a reply. What is shared with other keys is only raised, and held for a window at most.
    // The clock is read here and not by the caller: an end must lie ahead of a reading that is younger than the
    // slot's owner (see `clock.rs`).
    pub fn sync(&self, key: Key, clock: &impl Clock, reply: &Reply) -> Applied {
        let mut now = 0;
        let (word, written, shared) = self.apply(key, clock, |word, shared| {
            now = clock.precise();
            match window::sync(word, now, &self.rule, reply, || clock.wall_offset()) {
                None if window::count_of(word) == SYNCING && window::is_live(word, now) => Change::Busy,
                None => Change::Keep,
                Some(next) if shared => self.raise_shared(word, next, now),
                Some(next) => replace(word, next, now),
            }
        });
        Applied { word, written, shared, now }
    }

    /// Lets nobody pass with this key before `until`, nor before its running window ends. What is shared with other
    /// keys is held for a window at most.
    pub fn penalize(&self, key: Key, clock: &impl Clock, until: u64) -> Applied {
        let mut now = 0;
        let (word, written, shared) = self.apply(key, clock, |word, shared| {
            now = clock.precise();
            match window::penalize(word, now, until) {
                None => Change::Keep,
                Some(next) if shared => self.raise_shared(word, next, now),
                Some(next) => replace(word, next, now),
            }
        });
        Applied { word, written, shared, now }
    }

    fn raise_shared(&self, word: u64, next: u64, now: u64) -> Change {
        let running =
            if window::is_live(word, now) && window::count_of(word) <= window::FULL { word } else { 0 };
        let end = window::end_of(next).min(now + self.rule.window_ms).max(window::end_of(running));
        let count = window::count_of(next).max(window::count_of(running));
        let raised = window::pack(end, count);
        if raised == word { Change::Keep } else { Change::Write(raised) }
    }

    /// Turns a cost that was taken in the window ending at `end` into `actual`; whether that window still ran.
    pub fn settle(
        &self,
        key: Key,
        clock: &impl Clock,
        end: u64,
        cost: u64,
        actual: u64,
        shared: bool,
    ) -> bool {
        let mut settled = false;
        let mut decide = |word: u64| {
            let now = clock.now();
            let next = window::settle(word, now, end, cost, actual);
            settled = next.is_some();
            match next {
                Some(next) if next != word => replace(word, next, now),
                None if window::count_of(word) == SYNCING && window::is_live(word, now) => Change::Busy,
                _ => Change::Keep,
            }
        };
        if shared {
            self.overflow_of(key).change(decide);
        } else {
            self.apply(key, clock, |word, shared| if shared { Change::Keep } else { decide(word) });
        }
        settled
    }

    /// Forgets the key's window and phase; what it shares with other keys stays.
    pub fn reset(&self, key: Key, clock: &impl Clock) {
        self.apply(key, clock, |word, shared| {
            let now = clock.now();
            if shared || word == window::EMPTY {
                return Change::Keep;
            }
            replace(word, window::pack(0, window::ENDED), now)
        });
    }

    /// How many keys' windows run at `now`.
    #[must_use]
    pub fn live(&self, now: u64) -> u64 {
        let mut live = 0;
        for line in 0..self.lines {
            let page = line / LINES_OF_A_PAGE;
            if self.touched[page / 64].load(Ordering::Relaxed) >> (page % 64) & 1 == 0 {
                continue;
            }
            for position in 0..SLOTS_OF_A_LINE {
                let slot = Self::slot(self.line(line), position);
                let owned = matches!(slot.id().state(), State::Live | State::Closing);
                live += u64::from(owned && window::is_live(slot.word(), now));
            }
        }
        live
    }
}

/// The change from `word` to what a call makes of it.
#[inline(always)]
fn take_change(word: u64, now: u64, next: Option<u64>) -> Change {
    match next {
        Some(next) => Change::Write(next),
        None if window::count_of(word) == SYNCING && window::is_live(word, now) => Change::Busy,
        None => Change::Keep,
    }
}

/// The change from `word` to `next`: in one step where `next` is stricter or no window runs before it or after it,
/// else by way of a word that refuses.
fn replace(word: u64, next: u64, now: u64) -> Change {
    let (end, next_end) = (window::end_of(word), window::end_of(next));
    match (window::is_live(word, now), window::is_live(next, now)) {
        (false, false) => Change::Write(next),
        (true, true) if next_end >= end && window::count_of(next) >= window::count_of(word) => {
            Change::Write(next)
        }
        (true, true) => Change::Replace { next, hold_until: end.max(next_end) },
        (true, false) => Change::Replace { next, hold_until: end },
        (false, true) => Change::Replace { next, hold_until: next_end },
    }
}
