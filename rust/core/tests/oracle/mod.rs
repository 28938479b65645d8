//! The naive oracle: a key's windows as a list of what was admitted, and steps that run it beside the real limiter.
//!
//! Rules of this file: obviously right before anything else. A window is a struct, a count is a sum over a list, keys
//! are in a map that forgets nothing. It is a module of `prop.rs` and of the fuzz target, which only differ in where
//! the bytes come from.

use std::collections::BTreeMap;

use bide_core::limiter::{NEVER, Outcome, Quota};
use bide_core::window::{FULL, PROBE_TIMEOUT_MS};
use bide_core::{Fixed, Key, Rule};

use crate::real::Real;

/// What runs at the moment for one key and one limit.
#[derive(Clone, Default)]
struct Window {
    end: u64,
    /// What was admitted, and what a server has counted.
    costs: Vec<u64>,
    /// A penalty: nobody passes.
    held: bool,
    /// One is out asking.
    probing: bool,
}

impl Window {
    fn used(&self) -> u64 {
        self.costs.iter().sum::<u64>().min(FULL)
    }

    fn held(&self) -> bool {
        self.held || self.used() >= FULL
    }
}

/// One limit's keys.
struct Counter {
    rule: Rule,
    windows: BTreeMap<u64, Window>,
}

impl Counter {
    fn running(&self, key: Key, now: u64) -> Option<&Window> {
        self.windows.get(&key.hash()).filter(|window| now < window.end)
    }

    /// The end of a window that begins now: on the grid, a whole number of windows after the last end, or a window
    /// from now on.
    fn next_end(&self, key: Key, now: u64, wall_offset: u64) -> u64 {
        let length = self.rule.window_ms;
        if self.rule.grid {
            return (now + 1..)
                .find(|end| end.wrapping_add(wall_offset) % length == 0)
                .expect("an edge comes");
        }
        let last =
            self.windows.get(&key.hash()).filter(|last| !last.probing && last.end > 0 && last.end <= now);
        let mut end = last.map_or(now, |last| last.end);
        while end <= now || last.is_none() && end < now + length {
            end += length;
        }
        end
    }

    fn passes(&self, key: Key, now: u64, cost: u64) -> bool {
        match self.running(key, now) {
            Some(window) => !window.probing && !window.held && window.used() + cost <= self.rule.limit,
            None => cost <= self.rule.limit,
        }
    }

    fn take(&mut self, key: Key, now: u64, cost: u64, probe: Option<u64>, wall_offset: u64) {
        let knows_its_phase = self.windows.get(&key.hash()).is_some_and(|last| !last.probing && last.end > 0);
        let timeout = match probe {
            Some(timeout) if self.rule.learning || !knows_its_phase => Some(timeout),
            None if self.rule.learning => Some(PROBE_TIMEOUT_MS.min(self.rule.window_ms)),
            _ => None,
        };
        let window = match (self.running(key, now), timeout) {
            (Some(_), _) => {
                self.windows.get_mut(&key.hash()).expect("it runs").costs.push(cost);
                return;
            }
            (None, Some(timeout)) => Window { end: now + timeout, probing: true, ..Window::default() },
            (None, None) => {
                Window { end: self.next_end(key, now, wall_offset), costs: vec![cost], ..Window::default() }
            }
        };
        self.windows.insert(key.hash(), window);
    }

    fn settle(&mut self, key: Key, now: u64, end: u64, cost: u64, actual: u64) -> bool {
        let Some(window) =
            self.windows.get_mut(&key.hash()).filter(|window| now < window.end && window.end == end)
        else {
            return false;
        };
        if window.probing {
            if actual == 0 {
                window.end = now;
            }
            return actual == 0;
        }
        if window.held() {
            return false;
        }
        window.costs = vec![(window.used() + actual).saturating_sub(cost).min(FULL)];
        true
    }

