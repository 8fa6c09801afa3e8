//! Who succeeds much less often than the others: Envoy's success-rate outlier detection.
//!
//! The one idea: an application that answers 500 now and then does so everywhere, and that is no reason to take one away; one
//! that does so more than the others is. Only endpoints with enough requests are compared, and only if there are enough of them.

use meshgate_config::OutlierDetection;

/// Which of `counts` (successes and all, of each endpoint in an interval) are below what is to be expected: their positions and
/// rates in percent, and the least rate that would have done. Empty when there is too little to compare.
///
/// The least rate is the mean less `success_rate_stdev_factor` / 1000 standard deviations, as in Envoy's "outlier detection".
pub(super) fn below(counts: &[(u32, u32)], settings: &OutlierDetection) -> (Vec<(usize, f64)>, f64) {
    let enough = |(_, (_, all)): &(usize, &(u32, u32))| *all >= settings.success_rate_request_volume;
    let rate =
        |(at, (successes, all)): (usize, &(u32, u32))| (at, f64::from(*successes) * 100.0 / f64::from((*all).max(1)));
    let rates: Vec<_> = counts.iter().enumerate().filter(enough).map(rate).collect();
    if settings.success_rate_stdev_factor == 0 || rates.len() < settings.success_rate_minimum_hosts.max(1) {
        return (Vec::new(), 0.0);
    }
    let number = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / number;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / number;
    let least = mean - variance.sqrt() * f64::from(settings.success_rate_stdev_factor) / 1000.0;
    (rates.into_iter().filter(|(_, rate)| *rate < least).collect(), least)
}

#[cfg(test)]
mod tests {
    use super::super::testing::settings;
    use super::*;

    #[test]
    fn the_one_that_fails_more_than_the_others_is_found() {
        let counts = [(100, 100), (99, 100), (100, 100), (98, 100), (60, 100), (100, 100)];
        let (below, least) = below(&counts, &settings());
        assert_eq!(below, [(4, 60.0)]);
        assert!((60.0..99.0).contains(&least), "{least}");
    }

    #[test]
    fn all_that_fail_alike_are_left_alone_and_few_requests_or_hosts_say_nothing() {
        let settings = settings();
        assert_eq!(below(&[(50, 100); 6], &settings).0, []);
        // Of four, none can be further off than the square root of three deviations.
        let sharp = OutlierDetection { success_rate_stdev_factor: 1000, ..settings };
        assert_eq!(below(&[(100, 100), (100, 100), (100, 100), (100, 100), (0, 100)], &sharp).0, [(4, 0.0)]);
        assert_eq!(below(&[(100, 100), (100, 100), (100, 100), (0, 100)], &sharp).0, [], "four hosts of five");
        let few = [(100, 100), (100, 100), (100, 100), (100, 100), (100, 100), (0, 99)];
        assert_eq!(below(&few, &settings).0, [], "99 requests of 100");
        let off = OutlierDetection { success_rate_stdev_factor: 0, ..settings };
        assert_eq!(below(&[(100, 100), (100, 100), (100, 100), (100, 100), (100, 100), (0, 100)], &off).0, []);
    }
}
