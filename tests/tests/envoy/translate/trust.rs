//! Several names for one trust domain: a policy that names one is meant for all.

/// In a policy's principals always the mesh's own domain, whatever that is called.
const LOCAL: &str = "cluster.local";

/// A value of `principals` under every name of the mesh's trust domain, if it is in that.
pub(super) fn principal(value: &str, trust_domains: &[&str]) -> Vec<String> {
    let parts: Vec<_> = value.split('/').collect();
    let [domain, rest @ ..] = parts.as_slice() else { return vec![value.to_owned()] };
    let own = *domain == LOCAL || trust_domains.iter().any(|name| covers(domain, name) || covers(name, domain));
    if parts.len() != 5 || *domain == "*" || !own {
        return vec![value.to_owned()];
    }
    let under = |name: &&str| {
        let keep = domain.starts_with('*') && covers(domain, name);
        if keep { value.to_owned() } else { format!("{name}/{}", rest.join("/")) }
    };
    trust_domains.iter().map(under).collect()
}

/// A value of `trustDomains`.
pub(super) fn trust_domain<'a>(value: &'a str, trust_domains: &[&'a str]) -> Vec<&'a str> {
    if trust_domains.contains(&value) { trust_domains.to_vec() } else { vec![value] }
}

fn covers(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => name.ends_with(suffix),
        (None, Some(prefix)) => name.starts_with(prefix),
        (None, None) => pattern == name,
    }
}