    fn penalize(&mut self, key: Key, now: u64, until: u64) {
        let end = self.running(key, now).filter(|window| !window.probing).map_or(0, |window| window.end);
        if until > now {
            self.windows.insert(key.hash(), Window { end: until.max(end), held: true, ..Window::default() });
        }
    }

    fn sync(
        &mut self,
        key: Key,
        now: u64,
        mut quota: Quota,
        cost: u64,
        taken_end: Option<u64>,
        wall_offset: u64,
    ) {
        let Rule { limit, window_ms, learning, .. } = self.rule;
        let window = self.running(key, now).cloned();
        let probing = window.as_ref().is_some_and(|window| window.probing);
        if quota.end.is_some_and(|end| end <= now) {
            if !probing {
                return;
            }
            quota = Quota::default();
        }
        let used = quota.remaining.map(|remaining| limit.saturating_sub(remaining));
        let (Some(mut window), false) = (window, probing) else {
            let knows = used.is_some() || quota.end.is_some();
            if learning && used.is_none() {
                if probing {
                    self.windows.insert(key.hash(), Window { end: now, probing: true, ..Window::default() });
                }
            } else if knows || probing {
                let end = quota.end.unwrap_or_else(|| self.next_end(key, now, wall_offset));
                let costs = vec![used.unwrap_or(cost.min(limit))];
                self.windows.insert(key.hash(), Window { end, costs, ..Window::default() });
            }
            return;
        };
        if window.held() {
            return;
        }
        let (end, blur) = (quota.end.unwrap_or(window.end), (window_ms / 4).min(1000));
        if end > window.end && end - window.end > window_ms / 2 {
            window = Window { end, costs: vec![used.unwrap_or(cost.min(limit))], ..Window::default() };
        } else if end < window.end && window.end - end > window_ms - blur {
            return;
        } else {
            if taken_end.is_some_and(|taken| end > taken && end - taken > window_ms / 2) {
                window.costs.push(cost.min(limit));
            }
            window.costs = vec![window.used().max(used.unwrap_or(0))];
            if end < window.end || end - window.end > blur {
                window.end = end;
            }
        }
        self.windows.insert(key.hash(), window);
    }

    fn remaining(&self, key: Key, now: u64) -> u64 {
        match self.running(key, now) {
            Some(window) if window.probing || window.held => 0,
            Some(window) => self.rule.limit.saturating_sub(window.used()),
            None => self.rule.limit,
        }
    }
}

/// All limits of a limiter.
struct Oracle(Vec<Counter>);

impl Oracle {
    fn longest(&self) -> usize {
        let longest = self.0.iter().map(|counter| counter.rule.window_ms).max().expect("there is a limit");
        self.0.iter().position(|counter| counter.rule.window_ms == longest).expect("it is one of them")
    }

    /// Whether it was admitted.
    fn take(&mut self, key: Key, now: u64, cost: u64, probe: Option<u64>, wall_offset: u64) -> bool {
        let longest = self.longest();
        let admitted = self.0.iter().all(|counter| counter.passes(key, now, cost));
        if admitted {
            for (number, counter) in self.0.iter_mut().enumerate() {
                counter.take(key, now, cost, probe.filter(|_| number == longest), wall_offset);
            }
        }
        admitted
    }

    /// Says what the outcome must say.
    fn check(&self, outcome: &Outcome, key: Key, now: u64, cost: u64, admitted: bool) {
        assert_eq!(outcome.allowed, admitted);
        let counters = self.0.iter();
        if admitted {
            let remaining = counters.map(|counter| counter.remaining(key, now)).min();
            assert_eq!(Some(outcome.remaining), remaining);
            assert_eq!(outcome.retry_after_ms, 0);
        } else {
            let refusing = counters.filter(|counter| !counter.passes(key, now, cost));
            let wait = refusing.map(|counter| match counter.running(key, now) {
                _ if cost > counter.rule.limit => NEVER,
                Some(window) => window.end - now,
                None => unreachable!("an ended window refuses nobody"),
            });
            assert_eq!(Some(outcome.retry_after_ms), wait.max());
        }
    }
}

