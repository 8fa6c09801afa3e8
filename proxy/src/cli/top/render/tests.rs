use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::cli::top::text::width;
use crate::cli::top::traffic::History;

const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";

/// As `/events` has it, with `total` requests of which `refused` were refused.
fn state(total: u64, refused: u64) -> Value {
    json!({
        "at": "2026-01-02T03:04:05.678Z",
        "process": {
            "version": "0.1.0", "role": "sidecar", "workload": "default/backend-0", "ready": true, "generation": 3,
            "connections": [2, 65536], "from_another_version": {}
        },
        "mtls": {"mode": "STRICT"},
        "certs": {
            "certificate": {"id": "spiffe://cluster.local/ns/default/sa/backend", "seconds_left": 3700, "seconds_in_all": 86400},
            "roots": [{"trust_domain": "cluster.local", "sha256": "c842f844ac1c69bea60e47b71773c4fe", "sessions": {"inbound": 2, "outbound": 0}, "seconds_left": 864_000, "seconds_in_all": 1_000_000}]
        },
        "edges": {
            "bounds_ms": [1.0, 2.0, 4.0],
            "edges": [
                {
                    "reporter": "destination",
                    "source": {"namespace": "default", "workload": "frontend", "principal": FRONTEND},
                    "destination": {"service": "backend.default.svc.cluster.local"},
                    "security": "mutual_tls",
                    "requests": {"total": total, "ok": total - refused, "refused": refused},
                    "latency": {"buckets": [total, 0, 0, 0]}
                },
                {
                    "reporter": "destination",
                    "source": {"namespace": "unknown", "workload": "unknown", "principal": "unknown"},
                    "destination": {"service": "unknown", "workloads": ["default/backend"]},
                    "security": "plaintext",
                    "requests": {"total": 1, "ok": 1, "refused": 0},
                    "latency": {"buckets": [0, 0, 1, 0]}
                }
            ]
        },
        "refusals": [{
            "at": "2026-01-02T03:04:04.000Z", "times": 7, "source_namespace": "default", "source_workload": "frontend", "source_principal": FRONTEND,
            "destination_service": "backend.default.svc.cluster.local", "method": "GET", "path": "/secret", "code": 403,
            "flags": "RBAC", "reason": "deny_rule", "policy": "default/none rule 0"
        }],
        "clusters": {
            "gateways": [{"cluster": "default/default/default/c2", "up": false, "error": "no answer"}],
            "services": [
                {"service": "good.default.svc.cluster.local", "port": 80, "endpoints": [{"address": "10.0.0.1:80", "health": "healthy"}]},
                {"service": "bad.default.svc.cluster.local", "port": 80, "not_ready": 1, "endpoints": [
                    {"address": "10.0.0.2:80", "health": "healthy"},
                    {"address": "10.0.0.3:80", "health": "ejected", "reason": "5 failures in a row"}
                ]}
            ]
        },
        "problems": [{"severity": "error", "file": "a.yaml", "line": 7, "message": "spec: unknown field"}]
    })
}

fn shown(states: &[Value], columns: usize, rows: Option<usize>) -> Vec<String> {
    drawn(states, columns, rows, false)
}

fn drawn(states: &[Value], columns: usize, rows: Option<usize>, colours: bool) -> Vec<String> {
    let (mut history, mut now, mut last) = (History::default(), Instant::now(), (Vec::new(), State::default()));
    for state in states {
        let state: State = serde_json::from_value(state.clone()).unwrap();
        last = (history.rows(&state, now), state);
        now += Duration::from_secs(2);
    }
    let (rates, state) = last;
    let address = "127.0.0.1:15000".to_owned();
    let view = View { address, state: &state, rows: rates, sort: Sort::Rate, trouble: None, keys: "q quits" };
    render(&view, columns, rows).iter().map(|line| line.shown(columns, colours)).collect()
}

#[test]
fn eighty_columns_have_all_that_is_asked_for() {
    let lines = shown(&[state(100, 0), state(150, 5)], 80, None);
    let expected = "\
meshgate top  sidecar default/backend-0 at 127.0.0.1:15000  ready
2026-01-02T03:04:05.678Z  connections 2 of 65536  configuration 3  mTLS STRICT …

PROBLEMS  1 in what was read last
  error a.yaml:7: spec: unknown field

WHO TALKS TO WHOM  2, by rate (*: nothing of late, so since the start)
FROM            TO                         RATE/S   OK%   MTLS    P99ms    P50ms
default/fronte… backend.default.svc.clus…    25.0  90.0    yes      1.0      0.5
unknown         default/backend               0.0  100*     no     4.0*     3.0*

LAST REFUSALS
  03:04:04 403 RBAC 7x default/frontend GET /secret  by default/none rule 0 den…

ENDPOINTS  healthy of all
  gateway default/default/default/c2  down  no answer
  1/2  bad.default.svc.cluster.local:80 (+1 not ready)  10.0.0.3:80 ejected: 5 …
  1/1  good.default.svc.cluster.local:80

CERTIFICATES
  spiffe://cluster.local/ns/default/sa/backend  1h1m left of 1d0h
  root of cluster.local c842f844ac1c69be  10d0h left of 11d13h  connections res…";
    assert_eq!(lines.join("\n"), expected, "\n{}\n", lines.join("\n"));
}

