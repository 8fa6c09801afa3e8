//! The lists of several clusters, put together by service.

use std::collections::{BTreeMap, BTreeSet};

use super::target::HostPort;
use super::{Complaints, Offer};
use crate::clusters::list;
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
        let mut seen = BTreeSet::new();
        for service in &offer.exported.exports {
            let is_new = seen.insert((&service.namespace, &service.name));
            if let Some(why) = objection(service).or_else(|| (!is_new).then_some("is there twice")) {
                complaints
                    .left_out
                    .push(format!("{:?}/{:?} of {}: it {why}", service.namespace, service.name, offer.cluster));
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

/// Why a service cannot be one. What a gateway says is somebody else's word, and here it becomes a document.
fn objection(service: &Service) -> Option<&'static str> {
    let is_path =
        |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    list::objection(service)
        .or_else(|| (!service.ports.iter().all(|port| is_path(&port.path))).then_some("has a port without a path"))
}