/// Keys whose home lines lie apart: none is in another one's way.
fn key_apart(number: u8) -> Key {
    Key::from_hash((u64::from(number % 4) << 14) | (u64::from(number % 4) + 1) << 20)
}

/// What bytes stand for.
#[derive(Clone, Copy)]
struct Step {
    action: u8,
    key: u8,
    amount: u64,
    lapse: u64,
}

fn steps(bytes: &[u8]) -> impl Iterator<Item = Step> + '_ {
    bytes.chunks_exact(4).map(|step| Step {
        action: step[0],
        key: step[1],
        amount: u64::from(step[2]),
        lapse: u64::from(step[3]),
    })
}

fn rules_of(byte: u8) -> Vec<Rule> {
    let rule = |limit, window_ms| Rule { limit, window_ms, grid: false, learning: false };
    match byte % 6 {
        0 => vec![rule(3, 100)],
        1 => vec![rule(1, 1)],
        2 => vec![Rule { grid: true, ..rule(5, 60) }],
        3 => vec![rule(2, 20), rule(7, 200)],
        4 => vec![rule(40, 1000), rule(3, 50), rule(5, 80)],
        _ => vec![Rule { learning: true, ..rule(FULL, 100) }],
    }
}

/// Runs any bytes as steps of a limiter with room for all, beside the oracle: they say the same at every step.
pub fn agrees_with_the_oracle(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let rules = rules_of(first);
    let real = Real::new(&rules, 128);
    let limiter = real.limiter();
    let mut oracle = Oracle(rules.iter().map(|&rule| Counter { rule, windows: BTreeMap::new() }).collect());
    let mut taken: Vec<(Key, Outcome)> = Vec::new();
    let mut clock = Fixed { now: 1000, wall_offset: 1_700_000_000_123 };
    for Step { action, key, amount, lapse } in steps(bytes) {
        // Mostly a little forward, at times far, at times back.
        clock.now = match lapse {
            0..=199 => clock.now + lapse / 8,
            200..=229 => clock.now + (lapse - 199) * 40,
            _ => clock.now.saturating_sub(lapse - 229),
        };
        let (key, now) = (key_apart(key), clock.now);
        match action % 16 {
            0..=5 => {
                let cost = amount % 4 + 1;
                let outcome = limiter.take(key, &clock, cost, None);
                let admitted = oracle.take(key, now, cost, None, clock.wall_offset);
                oracle.check(&outcome, key, now, cost, admitted);
                taken.push((key, outcome));
            }
            6 => {
                let admitted = limiter.try_acquire(key, &clock, amount + 1);
                assert_eq!(admitted, oracle.take(key, now, amount + 1, None, clock.wall_offset));
            }
            7 => {
                let outcome = limiter.take(key, &clock, 1, Some(amount + 1));
                let admitted = oracle.take(key, now, 1, Some(amount + 1), clock.wall_offset);
                oracle.check(&outcome, key, now, 1, admitted);
                taken.push((key, outcome));
            }
            8 => {
                let admitted = oracle.0.iter().all(|counter| counter.passes(key, now, 1));
                oracle.check(&limiter.peek(key, &clock), key, now, 1, admitted);
            }
            9 | 10 => {
                let Some(&(key, outcome)) = taken.get(amount as usize % taken.len().max(1)) else { continue };
                let actual = if action % 16 == 9 { 0 } else { lapse % 8 };
                let mut settled = false;
                for (number, counter) in oracle.0.iter_mut().enumerate() {
                    settled |= counter.settle(key, now, outcome.ends[number], outcome.cost, actual);
                }
                assert_eq!(limiter.settle(key, &clock, &outcome, actual), settled);
            }
            11..=13 => {
                let answered =
                    taken.get(lapse as usize % taken.len().max(1)).filter(|(whose, _)| *whose == key);
                let reset = (amount % 3 > 0).then_some(lapse.wrapping_mul(7) % 150);
                let end = reset.map(|reset| (now + reset).saturating_sub(10));
                let window_ms = (amount % 5 == 4).then(|| rules[amount as usize % rules.len()].window_ms);
                let remaining = (amount % 2 == 0).then_some(amount / 16);
                let quota = Quota { remaining, end, reset_after_ms: reset, window_ms };
                limiter.sync(key, &clock, &quota, answered.map(|(_, outcome)| outcome));

                let stated =
                    window_ms.and_then(|window_ms| rules.iter().position(|rule| rule.window_ms == window_ms));
                let fitting = reset.and_then(|reset| {
                    let fits = rules
                        .iter()
                        .filter(|rule| rule.window_ms >= reset)
                        .map(|rule| rule.window_ms)
                        .min()?;
                    rules.iter().position(|rule| rule.window_ms == fits)
                });
                let longest = oracle.longest();
                let chosen = stated.or(fitting).unwrap_or(longest);
                let cost = answered.map_or(1, |(_, outcome)| outcome.cost);
                let taken_end = answered.map(|(_, outcome)| outcome.ends[chosen]).filter(|&end| end > 0);
                if chosen != longest
                    && oracle.0[longest].running(key, now).is_some_and(|window| window.probing)
                {
                    oracle.0[longest].sync(key, now, Quota::default(), cost, None, clock.wall_offset);
                }
                oracle.0[chosen].sync(key, now, quota, cost, taken_end, clock.wall_offset);
            }
            14 => {
                limiter.penalize(key, &clock, amount);
                let longest = oracle.longest();
                oracle.0[longest].penalize(key, now, now + amount);
            }
            _ => {
                limiter.reset(key, &clock);
                for counter in &mut oracle.0 {
                    counter.windows.remove(&key.hash());
                }
            }
        }
    }
}

