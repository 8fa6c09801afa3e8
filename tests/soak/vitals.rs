//! What the processes hold: anonymous memory, descriptors, tasks.
//!
//! Anonymous, because that is what a leak is in; the pages of the program itself come when code runs for the first time and go when the
//! kernel wants them back, and have made the memory of a process that did nothing rise, and fall.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use meshgate::sandbox::Sidecar;
use tokio::time::Instant;

use crate::profile::{Growth, Wanted};
use crate::setting::Setting;

/// A gauge of every worker's tasks.
const TASKS: &str = "mesh_tasks";

/// Tasks that ended in a panic: none may.
const PANICS: &str = "mesh_panics_total";

/// Open for a while yet, such as a connection that is just being closed.
const SLACK_COUNT: u64 = 4;

#[derive(Clone, Copy, Default)]
struct Held {
    kib: u64,
    descriptors: u64,
    tasks: u64,
    panics: u64,
}

/// Of each process.
pub(crate) struct Vitals {
    /// Before there was any load.
    idle: BTreeMap<&'static str, Held>,
    /// Under load, after the warm-up.
    first: BTreeMap<&'static str, Held>,
    /// At the last look.
    last: BTreeMap<&'static str, Held>,
    /// Memory since the warm-up: when, and how much.
    memory: BTreeMap<&'static str, Vec<(Instant, u64)>>,
}

impl Vitals {
    pub(crate) async fn before(setting: &Setting) -> Self {
        let idle = look(setting).await;
        Self { first: idle.clone(), last: idle.clone(), idle, memory: BTreeMap::new() }
    }

    pub(crate) async fn warm(&mut self, setting: &Setting) {
        self.first = look(setting).await;
    }

    pub(crate) async fn look(&mut self, setting: &Setting) {
        self.last = look(setting).await;
        for (name, held) in &self.last {
            self.memory.entry(name).or_default().push((Instant::now(), held.kib));
        }
    }

    pub(crate) fn line(&self) -> String {
        let held = |(name, held): (&&str, &Held)| {
            format!("{name} {} KiB {} fds {} tasks", held.kib, held.descriptors, held.tasks)
        };
        self.last.iter().map(held).collect::<Vec<_>>().join("; ")
    }

    /// After the load has ended and connections had time to close.
    pub(crate) async fn problems(&mut self, setting: &Setting, wanted: &Wanted) -> Vec<String> {
        let end = look(setting).await;
        let mut problems = Vec::new();
        for (name, first) in &self.first {
            let (last, end) = (self.last[name], end[name]);
            let mut compare = |what: &str, now: u64, most: u64| {
                if now > most {
                    problems.push(format!("{name}: {now} {what}, and at most {most} are wanted"));
                }
            };
            compare("KiB under load", last.kib, first.kib + wanted.kib);
            compare("KiB at rest", end.kib, first.kib + wanted.kib);
            // At rest there is less of everything than under load, and very little in all.
            compare("descriptors at rest", end.descriptors, self.idle[name].descriptors + SLACK_COUNT);
            compare("tasks at rest", end.tasks, self.idle[name].tasks + SLACK_COUNT);
            compare("panics", end.panics, 0);
            let looks = self.memory.get(name).map_or(&[][..], Vec::as_slice);
            let (grown, most, when) = match wanted.growth {
                Growth::Later(most) => (grown(later(looks)), most, "in the later half"),
                Growth::Hour(most) => (slope(looks), most, "an hour since the warm-up"),
            };
            if grown > most {
                problems.push(format!("{name}: grown by {grown:.0} KiB {when}, and at most {most} are wanted"));
            }
        }
        self.last = end;
        problems
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, first) in &self.first {
            let (last, idle) = (self.last[name], self.idle[name]);
            let looks = self.memory.get(name).map_or(&[][..], Vec::as_slice);
            writeln!(
                f,
                "{name}: {} KiB after the warm-up, {:+.0} KiB an hour since, {:+.0} in the later half, {} at rest; descriptors {} before, {} at rest; tasks {} before, {} at rest",
                first.kib,
                slope(looks),
                slope(later(looks)),
                last.kib,
                idle.descriptors,
                last.descriptors,
                idle.tasks,
                last.tasks
            )?;
        }
        Ok(())
    }
}

async fn look(setting: &Setting) -> BTreeMap<&'static str, Held> {
    let mut all = BTreeMap::new();
    for (name, sidecar) in setting.sidecars() {
        all.insert(name, held(sidecar).await);
    }
    all
}

async fn held(sidecar: &Sidecar) -> Held {
    let process = format!("/proc/{}", sidecar.pid());
    let status =
        fs::read_to_string(format!("{process}/status")).unwrap_or_else(|error| panic!("{}: {error}", sidecar.output()));
    let kib =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().count() as u64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let count = async |series| sidecar.metric(series).await.unwrap_or_else(|| panic!("no {series}")) as u64;
    Held { kib: kib.unwrap(), descriptors, tasks: count(TASKS).await, panics: count(PANICS).await }
}

/// KiB in the later half of the looks, by its slope.
fn grown(looks: &[(Instant, u64)]) -> f64 {
    let later = &looks[looks.len() / 2..];
    let took = later.first().zip(later.last()).map_or(0.0, |(first, last)| (last.0 - first.0).as_secs_f64());
    slope(looks) * took / 3600.0
}

fn later(looks: &[(Instant, u64)]) -> &[(Instant, u64)] {
    &looks[looks.len() / 2..]
}

/// KiB an hour, by least squares.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn slope(looks: &[(Instant, u64)]) -> f64 {
    let Some((first, _)) = looks.first() else { return 0.0 };
    let points: Vec<_> = looks.iter().map(|(at, kib)| ((*at - *first).as_secs_f64() / 3600.0, *kib as f64)).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let under: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}
