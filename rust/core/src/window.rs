//! The window word and its arithmetic: pure functions from one word to the next.
//!
//! ```text
//!  63                                              26 25                      0
//!  | end: milliseconds since the store's creation    | count, or one of the marks |
//! ```
//!
//! Rules of this file
//! - No atomics, no clock, no allocation. A function is given a word and a time and says what the word becomes;
//!   `None` means that it stays as it is. A denial is a `None`: it cannot write.
//! - `python/bide/limiter/_window.py` is this file's counterpart, function by function in the same order, and
//!   `tests/vectors/window.json` is read by both. A change begins there.
//! - Time never runs back in a word: a reading earlier than one already used joins the newer window or is refused.
//!
//! The windows. `now < end` is the running window. At `now >= end` a new one begins, whose end keeps the old one's
//! phase, so that the word also remembers where the server's windows begin. A word without a phase (empty, or
//! one of the marks) is anchored at its first use, or on the grid of Unix time.
//!
//! The marks are counts that no limit reaches, so that a running mark refuses by the same comparison as a used-up
//! window. ENDED: a slot that changed its owner; its end field is a generation, not a time. PROBING: first
//! contact, one caller is out asking. SYNCING: a reply is being written in two steps (see `cell.rs`).

/// Bits of the count.
pub const COUNT_BITS: u32 = 26;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The largest limit, and the count of a window that lets nobody pass.
pub const FULL: u64 = 67_000_000;
/// The mark of a slot that changed its owner: ended, no phase.
pub const ENDED: u64 = COUNT_MASK;
/// The mark of first contact: full until a reply has synced it, or its end has passed.
pub const PROBING: u64 = COUNT_MASK - 1;
/// The mark of a reply being written: full for an instant.
pub const SYNCING: u64 = COUNT_MASK - 2;

/// A word that was never written.
pub const EMPTY: u64 = 0;
/// The longest window, and the furthest that an end may lie ahead: 366 days.
pub const MAX_WINDOW_MS: u64 = 366 * 86_400_000;
/// The latest time that a word can work with: every end that is made from it still fits the 38 bits.
pub const LATEST_MS: u64 = (1 << (64 - COUNT_BITS)) - 1 - MAX_WINDOW_MS;
/// How long a learning limiter's own probe may be out before the next caller probes (never longer than a window).
pub const PROBE_TIMEOUT_MS: u64 = 30_000;

/// One limit: how many, per how long, and how its windows begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How much cost one window admits: 1..=[`FULL`].
    pub limit: u64,
    /// The window's length: 1..=[`MAX_WINDOW_MS`].
    pub window_ms: u64,
    /// Windows begin on the grid of Unix time instead of at a key's first use.
    pub grid: bool,
    /// The limit is unknown (then it is [`FULL`]): each window begins as a probe and takes its count from a reply.
    pub learning: bool,
}

impl Rule {
    /// How far the whole seconds of a server's reset may blur the edge: a second, or a quarter of a short window.
    #[must_use]
    pub fn blur_ms(&self) -> u64 {
        (self.window_ms / 4).min(1000)
    }
}

/// What a word says at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The cost that still passes in this window.
    pub remaining: u64,
    /// When the window ends; 0 when none runs.
    pub end: u64,
    /// One caller is out asking; until its reply nobody knows when there is room.
    pub probing: bool,
}

/// What a reply said of the window that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The cost that the server would still admit.
    pub remaining: Option<u64>,
    /// The latest possible end of the server's window.
    pub end: Option<u64>,
    /// What the answered request cost.
    pub cost: u64,
    /// The end of the window that the answered request was taken in, when that is known.
    pub taken_end: Option<u64>,
}

/// Makes a word.
#[must_use]
pub fn pack(end: u64, count: u64) -> u64 {
    (end << COUNT_BITS) | count
}

/// The end of a word's window (a generation, under the ENDED mark).
#[must_use]
pub fn end_of(word: u64) -> u64 {
    word >> COUNT_BITS
}

/// The count of a word, or its mark.
#[must_use]
pub fn count_of(word: u64) -> u64 {
    word & COUNT_MASK
}

/// Whether the word's window runs at `now`.
#[must_use]
pub fn is_live(word: u64, now: u64) -> bool {
    now < end_of(word) && count_of(word) != ENDED
}

/// Whether an ended word says where the next window begins.
#[must_use]
pub fn has_phase(word: u64) -> bool {
    word != EMPTY && count_of(word) <= FULL
}

/// The end of the window that begins at `now` after the ended `word`. `wall_offset` is asked for Unix time minus
/// `now`, in milliseconds, only when the rule is on the grid.
#[must_use]
pub fn next_end(word: u64, now: u64, rule: &Rule, wall_offset: impl FnOnce() -> u64) -> u64 {
    if rule.grid {
        let past_the_edge = now.wrapping_add(wall_offset()) % rule.window_ms;
        return now + rule.window_ms - past_the_edge;
    }
    if has_phase(word) {
        let end = end_of(word);
        return end + ((now - end) / rule.window_ms + 1) * rule.window_ms;
    }
    now + rule.window_ms
}

