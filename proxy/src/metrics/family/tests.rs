use super::*;
use crate::metrics::labels::PortLabels;

const IDLE: Duration = Duration::from_secs(600);

fn port(number: usize) -> PortLabels {
    PortLabels { direction: "inbound", port: number.to_string() }
}

/// Ports and their counts.
fn values(family: &Family<PortLabels, Counter>) -> Vec<(String, u64)> {
    let mut all: Vec<_> =
        family.all().into_iter().map(|(labels, counter)| (labels.port.clone(), counter.get())).collect();
    all.sort();
    all
}

#[test]
fn what_is_one_series_too_many_is_counted_and_shows_that_it_is() {
    let family = Family::<PortLabels, Counter>::default();
    family.limit(2);
    for number in 0..5 {
        family.get_or_create(&port(number)).inc();
    }
    // Those that were there before still have theirs.
    family.get_or_create(&port(1)).inc();
    let expected = [("0", 1), ("1", 2), ("overflow", 3)];
    assert_eq!(values(&family), expected.map(|(text, count)| (text.to_owned(), count)));
}

#[tokio::test(start_paused = true)]
async fn a_series_in_which_nothing_is_counted_goes_and_makes_room() {
    let family = Family::<PortLabels, Counter>::default();
    family.limit(1);
    family.get_or_create(&port(1)).inc();
    let start = Instant::now();
    family.forget_idle(start, IDLE);
    // Something was counted in the meantime.
    family.get_or_create(&port(1)).inc();
    family.forget_idle(start + IDLE, IDLE);
    assert_eq!(values(&family).len(), 1);
    family.forget_idle(start + IDLE + IDLE, IDLE);
    assert!(values(&family).is_empty());
    family.get_or_create(&port(2)).inc();
    assert_eq!(values(&family), [("2".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_series_that_a_connection_holds_stays_however_long_it_is_silent() {
    let family = Family::<PortLabels, Counter>::default();
    let held = family.get_or_create(&port(1));
    held.inc();
    let start = Instant::now();
    for round in 0..5 {
        family.forget_idle(start + IDLE * round, IDLE);
    }
    held.inc();
    family.get_or_create(&port(1)).inc();
    assert_eq!(values(&family)[0].1, 3);
    drop(held);
    // Its time begins when it is let go.
    family.forget_idle(start + IDLE * 5, IDLE);
    assert_eq!(values(&family).len(), 1);
    family.forget_idle(start + IDLE * 6, IDLE);
    assert!(values(&family).is_empty());
}
