//! Several limits under one key: all of them or none.
//!
//! Rules of this file: it composes tables and knows no atomics. A call looks at every table and, where one refuses,
//! writes nothing; else it takes from the longest window first, which is the likeliest to refuse, and gives back when
//! a later one refuses after all. A concurrent caller may then be refused early; nothing is admitted beyond a limit.
//! A first contact probes in the table with the longest window alone, and any reply ends the probe.

use crate::clock::Clock;
use crate::key::Key;
use crate::layout::{Counters, Layout, MAX_TABLES};
use crate::sync::AtomicU64;
use crate::table::Table;
use crate::window::{self, MAX_WINDOW_MS, PROBING, Reply, Rule};

/// What a call came to, all of one instant. Times are milliseconds from then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it may go.
    pub allowed: bool,
    /// It may go as the one that asks for all, or another one is out asking.
    pub probing: bool,
    /// The tightest limit.
    pub limit: u64,
    /// What still passes there in this window.
    pub remaining: u64,
    /// When that window ends; 0 when none runs.
    pub reset_after_ms: u64,
    /// When to ask again; 0 when allowed, [`NEVER`] when the cost is above the limit.
    pub retry_after_ms: u64,
    /// What it cost; 0 when refused.
    pub cost: u64,
    /// For each table the end of the window that it was taken from.
    pub ends: [u64; MAX_TABLES],
    /// One bit for each table in which it was taken from the overflow.
    pub shared: u8,
}

/// The wait of a call that can never pass.
pub const NEVER: u64 = u64::MAX;

/// What a server said of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// What it would still admit.
    pub remaining: Option<u64>,
    /// The time at which its window ends at the latest.
    pub end: Option<u64>,
    /// How long that is from the reading that came with it.
    pub reset_after_ms: Option<u64>,
    /// The length of its window.
    pub window_ms: Option<u64>,
}

/// What a limiter has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Keys whose window runs.
    pub live: u64,
    /// Slots given to another key because their window had ended.
    pub reused: u64,
    /// Calls that found no room.
    pub overflowed: u64,
    /// Calls refused.
    pub denied: u64,
}

/// The tables of one limiter, over a borrowed buffer.
pub struct Limiter<'a> {
    tables: Vec<Table<'a>>,
    /// The tables by the length of their windows, longest first.
    longest_first: Vec<usize>,
    counters: Counters<'a>,
}

/// How one table stands for a call.
#[derive(Clone, Copy)]
struct Standing {
    allowed: bool,
    probing: bool,
    limit: u64,
    remaining: u64,
    reset_after_ms: u64,
    retry_after_ms: u64,
}

impl Standing {
    fn of(word: u64, now: u64, rule: &Rule, cost: u64, taken: bool) -> Self {
        let view = window::view(word, now, rule);
        let reset_after_ms = view.end.saturating_sub(now);
        let allowed = taken || (cost <= view.remaining && !view.probing);
        let retry_after_ms = match allowed {
            true => 0,
            false if cost > rule.limit => NEVER,
            false => reset_after_ms,
        };
        let probing = view.probing && cost <= rule.limit;
        Self {
            allowed,
            probing,
            limit: rule.limit,
            remaining: view.remaining,
            reset_after_ms,
            retry_after_ms,
        }
    }
}

