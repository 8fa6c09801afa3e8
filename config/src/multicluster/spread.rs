//! Which clusters a service's requests are spread over, and with what share.

use super::policy::{GlobalTrafficPolicy, Mode, Target};
use crate::clusters::{ClusterKey, Share, Spread};

/// The shares of one service under one of its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares<'a> {
    pub(crate) spread: Spread,
    others: Others<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Others<'a> {
    None,
    All,
    Listed(&'a [Target], Mode),
}

impl<'a> Shares<'a> {
    /// Under its plain names: this cluster alone, unless a policy says otherwise.
    pub(crate) fn plain(policy: Option<&'a GlobalTrafficPolicy>, own: &ClusterKey) -> Shares<'a> {
        match policy {
            Some(policy) if policy.mode != Mode::Locality => Shares::of(policy, own),
            _ => Shares { spread: Spread { own: Some(Share::DEFAULT), fail_over: false }, others: Others::None },
        }
    }

    /// Under its name in the clusterset, which always spans. `takes_part` is whether this cluster's endpoints are among those.
    pub(crate) fn spanning(policy: Option<&'a GlobalTrafficPolicy>, own: &ClusterKey, takes_part: bool) -> Shares<'a> {
        let shares = match policy {
            Some(policy) if policy.mode != Mode::Locality => Shares::of(policy, own),
            _ => Shares { spread: Spread { own: Some(Share::DEFAULT), fail_over: false }, others: Others::All },
        };
        Shares { spread: Spread { own: shares.spread.own.filter(|_| takes_part), ..shares.spread }, ..shares }
    }

    fn of(policy: &'a GlobalTrafficPolicy, own: &ClusterKey) -> Shares<'a> {
        let listed = policy.targets.iter().find(|target| target.cluster == *own);
        let own = match (policy.mode, listed) {
            (_, None) => Some(Share::DEFAULT),
            // First, unless its author puts it elsewhere in the order.
            (Mode::FailOver, Some(Target { priority: 0, weight, .. })) => {
                (*weight != Some(0)).then_some(Share::DEFAULT)
            }
            (mode, Some(target)) => target.share(mode),
        };
        let others = match policy.mode {
            Mode::ActiveActive if policy.targets.is_empty() => Others::All,
            mode => Others::Listed(&policy.targets, mode),
        };
        Shares { spread: Spread { own, fail_over: policy.mode == Mode::FailOver }, others }
    }

    /// What another cluster gets; `None` = its endpoints are left out.
    pub(crate) fn other(&self, cluster: &ClusterKey) -> Option<Share> {
        match self.others {
            Others::None => None,
            Others::All => Some(Share::DEFAULT),
            Others::Listed(targets, mode) => targets.iter().find(|target| target.cluster == *cluster)?.share(mode),
        }
    }
}
