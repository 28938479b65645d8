//! What lies where in a store's buffer.
//!
//! ```text
//!   page 0   header: 64 words, then 16 stripes of counters, one cache line each
//!   page 1.. one table for each limit, page-aligned: slots | overflow words | touched bits
//! ```
//! ```text
//!   made once    word 0 magic, written last   1 version << 32 | tables   2 max_keys   3,4 the hash's secret
//!                5 Unix milliseconds of its creation   6 a check of these   16.. each table's window in milliseconds
//!   the tenant   24 whose clock it is on: a boot of the machine, CALLERS, or REPLACED; each call compares it
//!   the clock    32 the boot that its time is counted in   33 that boot's clock at the store's time 0, nanoseconds
//!                34 Unix time minus the store's, milliseconds   35 the latest store time that an opener saw
//! ```
//! The tenant has a cache line of its own, which all processors share unless a store is replaced or the machine booted.
//!
//! Rules of this file: everything is in whole 64-bit words of the machine's order; a buffer belongs to one kind of
//! machine. A change of what lies where changes `VERSION`.

use std::fmt;

use crate::key::Keyer;
use crate::sync::{AtomicU64, Ordering};
use crate::table::LINES_OF_A_PAGE;
use crate::window::{LATEST_MS, MAX_WINDOW_MS};

/// Slots of one cache line. (The model checker gets lines of one slot, so that each of its steps tells.)
pub const SLOTS_OF_A_LINE: usize = if cfg!(loom) { 1 } else { 4 };
/// Words of one cache line.
pub const WORDS_OF_A_LINE: usize = 2 * SLOTS_OF_A_LINE;
/// The lines that a key may use: its home line and those that follow.
pub const LINES_OF_A_RUN: usize = 8;
/// The most limits of one limiter.
pub const MAX_TABLES: usize = 8;
/// The most keys of one store.
pub const MAX_KEYS: u64 = 1 << 32;

const MAGIC: u64 = u64::from_ne_bytes(*b"bide\0lim");
/// The version of what lies where.
pub const VERSION: u64 = 2;
const WORDS_OF_A_PAGE: usize = 512;
const CREATED: usize = 5;
const CHECK: usize = 6;
const FIRST_WINDOW: usize = 16;
const TENANT: usize = 24;
const BOOT: usize = 32;
const BASE: usize = 33;
const UNIX_OFFSET: usize = 34;
const SEEN: usize = 35;
const FIRST_STRIPE: usize = 64;
const STRIPES: usize = 16;
const WORDS_OF_A_STRIPE: usize = 8;

/// The tenant of a store whose clock is its callers' own; also of one that has no file.
pub const CALLERS: u64 = 1;
/// The tenant of a store that another one has taken the place of.
pub const REPLACED: u64 = u64::MAX;

/// How a buffer is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Cache lines of slots in each table.
    pub lines: usize,
    /// Tables.
    pub tables: usize,
}

impl Layout {
    /// The layout for so many keys (two slots for each) and tables.
    #[must_use]
    pub fn new(max_keys: u64, tables: usize) -> Self {
        let slots = 2 * max_keys.clamp(1, MAX_KEYS) as usize;
        Self { lines: slots.div_ceil(SLOTS_OF_A_LINE), tables }
    }

    fn touched_words(self) -> usize {
        self.lines.div_ceil(64 * LINES_OF_A_PAGE)
    }

    fn words_of_a_table(self) -> usize {
        (self.lines * (WORDS_OF_A_LINE + 1) + self.touched_words()).next_multiple_of(WORDS_OF_A_PAGE)
    }

    /// The words of the whole buffer.
    #[must_use]
    pub fn words(self) -> usize {
        WORDS_OF_A_PAGE + self.tables * self.words_of_a_table()
    }

    /// The slots, overflow words and touched bits of one table.
    #[must_use]
    pub fn table(self, buffer: &[AtomicU64], number: usize) -> [&[AtomicU64]; 3] {
        let begin = WORDS_OF_A_PAGE + number * self.words_of_a_table();
        let (slots, rest) = buffer[begin..].split_at(self.lines * WORDS_OF_A_LINE);
        let (overflow, rest) = rest.split_at(self.lines);
        [slots, overflow, &rest[..self.touched_words()]]
    }
}