impl<'a> Limiter<'a> {
    /// The limiter of these rules over a buffer laid out for as many tables.
    #[must_use]
    pub fn new(buffer: &'a [AtomicU64], layout: Layout, rules: &[Rule], counters: Counters<'a>) -> Self {
        let tables: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(number, &rule)| {
                let [slots, overflow, touched] = layout.table(buffer, number);
                Table::new(rule, slots, overflow, touched, counters)
            })
            .collect();
        Self::over(tables, counters)
    }

    /// The limiter of these tables: 1..=[`MAX_TABLES`].
    #[must_use]
    pub fn over(tables: Vec<Table<'a>>, counters: Counters<'a>) -> Self {
        debug_assert!((1..=MAX_TABLES).contains(&tables.len()));
        let mut longest_first: Vec<usize> = (0..tables.len()).collect();
        longest_first.sort_by_key(|&number| std::cmp::Reverse(tables[number].rule().window_ms));
        Self { tables, longest_first, counters }
    }

    /// The tables, in the order of the rules.
    #[must_use]
    pub fn tables(&self) -> &[Table<'a>] {
        &self.tables
    }

    /// Takes `cost` and says only whether it may go.
    #[inline]
    pub fn try_acquire(&self, key: Key, clock: &impl Clock, cost: u64) -> bool {
        if let [table] = &self.tables[..] {
            let allowed = table.take(key, clock, cost).written;
            if !allowed {
                self.counters.denied();
            }
            return allowed;
        }
        self.take(key, clock, cost, None).allowed
    }

    /// Takes `cost`; with `probe_timeout_ms` a key without a known phase lets one call through alone.
    pub fn take(&self, key: Key, clock: &impl Clock, cost: u64, probe_timeout_ms: Option<u64>) -> Outcome {
        let outcome = if let [table] = &self.tables[..] {
            let taken = match probe_timeout_ms {
                None => table.take(key, clock, cost),
                Some(timeout_ms) => table.contact(key, clock, cost, timeout_ms),
            };
            let standing = Standing::of(taken.word, taken.now, table.rule(), cost, taken.written);
            outcome_of(
                standing,
                cost,
                [window::end_of(taken.word), 0, 0, 0, 0, 0, 0, 0],
                u8::from(taken.shared),
            )
        } else {
            self.take_all(key, clock, cost, probe_timeout_ms)
        };
        if !outcome.allowed {
            self.counters.denied();
        }
        outcome
    }

    fn take_all(&self, key: Key, clock: &impl Clock, cost: u64, probe_timeout_ms: Option<u64>) -> Outcome {
        let now = clock.now();
        let probe = |number| probe_timeout_ms.filter(|_| number == self.longest_first[0]);
        let looked = self.tables.iter().enumerate().map(|(number, table)| {
            let (word, shared) = table.read(key, now);
            let next = table.next(word, now, clock, cost, probe(number).filter(|_| !shared));
            Standing::of(next.unwrap_or(word), now, table.rule(), cost, next.is_some())
        });
        if let Some(refusal) = longest_wait(looked) {
            return outcome_of(refusal, cost, [0; MAX_TABLES], 0);
        }
        let mut ends = [0; MAX_TABLES];
        let mut shared = 0;
        let mut standings = [None; MAX_TABLES];
        for (position, &number) in self.longest_first.iter().enumerate() {
            let table = &self.tables[number];
            let taken = match probe(number) {
                None => table.take(key, clock, cost),
                Some(timeout_ms) => table.contact(key, clock, cost, timeout_ms),
            };
            let standing = Standing::of(taken.word, taken.now, table.rule(), cost, taken.written);
            if !taken.written {
                for &taken_before in &self.longest_first[..position] {
                    let was_shared = shared >> taken_before & 1 == 1;
                    self.tables[taken_before].settle(key, clock, ends[taken_before], cost, 0, was_shared);
                }
                return outcome_of(standing, cost, [0; MAX_TABLES], 0);
            }
            ends[number] = window::end_of(taken.word);
            shared |= u8::from(taken.shared) << number;
            standings[number] = Some(standing);
        }
        let tightest = standings.into_iter().flatten().min_by_key(|standing| standing.remaining);
        outcome_of(tightest.expect("a limiter has a table"), cost, ends, shared)
    }

    /// How the key stands for a call of cost 1; takes nothing.
    #[must_use]
    pub fn peek(&self, key: Key, clock: &impl Clock) -> Outcome {
        let now = clock.now();
        let standings =
            self.tables.iter().map(|table| Standing::of(table.read(key, now).0, now, table.rule(), 1, false));
        let shown =
            longest_wait(standings.clone()).or_else(|| standings.min_by_key(|standing| standing.remaining));
        outcome_of(shown.expect("a limiter has a table"), 0, [0; MAX_TABLES], 0)
    }

    /// Turns what was taken for the key into `actual` (0 gives it back whole), in the windows that still run; whether
    /// there was one.
    pub fn settle(&self, key: Key, clock: &impl Clock, outcome: &Outcome, actual: u64) -> bool {
        let mut settled = false;
        for (number, table) in self.tables.iter().enumerate() {
            let shared = outcome.shared >> number & 1 == 1;
            settled |= table.settle(key, clock, outcome.ends[number], outcome.cost, actual, shared);
        }
        settled
    }

    /// Aligns the key to what a server said, in reply to what `outcome` took.
    pub fn sync(&self, key: Key, clock: &impl Clock, quota: &Quota, outcome: Option<&Outcome>) {
        let chosen = self.table_of(quota);
        let cost = outcome.map_or(1, |outcome| outcome.cost);
        let probed = self.longest_first[0];
        for number in [probed, chosen] {
            let table = &self.tables[number];
            if number == chosen {
                let taken_end = outcome.map(|outcome| outcome.ends[number]).filter(|&end| end > 0);
                table.sync(
                    key,
                    clock,
                    &Reply { remaining: quota.remaining, end: quota.end, cost, taken_end },
                );
                return;
            }
            let (word, _) = table.read(key, clock.precise());
            if window::count_of(word) == PROBING {
                table.sync(key, clock, &Reply { cost, ..Reply::default() });
            }
        }
    }

    /// The table that a quota speaks of: of its window (within a hundredth), else the shortest that its reset fits
    /// into, else the longest.
    fn table_of(&self, quota: &Quota) -> usize {
        let window_of = |number: usize| self.tables[number].rule().window_ms;
        let of_its_window = |stated: u64| {
            (0..self.tables.len()).find(|&number| window_of(number).abs_diff(stated) * 100 <= stated)
        };
        let fits =
            |reset: u64| self.longest_first.iter().rev().copied().find(|&number| window_of(number) >= reset);
        quota
            .window_ms
            .and_then(of_its_window)
            .or_else(|| quota.reset_after_ms.and_then(fits))
            .unwrap_or(self.longest_first[0])
    }

    /// Lets nobody pass with this key for so long, nor before its longest window ends.
    pub fn penalize(&self, key: Key, clock: &impl Clock, milliseconds: u64) {
        let until = clock.precise() + milliseconds.min(MAX_WINDOW_MS);
        self.tables[self.longest_first[0]].penalize(key, clock, until);
    }

    /// Forgets the key.
    pub fn reset(&self, key: Key, clock: &impl Clock) {
        for table in &self.tables {
            table.reset(key, clock);
        }
    }

    /// The counters; looks at every slot that was ever used.
    #[must_use]
    pub fn stats(&self, clock: &impl Clock) -> Stats {
        let [denied, reused, overflowed] = self.counters.sums();
        Stats { live: self.tables[self.longest_first[0]].live(clock.now()), reused, overflowed, denied }
    }
}

/// The refusal with the longest wait, the first of equals.
fn longest_wait(standings: impl Iterator<Item = Standing>) -> Option<Standing> {
    standings.filter(|standing| !standing.allowed).reduce(|longest, standing| {
        if standing.retry_after_ms > longest.retry_after_ms { standing } else { longest }
    })
}

fn outcome_of(standing: Standing, cost: u64, ends: [u64; MAX_TABLES], shared: u8) -> Outcome {
    Outcome {
        allowed: standing.allowed,
        probing: standing.probing,
        limit: standing.limit,
        remaining: standing.remaining,
        reset_after_ms: standing.reset_after_ms,
        retry_after_ms: standing.retry_after_ms,
        cost: if standing.allowed { cost } else { 0 },
        ends,
        shared,
    }
}
