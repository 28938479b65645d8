//! What lies where in a store's buffer.
//!
//! ```text
//!   page 0   header: 64 words, then 16 stripes of counters, one cache line each
//!   page 1.. one table for each limit, page-aligned: slots | overflow words | touched bits
//! ```
//! ```text
//!   word 0 magic, written last   1 version << 32 | tables   2 max_keys   3,4 the hash's secret
//!        5 created: nanoseconds of the monotonic clock   6 created: milliseconds of Unix time   7,8 boot id
//!        16.. each table's window in milliseconds
//! ```
//!
//! Rules of this file: everything is in whole 64-bit words of the machine's order; a buffer belongs to one kind of
//! machine. A change of what lies where changes `VERSION`.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};
use crate::table::LINES_OF_A_PAGE;
use crate::window::MAX_WINDOW_MS;

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
const VERSION: u64 = 1;
const WORDS_OF_A_PAGE: usize = 512;
const FIRST_WINDOW: usize = 16;
const FIRST_STRIPE: usize = 64;
const STRIPES: usize = 16;
const WORDS_OF_A_STRIPE: usize = 8;

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
                write!(
                    formatter,
                    "the store has {given} bytes and needs {needed}: make one of buffer_size(max_keys, limits)"
                )
            }
            Self::Foreign => {
                formatter.write_str("the store holds something that is not bide's: make a new one")
            }
            Self::Version(version) => {
                write!(
                    formatter,
                    "the store was made by version {version} of its layout, this is {VERSION}: make a new one"
                )
            }
            Self::Windows(windows) => {
                write!(
                    formatter,
                    "the store was made for limits with windows of {windows:?} ms: pass the same ones in the same order, or another store"
                )
            }
            Self::MaxKeys(max_keys) => {
                write!(
                    formatter,
                    "the store was made for max_keys={max_keys}: pass the same, or another store"
                )
            }
        }
    }
}

impl std::error::Error for LayoutError {}

/// What a store's first opener writes into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The secret of its hash.
    pub secret: [u64; 2],
    /// The monotonic clock at its creation, in nanoseconds.
    pub created_ns: u64,
    /// Unix time at its creation, in milliseconds.
    pub created_unix_ms: u64,
    /// The boot that the monotonic clock belongs to.
    pub boot_id: [u64; 2],
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
        if buffer.len() < needed {
            return Err(LayoutError::TooSmall { needed: needed * 8, given: buffer.len() * 8 });
        }
        let header = Self(&buffer[..WORDS_OF_A_PAGE]);
        // Acquire, with the Release of the magic below: whoever sees it sees the whole header.
        match header.0[0].load(Ordering::Acquire) {
            MAGIC => {}
            0 => header.make(max_keys, windows_ms, &origin()),
            _ => return Err(LayoutError::Foreign),
        }
        let (version, tables) = (header.get(1) >> 32, (header.get(1) & 0xffff_ffff) as usize);
        if version != VERSION {
            return Err(LayoutError::Version(version));
        }
        let windows: Vec<u64> =
            (0..tables.min(MAX_TABLES)).map(|table| header.get(FIRST_WINDOW + table)).collect();
        if windows != windows_ms {
            return Err(LayoutError::Windows(windows));
        }
        if header.get(2) != max_keys {
            return Err(LayoutError::MaxKeys(header.get(2)));
        }
        let origin = Origin {
            secret: [header.get(3), header.get(4)],
            created_ns: header.get(5),
            created_unix_ms: header.get(6),
            boot_id: [header.get(7), header.get(8)],
        };
        Ok((header, origin))
    }

    fn make(self, max_keys: u64, windows_ms: &[u64], origin: &Origin) {
        debug_assert!(
            windows_ms.len() <= MAX_TABLES && windows_ms.iter().all(|&window| window <= MAX_WINDOW_MS)
        );
        self.set(1, VERSION << 32 | windows_ms.len() as u64);
        self.set(2, max_keys);
        self.set(3, origin.secret[0]);
        self.set(4, origin.secret[1]);
        self.set(5, origin.created_ns);
        self.set(6, origin.created_unix_ms);
        self.set(7, origin.boot_id[0]);
        self.set(8, origin.boot_id[1]);
        for (table, &window) in windows_ms.iter().enumerate() {
            self.set(FIRST_WINDOW + table, window);
        }
        self.0[0].store(MAGIC, Ordering::Release);
    }

    // Relaxed, as the magic's Release and Acquire order them.
    fn get(self, word: usize) -> u64 {
        self.0[word].load(Ordering::Relaxed)
    }

    fn set(self, word: usize, value: u64) {
        self.0[word].store(value, Ordering::Relaxed);
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
