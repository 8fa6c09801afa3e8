//! The verdict on a case, with everything that led to it; its JSON is what `docs/explain.md` describes.

use std::net::SocketAddr;

use meshgate_policy::explain::{Explanation, RuleName};
use meshgate_policy::{Custom, MtlsMode, Verdict};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::case::{Case, ProviderAnswer};
use crate::error::ProxyError;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It goes on.
    #[serde(rename = "allow")]
    Allow,
    /// It is refused.
    #[serde(rename = "deny")]
    Deny,
    /// It is no request that has one meaning: refused before any policy is asked.
    #[serde(rename = "400")]
    BadRequest,
}

/// The path that was asked for, and the one that policies and the application see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathSeen {
    /// As sent.
    pub asked: String,
    /// Normalized; `None` where there is no single reading.
    pub seen: Option<String>,
}

/// What a provider was taken to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assumed {
    /// Its name.
    pub provider: String,
    /// The CUSTOM rule that asks for it.
    pub rule: RuleName,
    /// `allow` or `deny`.
    pub assumed: Outcome,
}

/// What a case comes to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The case's name.
    pub name: Option<String>,
    /// The workload called, in words.
    pub workload: Option<String>,
    /// What happens.
    pub verdict: Outcome,
    /// Why: a word of the policy engine, or `plaintext_on_strict_port` or `bad_request`.
    pub reason: &'static str,
    /// For people, where the reason is not all there is to say.
    pub detail: Option<String>,
    /// What an HTTP caller gets instead of the application's answer; none where the connection is closed.
    pub status: Option<u16>,
    /// The rule that decides.
    pub rule: Option<RuleName>,
    /// What is called.
    pub destination: SocketAddr,
    /// The port's mTLS mode.
    pub mtls: MtlsMode,
    /// What the proxy makes of the case before policies see it.
    pub notes: Vec<&'static str>,
    /// Who calls, as the case has it; `None` is plaintext.
    pub peer: Option<String>,
    /// The method; `None` on TCP and where mutual TLS refuses.
    pub method: Option<String>,
    /// The path; `None` on TCP and where mutual TLS refuses.
    pub path: Option<PathSeen>,
    /// The provider that is asked.
    pub custom: Option<Assumed>,
    /// What the policies say; `None` when they are not asked.
    pub explanation: Option<Explanation>,
    /// Of a running proxy: the generation of its configuration.
    pub generation: Option<u64>,
}

impl Outcome {
    /// As in JSON and in policy tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Deny => "deny",
            Outcome::BadRequest => "400",
        }
    }
}

impl PathSeen {
    pub(super) fn new(asked: &str, seen: &str) -> PathSeen {
        PathSeen { asked: asked.to_owned(), seen: Some(seen.to_owned()) }
    }
}

impl Answer {
    pub(super) fn new(case: &Case, destination: SocketAddr, mtls: MtlsMode) -> Answer {
        Answer {
            name: case.name.clone(),
            workload: None,
            verdict: Outcome::Deny,
            reason: "",
            detail: None,
            status: None,
            rule: None,
            destination,
            mtls,
            notes: Vec::new(),
            peer: case.id().map(ToString::to_string),
            method: None,
            path: None,
            custom: None,
            explanation: None,
            generation: None,
        }
    }

    pub(super) fn note(&mut self, note: &'static str) {
        self.notes.push(note);
    }

    pub(super) fn refuse_plaintext(&mut self) {
        self.reason = "plaintext_on_strict_port";
    }

    pub(super) fn refuse_malformed(&mut self, path: &str, error: &ProxyError) {
        self.verdict = Outcome::BadRequest;
        self.reason = "bad_request";
        self.detail = Some(error.to_string());
        self.status = Some(error.kind.status().as_u16());
        self.path = Some(PathSeen { asked: path.to_owned(), seen: None });
    }

    pub(super) fn explained(&mut self, explanation: Explanation) {
        let denied = explanation.verdict == Verdict::Deny;
        self.verdict = if denied { Outcome::Deny } else { Outcome::Allow };
        self.reason = explanation.reason.as_str();
        self.status = (denied && self.path.is_some()).then(|| refusal(self.reason));
        self.rule = explanation.rule.clone();
        self.explanation = Some(explanation);
    }

    /// Comes after [`Answer::explained`], and before it in what the proxy does.
    pub(super) fn assumed(&mut self, custom: &Custom<'_>, provider: ProviderAnswer) {
        let rule = RuleName::from(custom.rule);
        let assumed = match provider {
            ProviderAnswer::Allow => Outcome::Allow,
            ProviderAnswer::Deny => Outcome::Deny,
        };
        if assumed == Outcome::Deny {
            self.verdict = Outcome::Deny;
            self.reason = meshgate_policy::Reason::CustomDenied.as_str();
            self.status = self.path.is_some().then_some(403);
            self.rule = Some(rule.clone());
        }
        // What it says of the provider is said here, and with the answer.
        if let Some(explanation) = &mut self.explanation {
            explanation.asks = None;
        }
        self.custom = Some(Assumed { provider: custom.provider.to_owned(), rule, assumed });
    }
}

/// The status of a refusal by policy.
fn refusal(reason: &str) -> u16 {
    if reason == meshgate_policy::Reason::BadToken.as_str() { 401 } else { 403 }
}

impl Serialize for Answer {
    /// The answer's own fields first, then those of the policies' explanation that it does not override.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(name) = &self.name {
            map.serialize_entry("name", name)?;
        }
        map.serialize_entry("workload", &self.workload)?;
        if let Some(generation) = self.generation {
            map.serialize_entry("generation", &generation)?;
        }
        map.serialize_entry("verdict", &self.verdict)?;
        map.serialize_entry("reason", self.reason)?;
        map.serialize_entry("detail", &self.detail)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("rule", &self.rule)?;
        map.serialize_entry("destination", &self.destination)?;
        map.serialize_entry("mtls", self.mtls.as_str())?;
        map.serialize_entry("notes", &self.notes)?;
        map.serialize_entry("peer", &self.peer)?;
        map.serialize_entry("method", &self.method)?;
        map.serialize_entry("path", &self.path)?;
        map.serialize_entry("custom", &self.custom)?;
        match &self.explanation {
            None => map.serialize_entry("policies", &[(); 0])?,
            Some(explanation) => {
                let Value::Object(fields) = serde_json::to_value(explanation).map_err(S::Error::custom)? else {
                    return Err(S::Error::custom("an explanation is an object"));
                };
                for (key, value) in fields.iter().filter(|(key, _)| !["verdict", "reason", "rule"].contains(&&***key)) {
                    map.serialize_entry(key, value)?;
                }
            }
        }
        map.end()
    }
}
