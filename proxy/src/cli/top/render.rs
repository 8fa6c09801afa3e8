//! From a state to lines: what stands on the screen, for any width, and for a height if there is one.

use super::state::{Refused, State};
use super::text::{Line, Style};
use super::traffic::{self, Row};
use super::{Sort, Trouble};
use crate::metrics::labels::root_label;

/// Lines of the screen that a section gets however many others there are.
const LEAST: usize = 3;

/// What is to be shown.
pub(super) struct View<'a> {
    /// Where it was asked.
    pub(super) address: String,
    pub(super) state: &'a State,
    pub(super) rows: Vec<Row>,
    pub(super) sort: Sort,
    /// Why what is shown is not of now.
    pub(super) trouble: Option<&'a Trouble>,
    /// The keys that there are; none where nobody can press any.
    pub(super) keys: &'static str,
}

/// A section: its title, and its lines, of which the last ones may have to go.
struct Section {
    title: Line,
    lines: Vec<Line>,
}

/// A column of numbers.
struct Column {
    title: &'static str,
    columns: usize,
    value: fn(&Row) -> (Style, String),
}

/// In the order in which they are left out last to first where there is no room.
const COLUMNS: [Column; 7] = [
    Column { title: "RATE/S", columns: 8, value: |row| (Style::Plain, number(row.rate)) },
    Column { title: "OK%", columns: 6, value: success },
    Column { title: "MTLS", columns: 7, value: security },
    Column { title: "P99ms", columns: 9, value: |row| aged(row, Style::Plain, row.p99_ms) },
    Column { title: "P50ms", columns: 9, value: |row| aged(row, Style::Plain, row.p50_ms) },
    Column { title: "REFUSED", columns: 9, value: refused },
    Column { title: "TOTAL", columns: 10, value: |row| (Style::Plain, row.total.to_string()) },
];

/// The narrowest that names may become for a column of numbers, on the narrowest screen; else it is half of it.
const NAMES: usize = 24;

/// All lines; at most `rows` of them if that is given.
pub(super) fn render(view: &View<'_>, columns: usize, rows: Option<usize>) -> Vec<Line> {
    let mut lines = head(view);
    let mut sections: Vec<_> =
        [problems(view), Some(edges(view, columns)), refusals(view), Some(health(view)), Some(certificates(view))]
            .into_iter()
            .flatten()
            .collect();
    if let Some(rows) = rows {
        shorten(&mut sections, rows.saturating_sub(lines.len()));
    }
    for section in sections {
        lines.push(Line::default());
        lines.push(section.title);
        lines.extend(section.lines);
    }
    lines.truncate(rows.unwrap_or(usize::MAX));
    lines
}

/// Takes lines from whoever has most until all fit.
fn shorten(sections: &mut [Section], room: usize) {
    let mut left_out = vec![0_usize; sections.len()];
    // With an empty line and a title each.
    let taken = |sections: &[Section], left_out: &[usize]| {
        let marks = left_out.iter().filter(|left| **left > 0).count();
        sections.iter().map(|section| section.lines.len() + 2).sum::<usize>() + marks
    };
    while taken(sections, &left_out) > room {
        let longest = sections.iter_mut().zip(&mut left_out).max_by_key(|(section, _)| section.lines.len());
        let Some((section, left)) = longest.filter(|(section, _)| section.lines.len() > LEAST) else { break };
        section.lines.pop();
        *left += 1;
    }
    for (section, left) in sections.iter_mut().zip(left_out).filter(|(_, left)| *left > 0) {
        section.lines.push(Line::of(Style::Faint, &format!("  and {left} more")));
    }
}

fn head(view: &View<'_>) -> Vec<Line> {
    let process = &view.state.process;
    let mut first = Line::of(Style::Title, "meshgate top");
    first.push(Style::Plain, &format!("  {} {} at {}  ", process.role, process.workload, view.address));
    match process.ready {
        true => first.push(Style::Good, "ready"),
        false => first.push(Style::Bad, &format!("not ready: {}", process.blockers.join(", "))),
    }
    let (open, most) = process.connections;
    let mut second = Line::of(
        Style::Faint,
        &format!(
            "{}  connections {open} of {most}  configuration {}  mTLS {}  {}",
            view.state.at, process.generation, view.state.mtls.mode, view.keys
        ),
    );
    if let Some(Trouble(why)) = view.trouble {
        second = Line::of(Style::Bad, &format!("not of now: {why}"));
    }
    vec![first, second]
}

fn title(name: &str, rest: &str) -> Line {
    let mut line = Line::of(Style::Title, name);
    line.push(Style::Faint, rest);
    line
}

