use meshgate_config::{AppProtocol, Remote, Share, Spread};
use meshgate_policy::ObjectName;

use super::*;

fn service(addresses: &[&str]) -> ServicePort {
    let name = ObjectName { namespace: "shop".into(), name: "cart".into() };
    let endpoint = |address: &&str| {
        let identity = EndpointIdentity::Unknown;
        let address = address.parse().unwrap();
        Arc::new(Endpoint { address, workload: None, identity, in_reach: false, tunnels: false, remote: None })
    };
    ServicePort {
        service: name,
        host: "cart.shop.svc.cluster.local".into(),
        port: 80,
        name: None,
        app_protocol: AppProtocol::Auto,
        endpoints: addresses.iter().map(endpoint).collect(),
        not_ready: 0,
        spread: Spread::default(),
        balancer: Balancer::RoundRobin,
        split: None,
    }
}

fn export(balancer: Balancer, session_sticky: bool) -> Export {
    Export {
        service: ObjectName { namespace: "shop".into(), name: "cart".into() },
        service_account: String::new(),
        target_clusters: Vec::new(),
        ports: Vec::new(),
        session_sticky,
        balancer,
        path_rewrite: None,
    }
}

const THREE: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];

fn firsts(export: &Export, service: &ServicePort, callers: &[[u8; 4]], loads: &Loads) -> Vec<String> {
    let first = |(turn, caller): (usize, &[u8; 4])| {
        order(export, service, (*caller).into(), turn, loads)[0].address.to_string()
    };
    callers.iter().enumerate().map(first).collect()
}

#[test]
fn takes_turns_and_tries_the_others_next() {
    let (export, service, loads) = (export(Balancer::RoundRobin, false), service(&THREE), Loads::default());
    assert_eq!(firsts(&export, &service, &[[1, 1, 1, 1]; 4], &loads), [THREE[0], THREE[1], THREE[2], THREE[0]]);
    let all = order(&export, &service, [1, 1, 1, 1].into(), 0, &loads);
    assert_eq!(all.len(), 3);
}

#[test]
fn a_sticky_caller_stays_and_moves_only_when_its_endpoint_goes() {
    let (export, loads) = (export(Balancer::RoundRobin, true), Loads::default());
    let callers: Vec<_> = (0..=255).map(|last| [10, 0, 0, last]).collect();
    let before = firsts(&export, &service(&THREE), &callers, &loads);
    assert_eq!(before, firsts(&export, &service(&THREE), &callers, &loads));
    let after = firsts(&export, &service(&THREE[..2]), &callers, &loads);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == THREE[2]);
    }
    for endpoint in THREE {
        assert!(before.iter().filter(|first| *first == endpoint).count() > 40, "{endpoint}");
    }
}

#[test]
fn the_least_loaded_comes_first_and_a_load_goes_with_its_tunnel() {
    let (export, loads) = (export(Balancer::LeastRequest, false), Loads::default());
    let held: Vec<_> = THREE[..2].iter().map(|address| loads.add(address.parse().unwrap())).collect();
    assert_eq!(firsts(&export, &service(&THREE), &[[1, 1, 1, 1]; 3], &loads), [THREE[2]; 3]);
    drop(held);
    assert!(loads.0.lock().unwrap().is_empty());
}

#[test]
fn only_endpoints_of_this_cluster_that_speak_mutual_tls_are_ready() {
    let mut service = service(&THREE);
    let here = |identity, remote| {
        let address = THREE[0].parse().unwrap();
        Arc::new(Endpoint { address, workload: None, identity, in_reach: true, tunnels: false, remote })
    };
    let elsewhere = Remote {
        cluster: "r/z/g/other".parse().unwrap(),
        share: Share::DEFAULT,
        gateway: None,
        authority: "cart.shop.svc.clusterset.local:80".into(),
    };
    service.endpoints[0] = here(EndpointIdentity::Plaintext, None);
    service.endpoints[1] = here(EndpointIdentity::Unknown, Some(Arc::new(elsewhere)));
    let ready: Vec<_> = ready(&service).iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(ready, [THREE[2]]);
}
