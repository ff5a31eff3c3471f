// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers for tests: the same sequence from the same seed, on every machine.

/// The state of a generator. Each seed has a sequence of its own.
pub struct Random(pub u64);

impl Random {
    /// The next number, below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