fn problems(view: &View<'_>) -> Option<Section> {
    let state = view.state;
    let all = state.problems.len() + state.problems_left_out;
    let line = |problem: &super::state::Problem| {
        let style = if problem.severity == "error" { Style::Bad } else { Style::Warn };
        let place = problem.line.map_or_else(|| problem.file.clone(), |line| format!("{}:{line}", problem.file));
        let mut shown = Line::of(style, &format!("  {} ", problem.severity));
        shown.push(Style::Plain, &format!("{place}: {}", problem.message));
        shown
    };
    (all > 0).then(|| Section {
        title: title("PROBLEMS", &format!("  {all} in what was read last")),
        lines: state.problems.iter().map(line).collect(),
    })
}

fn edges(view: &View<'_>, columns: usize) -> Section {
    let mut rows: Vec<_> = view.rows.iter().collect();
    rows.sort_by(|a, b| view.sort.compare(a, b));
    let (mut names, least) = (columns, NAMES.max(columns / 2));
    let shown: Vec<_> = COLUMNS
        .iter()
        .take_while(|column| {
            let fits = names >= least + column.columns;
            names -= if fits { column.columns } else { 0 };
            fits
        })
        .collect();
    // Services' names are the longer ones.
    let from = (names * 2 / 5).min(40);
    let to = (names - from).min(64);
    let mut head = Line::default();
    head.left(Style::Faint, "FROM", from);
    head.left(Style::Faint, "TO", to);
    shown.iter().for_each(|column| head.right(Style::Faint, column.title, column.columns));
    let line = |row: &&Row| {
        let mut line = Line::default();
        // A column apart, whatever is in it.
        line.left(Style::Plain, &row.from, from.saturating_sub(1));
        line.push(Style::Plain, " ");
        line.left(Style::Plain, &row.to, to);
        for column in &shown {
            let (style, value) = (column.value)(row);
            line.right(style, &value, column.columns);
        }
        line
    };
    let sum = view.rows.len() + view.state.edges_left_out;
    let mut lines = vec![head];
    lines.extend(rows.iter().map(line));
    let since = match (rows.iter().any(|row| row.rate.is_some()), rows.iter().all(|row| row.is_of_late)) {
        (false, _) => ", since the proxy's start",
        (true, true) => "",
        (true, false) => " (*: nothing of late, so since the start)",
    };
    Section { title: title("WHO TALKS TO WHOM", &format!("  {sum}, by {}{since}", view.sort.name())), lines }
}

fn refusals(view: &View<'_>) -> Option<Section> {
    let all = &view.state.refusals;
    (!all.is_empty()).then(|| Section { title: title("LAST REFUSALS", ""), lines: all.iter().map(refusal).collect() })
}

fn refusal(refused: &Refused) -> Line {
    // Of 2026-01-01T12:34:56.789Z the time of day.
    let time = refused.at.split('T').nth(1).and_then(|time| time.get(..8)).unwrap_or(&refused.at);
    let mut line = Line::of(Style::Faint, &format!("  {time} "));
    let (principal, parts) = (&refused.source_principal, [refused.method.as_deref(), refused.path.as_deref()]);
    let who = traffic::caller(&refused.source_namespace, &refused.source_workload, principal);
    let what = [Some(who.as_str())].into_iter().chain(parts).flatten().collect::<Vec<_>>().join(" ");
    let code = refused.code.filter(|code| *code > 0).map(|code| format!("{code} ")).unwrap_or_default();
    line.push(Style::Bad, &format!("{code}{} ", refused.flags));
    if refused.times > 1 {
        line.push(Style::Plain, &format!("{}x ", refused.times));
    }
    // In the order of what is missed most where there is no room.
    line.push(Style::Plain, &format!("{what} "));
    let by = refused.policy.as_deref().map(|policy| format!(" by {policy}")).unwrap_or_default();
    let why = refused.reason.as_deref().or(refused.details.as_deref()).unwrap_or_default();
    line.push(Style::Warn, &format!("{by} {why}"));
    line.push(Style::Plain, &format!("  -> {}", refused.destination_service));
    if let Some(whole) = principal.strip_prefix("spiffe://") {
        line.push(Style::Faint, &format!("  from {whole}"));
    }
    line
}

