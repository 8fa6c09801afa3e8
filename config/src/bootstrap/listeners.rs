//! Listeners: addresses that parse, do not collide, and do not lead back to the proxy itself.

use std::net::{Ipv4Addr, SocketAddr};

use super::document::{RawInbound, RawInboundListener, RawOutbound, RawOutboundListener};
use super::validate::Validator;
use super::{Inbound, InboundListener, OriginalDestination, Outbound, OutboundListener, Role};

/// Reads both sides. `admin` is where the admin endpoint listens, which nothing else may.
pub(super) fn listeners(
    v: &mut Validator<'_>,
    inbound: RawInbound,
    outbound: RawOutbound,
    admin: Option<SocketAddr>,
    role: Role,
) -> (Inbound, Outbound) {
    let some_are_written = inbound.listeners.as_ref().is_none_or(|written| !written.is_empty())
        || outbound.listeners.as_ref().is_none_or(|written| !written.is_empty());
    let inbound_listeners = match inbound.listeners {
        Some(raw) => raw.iter().enumerate().filter_map(|(i, raw)| inbound_listener(v, i, raw)).collect(),
        // What a gateway takes comes in tunnels.
        None if role == Role::Gateway => Vec::new(),
        None => vec![InboundListener {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 15006)),
            original_destination: OriginalDestination::Kernel,
            application: None,
            transparent: false,
        }],
    };
    let outbound_listeners = match outbound.listeners {
        Some(raw) => raw.iter().enumerate().filter_map(|(i, raw)| outbound_listener(v, i, raw)).collect(),
        None if role == Role::Gateway => Vec::new(),
        None => vec![OutboundListener {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 15001)),
            original_destination: OriginalDestination::Kernel,
        }],
    };
    let inbound_fields = inbound_listeners.iter().enumerate();
    let outbound_fields = outbound_listeners.iter().enumerate();
    let bound: Vec<(String, SocketAddr)> = admin
        .map(|address| ("admin.address".to_owned(), address))
        .into_iter()
        .chain(inbound_fields.map(|(i, listener)| (format!("inbound.listeners[{i}].address"), listener.address)))
        .chain(outbound_fields.map(|(i, listener)| (format!("outbound.listeners[{i}].address"), listener.address)))
        .collect();
    // One that is written and no good has been told of.
    if role == Role::Sidecar && !some_are_written {
        v.fail("inbound.listeners", "there is no listener on either side: this proxy would do nothing");
    }
    refuse_collisions(v, &bound);
    refuse_loops(v, &inbound_listeners, &bound);
    let outbound = Outbound { listeners: outbound_listeners, traffic_policy: outbound.traffic_policy };
    (Inbound { listeners: inbound_listeners }, outbound)
}

fn inbound_listener(v: &mut Validator<'_>, index: usize, raw: &RawInboundListener) -> Option<InboundListener> {
    let field = |name: &str| format!("inbound.listeners[{index}].{name}");
    let address = v.address(&field("address"), &raw.address);
    let destination = destination(v, &field("originalDestination"), &raw.original_destination);
    let application = raw.application.as_ref().map(|text| fixed_address(v, &field("application"), text));
    if destination == Some(OriginalDestination::None) {
        v.fail(&field("originalDestination"), "`none` is for outbound listeners: inbound traffic has no Host to go by");
    }
    if application.is_some() && destination == Some(OriginalDestination::Kernel) {
        let message =
            "goes with a fixed originalDestination: with `kernel` the application is where the connection was going";
        v.fail(&field("application"), message);
    }
    if raw.transparent && destination.is_some_and(|destination| destination != OriginalDestination::Kernel) {
        let message =
            "goes with originalDestination `kernel`: what is sent to a fixed address is no transparent proxy's";
        v.fail(&field("transparent"), message);
    }
    let application = match application {
        None => None,
        Some(application) => Some(application?),
    };
    let transparent = raw.transparent;
    Some(InboundListener { address: address?, original_destination: destination?, application, transparent })
}

fn outbound_listener(v: &mut Validator<'_>, index: usize, raw: &RawOutboundListener) -> Option<OutboundListener> {
    let field = |name: &str| format!("outbound.listeners[{index}].{name}");
    let address = v.address(&field("address"), &raw.address);
    let destination = destination(v, &field("originalDestination"), &raw.original_destination);
    Some(OutboundListener { address: address?, original_destination: destination? })
}

fn destination(v: &mut Validator<'_>, field: &str, text: &str) -> Option<OriginalDestination> {
    match text {
        "kernel" => Some(OriginalDestination::Kernel),
        "none" => Some(OriginalDestination::None),
        address if address.contains(':') => fixed_address(v, field, address).map(OriginalDestination::Fixed),
        other => {
            v.fail(
                field,
                format!("`{other}` is none of `kernel`, `none` (outbound only) and an address such as 10.0.0.1:80"),
            );
            None
        }
    }
}

/// An address to connect to, not to listen on.
fn fixed_address(v: &mut Validator<'_>, field: &str, text: &str) -> Option<SocketAddr> {
    let address = v.address(field, text)?;
    if address.port() == 0 || address.ip().is_unspecified() {
        v.fail(field, format!("`{text}` is no address one can connect to"));
        return None;
    }
    Some(address)
}

fn refuse_collisions(v: &mut Validator<'_>, bound: &[(String, SocketAddr)]) {
    for (index, (field, address)) in bound.iter().enumerate() {
        let earlier = bound.iter().take(index).find(|(_, other)| covers(*other, *address) || covers(*address, *other));
        if let Some((other_field, other)) = earlier {
            v.fail(field, format!("{address} collides with {other_field} ({other})"));
        }
    }
}

/// What is inbound's last step must not be one of our own listeners.
fn refuse_loops(v: &mut Validator<'_>, listeners: &[InboundListener], bound: &[(String, SocketAddr)]) {
    for (index, listener) in listeners.iter().enumerate() {
        let OriginalDestination::Fixed(destination) = listener.original_destination else { continue };
        let target = listener.application.unwrap_or(destination);
        if let Some((own, _)) = bound.iter().find(|(_, own)| covers(*own, target)) {
            let (field, hint) = match listener.application {
                Some(_) => ("application", ""),
                None => ("originalDestination", "; set `application` to where the application listens"),
            };
            let field = format!("inbound.listeners[{index}].{field}");
            v.fail(&field, format!("{target} is this proxy itself ({own}), which would connect to itself{hint}"));
        }
    }
}

/// Does a socket bound to `bound` take what is sent to `address`? Whether `[::]` also takes IPv4 is the operator's
/// affair, so that families are not compared.
fn covers(bound: SocketAddr, address: SocketAddr) -> bool {
    bound.port() != 0
        && bound.port() == address.port()
        && (bound.ip() == address.ip() || (bound.ip().is_unspecified() && bound.is_ipv4() == address.is_ipv4()))
}
