//! Who is in rotation now: clusters in the order of their priority, each with its endpoints.
//!
//! The one idea: health, priorities and weights change seldom and are settled here; a choice then is a turn, which says which
//! cluster and which of its endpoints. Weights are those of who is in it, so that what one leaves falls to the others by weight.

use std::cell::Cell;
use std::cmp::Reverse;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use meshgate_config::{Balancer, ClusterKey, HashOn, Share};
use tokio::time::Instant;

use super::candidate::{Caller, Candidate, Standing};
use super::cycle::{Cycle, Turn};
use super::hash;

/// Candidates arranged.
#[derive(Debug)]
pub(super) struct Rotation {
    /// By priority, then in the order of the configuration, which is the same in all workers.
    groups: Vec<Group>,
    /// How many of the groups have the lowest priority number: those that share the requests.
    first: usize,
    cycle: Cycle,
    /// Tried when everybody else has failed.
    last: Vec<Rc<Candidate>>,
    standing: Standing,
    lots: Lots,
}

/// One cluster's endpoints.
#[derive(Debug)]
struct Group {
    share: Share,
    cluster: Option<ClusterKey>,
    hash: u64,
    members: Vec<Rc<Candidate>>,
}

/// Who was chosen, and what it takes to say who would be next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick {
    group: usize,
    member: usize,
    key: Option<u64>,
}

impl Rotation {
    /// Arranges those of `candidates` that are usable: where none is, those that may have recovered; and if there are none of
    /// those either, all. `own` is the share of those in this cluster.
    pub(super) fn new(candidates: &[Rc<Candidate>], own: Share) -> Self {
        let standings: Vec<_> = candidates.iter().map(|candidate| (candidate.standing(), candidate)).collect();
        let best = standings.iter().map(|(standing, _)| *standing).min().unwrap_or(Standing::Usable);
        let mut groups: Vec<Group> = Vec::new();
        for (_, candidate) in standings.iter().filter(|(standing, _)| *standing == best) {
            let (share, cluster) = (candidate.share().unwrap_or(own), candidate.cluster());
            let is_same =
                |group: &&mut Group| group.cluster.as_ref() == cluster && group.share.priority == share.priority;
            match groups.iter_mut().find(is_same) {
                Some(group) => group.members.push(Rc::clone(candidate)),
                None => groups.push(Group {
                    share,
                    hash: hash::of(cluster.map_or("", ClusterKey::as_str).as_bytes()),
                    cluster: cluster.cloned(),
                    members: vec![Rc::clone(candidate)],
                }),
            }
        }
        groups.sort_by_key(|group| group.share.priority);
        let lowest = groups.first().map(|group| group.share.priority);
        let first = groups.iter().take_while(|group| Some(group.share.priority) == lowest).count();
        let weights: Vec<_> = groups.iter().take(first).map(|group| group.share.weight).collect();
        let mut last: Vec<_> = standings.iter().filter(|(standing, _)| *standing > best).collect();
        // Where somebody is usable, nobody goes where nobody is.
        last.retain(|(standing, _)| best != Standing::Usable || *standing != Standing::Empty);
        last.sort_by_key(|(standing, _)| *standing);
        let last = last.into_iter().map(|(_, candidate)| Rc::clone(candidate)).collect();
        Self { groups, first, cycle: Cycle::new(&weights), last, standing: best, lots: Lots::new() }
    }

    /// How good the best are.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Who is next; `turn` is asked for the number of the turn if there are turns to take.
    pub(super) fn pick(&self, balancer: &Balancer, caller: Caller<'_>, turn: impl FnOnce() -> usize) -> Option<Pick> {
        if let Balancer::RingHash(on) = balancer {
            return self.of_key(on, caller);
        }
        let Turn { member: group, nth } = match self.first {
            0 => return None,
            1 => Turn { member: 0, nth: turn() },
            _ => self.cycle.at(turn()),
        };
        let members = &self.groups.get(group)?.members;
        let member = match balancer {
            _ if members.len() < 2 => 0,
            Balancer::RoundRobin | Balancer::RingHash(_) => nth % members.len(),
            Balancer::LeastRequest => self.lots.lesser(members, |member| f64::from(member.in_progress())),
            Balancer::PeakEwma => {
                let now = Instant::now();
                self.lots.lesser(members, |member| f64::from(member.cost(now)))
            }
        };
        Some(Pick { group, member, key: None })
    }

