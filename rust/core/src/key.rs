//! A key's fingerprint: SipHash-1-3 of its octets under a secret of the store's, with the limiter's name mixed in.
//!
//! Rules of this file: the octets are read and never kept. The hash stays keyed and hard to collide on purpose:
//! whoever chooses keys (and attackers do) must not choose their slots. SipHash-1-3 costs 4-6 ns more than the
//! fastest unkeyed hashes on short keys and is the only one of them that is a pseudo-random function.
//!
//! ```text
//!  63                                  16 15            0
//!  | fingerprint: 48 bits, kept in the id | home: 16 bits |
//! ```
//! The home line is taken from the low 16 bits first, so that two keys are one only if (nearly) all 64 bits are.

use crate::siphash::SipHash13;

/// Turns octets into keys.
#[derive(Clone)]
pub struct Keyer {
    hasher: SipHash13,
    origin: u64,
}

impl Keyer {
    /// A keyer for the limiter of this `name` in the store whose secret this is.
    #[must_use]
    pub fn new(secret: [u64; 2], name: &[u8]) -> Self {
        let outer = SipHash13::new(secret);
        let mixed = |domain: u8| {
            let mut octets = Vec::with_capacity(name.len() + 1);
            octets.push(domain);
            octets.extend_from_slice(name);
            outer.hash(&octets)
        };
        Self { hasher: SipHash13::new([mixed(0), mixed(1)]), origin: mixed(2) }
    }

    /// The key of these octets.
    #[must_use]
    #[inline]
    pub fn key(&self, octets: &[u8]) -> Key {
        Key(self.hasher.hash(octets))
    }

    /// A number that tells this store and name from others; says nothing of the secret.
    #[must_use]
    pub fn origin(&self) -> u64 {
        self.origin
    }
}

/// A key, as 64 bits that do not give it away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key with this hash.
    #[must_use]
    pub const fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash.
    #[must_use]
    pub const fn hash(self) -> u64 {
        self.0
    }

    /// What a slot's id keeps: 48 bits, never 0, so that an id of 0 means a slot that was never used.
    #[must_use]
    #[inline]
    pub fn fingerprint(self) -> u64 {
        (self.0 >> 16).max(1)
    }

    /// The line that the search begins at.
    #[must_use]
    #[inline]
    pub fn home(self, lines: usize) -> usize {
        ((u128::from(self.0.rotate_right(16)) * lines as u128) >> 64) as usize
    }

    /// The slot of a line that the search begins at.
    #[must_use]
    #[inline]
    pub fn first_slot(self) -> usize {
        (self.0 >> 16) as usize & 3
    }
}