/// The bytes that a store for so many keys and tables needs.
#[must_use]
pub fn buffer_bytes(max_keys: u64, tables: usize) -> usize {
    Layout::new(max_keys, tables).words() * 8
}

/// Why a buffer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// It is smaller than it must be.
    TooSmall {
        /// The bytes that are needed.
        needed: usize,
        /// The bytes that were given.
        given: usize,
    },
    /// It holds something else.
    Foreign,
    /// It was made by another version.
    Version(u64),
    /// It was made for other limits.
    Windows(Vec<u64>),
    /// It was made for another number of keys.
    MaxKeys(u64),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { needed, given } => {
                write!(formatter, "it has {given} bytes and needs {needed}: it is no whole store")
            }
            Self::Foreign => {
                formatter.write_str("it holds something that is not a store of bide's, or is damaged")
            }
            Self::Version(version) => {
                write!(formatter, "it was made by version {version} of the layout, this bide has {VERSION}")
            }
            Self::Windows(windows) => {
                let seconds: Vec<String> =
                    windows.iter().map(|&window| (window as f64 / 1_000.0).to_string()).collect();
                write!(
                    formatter,
                    "it was made for limits with windows of {} seconds: pass the same windows in the same order, or another store (another number of requests is fine)",
                    seconds.join(", ")
                )
            }
            Self::MaxKeys(max_keys) => {
                write!(formatter, "it was made for max_keys={max_keys}: pass the same, or another store")
            }
        }
    }
}

impl std::error::Error for LayoutError {}

/// What a store's first opener writes into it, and later ones find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The secret of its hash.
    pub secret: [u64; 2],
    /// Unix time at its creation, in milliseconds.
    pub created_unix_ms: u64,
    /// The boot that its clock belongs to, or [`CALLERS`].
    pub boot: u64,
    /// That clock at the store's time 0, in nanoseconds, wrapping: after a reboot it may lie before the clock's own.
    pub base_ns: u64,
}

/// What a header says of its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The keys that it is made for.
    pub max_keys: u64,
    /// Its tables' windows, in milliseconds.
    pub windows_ms: Vec<u64>,
    /// What its first opener wrote, on the clock that it is counted by now.
    pub origin: Origin,
    /// Unix time minus the store's, in milliseconds, as the latest opener found it.
    pub unix_offset_ms: u64,
    /// The latest store time that an opener saw, in milliseconds.
    pub seen_ms: u64,
}

/// The header of a buffer.
#[derive(Clone, Copy)]
pub struct Header<'a>(&'a [AtomicU64]);

impl<'a> Header<'a> {
    /// Reads the header of a buffer that holds a store for these windows, or makes one of a zeroed buffer (whose
    /// first opener must be alone). Gives what its first opener wrote.
    ///
    /// # Errors
    /// When the buffer is too small, or holds something else.
    pub fn open(
        buffer: &'a [AtomicU64],
        max_keys: u64,
        windows_ms: &[u64],
        origin: impl FnOnce() -> Origin,
    ) -> Result<(Self, Origin), LayoutError> {
        let needed = Layout::new(max_keys, windows_ms.len()).words();
        let too_small = LayoutError::TooSmall { needed: needed * 8, given: buffer.len() * 8 };
        if buffer.is_empty() {
            return Err(too_small);
        }
        // Relaxed: `read` acquires it.
        if buffer[0].load(Ordering::Relaxed) == 0 {
            if buffer.len() < needed {
                return Err(too_small);
            }
            Self(&buffer[..WORDS_OF_A_PAGE]).make(max_keys, windows_ms, &origin());
        }
        let (header, facts) = Self::read(buffer)?;
        if facts.windows_ms != windows_ms {
            return Err(LayoutError::Windows(facts.windows_ms));
        }
        if facts.max_keys != max_keys {
            return Err(LayoutError::MaxKeys(facts.max_keys));
        }
        if buffer.len() < needed {
            return Err(too_small);
        }
        Ok((header, facts.origin))
    }