#[test]
fn whatever_the_width_nothing_is_wider_and_the_most_important_is_there() {
    for columns in [1, 20, 40, 80, 200] {
        for line in shown(&[state(100, 0), state(150, 5)], columns, None) {
            assert!(width(&line) <= columns, "{columns}: {line}");
        }
    }
    let narrow = shown(&[state(100, 0), state(150, 5)], 40, None).join("\n");
    assert!(narrow.contains("RATE/S   OK%") && !narrow.contains("P99ms"), "{narrow}");
    assert!(narrow.contains("  25.0  90.0"), "{narrow}");
    let wide = shown(&[state(100, 0), state(150, 5)], 200, None).join("\n");
    for whole in [
        "default/frontend ",
        "backend.default.svc.cluster.local ",
        "REFUSED     TOTAL",
        "default/frontend GET /secret  by default/none rule 0 deny_rule  -> backend.default.svc.cluster.local",
        "  from cluster.local/ns/default/sa/frontend",
        "10.0.0.3:80 ejected: 5 failures in a row",
        "q quits",
    ] {
        assert!(wide.contains(whole), "{whole}\n{wide}");
    }
}

#[test]
fn a_screen_that_is_too_low_shows_the_beginning_of_every_section() {
    let mut many = state(150, 5);
    let refusal = many["refusals"][0].clone();
    many["refusals"] = Value::Array(vec![refusal; 64]);
    let lines = shown(&[many.clone()], 80, Some(30));
    assert_eq!(lines.len(), 30, "{}", lines.join("\n"));
    for title in ["PROBLEMS", "WHO TALKS TO WHOM", "LAST REFUSALS", "ENDPOINTS", "CERTIFICATES"] {
        assert!(lines.iter().any(|line| line.starts_with(title)), "{title}\n{}", lines.join("\n"));
    }
    assert!(lines.iter().any(|line| line.starts_with("  and ") && line.ends_with(" more")), "{}", lines.join("\n"));
    assert!(shown(&[many], 80, Some(5)).len() <= 5);
}

#[test]
fn names_from_the_wire_stay_within_their_line() {
    let mut hostile = state(3, 1);
    let text = "x\x1b[2J\n\u{9b}31m\u{202e}";
    hostile["edges"]["edges"][0]["source"]["workload"] = text.into();
    hostile["refusals"][0]["path"] = text.into();
    hostile["refusals"][0]["source_principal"] = text.into();
    hostile["clusters"]["services"][1]["endpoints"][1]["reason"] = text.into();
    hostile["problems"][0]["message"] = text.into();
    hostile["process"]["workload"] = text.into();
    for columns in [40, 80, 200] {
        for line in shown(&[hostile.clone()], columns, None) {
            assert!(line.chars().all(|character| !character.is_control() && character != '\u{202e}'), "{line:?}");
        }
    }
}

#[test]
fn one_state_says_what_was_since_the_start_and_no_rate() {
    let text = shown(&[state(150, 5)], 120, None).join("\n");
    assert!(text.contains("since the proxy's start"), "{text}");
    assert!(text.contains("-  96.7    yes"), "{text}");
    assert!(!text.contains('*'), "{text}");
}

#[test]
fn what_began_anew_counts_from_nothing() {
    let text = shown(&[state(150, 5), state(10, 0)], 120, None).join("\n");
    assert!(text.contains("   5.0   100    yes"), "{text}");
}

#[test]
fn a_root_that_lasts_is_no_warning_whatever_its_life_was() {
    let day = 86_400;
    for (left, style) in [(1000, Style::Good), (31, Style::Good), (29, Style::Warn), (2, Style::Bad), (0, Style::Bad)] {
        let mut state = state(1, 0);
        state["certs"]["roots"][0]["seconds_in_all"] = (3650 * day).into();
        state["certs"]["roots"][0]["seconds_left"] = (left * day).into();
        let lines = drawn(&[state], 200, None, true);
        let root = lines.iter().find(|line| line.contains("root of cluster.local")).unwrap();
        let life = Line::of(style, &format!("  {} left of 3650d0h", span(left * day))).shown(200, true);
        assert!(root.contains(&life), "{left}: {root:?}");
    }
}
