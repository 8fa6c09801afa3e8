use std::collections::HashMap;
use std::time::Duration;

use meshgate_config::{Balancer, HashOn, OutlierDetection};
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::testing::*;
use super::super::{Caller, Outcome};
use crate::error::ErrorKind;

const ROUND: Balancer = Balancer::RoundRobin;
const THREE: [Cluster<'_>; 3] = [("own", 100, 0, 1), ("two", 100, 0, 1), ("three", 100, 0, 1)];

fn counts<T: std::hash::Hash + Eq>(all: impl IntoIterator<Item = T>) -> HashMap<T, usize> {
    all.into_iter().fold(HashMap::new(), |mut counts, one| {
        *counts.entry(one).or_default() += 1;
        counts
    })
}

fn clusters(picks: &[(u8, u8)]) -> Vec<u8> {
    picks.iter().map(|(cluster, _)| *cluster).collect()
}

#[test]
fn three_clusters_of_equal_weight_take_turns() {
    let mesh = Mesh::new(settings());
    assert_eq!(clusters(&firsts(&mesh.choice("a", &THREE, &ROUND), 6)), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn workers_share_the_turn_so_that_thirds_are_exact() {
    let mesh = Mesh::new(settings());
    let picks: Vec<_> = std::thread::scope(|scope| {
        // Ten connections of thirty requests, on two workers.
        let work = || {
            let choice = mesh.choice("a", &THREE, &ROUND);
            (0..5).flat_map(|_| firsts(&choice, 30)).collect::<Vec<_>>()
        };
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(counts(clusters(&picks)), HashMap::from([(0, 100), (1, 100), (2, 100)]));
}

#[test]
fn a_cluster_gets_its_weight_however_many_endpoints_it_has_and_they_get_equal_shares() {
    let mesh = Mesh::new(settings());
    let choice = mesh.choice("a", &[("own", 20, 0, 5), ("two", 100, 0, 2), ("three", 60, 0, 1)], &ROUND);
    let picks = firsts(&choice, 180);
    assert_eq!(counts(clusters(&picks)), HashMap::from([(0, 20), (1, 100), (2, 60)]));
    let each = counts(picks);
    assert!((1..=5).all(|n| each[&(0, n)] == 4), "{each:?}");
    assert!((1..=2).all(|n| each[&(1, n)] == 50), "{each:?}");
}

#[test]
fn a_new_route_goes_on_where_the_old_one_was() {
    let mesh = Mesh::new(settings());
    assert_eq!(clusters(&firsts(&mesh.choice("a", &THREE, &ROUND), 4)), [0, 1, 2, 0]);
    mesh.choice("b", &THREE, &ROUND);
    assert_eq!(clusters(&firsts(&mesh.choice("a", &THREE, &ROUND), 3)), [1, 2, 0]);
}

#[test]
fn the_lowest_priority_that_has_somebody_gets_everything() {
    let mesh = Mesh::new(OutlierDetection { max_ejection_percent: 100, ..settings() });
    let choice = mesh.choice("a", &[("own", 100, 0, 2), ("two", 100, 1, 1), ("three", 100, 2, 1)], &ROUND);
    assert_eq!(counts(firsts(&choice, 4)), HashMap::from([((0, 1), 2), ((0, 2), 2)]));
    ask(&choice, (0, 1), 5, RESET);
    assert_eq!(counts(firsts(&choice, 4)), HashMap::from([((0, 2), 4)]));
    ask(&choice, (0, 2), 5, RESET);
    assert_eq!(counts(firsts(&choice, 4)), HashMap::from([((1, 1), 4)]));
    mesh.seen("two", false, &[]);
    assert_eq!(counts(firsts(&choice, 4)), HashMap::from([((2, 1), 4)]));
    mesh.seen("two", true, &[]);
    assert_eq!(counts(firsts(&choice, 4)), HashMap::from([((1, 1), 4)]));
}

#[test]
fn priorities_count_in_whatever_order_clusters_are_listed() {
    let mesh = Mesh::new(settings());
    let listed = [("own", 100, 7, 1), ("two", 100, 9, 1), ("three", 100, 1, 1), ("four", 100, 5, 1)];
    let choice = mesh.choice("a", &listed, &ROUND);
    assert_eq!(clusters(&firsts(&choice, 4)), [2; 4]);
    assert_eq!(order(&choice), ["10.2.0.1:80", "10.3.0.1:80", "10.0.0.1:80"]);
}

#[test]
fn what_a_dead_cluster_leaves_falls_to_the_others_by_weight() {
    let mesh = Mesh::new(settings());
    let choice = mesh.choice("a", &[("own", 20, 0, 1), ("two", 100, 0, 1), ("three", 60, 0, 1)], &ROUND);
    mesh.seen("two", false, &[]);
    assert_eq!(counts(clusters(&firsts(&choice, 80))), HashMap::from([(0, 20), (2, 60)]));
    mesh.seen("two", true, &[("a", 3)]);
    assert_eq!(counts(clusters(&firsts(&choice, 180))), HashMap::from([(0, 20), (1, 100), (2, 60)]));
}

#[test]
fn a_cluster_without_a_ready_endpoint_gets_nothing_and_one_of_which_nothing_is_known_its_share() {
    let mesh = Mesh::new(settings());
    let (a, b) = (mesh.choice("a", &THREE, &ROUND), mesh.choice("b", &THREE, &ROUND));
    mesh.seen("two", true, &[("a", 0), ("b", 1)]);
    assert_eq!(counts(clusters(&firsts(&a, 4))), HashMap::from([(0, 2), (2, 2)]));
    assert_eq!(clusters(&firsts(&b, 3)), [0, 1, 2]);
    assert!(!order(&a).contains(&"10.1.0.1:80".to_owned()), "not even when the others have failed");
}

#[test]
fn where_nobody_is_in_rotation_those_that_may_have_recovered_are_tried_first() {
    let mesh = Mesh::new(settings());
    let choice = mesh.choice("a", &[("own", 100, 0, 1), ("two", 100, 1, 1), ("three", 100, 2, 1)], &ROUND);
    ask(&choice, (0, 1), 5, RESET);
    mesh.seen("two", true, &[("a", 0)]);
    mesh.seen("three", false, &[]);
    assert_eq!(order(&choice), ["10.0.0.1:80", "10.2.0.1:80", "10.1.0.1:80"]);
}

#[test]
fn after_a_failure_another_cluster_is_next_then_other_endpoints_then_who_is_out_and_nobody_twice() {
    let mesh = Mesh::new(settings());
    let all: [Cluster<'_>; 3] = [("own", 100, 0, 2), ("two", 100, 0, 2), ("three", 100, 1, 1)];
    let mut choice = mesh.choice("a", &all, &ROUND);
    choice.attempts = 9;
    assert_eq!(order(&choice), ["10.0.0.1:80", "10.1.0.1:80", "10.2.0.1:80", "10.0.0.2:80", "10.1.0.2:80"]);
    assert_eq!(order(&choice), ["10.1.0.1:80", "10.0.0.1:80", "10.2.0.1:80", "10.1.0.2:80", "10.0.0.2:80"]);
    assert_eq!(order(&choice), ["10.0.0.2:80", "10.1.0.2:80", "10.2.0.1:80", "10.0.0.1:80", "10.1.0.1:80"]);
    ask(&choice, (0, 1), 5, RESET);
    let after = order(&choice);
    assert_eq!((after.len(), after.last().unwrap().as_str()), (5, "10.0.0.1:80"));
    choice.attempts = 2;
    assert_eq!(order(&choice).len(), 2);
    choice.attempts = 1;
    assert_eq!(order(&choice).len(), 1);
}

#[test]
fn a_service_behind_a_gateway_that_fails_says_nothing_about_the_other_services_there() {
    let mesh = Mesh::new(settings());
    let (a, b) = (mesh.choice("a", &THREE, &ROUND), mesh.choice("b", &THREE, &ROUND));
    ask(&a, (1, 1), 5, Outcome::Answered(503));
    assert_eq!(counts(clusters(&firsts(&a, 4))), HashMap::from([(0, 2), (2, 2)]));
    assert_eq!(counts(clusters(&firsts(&b, 3))), HashMap::from([(0, 1), (1, 1), (2, 1)]));
}

#[test]
fn a_gateway_that_cannot_be_reached_is_out_for_all_services() {
    let mesh = Mesh::new(settings());
    let (a, b) = (mesh.choice("a", &THREE, &ROUND), mesh.choice("b", &THREE, &ROUND));
    ask(&a, (1, 1), 5, REFUSED);
    for choice in [&a, &b] {
        assert_eq!(counts(clusters(&firsts(choice, 4))), HashMap::from([(0, 2), (2, 2)]));
    }
    mesh.ledgers.tick(Instant::now());
    mesh.ledgers.tick(Instant::now() + Duration::from_secs(5));
    assert_eq!(counts(clusters(&firsts(&b, 3))), HashMap::from([(0, 1), (1, 1), (2, 1)]));
}

#[test]
fn what_is_the_callers_fault_counts_against_nobody() {
    let mesh = Mesh::new(settings());
    let choice = mesh.choice("a", &THREE, &ROUND);
    for kind in [ErrorKind::DownstreamGone, ErrorKind::BadRequest, ErrorKind::Internal, ErrorKind::OutOfReach] {
        ask(&choice, (0, 1), 9, Outcome::Failed(kind));
        ask(&choice, (1, 1), 9, Outcome::Failed(kind));
    }
    ask(&choice, (0, 1), 9, Outcome::Answered(500));
    ask(&choice, (0, 1), 9, Outcome::Answered(404));
    assert_eq!(clusters(&firsts(&choice, 3)), [0, 1, 2]);
}

#[test]
fn least_request_prefers_who_has_less_to_do() {
    let mesh = Mesh::new(settings());
    let choice = mesh.choice("a", &[("own", 100, 0, 3)], &Balancer::LeastRequest);
    let busy = choice.all()[1].begin();
    let picks = counts(firsts(&choice, 3000));
    assert_eq!(picks.get(&(0, 2)), None, "the busier of two is never chosen: {picks:?}");
    assert!(picks[&(0, 1)] > 1200 && picks[&(0, 3)] > 1200, "{picks:?}");
    drop(busy);
    let picks = counts(firsts(&choice, 3000));
    assert!(picks.values().all(|count| (800..1200).contains(count)) && picks.len() == 3, "{picks:?}");
    // Each held as long as its request takes.
    let held: Vec<_> = (0..30).map(|_| choice.candidates(caller(1)).next().unwrap().begin()).collect();
    let picks = counts(held.iter().map(|attempt| number(attempt.candidate())));
    assert!(picks.values().all(|count| (7..=13).contains(count)), "{picks:?}");
}

#[tokio::test(start_paused = true)]
async fn peak_ewma_prefers_who_answers_sooner_until_that_is_long_ago() {
    let mesh = Mesh::new(settings());
    let choice = mesh.choice("a", &[("own", 100, 0, 2)], &Balancer::PeakEwma);
    for (at, millis) in [(0, 10), (1, 500)] {
        let attempt = choice.all()[at].begin();
        tokio::time::advance(Duration::from_millis(millis)).await;
        attempt.went(OK);
    }
    assert_eq!(counts(firsts(&choice, 100)), HashMap::from([((0, 1), 100)]));
    let attempt = choice.all()[0].begin();
    attempt.went(Outcome::Answered(503));
    drop(attempt);
    assert_eq!(counts(firsts(&choice, 100)), HashMap::from([((0, 2), 100)]), "failing fast is not being fast");
    // Only the one that is asked answers, and so the other's bad day is forgotten.
    for _ in 0..100 {
        let attempt = choice.all()[1].begin();
        tokio::time::advance(Duration::from_secs(1)).await;
        attempt.went(OK);
    }
    assert_eq!(counts(firsts(&choice, 100)), HashMap::from([((0, 1), 100)]));
}

#[test]
fn a_key_stays_with_its_cluster_and_endpoint_and_comes_back_to_it() {
    let mesh = Mesh::new(settings());
    let on = Balancer::RingHash(HashOn::SourceIp);
    let all: [Cluster<'_>; 3] = [("own", 100, 0, 4), ("two", 100, 0, 3), ("three", 50, 0, 1)];
    let (one, other) = (mesh.choice("a", &all, &on), mesh.choice("a", &all, &on));
    let whose = |last: u8| number(&one.candidates(caller(last)).next().unwrap());
    let before: Vec<_> = (0..=255).map(whose).collect();
    assert!((0..=255).all(|last| number(&other.candidates(caller(last)).next().unwrap()) == before[last as usize]));
    assert_eq!(counts(before.iter()).len(), 8, "everybody has some");
    let gone = before[7];
    ask(&one, gone, 5, RESET);
    for last in 0..=255 {
        let (now, then) = (whose(last), before[last as usize]);
        assert!(now != gone && (now == then || then == gone), "{last} moved from {then:?} to {now:?}");
    }
    let start = Instant::now();
    mesh.ledgers.tick(start);
    mesh.ledgers.tick(start + Duration::from_secs(6));
    assert!((0..=255).all(|last| whose(last) == before[last as usize]), "they come back");
}

#[test]
fn a_key_that_fails_tries_the_same_others_each_time() {
    let mesh = Mesh::new(settings());
    let on = Balancer::RingHash(HashOn::SourceIp);
    let choice = mesh.choice("a", &[("own", 100, 0, 4), ("two", 100, 0, 3)], &on);
    let first = order(&choice);
    assert_eq!(first.len(), 3);
    assert!((0..9).all(|_| order(&choice) == first));
}

proptest! {
    #[test]
    fn shares_are_exact_over_whole_cycles_and_only_the_keys_of_who_goes_move(
        weights in prop::collection::vec(1_u32..200, 1..5), endpoints in 1_u8..5, key: u8,
    ) {
        let mesh = Mesh::new(settings());
        let names: Vec<_> = (0..weights.len()).map(|at| format!("c{at}")).collect();
        let all: Vec<Cluster<'_>> =
            names.iter().zip(&weights).map(|(name, weight)| (name.as_str(), *weight, 0, endpoints)).collect();
        let total: u32 = weights.iter().sum();
        let picks = counts(clusters(&firsts(&mesh.choice("a", &all, &ROUND), total as usize)));
        for (at, weight) in weights.iter().enumerate() {
            prop_assert_eq!(picks[&(at as u8)], *weight as usize);
        }
        let on = Balancer::RingHash(HashOn::SourceIp);
        let whose = |all: &[Cluster<'_>]| number(&mesh.choice("b", all, &on).candidates(caller(key)).next().unwrap());
        let before = whose(&all);
        if all.len() > 1 {
            let after = whose(&all[..all.len() - 1]);
            prop_assert!(before == after || before.0 as usize == all.len() - 1);
        }
    }
}

#[test]
fn nothing_is_left_where_there_is_nobody() {
    let choice = super::Choice::new(Vec::new(), None, 3);
    assert_eq!(choice.candidates(Caller { source: [127, 0, 0, 1].into(), headers: None }).count(), 0);
}
