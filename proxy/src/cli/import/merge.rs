//! The lists of several clusters, put together by service.

use std::collections::BTreeMap;

use super::target::HostPort;
use super::{Complaints, Offer};
use crate::clusters::wire::{Port, Service};

/// One ServiceImport to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Where all clusters say the same; else it stands at each endpoint.
    pub(super) account: Option<String>,
    /// By number.
    pub(super) ports: Vec<ImportedPort>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImportedPort {
    pub(super) number: u16,
    pub(super) name: Option<String>,
    pub(super) app_protocol: Option<String>,
    /// By cluster.
    pub(super) endpoints: Vec<ImportedEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImportedEndpoint {
    pub(super) cluster: String,
    pub(super) gateway: HostPort,
    pub(super) path: String,
    /// Where clusters differ; empty where nobody said.
    pub(super) account: String,
}

/// One import for each service that any of `offers` has, by namespace and name. A port that a later cluster describes otherwise
/// than an earlier one is left out for the later one, as callers know it by one description only.
pub(super) fn merge(offers: &[Offer], complaints: &mut Complaints) -> Vec<Import> {
    let mut services: BTreeMap<(&str, &str), Vec<(&Offer, &Service)>> = BTreeMap::new();
    for offer in offers {
        for service in &offer.exported.exports {
            if let Some(why) = objection(service) {
                complaints
                    .left_out
                    .push(format!("{:?}/{:?} of {}: {why}", service.namespace, service.name, offer.cluster));
                continue;
            }
            services.entry((&service.namespace, &service.name)).or_default().push((offer, service));
        }
    }
    let imports = services.into_iter().map(|((namespace, name), all)| {
        let mut accounts = all.iter().map(|(_, service)| &service.service_account_name);
        let first = accounts.next();
        let same = first.filter(|first| accounts.all(|other| other == *first)).filter(|account| !account.is_empty());
        let mut ports = BTreeMap::new();
        for (offer, service) in &all {
            for port in &service.ports {
                add(&mut ports, offer, service, port, complaints);
            }
        }
        Import {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            account: same.cloned(),
            ports: ports.into_values().collect(),
        }
    });
    imports.filter(|import| !import.ports.is_empty()).collect()
}

fn add(
    ports: &mut BTreeMap<u16, ImportedPort>,
    offer: &Offer,
    service: &Service,
    port: &Port,
    complaints: &mut Complaints,
) {
    let merged = ports.entry(port.port).or_insert_with(|| ImportedPort {
        number: port.port,
        name: port.name.clone(),
        app_protocol: port.app_protocol.clone(),
        endpoints: Vec::new(),
    });
    if (&merged.name, &merged.app_protocol) != (&port.name, &port.app_protocol) {
        let said = |name: &Option<String>, protocol: &Option<String>| {
            let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
            format!("name {}, appProtocol {}", word(name), word(protocol))
        };
        let (here, there) = (said(&port.name, &port.app_protocol), said(&merged.name, &merged.app_protocol));
        let (Service { namespace, name, .. }, cluster) = (service, &offer.cluster);
        complaints
            .left_out
            .push(format!("{namespace}/{name} port {} of {cluster}: {here}; another cluster has {there}", port.port));
        return;
    }
    merged.endpoints.push(ImportedEndpoint {
        cluster: offer.cluster.to_string(),
        gateway: offer.gateway.clone(),
        path: port.path.clone(),
        account: service.service_account_name.clone(),
    });
}

/// Why a service cannot be one. What a gateway says is somebody else's word.
fn objection(service: &Service) -> Option<&'static str> {
    let is_label = |name: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let all = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        all && name.len() <= 63 && edge(name.as_bytes().first()) && edge(name.as_bytes().last())
    };
    let plain = |text: &str| !text.chars().any(char::is_control);
    if !is_label(&service.namespace) || !is_label(&service.name) {
        return Some("this is no name of a Service");
    }
    let ports = &service.ports;
    if ports.iter().any(|port| port.port == 0 || !port.path.starts_with('/') || !plain(&port.path)) {
        return Some("one of its ports has no number, or no path");
    }
    let mut words = ports.iter().flat_map(|port| [&port.name, &port.app_protocol]).flatten();
    (!plain(&service.service_account_name) || !words.all(|word| plain(word)))
        .then_some("it is written with control characters")
}
