//! Single matchers.

use serde_json::{Value, json};

/// The filter whose metadata has a request's token.
const TOKEN_FILTER: &str = "envoy.filters.http.jwt_authn";

/// Equal, prefix, suffix or not empty.
pub(super) fn string(value: &str) -> Value {
    if value == "*" {
        regex(".+")
    } else if let Some(suffix) = value.strip_prefix('*') {
        json!({"suffix": suffix})
    } else if let Some(prefix) = value.strip_suffix('*') {
        json!({"prefix": prefix})
    } else {
        json!({"exact": value})
    }
}

pub(super) fn principal(value: &str) -> Value {
    authenticated(&if value == "*" {
        regex(".+")
    } else if let Some(suffix) = value.strip_prefix('*') {
        regex(&format!("spiffe://.*{}", quoted(suffix)))
    } else if let Some(prefix) = value.strip_suffix('*') {
        json!({"prefix": format!("spiffe://{prefix}")})
    } else {
        json!({"exact": format!("spiffe://{value}")})
    })
}

pub(super) fn namespace(value: &str) -> Value {
    let pieces: Vec<_> = value.split('*').map(quoted).collect();
    authenticated(&regex(&format!(".*/ns/{}/.*", pieces.join(".*"))))
}

pub(super) fn service_account(value: &str, own_namespace: &str) -> Value {
    let (namespace, name) = value.split_once('/').unwrap_or((own_namespace, value));
    authenticated(&regex(&format!("spiffe://.+/ns/{}/(.+/|)sa/{}(/.+)?", quoted(namespace), quoted(name))))
}

pub(super) fn trust_domain(value: &str) -> Value {
    authenticated(&match value.split_once('*') {
        Some(("", "")) => json!({"prefix": "spiffe://"}),
        Some((before, after)) => regex(&format!("spiffe://{}[^/]*{}/.*", quoted(before), quoted(after))),
        None => json!({"prefix": format!("spiffe://{value}/")}),
    })
}

fn authenticated(name: &Value) -> Value {
    json!({"authenticated": {"principal_name": name}})
}

/// A header; `*` is its presence, and an empty one is present.
pub(super) fn header(name: &str, value: &str, ignore_case: bool) -> Value {
    if value == "*" {
        return json!({"header": {"name": name, "present_match": true}});
    }
    let mut string = string(value);
    string["ignore_case"] = ignore_case.into();
    json!({"header": {"name": name, "string_match": string}})
}

pub(super) fn path(value: &str) -> Value {
    if !value.contains("{*}") && !value.contains("{**}") {
        return json!({"url_path": {"path": string(value)}});
    }
    let template = value.replace("{**}", "**").replace("{*}", "*");
    json!({"uri_template": {
        "name": "uri-template",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            "path_template": template,
        },
    }})
}

pub(super) fn block(value: &str) -> Value {
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, length.parse().unwrap()),
        None => (value, if value.contains(':') { 128 } else { 32 }),
    };
    json!({"address_prefix": address, "prefix_len": length})
}

/// Only the shapes that the tests use: `*` and `issuer/subject`.
pub(super) fn request_principal(value: &str) -> Value {
    let (issuer, subject) = value.rsplit_once('/').unwrap_or(("*", "*"));
    let claim = |name: &str, value| metadata(TOKEN_FILTER, &["payload", name], &string(value));
    json!({"and_ids": {"ids": [claim("iss", issuer), claim("sub", subject)]}})
}

pub(super) fn claim(names: &[String], value: &str) -> Value {
    let path: Vec<_> = ["payload"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let value = string(value);
    // Text, or a list with such a text in it.
    let text = json!({"string_match": value});
    let any = json!({"or_match": {"value_matchers": [text, {"list_match": {"one_of": text}}]}});
    of_metadata(TOKEN_FILTER, &path, &any)
}

pub(super) fn metadata(filter: &str, path: &[impl AsRef<str>], value: &Value) -> Value {
    of_metadata(filter, path, &json!({"string_match": value}))
}

fn of_metadata(filter: &str, path: &[impl AsRef<str>], value: &Value) -> Value {
    let path: Vec<_> = path.iter().map(|key| json!({"key": key.as_ref()})).collect();
    json!({"metadata": {"filter": filter, "path": path, "value": value}})
}

fn regex(regex: &str) -> Value {
    json!({"safe_regex": {"regex": regex}})
}

/// Text that a regular expression takes as it is.
fn quoted(text: &str) -> String {
    let quoted = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_string() } else { format!("\\{c}") };
    text.chars().map(quoted).collect()
}