    /// Who was picked.
    pub(super) fn get(&self, pick: Pick) -> Option<&Rc<Candidate>> {
        self.groups.get(pick.group)?.members.get(pick.member)
    }

    /// Whom to try after `pick`, in order: one endpoint of each other cluster, those of the same priority first; then the other
    /// endpoints of the same cluster, then those of the others; then whoever is out of rotation.
    pub(super) fn after(&self, pick: Pick) -> Vec<Rc<Candidate>> {
        let same = self.groups.get(pick.group).map(|group| group.in_turn(pick)).into_iter().flatten().skip(1);
        // In a circle from the one that was picked, so that a dead cluster's requests do not all fall to the same one.
        let (before, from) = self.groups.split_at(pick.group.min(self.first));
        let (from, lower) = from.split_at(self.first.saturating_sub(before.len()));
        let others: Vec<Vec<_>> =
            from.iter().skip(1).chain(before).chain(lower).map(|group| group.in_turn(pick)).collect();
        let heads = others.iter().filter_map(|members| members.first());
        let tails = others.iter().flat_map(|members| members.iter().skip(1));
        heads.copied().chain(same).chain(tails.copied()).chain(&self.last).map(Rc::clone).collect()
    }

    /// A key has the same cluster and the same endpoint for as long as both are in rotation.
    fn of_key(&self, on: &HashOn, caller: Caller<'_>) -> Option<Pick> {
        let key = hash::key(on, caller);
        let score = |group: &Group| hash::weighted(key, group.hash, group.share.weight);
        let groups = self.groups.iter().take(self.first).enumerate();
        let (group, found) = groups.max_by(|(_, a), (_, b)| score(a).total_cmp(&score(b)))?;
        let members = found.members.iter().enumerate();
        let (member, _) = members.max_by_key(|(_, member)| hash::score(key, member.hash()))?;
        Some(Pick { group, member, key: Some(key) })
    }
}

impl Group {
    /// Its endpoints, beginning with the one whose turn it is.
    fn in_turn(&self, pick: Pick) -> Vec<&Rc<Candidate>> {
        let Some(key) = pick.key else {
            let from = pick.member % self.members.len().max(1);
            return self.members.iter().cycle().skip(from).take(self.members.len()).collect();
        };
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|member| Reverse(hash::score(key, member.hash())));
        members
    }
}

/// Draws by lot (xorshift64): nothing secret, but nothing that asks the system either.
#[derive(Debug)]
struct Lots(Cell<u64>);

impl Lots {
    fn new() -> Self {
        // Seeded by the system once a process; never 0, where it would stay.
        Self(Cell::new(RandomState::new().hash_one(0) | 1))
    }

    fn draw(&self, below: usize) -> usize {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        usize::try_from(state >> 32).unwrap_or(0) % below.max(1)
    }

    /// The position of the lesser of two that are drawn (Mitzenmacher's power of two choices).
    fn lesser(&self, members: &[Rc<Candidate>], cost: impl Fn(&Candidate) -> f64) -> usize {
        let one = self.draw(members.len());
        // Another one: as far on as is drawn, but not all the way round.
        let other = (one + 1 + self.draw(members.len().saturating_sub(1))) % members.len().max(1);
        let cost = |at: usize| members.get(at).map_or(f64::INFINITY, |member| cost(member));
        if cost(other) < cost(one) { other } else { one }
    }
}
