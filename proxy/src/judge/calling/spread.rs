//! How much each cluster gets of a service.

use std::collections::BTreeMap;

use meshgate_config::{ServicePort, Share};

use super::answer::{Called, ClusterSeen, State};

/// Says it of every cluster, once it is known which endpoints can be used. Everything goes to the lowest priority number of which
/// something can; the others stand by.
pub(super) fn over(called: &mut Called, service: &ServicePort, own: &str) {
    let clusters = shares(service, own).into_iter().map(|(cluster, share)| {
        let usable =
            called.endpoints.iter().filter(|seen| seen.cluster == cluster && seen.state == State::Used).count();
        let state = if usable == 0 || share.is_none() { State::LeftOut } else { State::Standby };
        ClusterSeen { own: cluster == own, cluster: cluster.to_owned(), share, per_mille: None, usable, state }
    });
    let mut clusters: Vec<_> = clusters.collect();
    let in_play = |cluster: &ClusterSeen| cluster.share.filter(|_| cluster.state == State::Standby);
    let first = clusters.iter().filter_map(in_play).map(|share| share.priority).min();
    let turn = |cluster: &ClusterSeen| in_play(cluster).filter(|share| Some(share.priority) == first);
    let sum: u64 = clusters.iter().filter_map(turn).map(|share| u64::from(share.weight)).sum();
    for cluster in &mut clusters {
        if let Some(share) = turn(cluster) {
            cluster.per_mille = (u64::from(share.weight) * 1000).checked_div(sum);
            cluster.state = State::Used;
        }
    }
    for seen in called.endpoints.iter_mut().filter(|seen| seen.state == State::Used) {
        if clusters.iter().any(|cluster| cluster.cluster == seen.cluster && cluster.state == State::Standby) {
            seen.state = State::Standby;
        }
    }
    called.clusters = clusters;
}

/// Our own cluster first, then the others by key.
fn shares<'a>(service: &'a ServicePort, own: &'a str) -> Vec<(&'a str, Option<Share>)> {
    let remotes = service.endpoints.iter().filter_map(|endpoint| endpoint.remote.as_ref());
    let others: BTreeMap<_, _> = remotes.map(|remote| (remote.cluster.as_str(), Some(remote.share))).collect();
    std::iter::once((own, service.spread.own)).chain(others.into_iter().filter(|(key, _)| *key != own)).collect()
}
