// SPDX-License-Identifier: MIT OR Apache-2.0
//! CRC-32 of short pieces.

/// A copy of one hasher, because a new one asks for the features of the processor. That takes a third of the time of a short crc.
#[cfg(feature = "std")]
#[inline(always)]
pub fn new_hasher() -> crc32fast::Hasher {
    static HASHER: std::sync::OnceLock<crc32fast::Hasher> = std::sync::OnceLock::new();
    HASHER.get_or_init(crc32fast::Hasher::new).clone()
}

#[cfg(not(feature = "std"))]
pub fn new_hasher() -> crc32fast::Hasher {
    crc32fast::Hasher::new()
}
