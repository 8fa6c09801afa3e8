//! Short texts that stand in options, annotations and targets of CONNECT.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use meshgate::error::ErrorKind;
use meshgate::gateway::{Caller, plan};
use meshgate::inbound::hbone;
use meshgate::orig_dst::OwnAddresses;
use meshgate_config::{ClusterKey, HeaderNames, InboundListener, OriginalDestination, duration};
use meshgate_iptables::{CidrList, PortList, Selection};
use meshgate_policy::percent;

use super::cases::SNAPSHOT;

/// One text, read as everything that is one.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    is_its_own_normal_form::<Selection<PortList>>(text);
    is_its_own_normal_form::<Selection<CidrList>>(text);
    if let Ok(key) = text.parse::<ClusterKey>() {
        assert_eq!(key.as_str(), text);
    }
    match duration::parse(text) {
        Ok(read) => assert!(read.is_zero() || text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)), "{text:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let names: Vec<_> = text.split(',').collect();
    match HeaderNames::parse(&names) {
        Ok(all) => {
            for name in names
                .iter()
                .filter_map(|name| name.parse::<HeaderName>().ok())
                .filter(|name| !name.as_str().contains('*'))
            {
                assert!(all.contains(&name), "{name} of {names:?}");
            }
        }
        Err((index, why)) => assert!(index < names.len() && !why.is_empty()),
    }
    assert!(percent::decoded(text).len() <= text.len());
    tunnel_to_workload(text);
    tunnel_through_gateway(text);
}

fn is_its_own_normal_form<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str)
where
    T::Err: Display + std::fmt::Debug,
{
    match text.parse::<T>() {
        Ok(read) => {
            let normal = read.to_string();
            let again: T = normal.parse().expect("as it was written");
            assert_eq!(again, read);
            assert_eq!(again.to_string(), normal);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn tunnel_to_workload(authority: &str) {
    for local in ["10.1.2.3:15008", "[fd00::3]:15008"] {
        let local: SocketAddr = local.parse().expect("an address");
        let any = |port| SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port);
        let listeners = [InboundListener {
            transparent: false,
            address: any(15006),
            original_destination: OriginalDestination::Kernel,
            application: None,
        }];
        let own = OwnAddresses::new([any(15006), any(15001), any(15008), "[::]:15008".parse().expect("an address")]);
        let own = hbone::Own { listeners: &own, admin: any(15000) };
        match hbone::target(&listeners, own, local, authority) {
            Ok(target) => {
                assert_eq!(target.destination.ip(), local.ip(), "{authority}");
                assert!(![0, 15008].contains(&target.destination.port()), "{authority}");
                assert!(local.is_ipv6() || ![15000, 15001, 15006].contains(&target.destination.port()), "{authority}");
            }
            Err(error) => assert!(matches!(error.kind, ErrorKind::BadRequest | ErrorKind::Loop)),
        }
    }
}

/// The text is the authority, and what others say they have passed the request on.
fn tunnel_through_gateway(text: &str) {
    let id = |account: &str| format!("spiffe://cluster.local/ns/a/sa/{account}").parse().expect("an ID");
    let (gateway, cluster) = (id("gateway"), ClusterKey::default());
    let own = plan::Own { id: &gateway, cluster: &cluster };
    let caller = Caller { id: id("caller"), cluster: None, source: IpAddr::from([10, 0, 0, 1]) };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(header::FORWARDED, value);
    }
    let kind =
        |headers: &HeaderMap| plan::plan(&SNAPSHOT, own, &caller, text, headers).expect_err("nothing is exported").kind;
    if text.eq_ignore_ascii_case(&format!("by={cluster}")) && text.ends_with(cluster.as_str()) {
        assert!(matches!(kind(&headers), ErrorKind::Loop));
    }
    if matches!(kind(&HeaderMap::new()), ErrorKind::NotExported) {
        let (name, rest) = text.split_once('.').expect("a name");
        let (namespace, rest) = rest.split_once(".svc.clusterset.local:").expect("a namespace");
        let port: u16 = rest.parse().expect("a port");
        assert_eq!(text, format!("{name}.{namespace}.svc.clusterset.local:{port}"), "there is one way to ask");
        assert!(port != 0 && !format!("{name}{namespace}").contains(['.', '/', '@', '_']));
    }
}