/// Takes `cost` (at least 1) from the window that runs, or opens the next one.
#[must_use]
#[inline]
pub fn take(word: u64, now: u64, rule: &Rule, cost: u64, wall_offset: impl FnOnce() -> u64) -> Option<u64> {
    if is_live(word, now) {
        return (count_of(word).saturating_add(cost) <= rule.limit).then(|| word + cost);
    }
    if cost > rule.limit {
        return None;
    }
    if rule.learning {
        return Some(pack(now + rule.window_ms.min(PROBE_TIMEOUT_MS), PROBING));
    }
    Some(pack(next_end(word, now, rule, wall_offset), cost))
}

/// As [`take`], but where no phase is known yet one caller passes alone, as a probe, until its reply has synced
/// the word or `timeout_ms` has passed: a prober that dies blocks nobody.
#[must_use]
pub fn contact(
    word: u64,
    now: u64,
    rule: &Rule,
    cost: u64,
    timeout_ms: u64,
    wall_offset: impl FnOnce() -> u64,
) -> Option<u64> {
    if is_live(word, now) || (has_phase(word) && !rule.learning) {
        return take(word, now, rule, cost, wall_offset);
    }
    (cost <= rule.limit).then(|| pack(now + timeout_ms.clamp(1, MAX_WINDOW_MS), PROBING))
}

/// What the word says at `now`.
#[must_use]
pub fn view(word: u64, now: u64, rule: &Rule) -> View {
    if !is_live(word, now) {
        return View { remaining: rule.limit, end: 0, probing: false };
    }
    let count = count_of(word);
    View { remaining: rule.limit.saturating_sub(count), end: end_of(word), probing: count > FULL }
}

/// Aligns the word to what the server said.
///
/// The reply's end is the latest possible edge of the server's *current* window (resets in whole seconds and the
/// way back both push it later). Replies come late and out of order, hence:
/// 1. an end that has passed: a late reply, ignored whole, but that it ends a probe;
/// 2. no window runs, or a probe is out: the reply's window, the server's count (this opens a probe);
/// 3. nobody may pass (a penalty, a full count): ignored whole, an order outlives what a straggler says;
/// 4. the reply's end lies more than half a window ahead: the server is in a newer window, the old count is not carried;
/// 5. it lies almost a window behind: a reply of the window before, ignored whole;
/// 6. else it is the same window: the count only rises, the end only tightens, unless it was too early by more
///    than the blur. A request taken before the edge but counted after it is charged to the newer window first.
#[must_use]
pub fn sync(
    word: u64,
    now: u64,
    rule: &Rule,
    reply: &Reply,
    wall_offset: impl FnOnce() -> u64,
) -> Option<u64> {
    let reply = if reply.end.is_some_and(|end| end <= now) {
        if !is_live(word, now) || count_of(word) != PROBING {
            return None;
        }
        &Reply { remaining: None, end: None, ..*reply }
    } else {
        reply
    };
    let reply_end = reply.end.map(|end| end.min(now + MAX_WINDOW_MS));
    let used = reply.remaining.map(|remaining| rule.limit.saturating_sub(remaining));
    let cost = reply.cost.min(rule.limit);
    let count = count_of(word);
    let live = is_live(word, now);

    if !live || count == PROBING {
        if !live && used.is_none() && reply_end.is_none() {
            return None;
        }
        if rule.learning && used.is_none() {
            return live.then(|| pack(now, PROBING));
        }
        let end = reply_end.unwrap_or_else(|| next_end(word, now, rule, wall_offset));
        return Some(pack(end, used.unwrap_or(cost)));
    }
    if count >= FULL {
        return None;
    }
    let end = end_of(word);
    let half = rule.window_ms / 2;
    let stated = reply_end.unwrap_or(end);
    if stated > end + half {
        return Some(pack(stated, used.unwrap_or(cost)));
    }
    if end > stated + (rule.window_ms - rule.blur_ms()) {
        return None;
    }
    let sent_before_the_edge = reply.taken_end.is_some_and(|taken| stated > taken + half);
    let charged = if sent_before_the_edge { count + cost } else { count };
    let keeps_its_end = stated >= end && stated <= end + rule.blur_ms();
    let next = pack(if keeps_its_end { end } else { stated }, charged.max(used.unwrap_or(0)).min(FULL));
    (next != word).then_some(next)
}

/// Lets nobody pass before `until`, nor before the running window's end.
#[must_use]
pub fn penalize(word: u64, now: u64, until: u64) -> Option<u64> {
    let until = until.min(now + MAX_WINDOW_MS);
    if until <= now {
        return None;
    }
    let window_runs = is_live(word, now) && count_of(word) != PROBING;
    let next = pack(if window_runs { until.max(end_of(word)) } else { until }, FULL);
    (next != word).then_some(next)
}

/// Turns a cost that was taken in the window ending at `end` into `actual` (0 gives it back whole), if exactly that
/// window still runs; charges above the limit too. A probe that is given back whole lets the next caller probe.
#[must_use]
pub fn settle(word: u64, now: u64, end: u64, cost: u64, actual: u64) -> Option<u64> {
    if !is_live(word, now) || end_of(word) != end {
        return None;
    }
    let count = count_of(word);
    if count == PROBING {
        return (actual == 0).then(|| pack(now, PROBING));
    }
    if count >= FULL {
        return None;
    }
    Some(pack(end, (count + actual).saturating_sub(cost).min(FULL)))
}
