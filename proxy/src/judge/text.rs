//! Answers as people read them: the verdict, why, and what each policy had to say.

use std::fmt::Write as _;

use super::answer::{Answer, Outcome, PathSeen};

pub(super) const GREEN: &str = "\u{1b}[32m";
pub(super) const RED: &str = "\u{1b}[31m";
pub(super) const FAINT: &str = "\u{1b}[2m";
pub(super) const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// What colours text, if colours are wanted.
pub(super) fn painter(colours: bool) -> impl Fn(&str, &str) -> String {
    move |colour, text| if colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
}

impl Answer {
    /// Several lines, the last one ended.
    pub fn text(&self, colours: bool) -> String {
        let paint = painter(colours);
        let colour = if self.verdict == Outcome::Allow { GREEN } else { RED };
        let mut text = format!("{}: {}", paint(colour, self.verdict.as_str()), sentence(self.reason));
        if let Some(rule) = &self.rule {
            let _ = write!(text, ", {}", paint(BOLD, &rule.to_string()));
        }
        if let Some(detail) = &self.detail {
            let _ = write!(text, ": {detail}");
        }
        let _ = writeln!(text, " {}", paint(FAINT, &format!("({})", self.reason)));
        self.circumstances(&mut text);
        if let Some(explanation) = &self.explanation {
            let all = explanation.to_string();
            // The first line is the policies' own verdict, which is above unless a provider had the last word.
            for line in all.lines().skip(1) {
                let line = if line.trim_start().starts_with("rule ") { rule(line, &paint) } else { line.to_owned() };
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }

    fn circumstances(&self, text: &mut String) {
        let called = self.workload.as_deref().unwrap_or("the workload");
        let generation = self.generation.map(|generation| format!(", generation {generation}")).unwrap_or_default();
        let _ =
            writeln!(text, "called: {called} at {}, mutual TLS {}{generation}", self.destination, self.mtls.as_str());
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let _ = writeln!(text, "caller: {}", self.peer.as_deref().unwrap_or("plaintext, nobody that is known"));
        if let (Some(method), Some(PathSeen { asked, seen })) = (&self.method, &self.path) {
            let _ = match seen.as_ref().filter(|seen| *seen != asked) {
                Some(seen) => writeln!(text, "request: {method} {asked}, which policies and application see as {seen}"),
                None => writeln!(text, "request: {method} {asked}"),
            };
        }
        if let Some(custom) = &self.custom {
            let (provider, rule) = (&custom.provider, &custom.rule);
            let _ = writeln!(text, "provider: {provider}, asked by {rule}, is taken to {}", custom.assumed.as_str());
        }
    }
}

fn rule(line: &str, paint: &impl Fn(&str, &str) -> String) -> String {
    match line.split_once(": matched") {
        Some((start, rest)) => format!("{start}: {}{rest}", paint(BOLD, "matched")),
        None => paint(FAINT, line),
    }
}

/// A reason in words.
fn sentence(reason: &str) -> &str {
    match reason {
        "no_policy" => "no policy applies to the workload",
        "allow_rule" => "a rule of an ALLOW policy matched",
        "not_denied" => "no DENY rule matched, and no ALLOW policy applies",
        "deny_rule" => "a rule of a DENY policy matched",
        "no_allow_matched" => "ALLOW policies apply, and no rule of theirs matched",
        "catch_all_deny" => "a catch-all DENY, read as a baseline, and no ALLOW rule matched",
        "unreadable" => "a policy that applies could not be read",
        "target_rule" => "a TrafficTarget lets it in",
        "no_target_matched" => "in traffic policy mode, and no TrafficTarget lets it in",
        "custom_denied" => "the provider of a CUSTOM policy said no",
        "custom_failed" => "the provider of a CUSTOM policy could not be asked",
        "bad_token" => "the token is not a good one",
        "plaintext_on_strict_port" => "plaintext on a port with STRICT mutual TLS; no policy is asked",
        "bad_request" => "the proxy refuses the request by itself, before any policy is asked",
        other => other,
    }
}
