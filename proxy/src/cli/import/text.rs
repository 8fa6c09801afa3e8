//! A ServiceImport as YAML, always the same for the same import.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::merge::{Import, ImportedEndpoint, ImportedPort};

/// The document. `resolved` has the addresses of gateways that are given by name.
pub(super) fn yaml(import: &Import, resolved: &[(String, IpAddr)]) -> String {
    let Import { namespace, name, account, ports } = import;
    let mut text = format!(
        "apiVersion: flomesh.io/v1alpha1\nkind: ServiceImport\nmetadata:\n  namespace: {}\n  name: {}\nspec:\n  type: ClusterSetIP\n",
        scalar(namespace),
        scalar(name)
    );
    if let Some(account) = account {
        line(&mut text, 2, "serviceAccountName", account);
    }
    text.push_str("  ports:\n");
    for port in ports {
        let ImportedPort { number, name, app_protocol, endpoints } = port;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - port: {number}");
        for (field, value) in [("name", name), ("appProtocol", app_protocol)] {
            if let Some(value) = value {
                line(&mut text, 4, field, value);
            }
        }
        text.push_str("    protocol: TCP\n    endpoints:\n");
        for endpoint in endpoints {
            let own = (account.is_none() && !endpoint.account.is_empty()).then_some(endpoint.account.as_str());
            write_endpoint(&mut text, endpoint, own, resolved);
        }
    }
    text
}

fn write_endpoint(
    text: &mut String,
    endpoint: &ImportedEndpoint,
    account: Option<&str>,
    resolved: &[(String, IpAddr)],
) {
    let ImportedEndpoint { cluster, gateway, path, .. } = endpoint;
    let _ = writeln!(text, "    - clusterKey: {}", scalar(cluster));
    if let Some(account) = account {
        line(text, 6, "serviceAccountName", account);
    }
    text.push_str("      target:\n");
    line(text, 8, "host", &gateway.host);
    let looked_up = || resolved.iter().find(|(host, _)| *host == gateway.host).map(|(_, ip)| *ip);
    if let Some(ip) = gateway.ip().or_else(looked_up) {
        line(text, 8, "ip", &ip.to_string());
    }
    let _ = writeln!(text, "        port: {}", gateway.port);
    line(text, 8, "path", path);
}

fn line(text: &mut String, indent: usize, field: &str, value: &str) {
    let _ = writeln!(text, "{:indent$}{field}: {}", "", scalar(value));
}

/// A text as YAML reads it back: bare where nothing else could be read, else in quotes as JSON has them.
fn scalar(text: &str) -> String {
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_word = words.iter().any(|word| word.eq_ignore_ascii_case(text));
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    if begins && is_plain && !is_word || text.parse::<Ipv4Addr>().is_ok() {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}
