//! Which rules can match at all: those that ask for a text that is there.
//!
//! A rule lies under a hash of each text it asks for, as a whole, as a beginning or as an end. It is enough that one of its
//! groups does so; of several the one is taken whose texts the fewest rules share. The index decides nothing: it names
//! rules to try, too many at worst, never too few.

mod ask;

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

pub(crate) use ask::{Ask, Attribute};

use crate::hash::{self, Hashed};

/// So many different attributes are looked up for one request; rules that ask only for others are always tried.
const PLACES_MAX: usize = 16;

/// Rules by what they ask for; a rule is a number, and its place in the order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    places: Box<[Place]>,
    under: HashMap<u64, Span, Hashed>,
    /// Ascending within each span.
    rules: Box<[u32]>,
    /// Those that ask for nothing one could look up.
    rest: Box<[u32]>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// An attribute, and in which forms rules ask for it.
#[derive(Clone, Debug)]
struct Place {
    attribute: Attribute,
    /// Tells its hashes from those of other places.
    seed: u64,
    whole: bool,
    /// Ascending: the lengths of the beginnings; for addresses in bits.
    beginnings: Vec<usize>,
    ends: Vec<usize>,
}

/// How much of a value a text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Beginning,
    End,
}

/// A value as it is found, or a text as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Text<'a> {
    Plain(&'a [u8]),
    /// Compared with its capitals read as small letters.
    Lowered(&'a [u8]),
    Pair(&'a str, &'a str),
    Address(IpAddr),
    Number(u16),
}

/// Where values are found: a connection, or a request.
pub(crate) trait Look {
    /// Hands over each value of the attribute.
    fn values<'a>(&'a self, attribute: &Attribute, each: &mut dyn FnMut(Text<'a>));
}

impl Index {
    /// An index of `rules`, given in their order. A rule is a conjunction of groups, a group a choice of clauses, a clause
    /// a conjunction of what conditions ask for.
    pub(crate) fn new<'a, G, C, A>(rules: impl Iterator<Item = u32> + Clone, groups: impl Fn(u32) -> G) -> Index
    where
        G: Iterator<Item = C>,
        C: Iterator<Item = A>,
        A: Iterator<Item = Option<Ask<'a>>>,
    {
        let mut builder = Builder::default();
        let (rules_min, _) = rules.size_hint();
        builder.counts.reserve(rules_min);
        builder.under.reserve(rules_min);
        for rule in rules.clone() {
            groups(rule).flatten().flatten().flatten().for_each(|ask| builder.count(&ask));
        }
        for rule in rules {
            builder.add(rule, groups(rule));
        }
        builder.finish()
    }

    /// Hands over the rules to try, list by list; each list ascends.
    pub(crate) fn candidates<'a>(&'a self, look: &impl Look, mut each: impl FnMut(&'a [u32])) {
        for place in &self.places {
            look.values(&place.attribute, &mut |text| {
                let mut probe = |form, text: Text<'_>| {
                    if let Some(span) = self.under.get(&text.hash(place.seed, form)) {
                        each(self.rules.get(span.start as usize..span.end as usize).unwrap_or_default());
                    }
                };
                if place.whole {
                    probe(Form::Whole, text);
                }
                place.beginnings.iter().map_while(|&len| text.beginning(len)).for_each(|text| {
                    probe(Form::Beginning, text);
                });
                place.ends.iter().map_while(|&len| text.end(len)).for_each(|text| probe(Form::End, text));
            });
        }
        each(&self.rest);
    }

    /// The first rule, in their order, for which `matches` holds. Does not allocate.
    pub(crate) fn first(&self, look: &impl Look, matches: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = None;
        self.candidates(look, |rules| {
            let earlier = rules.iter().copied().take_while(|rule| best.is_none_or(|best| *rule < best));
            if let Some(found) = earlier.into_iter().find(|rule| matches(*rule)) {
                best = Some(found);
            }
        });
        best
    }
}

impl<'a> Text<'a> {
    fn hash(self, place: u64, form: Form) -> u64 {
        let seed = 4 * place + form as u64;
        match self {
            Text::Plain(bytes) => hash::of(seed, bytes),
            Text::Lowered(bytes) => hash::of_lowered(seed, bytes),
            Text::Pair(first, second) => hash::of(hash::of(seed, first.as_bytes()), second.as_bytes()),
            Text::Address(IpAddr::V4(address)) => hash::of(seed, &address.octets()),
            Text::Address(IpAddr::V6(address)) => hash::of(seed, &address.octets()),
            Text::Number(number) => hash::of(seed, &number.to_le_bytes()),
        }
    }

    /// `None` when it is shorter than that.
    fn beginning(self, len: usize) -> Option<Text<'a>> {
        match self {
            Text::Plain(bytes) => bytes.get(..len).map(Text::Plain),
            Text::Lowered(bytes) => bytes.get(..len).map(Text::Lowered),
            Text::Address(address) => {
                let block = IpNet::new(address, u8::try_from(len).ok()?).ok()?;
                Some(Text::Address(block.network()))
            }
            Text::Pair(..) | Text::Number(_) => None,
        }
    }

    fn end(self, len: usize) -> Option<Text<'a>> {
        let tail = |bytes: &'a [u8]| bytes.get(bytes.len().checked_sub(len)?..);
        match self {
            Text::Plain(bytes) => tail(bytes).map(Text::Plain),
            Text::Lowered(bytes) => tail(bytes).map(Text::Lowered),
            Text::Pair(..) | Text::Address(_) | Text::Number(_) => None,
        }
    }
}

