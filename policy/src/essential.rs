//! What of a connection's facts the policies look at.
//!
//! Two connections with the same essential facts have the same residual, so it need be made only once: a caller keeps
//! residuals by what [`PolicySet::essential`] says.

use std::net::IpAddr;

use meshgate_identity::SpiffeId;

use crate::condition::ConnectionTest;
use crate::hash;
use crate::matchers::StringMatch;
use crate::model::AnyCondition;
use crate::request::{ConnectionFacts, Protocol, RemoteIp};
use crate::set::PolicySet;

/// The facts that a policy set looks at; the others are left out. `T` is `&str` for a look-up and `Box<str>` to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Essential<T> {
    protocol: Protocol,
    service_port: Option<u16>,
    opaque_port: bool,
    has_peer: bool,
    principal: Option<T>,
    namespace: Option<T>,
    trust_domain: Option<T>,
    source_ip: Option<IpAddr>,
    remote_ip: Option<IpAddr>,
    destination_ip: Option<IpAddr>,
    destination_port: Option<u16>,
    sni: Option<T>,
}

impl Essential<&str> {
    /// Equal for equal facts, and most often not for others: to look them up by. Whoever chooses a server name can choose
    /// one that meets another here, so what is found has to be compared.
    pub fn fingerprint(&self) -> u64 {
        let port = |port: Option<u16>| port.map_or(0, |port| 1 << 16 | u64::from(port));
        let seed = self.protocol as u64 | u64::from(self.has_peer) << 1;
        let seed = seed | port(self.service_port) << 2 | port(self.destination_port) << 20;
        let texts = [self.principal, self.namespace, self.trust_domain, self.sni];
        let hash = texts.into_iter().flatten().fold(seed, |hash, text| hash::of(hash, text.as_bytes()));
        let addresses = [self.source_ip, self.remote_ip, self.destination_ip];
        addresses.into_iter().flatten().fold(hash, |hash, address| match address {
            IpAddr::V4(address) => hash::of(hash, &address.octets()),
            IpAddr::V6(address) => hash::of(hash, &address.octets()),
        })
    }

    /// To keep.
    pub fn to_owned(&self) -> Essential<Box<str>> {
        Essential {
            protocol: self.protocol,
            service_port: self.service_port,
            opaque_port: self.opaque_port,
            has_peer: self.has_peer,
            principal: self.principal.map(Into::into),
            namespace: self.namespace.map(Into::into),
            trust_domain: self.trust_domain.map(Into::into),
            source_ip: self.source_ip,
            remote_ip: self.remote_ip,
            destination_ip: self.destination_ip,
            destination_port: self.destination_port,
            sni: self.sni.map(Into::into),
        }
    }
}

impl Essential<Box<str>> {
    /// As what was kept is compared.
    pub fn as_ref(&self) -> Essential<&str> {
        Essential {
            protocol: self.protocol,
            service_port: self.service_port,
            opaque_port: self.opaque_port,
            has_peer: self.has_peer,
            principal: self.principal.as_deref(),
            namespace: self.namespace.as_deref(),
            trust_domain: self.trust_domain.as_deref(),
            source_ip: self.source_ip,
            remote_ip: self.remote_ip,
            destination_ip: self.destination_ip,
            destination_port: self.destination_port,
            sni: self.sni.as_deref(),
        }
    }
}

impl PolicySet {
    /// What the policies look at: connections for which this is equal share one [`Residual`](crate::Residual). Does not
    /// allocate.
    pub fn essential<'a>(&self, facts: &ConnectionFacts<'a>) -> Essential<&'a str> {
        let looks = self.looks();
        let peer = facts.peer;
        let remote = match (facts.remote_ip, facts.protocol) {
            (RemoteIp::Fixed(address), _) => Some(address),
            (RemoteIp::PerRequest, Protocol::Tcp) => Some(facts.source_ip),
            (RemoteIp::PerRequest, Protocol::Http) => None,
        };
        Essential {
            protocol: facts.protocol,
            // It follows from the destination, of which a workload has few.
            service_port: facts.service_port,
            opaque_port: facts.opaque_port,
            has_peer: (looks.peer || looks.principal || looks.namespace || looks.trust_domain) && peer.is_some(),
            principal: peer.filter(|_| looks.principal).map(SpiffeId::principal),
            namespace: peer.filter(|_| looks.namespace && !looks.principal).and_then(SpiffeId::namespace),
            trust_domain: peer.filter(|_| looks.trust_domain && !looks.principal).map(SpiffeId::trust_domain_str),
            source_ip: looks.source_ip.then_some(facts.source_ip),
            remote_ip: remote.filter(|_| looks.remote_ip),
            destination_ip: looks.destination_ip.then(|| facts.destination.ip()),
            destination_port: looks.destination_port.then(|| facts.destination.port()),
            sni: facts.sni.filter(|_| looks.sni),
        }
    }
}

/// Which facts some condition looks at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looks {
    /// Whether there is one.
    peer: bool,
    principal: bool,
    namespace: bool,
    trust_domain: bool,
    source_ip: bool,
    remote_ip: bool,
    destination_ip: bool,
    destination_port: bool,
    sni: bool,
}

impl Looks {
    pub(crate) fn add(&mut self, condition: &AnyCondition) {
        let looks = match condition {
            AnyCondition::Request(condition) => {
                self.remote_ip |= condition.test.may_be_settled();
                return;
            }
            AnyCondition::Connection(condition) => match &condition.test {
                ConnectionTest::Principals(values) if values.iter().all(|value| *value == StringMatch::NonEmpty) => {
                    &mut self.peer
                }
                ConnectionTest::Principals(_)
                | ConnectionTest::ServiceAccounts(_)
                | ConnectionTest::LocalAccounts { .. } => &mut self.principal,
                ConnectionTest::Namespaces(_) => &mut self.namespace,
                ConnectionTest::TrustDomains(_) => &mut self.trust_domain,
                ConnectionTest::SourceIp(_) => &mut self.source_ip,
                ConnectionTest::DestinationIp(_) => &mut self.destination_ip,
                ConnectionTest::DestinationPort(_) | ConnectionTest::Ports(_) => &mut self.destination_port,
                ConnectionTest::Sni(_) => &mut self.sni,
                ConnectionTest::Metadata | ConnectionTest::Nothing | ConnectionTest::Protocol(_) => return,
            },
        };
        *looks = true;
    }
}
