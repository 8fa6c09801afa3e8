//! Paths, and the values of policies that they are compared with.

use std::borrow::Cow;

use meshgate_policy::normalize::{Level, normalize};
use meshgate_policy::{PolicySet, Verdict};
use serde_json::json;

use super::policies::{facts, policy, request, settings, workload};

const LEVELS: [Level; 4] = [Level::None, Level::Base, Level::MergeSlashes, Level::DecodeAndMergeSlashes];

/// A normalized path stays as it is when it is read again, and has nothing in it that its level takes out.
pub fn path_normalize(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else { return };
    for level in LEVELS {
        let Ok(normalized) = normalize(target, level) else { continue };
        assert_eq!(normalize(&normalized, level), Ok(Cow::Borrowed(&*normalized)), "{level:?}: read again");
        if normalized == "*" {
            continue;
        }
        let (path, query) = split(&normalized);
        assert_eq!(query, split(target).1, "{level:?}: the query is nobody's affair");
        assert!(path.starts_with('/') && !path.contains('#'), "{level:?}: {path}");
        assert!(normalized.bytes().all(|byte| byte.is_ascii_graphic()), "{level:?}: {normalized:?}");
        if level >= Level::Base {
            let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
            assert!(!path.split('/').any(dots), "{level:?}: {path}");
            assert!(
                !path.contains("%00") && !path.contains(['\\', '"', '<', '>', '^', '`', '{', '|', '}']),
                "{level:?}: {path}"
            );
        }
        if level >= Level::MergeSlashes {
            assert!(path == "//" || !path.contains("//"), "{level:?}: {path}");
        }
        if level >= Level::DecodeAndMergeSlashes {
            let lower = path.to_ascii_lowercase();
            assert!(!lower.contains("%2f") && !lower.contains("%5c"), "{level:?}: {path}");
        }
    }
}

fn split(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// A value of `paths` on the first line and a path on the second: a value is text or a valid template, what one lets in the
/// same refuses in a DENY, and text is compared as text.
pub fn path_template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((value, target)) = text.split_once('\n') else { return };
    let Ok(target) = normalize(target, Level::MergeSlashes) else { return };
    let spec =
        |action: &str, field: &str| json!({"action": action, "rules": [{"to": [{"operation": {field: [value]}}]}]});
    let Some(allow) = policy("allow", spec("ALLOW", "paths")) else { return };
    let others = [("ALLOW", "notPaths"), ("DENY", "paths"), ("DENY", "notPaths")];
    let others = others.map(|(action, field)| policy("other", spec(action, field)).expect("valid here, valid there"));
    let verdict = |policy| {
        let set = PolicySet::compile(&[policy], &workload(), &settings());
        set.reduce(&facts(None)).decide(&request(&target)).verdict
    };
    let allowed = verdict(allow) == Verdict::Allow;
    let [allowed_by_not, refused, refused_by_not] = others.map(|policy| verdict(policy) == Verdict::Allow);
    let refused = !refused;
    assert!(!allowed || refused, "{value} lets {target} in, and does not keep it out");
    assert_ne!(allowed_by_not, refused, "notPaths of an ALLOW is the other half of paths of a DENY");
    assert_eq!(refused_by_not, allowed, "notPaths of a DENY is the other half of paths of an ALLOW");
    if !value.contains(['{', '}']) {
        assert_eq!(allowed, text_matches(value, split(&target).0), "{value} and {target}");
        assert_eq!(allowed, refused);
    }
}

fn text_matches(value: &str, path: &str) -> bool {
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => !path.is_empty(),
        (Some(suffix), _) => path.ends_with(suffix),
        (None, Some(prefix)) => path.starts_with(prefix),
        (None, None) => value == path,
    }
}