/// Runs any bytes as steps of a limiter that is far too small, with many keys: however they crowd each other, what each
/// is admitted lies in windows that do not overlap, and in none of them is more than its limit.
pub fn admits_no_more_than_the_limit_when_crowded(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let (limit, window_ms) = (u64::from(first % 5) + 1, u64::from(first / 5 % 50) + 1);
    let real =
        Real::new(&[Rule { limit, window_ms, grid: false, learning: false }], u64::from(first % 4) + 1);
    let limiter = real.limiter();
    let mut clock = Fixed { now: 0, wall_offset: 0 };
    /// The windows of a key: when its first cost was admitted, its end, the sum.
    type Windows = Vec<(u64, u64, u64)>;
    let mut keys: BTreeMap<u8, Windows> = BTreeMap::new();
    for Step { action, key, amount, lapse } in steps(bytes) {
        clock.now += if lapse > 240 { lapse } else { lapse / 32 };
        let number = key % 40;
        let key = Key::from_hash(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let cost = amount % 3 + 1;
        let outcome = limiter.take(key, &clock, cost, None);
        if !outcome.allowed {
            continue;
        }
        let end = outcome.ends[0];
        let windows = keys.entry(number).or_default();
        match windows.last_mut() {
            Some((_, last, sum)) if *last == end => *sum += cost,
            Some(&mut (_, last, _)) => {
                assert!(
                    clock.now >= last && end > last,
                    "a window began at {} while one ran until {last}",
                    clock.now
                );
                windows.push((clock.now, end, cost));
            }
            None => windows.push((clock.now, end, cost)),
        }
        let &(begin, end, sum) = windows.last().expect("one was pushed");
        assert!(sum <= limit, "{sum} admitted where {limit} may, from {begin} to {end}");
        if action % 8 == 0 && limiter.settle(key, &clock, &outcome, 0) {
            windows.last_mut().expect("one was pushed").2 -= cost;
        }
    }
    assert!(limiter.stats(&clock).live <= real.max_keys.div_ceil(2) * 4);
}
