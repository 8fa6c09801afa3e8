//! The same random choices on every machine and in every run.

/// Where every generator starts, unless the environment says otherwise: to look at other cases, and at a failure again.
const SEED: u64 = 0x6d65_7368_6761_7465;
/// A decimal number.
pub(crate) const VARIABLE: &str = "MESHGATE_SEED";

/// The seed of this run; every comparison prints it.
pub(crate) fn seed() -> u64 {
    std::env::var(VARIABLE).map_or(SEED, |seed| seed.parse().expect("a decimal number"))
}

/// SplitMix64: small, and good enough to pick from lists.
pub(crate) struct Dice(u64);

impl Dice {
    /// Choices of their own for each purpose.
    pub(crate) fn new(purpose: u64) -> Self {
        Self(seed() ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, but not, `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// True `percent` times in a hundred.
    pub(crate) fn often(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// From `least` to `most` different ones, in their order.
    pub(crate) fn some<T: Copy>(&mut self, from: &[T], least: usize, most: usize) -> Vec<T> {
        let wanted = least + self.below(most - least + 1);
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < wanted.min(from.len()) {
            let next = self.below(from.len());
            if !chosen.contains(&next) {
                chosen.push(next);
            }
        }
        chosen.sort_unstable();
        chosen.into_iter().map(|index| from[index]).collect()
    }
}