/// An index in the making: first all texts are counted, then each rule is put where it has the least company.
#[derive(Default)]
struct Builder {
    places: Vec<Place>,
    counts: HashMap<u64, u32, Hashed>,
    under: Vec<(u64, u32)>,
    rest: Vec<u32>,
    /// For the rule at hand, so that they are made once.
    chosen: Vec<Key>,
    group: Vec<Key>,
    clause: Vec<Key>,
}

/// A text that is asked for.
#[derive(Clone, Copy)]
struct Key {
    hash: u64,
    place: usize,
    form: Form,
    len: usize,
}

impl Builder {
    fn count(&mut self, ask: &Ask<'_>) {
        let place = match self.place(&ask.attribute) {
            Some(place) => place,
            None if self.places.len() < PLACES_MAX => {
                let (attribute, seed) = (ask.attribute.clone(), self.places.len() as u64);
                self.places.push(Place { attribute, seed, whole: false, beginnings: Vec::new(), ends: Vec::new() });
                self.places.len() - 1
            }
            None => return,
        };
        // What cannot be looked up is found out in the second round; that it is counted here harms nobody.
        ask.texts(|form, text, _| *self.counts.entry(text.hash(place as u64, form)).or_default() += 1);
    }

    fn place(&self, attribute: &Attribute) -> Option<usize> {
        self.places.iter().position(|place| place.attribute == *attribute)
    }

    fn add<'a, C, A>(&mut self, rule: u32, groups: impl Iterator<Item = C>)
    where
        C: Iterator<Item = A>,
        A: Iterator<Item = Option<Ask<'a>>>,
    {
        let mut best = None;
        for group in groups {
            if let Some(cost) = self.group(group)
                && best.is_none_or(|best| cost < best)
            {
                best = Some(cost);
                std::mem::swap(&mut self.chosen, &mut self.group);
            }
        }
        if best.is_none() {
            self.rest.push(rule);
            return;
        }
        for Key { hash, place, form, len } in self.chosen.drain(..) {
            self.under.push((hash, rule));
            let Some(place) = self.places.get_mut(place) else { continue };
            let lengths = match form {
                Form::Whole => {
                    place.whole = true;
                    continue;
                }
                Form::Beginning => &mut place.beginnings,
                Form::End => &mut place.ends,
            };
            if let Err(at) = lengths.binary_search(&len) {
                lengths.insert(at, len);
            }
        }
    }

    /// How many rules share the texts of a group, which are then in `self.group`; `None` when one of its clauses asks for
    /// none.
    fn group<'a, A>(&mut self, clauses: impl Iterator<Item = A>) -> Option<u64>
    where
        A: Iterator<Item = Option<Ask<'a>>>,
    {
        self.group.clear();
        let mut sum = 0;
        for clause in clauses {
            let mut best = None;
            for ask in clause.flatten() {
                let mut keys = std::mem::take(&mut self.clause);
                let cost = self.keys(&ask, &mut keys);
                if let Some(cost) = cost.filter(|cost| best.is_none_or(|(best, _)| *cost < best)) {
                    self.group.truncate(best.map_or(self.group.len(), |(_, start)| start));
                    best = Some((cost, self.group.len()));
                    self.group.append(&mut keys);
                }
                self.clause = keys;
            }
            sum += best?.0;
        }
        Some(sum)
    }

    fn keys(&self, ask: &Ask<'_>, keys: &mut Vec<Key>) -> Option<u64> {
        keys.clear();
        let place = self.place(&ask.attribute)?;
        let mut cost = 0;
        let all = ask.texts(|form, text, len| {
            let hash = text.hash(place as u64, form);
            cost += u64::from(self.counts.get(&hash).copied().unwrap_or_default());
            keys.push(Key { hash, place, form, len });
        });
        all.then_some(cost)
    }

    fn finish(mut self) -> Index {
        self.under.sort_unstable();
        self.under.dedup();
        let mut under = HashMap::with_capacity_and_hasher(
            self.under.chunk_by(|(one, _), (other, _)| one == other).count(),
            Hashed::default(),
        );
        let mut start = 0;
        for same in self.under.chunk_by(|(one, _), (other, _)| one == other) {
            let end = start + u32::try_from(same.len()).unwrap_or(u32::MAX);
            if let Some((hash, _)) = same.first() {
                under.insert(*hash, Span { start, end });
            }
            start = end;
        }
        let rules = self.under.iter().map(|(_, rule)| *rule).collect();
        let used = |place: &Place| place.whole || !place.beginnings.is_empty() || !place.ends.is_empty();
        self.places.retain(used);
        Index { places: self.places.into(), under, rules, rest: self.rest.into() }
    }
}

#[cfg(test)]
mod tests;
