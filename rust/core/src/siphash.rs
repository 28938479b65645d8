//! SipHash-1-3: one round for each eight octets, three to finish (Aumasson and Bernstein, "SipHash: a fast short-input
//! PRF", 2012; the variant with 1 and 3 rounds is the one of Rust's and Python's dictionaries).
//!
//! Rules of this file: the whole input at once, no buffer. The tail is read by one load that overlaps what came before,
//! where there is as much: byte by byte it would cost as much as a round. `siphasher` is the oracle of its tests.

/// A hash function, under one secret.
#[derive(Clone, Copy)]
pub struct SipHash13 {
    secret: [u64; 2],
}

impl SipHash13 {
    /// The hash function under this secret.
    #[must_use]
    pub fn new(secret: [u64; 2]) -> Self {
        Self { secret }
    }

    /// The hash of these octets.
    #[must_use]
    #[inline]
    pub fn hash(self, octets: &[u8]) -> u64 {
        let [low, high] = self.secret;
        let mut state = State([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ]);
        let mut words = octets.chunks_exact(8);
        for word in &mut words {
            state.compress(u64::from_le_bytes(word.try_into().expect("eight octets")));
        }
        let rest = words.remainder();
        let rest = match octets.last_chunk::<8>() {
            // The last octets in the high places, those that the words had shifted out; all of them when none is left.
            Some(last) => u64::from_le_bytes(*last).checked_shr(64 - 8 * rest.len() as u32).unwrap_or(0),
            None => rest.iter().rev().fold(0, |word, &octet| word << 8 | u64::from(octet)),
        };
        state.compress((octets.len() as u64) << 56 | rest);
        state.finish()
    }
}

struct State([u64; 4]);

impl State {
    #[inline]
    fn compress(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    #[inline]
    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        for _ in 0..3 {
            self.round();
        }
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }

    #[inline]
    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}
