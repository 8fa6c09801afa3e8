//! Smooth weighted round robin, as nginx does it, worked out ahead for a whole cycle.
//!
//! The one idea: the order repeats after the sum of the weights, so it is a table, and where it stands is one counter that any
//! number of threads may advance: proportions are exact over every cycle's worth of consecutive counts, whoever took them.

use std::cmp::Reverse;

/// The longest table. Weights whose sum is greater, once their common divisor is out, are scaled down to fit: each share is then
/// off by less than one in as many.
const STEPS_MAX: u64 = 4096;

/// The order of one cycle.
#[derive(Debug)]
pub(super) struct Cycle {
    steps: Box<[Turn]>,
    /// Turns of each member in a cycle.
    weights: Box<[usize]>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// The position of its weight.
    pub member: usize,
    /// How many turns it has had before.
    pub nth: usize,
}

impl Cycle {
    /// The cycle of members with these weights; one of 0 counts as 1.
    pub(super) fn new(weights: &[u32]) -> Self {
        let weights = scaled(weights);
        let total: u64 = weights.iter().sum();
        // Each gets its weight's worth of credit a step, and who has most pays the whole sum for the turn: credits add up to 0.
        let mut members: Vec<_> = weights.iter().map(|weight| (0_i64, 0_usize, weight.cast_signed())).collect();
        let steps = (0..total).filter_map(|_| {
            members.iter_mut().for_each(|(credit, _, weight)| *credit += *weight);
            let richest = members.iter_mut().enumerate().max_by_key(|(at, (credit, ..))| (*credit, Reverse(*at)));
            let (member, (credit, had, _)) = richest?;
            *credit -= total.cast_signed();
            *had += 1;
            Some(Turn { member, nth: *had - 1 })
        });
        let steps = steps.collect();
        Self { steps, weights: weights.iter().map(|weight| usize::try_from(*weight).unwrap_or(1)).collect() }
    }

    /// Whose turn the `count`th is.
    pub(super) fn at(&self, count: usize) -> Turn {
        let length = self.steps.len().max(1);
        let (rounds, step) = (count / length, count % length);
        let Some(turn) = self.steps.get(step) else { return Turn { member: 0, nth: count } };
        let weight = self.weights.get(turn.member).copied().unwrap_or(1);
        Turn { member: turn.member, nth: rounds.wrapping_mul(weight).wrapping_add(turn.nth) }
    }
}

fn scaled(weights: &[u32]) -> Vec<u64> {
    let weights = reduced(weights.iter().map(|weight| u64::from(*weight).max(1)).collect());
    let total: u64 = weights.iter().sum();
    if total <= STEPS_MAX {
        return weights;
    }
    let scale = |weight: u64| ((weight * STEPS_MAX + total / 2) / total).max(1);
    reduced(weights.into_iter().map(scale).collect())
}

fn reduced(weights: Vec<u64>) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    weights.into_iter().map(|weight| weight / divisor).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u32], count: usize) -> Vec<usize> {
        let cycle = Cycle::new(weights);
        (0..count).map(|n| cycle.at(n).member).collect()
    }

    #[test]
    fn interleaves_as_nginx_does() {
        // The example in nginx's own commit message.
        assert_eq!(members(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(members(&[100, 100, 100], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(Cycle::new(&[20, 100, 60]).steps.len(), 9);
    }

    #[test]
    fn every_cycles_worth_of_turns_has_exact_shares_wherever_it_begins() {
        let cycle = Cycle::new(&[20, 100, 60]);
        for begin in [0, 1, 5, 77, 12_345] {
            let mut counts = [0; 3];
            (begin..begin + 180).for_each(|n| counts[cycle.at(n).member] += 1);
            assert_eq!(counts, [20, 100, 60], "from {begin}");
        }
    }

    #[test]
    fn no_member_is_ever_more_than_one_turn_off_its_share() {
        for weights in [vec![1, 2], vec![20, 100, 60], vec![7, 11, 13, 1], vec![50; 5], vec![1, 99]] {
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0.0; weights.len()];
            for (n, member) in members(&weights, total as usize).into_iter().enumerate() {
                counts[member] += 1.0;
                for (count, weight) in counts.iter().zip(&weights) {
                    let share = (n + 1) as f64 * f64::from(*weight) / f64::from(total);
                    // Two members: 1. In general n - 1 is the proven bound; these stay below 2.
                    assert!(f64::abs(count - share) < 2.0, "{weights:?} after {n}: {count} for {share}");
                }
            }
        }
    }

    #[test]
    fn a_members_turns_are_numbered_without_a_gap() {
        let cycle = Cycle::new(&[3, 2, 4]);
        let mut had = [0; 3];
        for n in 0..100 {
            let turn = cycle.at(n);
            assert_eq!(turn.nth, had[turn.member]);
            had[turn.member] += 1;
        }
    }

    #[test]
    fn weights_of_any_size_make_a_short_table_and_nobody_is_left_out() {
        let cycle = Cycle::new(&[u32::MAX, u32::MAX - 2, 1, 0]);
        assert!(cycle.steps.len() as u64 <= STEPS_MAX + 4, "{}", cycle.steps.len());
        for member in 0..4 {
            assert!(cycle.steps.iter().any(|turn| turn.member == member), "{member}");
        }
        assert_eq!(Cycle::new(&[]).at(5), Turn { member: 0, nth: 5 });
    }
}