    /// Reads the header at the beginning of a buffer, which need not hold the tables.
    ///
    /// # Errors
    /// When there is none of this version, or it is damaged.
    pub fn read(buffer: &'a [AtomicU64]) -> Result<(Self, Facts), LayoutError> {
        let Some(words) = buffer.get(..WORDS_OF_A_PAGE) else {
            return Err(LayoutError::TooSmall { needed: WORDS_OF_A_PAGE * 8, given: buffer.len() * 8 });
        };
        let header = Self(words);
        // Acquire, with the Release of the magic in `make`: whoever sees it sees the whole header.
        if words[0].load(Ordering::Acquire) != MAGIC {
            return Err(LayoutError::Foreign);
        }
        let (version, tables) = (header.get(1) >> 32, (header.get(1) & 0xffff_ffff) as usize);
        if version != VERSION {
            return Err(LayoutError::Version(version));
        }
        if header.get(CHECK) != header.check() || !(1..=MAX_TABLES).contains(&tables) {
            return Err(LayoutError::Foreign);
        }
        let facts = Facts {
            max_keys: header.get(2),
            windows_ms: (0..tables).map(|table| header.get(FIRST_WINDOW + table)).collect(),
            origin: Origin {
                secret: [header.get(3), header.get(4)],
                created_unix_ms: header.get(CREATED),
                boot: header.get(BOOT),
                base_ns: header.get(BASE),
            },
            unix_offset_ms: header.get(UNIX_OFFSET),
            seen_ms: header.get(SEEN),
        };
        Ok((header, facts))
    }

    fn make(self, max_keys: u64, windows_ms: &[u64], origin: &Origin) {
        debug_assert!(
            windows_ms.len() <= MAX_TABLES && windows_ms.iter().all(|&window| window <= MAX_WINDOW_MS)
        );
        self.set(1, VERSION << 32 | windows_ms.len() as u64);
        self.set(2, max_keys);
        self.set(3, origin.secret[0]);
        self.set(4, origin.secret[1]);
        self.set(CREATED, origin.created_unix_ms);
        for (table, &window) in windows_ms.iter().enumerate() {
            self.set(FIRST_WINDOW + table, window);
        }
        self.set(CHECK, self.check());
        self.set(UNIX_OFFSET, origin.created_unix_ms);
        self.move_to(origin.boot, origin.base_ns);
        self.0[0].store(MAGIC, Ordering::Release);
    }

    /// What holds the words that are made once together: a torn or foreign header does not fit it.
    fn check(self) -> u64 {
        let mut octets = Vec::with_capacity(8 * TENANT);
        for word in (1..TENANT).filter(|&word| word != CHECK) {
            octets.extend_from_slice(&self.get(word).to_ne_bytes());
        }
        Keyer::new([MAGIC, VERSION], b"").key(&octets).hash()
    }

    // Relaxed, as the magic's Release and Acquire order what is made once, and a lock those who move the clock.
    fn get(self, word: usize) -> u64 {
        self.0[word].load(Ordering::Relaxed)
    }

    fn set(self, word: usize, value: u64) {
        self.0[word].store(value, Ordering::Relaxed);
    }

