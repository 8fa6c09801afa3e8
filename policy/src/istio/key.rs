//! The keys of `when`.

use http::HeaderName;

use crate::istio::attribute::Attribute;

/// What a key looks at, or why there is no such key.
pub(super) fn attribute(key: &str) -> Result<Attribute, String> {
    Ok(match key {
        "source.ip" => Attribute::SourceIp,
        "remote.ip" => Attribute::RemoteIp,
        "source.namespace" => Attribute::Namespace,
        "source.principal" => Attribute::Principal,
        "source.serviceAccount" => Attribute::ServiceAccount,
        "source.trustDomain" => Attribute::TrustDomain,
        "destination.ip" => Attribute::DestinationIp,
        "destination.port" => Attribute::DestinationPort,
        "connection.sni" => Attribute::Sni,
        "request.auth.principal" => Attribute::RequestPrincipal,
        "request.auth.audiences" => Attribute::Claim(["aud".into()].into()),
        "request.auth.presenter" => Attribute::Claim(["azp".into()].into()),
        "" => return Err("must not be empty".to_owned()),
        _ => return bracketed(key),
    })
}

fn bracketed(key: &str) -> Result<Attribute, String> {
    if let Some(brackets) = key.strip_prefix("request.headers") {
        header(brackets)
    } else if let Some(brackets) = key.strip_prefix("request.auth.claims") {
        nested(brackets).map(Attribute::Claim).ok_or_else(|| "expected request.auth.claims[name]".to_owned())
    } else if key.starts_with("experimental.") {
        let brackets =
            key.strip_prefix("experimental.envoy.filters.").and_then(|rest| rest.find('[').map(|at| (rest, at)));
        match brackets {
            Some((filter, at)) if at > 0 && within(filter.split_at(at).1).is_some() => Ok(Attribute::Metadata),
            _ => Err("expected experimental.envoy.filters.<filter>[key]".to_owned()),
        }
    } else if key.starts_with("destination.") {
        Err(format!("{key:?} is not supported; select workloads with spec.selector and the policy's namespace"))
    } else {
        Err(format!("unknown key {key:?}"))
    }
}

/// Reserved names first: they are not headers of the request but what its first line says.
fn header(brackets: &str) -> Result<Attribute, String> {
    let name = within(brackets).ok_or_else(|| "expected request.headers[name]".to_owned())?;
    Ok(match name {
        ":authority" => Attribute::Authority,
        ":method" => Attribute::Method,
        ":path" => Attribute::PathAndQuery,
        ":scheme" => Attribute::Scheme,
        _ => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(http::header::HOST) => Attribute::Authority,
            Ok(name) => Attribute::Header(name),
            Err(_) => return Err(format!("{name:?} is not a header name")),
        },
    })
}

/// The text between one `[` at the start and one `]` at the end.
fn within(brackets: &str) -> Option<&str> {
    let name = brackets.strip_prefix('[')?.strip_suffix(']')?;
    (!name.is_empty()).then_some(name)
}

/// One or more names in brackets.
fn nested(brackets: &str) -> Option<Box<[Box<str>]>> {
    let names = within(brackets)?.split("][");
    names.map(|name| (!name.is_empty() && !name.contains(['[', ']'])).then(|| name.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_key() {
        let header = |name: &'static str| Attribute::Header(HeaderName::from_static(name));
        let claim = |names: &[&str]| Attribute::Claim(names.iter().map(|&name| name.into()).collect());
        for (key, expected) in [
            ("request.headers[X-Id]", header("x-id")),
            ("request.headers[:authority]", Attribute::Authority),
            ("request.headers[Host]", Attribute::Authority),
            ("request.headers[:method]", Attribute::Method),
            ("request.headers[:path]", Attribute::PathAndQuery),
            ("request.headers[:scheme]", Attribute::Scheme),
            ("source.ip", Attribute::SourceIp),
            ("remote.ip", Attribute::RemoteIp),
            ("destination.ip", Attribute::DestinationIp),
            ("destination.port", Attribute::DestinationPort),
            ("connection.sni", Attribute::Sni),
            ("source.serviceAccount", Attribute::ServiceAccount),
            ("request.auth.principal", Attribute::RequestPrincipal),
            ("request.auth.audiences", claim(&["aud"])),
            ("request.auth.presenter", claim(&["azp"])),
            ("request.auth.claims[https://x.y/c]", claim(&["https://x.y/c"])),
            ("request.auth.claims[a][b.c]", claim(&["a", "b.c"])),
            ("experimental.envoy.filters.network.mysql_proxy[db.table]", Attribute::Metadata),
        ] {
            assert_eq!(attribute(key), Ok(expected), "{key}");
        }
    }

    #[test]
    fn refuses_every_other() {
        for key in [
            "",
            "source.user",
            "request.headers",
            "request.headers[]",
            "request.headers[a",
            "request.headers[a b]",
            "request.headers[:status]",
            "request.auth.claims",
            "request.auth.claims[a][]",
            "request.auth.claims[a]b",
            "experimental.envoy.filters.x",
            "experimental.envoy.filters.[x]",
            "experimental.envoy.filters.x[]",
            "destination.labels[app]",
            "destination.namespace",
            "destination.name",
            "destination.user",
        ] {
            assert!(attribute(key).is_err(), "{key}");
        }
    }
}
