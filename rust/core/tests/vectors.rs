//! `window.rs` gives what `tests/vectors/window.json` says; pytest reads the same file for `_window.py`.
#![cfg(not(loom))]

use bide_core::window::{self, Reply, Rule, View};
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    constants: Constants,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Constants {
    full: u64,
    ended: u64,
    probing: u64,
    syncing: u64,
    max_window_ms: u64,
    latest_ms: u64,
    probe_timeout_ms: u64,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    function: String,
    word: Word,
    now: u64,
    rule: Option<RuleFields>,
    #[serde(default = "one")]
    cost: u64,
    #[serde(default)]
    wall_offset: u64,
    timeout_ms: Option<u64>,
    remaining: Option<u64>,
    end: Option<u64>,
    taken_end: Option<u64>,
    until: Option<u64>,
    actual: Option<u64>,
    expect: Expect,
}

#[derive(Deserialize, Clone, Copy)]
struct RuleFields {
    limit: u64,
    window_ms: u64,
    #[serde(default)]
    grid: bool,
    #[serde(default)]
    learning: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expect {
    View { remaining: u64, end: u64, probing: bool },
    Word(Option<Word>),
}

#[derive(Deserialize, Clone)]
struct Word(u64, Count);

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Mark(String),
}

fn one() -> u64 {
    1
}

fn packed(Word(end, count): &Word) -> u64 {
    let count = match count {
        Count::Number(count) => *count,
        Count::Mark(mark) => match mark.as_str() {
            "full" => window::FULL,
            "ended" => window::ENDED,
            "probing" => window::PROBING,
            "syncing" => window::SYNCING,
            other => panic!("no such mark: {other}"),
        },
    };
    window::pack(*end, count)
}

#[test]
fn every_vector_gives_the_word_that_it_says() {
    let text = include_str!("../../../tests/vectors/window.json");
    let table: Table = serde_json::from_str(text).expect("window.json reads");
    assert!(table.vectors.len() > 100);
    let constants = table.constants;
    assert_eq!(window::FULL, constants.full);
    assert_eq!(window::ENDED, constants.ended);
    assert_eq!(window::PROBING, constants.probing);
    assert_eq!(window::SYNCING, constants.syncing);
    assert_eq!(window::MAX_WINDOW_MS, constants.max_window_ms);
    assert_eq!(window::LATEST_MS, constants.latest_ms);
    assert_eq!(window::PROBE_TIMEOUT_MS, constants.probe_timeout_ms);
    assert_eq!(window::pack(3, 5), 3 * (1 << 26) + 5);
    for vector in &table.vectors {
        let fields =
            vector.rule.unwrap_or(RuleFields { limit: 1, window_ms: 1, grid: false, learning: false });
        let RuleFields { limit, window_ms, grid, learning } = fields;
        let rule = Rule { limit, window_ms, grid, learning };
        let (word, now, cost, offset) =
            (packed(&vector.word), vector.now, vector.cost, || vector.wall_offset);
        let given = |field: Option<u64>| field.expect("the vector has every argument of its function");
        let next = match vector.function.as_str() {
            "take" => window::take(word, now, &rule, cost, offset),
            "contact" => window::contact(word, now, &rule, cost, given(vector.timeout_ms), offset),
            "sync" => {
                let reply =
                    Reply { remaining: vector.remaining, end: vector.end, cost, taken_end: vector.taken_end };
                window::sync(word, now, &rule, &reply, offset)
            }
            "penalize" => window::penalize(word, now, given(vector.until)),
            "settle" => window::settle(word, now, given(vector.end), cost, given(vector.actual)),
            "view" => {
                let Expect::View { remaining, end, probing } = vector.expect else {
                    panic!("a view is expected")
                };
                assert_eq!(
                    window::view(word, now, &rule),
                    View { remaining, end, probing },
                    "{}",
                    vector.name
                );
                continue;
            }
            other => panic!("window.json names a function that does not exist: {other}"),
        };
        let Expect::Word(expected) = &vector.expect else { panic!("a word is expected: {}", vector.name) };
        assert_eq!(next, expected.as_ref().map(packed), "{}: {}", vector.function, vector.name);
    }
}