    /// The word that says whose clock the store is on. A caller that finds another one than its own has to look where
    /// the store has gone.
    // Read Relaxed: nothing is read on the strength of it but by whoever looks.
    #[must_use]
    pub fn tenant(self) -> &'a AtomicU64 {
        &self.0[TENANT]
    }

    /// Moves the store to the clock of another boot. The caller holds a lock against others who do; one who is killed
    /// between two steps leaves another boot's tenant, so that the next one does it again.
    fn move_to(self, boot: u64, base_ns: u64) {
        self.set(BASE, base_ns);
        self.0[BOOT].store(boot, Ordering::Release);
        if self.get(TENANT) != REPLACED {
            self.0[TENANT].store(boot, Ordering::Release);
        }
    }

    /// Takes the store over into another boot, whose clock shows `now_ns`: its time goes on by the wall time gone by,
    /// and never backwards. The caller holds a lock against others who do.
    pub fn adopt(self, boot: u64, now_ns: u64, unix_ms: u64) {
        if self.get(BOOT) == boot {
            self.move_to(boot, self.get(BASE));
            return;
        }
        let by_the_wall = unix_ms.wrapping_sub(self.get(UNIX_OFFSET)) as i64;
        let now_ms = by_the_wall.max(self.get(SEEN) as i64).clamp(0, LATEST_MS as i64) as u64;
        self.move_to(boot, now_ns.wrapping_sub(now_ms * 1_000_000));
    }

    /// Notes what time it was when somebody opened the store: what the next boot goes on from.
    pub fn note(self, now_ms: u64, unix_ms: u64) {
        self.set(UNIX_OFFSET, unix_ms.wrapping_sub(now_ms));
        self.set(SEEN, self.get(SEEN).max(now_ms));
    }

    /// Begins the store's time anew, where nobody counts by it yet.
    pub fn restart(self, now_ns: u64, unix_ms: u64) {
        self.set(BASE, now_ns);
        self.set(UNIX_OFFSET, unix_ms);
        self.set(SEEN, 0);
    }

    /// Tells everybody who uses the store that another one takes its place.
    pub fn mark_replaced(self) {
        self.0[TENANT].store(REPLACED, Ordering::Release);
    }

    /// Makes a store in a zeroed buffer that is as this one was when it was new: the same secret and the same clock, so
    /// that those who move over go on as they are.
    pub fn renew(self, buffer: &[AtomicU64]) {
        for word in (1..FIRST_STRIPE).filter(|&word| word != TENANT) {
            buffer[word].store(self.get(word), Ordering::Relaxed);
        }
        buffer[TENANT].store(self.get(BOOT), Ordering::Relaxed);
        buffer[0].store(MAGIC, Ordering::Release);
    }

    /// The counters.
    #[must_use]
    pub fn counters(self) -> Counters<'a> {
        Counters(&self.0[FIRST_STRIPE..][..STRIPES * WORDS_OF_A_STRIPE])
    }
}

/// Counts what happened, in one of several cache lines, so that threads do not wait for each other's.
// Relaxed throughout: they order nothing, and a sum of what threads are just counting has no exact value anyway.
#[derive(Clone, Copy)]
pub struct Counters<'a>(&'a [AtomicU64]);

const DENIED: usize = 0;
const REUSED: usize = 1;
const OVERFLOWED: usize = 2;

impl<'a> Counters<'a> {
    /// Counts nothing: for the model checker, which would take each count for a step.
    #[must_use]
    pub fn none() -> Self {
        Self(&[])
    }

    #[inline]
    fn count(self, what: usize) {
        if let Some(counter) = self.0.get(stripe() * WORDS_OF_A_STRIPE + what) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(self, what: usize) -> u64 {
        self.0
            .iter()
            .skip(what)
            .step_by(WORDS_OF_A_STRIPE)
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }

    /// A call was refused.
    #[inline]
    pub fn denied(self) {
        self.count(DENIED);
    }

    /// A slot whose window had ended was given to another key.
    pub fn reused(self) {
        self.count(REUSED);
    }

    /// A call found no room and counted in an overflow word.
    pub fn overflowed(self) {
        self.count(OVERFLOWED);
    }

    /// Refused, reused, overflowed.
    #[must_use]
    pub fn sums(self) -> [u64; 3] {
        [self.sum(DENIED), self.sum(REUSED), self.sum(OVERFLOWED)]
    }
}

/// A number that threads which run at once seldom share: made from the stack that this one stands on, because a
/// thread-local variable costs a call.
#[inline]
fn stripe() -> usize {
    let here = 0_u8;
    let stack = (&raw const here).addr() as u64 >> 16;
    (stack.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % STRIPES
}
