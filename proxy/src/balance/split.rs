//! Which of several backends is next, in exact proportion to their weights.
//!
//! The one idea: smooth weighted round robin repeats itself after as many turns as the weights' sum, so the turns are written
//! down once and a shared [`Cursor`](super::Cursor) walks through them. Workers need no lock to share the proportion.

/// Turns that are written down at the most; weights that need more are rounded to that many.
const TURNS_MAX: u32 = 10_000;

/// One turn after the other.
#[derive(Debug)]
pub struct Turns(Box<[u16]>);

impl Turns {
    /// The turns of backends with these weights, none of them 0, in which each is as evenly spread as can be. Exact as long as
    /// the weights' sum, without their common divisor, is at most 10 000; else within a hundredth of a percent, and none is
    /// left out.
    pub fn new(weights: &[u32]) -> Self {
        let weights = reduced(weights);
        let sum: i64 = weights.iter().sum();
        let mut standing = vec![0_i64; weights.len()];
        let turns = (0..sum).map(|_| {
            for (standing, weight) in standing.iter_mut().zip(&weights) {
                *standing += weight;
            }
            // Of equals the first.
            let most = standing.iter().copied().max().unwrap_or_default();
            let next = standing.iter().position(|standing| *standing == most).unwrap_or_default();
            if let Some(chosen) = standing.get_mut(next) {
                *chosen -= sum;
            }
            u16::try_from(next).unwrap_or_default()
        });
        Self(turns.collect())
    }

    /// How many there are before they begin anew.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody has a turn.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose turn it is.
    pub fn whose(&self, turn: usize) -> Option<usize> {
        self.0.get(turn).copied().map(usize::from)
    }
}

fn reduced(weights: &[u32]) -> Vec<i64> {
    let divisor = weights.iter().copied().fold(0, common_divisor).max(1);
    let sum: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    let turns = u64::from(TURNS_MAX);
    let scaled = |weight: u32| match u64::from(weight / divisor) {
        exact if sum <= turns => exact,
        // To the nearest, but not to nothing.
        large => ((large * turns + sum / 2) / sum).max(1),
    };
    weights.iter().map(|weight| i64::try_from(scaled(*weight)).unwrap_or(i64::MAX)).collect()
}

fn common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Cursor;

    fn counts(weights: &[u32], turns: usize) -> Vec<usize> {
        let sequence = Turns::new(weights);
        let mut counts = vec![0; weights.len()];
        for turn in 0..turns {
            counts[sequence.whose(turn % sequence.len()).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn proportions_are_exact_after_each_period_and_never_far_off_before() {
        for weights in [&[90, 10][..], &[1], &[1, 1, 1], &[5, 1, 1], &[900, 100], &[20, 100, 60], &[3, 7], &[1, 9999]] {
            let sum: u32 = weights.iter().sum();
            let period = Turns::new(weights).len();
            assert_eq!(counts(weights, period * 2).iter().sum::<usize>(), period * 2);
            for turns in [1, 2, 7, period / 2, period, period * 2] {
                for (count, weight) in counts(weights, turns).into_iter().zip(weights) {
                    let exact = turns as f64 * f64::from(*weight) / f64::from(sum);
                    assert!(
                        (count as f64 - exact).abs() < weights.len() as f64,
                        "{weights:?} {turns}: {count} {exact}"
                    );
                    assert!(turns % period != 0 || count as f64 == exact, "{weights:?} {turns}: {count} {exact}");
                }
            }
        }
        assert_eq!(Turns::new(&[90, 10]).len(), 10);
        assert_eq!(
            (0..7).map(|turn| Turns::new(&[5, 1, 1]).whose(turn).unwrap()).collect::<Vec<_>>(),
            [0, 0, 1, 0, 2, 0, 0]
        );
    }

    #[test]
    fn weights_that_need_many_turns_are_rounded_and_never_to_nothing() {
        let sequence = Turns::new(&[u32::MAX, 1, 2_000_000_000]);
        assert!((9_900..=10_100).contains(&sequence.len()), "{}", sequence.len());
        let counted = counts(&[u32::MAX, 1, 2_000_000_000], sequence.len());
        assert_eq!(counted, [6823, 1, 3177]);
        assert!(Turns::new(&[]).is_empty());
    }

    #[test]
    fn several_threads_share_the_proportion() {
        let (turns, cursor) = (Turns::new(&[90, 10]), Cursor::default());
        let mut counts = [0; 2];
        std::thread::scope(|scope| {
            let picks: Vec<_> = (0..4)
                .map(|_| {
                    let (turns, cursor) = (&turns, &cursor);
                    let pick = move || turns.whose(cursor.next(turns.len())).unwrap();
                    scope.spawn(move || (0..250).map(|_| pick()).collect::<Vec<_>>())
                })
                .collect();
            for pick in picks.into_iter().flat_map(|thread| thread.join().unwrap()) {
                counts[pick] += 1;
            }
        });
        assert_eq!(counts, [900, 100]);
    }
}