fn health(view: &View<'_>) -> Section {
    let clusters = &view.state.clusters;
    let mut lines = Vec::new();
    for gateway in &clusters.gateways {
        let (style, state) = match gateway.up {
            Some(true) => (Style::Good, "up"),
            Some(false) => (Style::Bad, "down"),
            None => (Style::Warn, "not known yet"),
        };
        let mut line = Line::of(Style::Plain, &format!("  gateway {}  ", gateway.cluster));
        line.push(style, state);
        line.push(Style::Faint, &gateway.error.as_deref().map(|error| format!("  {error}")).unwrap_or_default());
        lines.push(line);
    }
    let mut services: Vec<_> = clusters.services.iter().collect();
    // What needs a look comes first.
    let healthy =
        |service: &super::state::Service| service.endpoints.iter().filter(|one| one.health == "healthy").count();
    services.sort_by_key(|service| healthy(service) == service.endpoints.len() && healthy(service) > 0);
    for service in services {
        let (well, all) = (healthy(service), service.endpoints.len());
        let style = match well {
            0 => Style::Bad,
            some if some < all => Style::Warn,
            _ => Style::Good,
        };
        let mut line = Line::of(style, &format!("  {well}/{all}"));
        let not_ready =
            if service.not_ready > 0 { format!(" (+{} not ready)", service.not_ready) } else { String::new() };
        line.push(Style::Plain, &format!("  {}:{}{not_ready}", service.service, service.port));
        for endpoint in service.endpoints.iter().filter(|endpoint| endpoint.health != "healthy") {
            let reason = endpoint.reason.as_deref().unwrap_or(&endpoint.health);
            line.push(Style::Warn, &format!("  {} {}: {reason}", endpoint.address, endpoint.health));
        }
        lines.push(line);
    }
    if clusters.services_left_out > 0 {
        lines.push(Line::of(Style::Faint, &format!("  and {} services more", clusters.services_left_out)));
    }
    Section { title: title("ENDPOINTS", "  healthy of all"), lines }
}

/// Before a root's end: when it is time to have another, and when it is late, as the alerts have it (`MeshgateTrustRootEnds`).
const ROOT_ENDS: (u64, u64) = (30 * 86_400, 3 * 86_400);

fn certificates(view: &View<'_>) -> Section {
    let certs = &view.state.certs;
    let life = |left: u64, all: u64, (warn, bad): (u64, u64)| {
        let style = match left {
            0 => Style::Bad,
            left if left < bad => Style::Bad,
            left if left < warn => Style::Warn,
            _ => Style::Good,
        };
        (style, format!("  {} left of {}", span(left), span(all)))
    };
    let own = &certs.certificate;
    // As the live page has it: in the last third a renewal is late.
    let late = (own.seconds_in_all / 3, own.seconds_in_all / 10);
    let (style, text) = life(own.seconds_left, own.seconds_in_all, late);
    let mut line = Line::of(Style::Plain, &format!("  {}", own.id));
    line.push(style, &text);
    let mut lines = vec![line];
    for root in &certs.roots {
        let (style, text) = life(root.seconds_left, root.seconds_in_all, ROOT_ENDS);
        let mut line = Line::of(Style::Plain, &format!("  root of {} {}", root.trust_domain, root_label(&root.sha256)));
        line.push(style, &text);
        let rests = root.sessions.inbound + root.sessions.outbound > 0;
        line.push(Style::Faint, if rests { "  connections rest on it" } else { "  nothing open rests on it" });
        lines.push(line);
    }
    Section { title: title("CERTIFICATES", ""), lines }
}

/// Seconds, in the two largest units that there are of it.
fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes}m"),
        (days, hours, _, _) => format!("{days}d{hours}h"),
    }
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
    }
}

/// A number that may be of late or since the start; beside a rate, which is of late, one that is not is marked.
fn aged(row: &Row, style: Style, value: Option<f64>) -> (Style, String) {
    match (row.is_of_late, row.rate.is_some() && value.is_some()) {
        (true, _) => (style, number(value)),
        (false, marked) => (Style::Faint, number(value) + if marked { "*" } else { "" }),
    }
}

fn success(row: &Row) -> (Style, String) {
    let style = match row.success {
        Some(share) if share < 0.95 => Style::Bad,
        Some(share) if share < 0.999 => Style::Warn,
        _ => Style::Good,
    };
    aged(row, style, row.success.map(|share| share * 100.0))
}

fn security(row: &Row) -> (Style, String) {
    let (style, text) = match row.security.as_str() {
        "mutual_tls" => (Style::Good, "yes"),
        "plaintext" => (Style::Bad, "no"),
        "mixed" => (Style::Warn, "mixed"),
        _ => (Style::Faint, "-"),
    };
    (style, text.to_owned())
}

fn refused(row: &Row) -> (Style, String) {
    (if row.refused > 0 { Style::Bad } else { Style::Faint }, row.refused.to_string())
}

#[cfg(test)]
mod tests;
