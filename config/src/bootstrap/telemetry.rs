//! What the bootstrap says about what a process tells of its traffic: `metrics` and `accessLog`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::LogFormat;
use super::validate::Validator;

/// A request's metrics are some seventy lines of a kilobyte for each of these: this many are more than any sidecar has honest use
/// for, and still a page that can be read.
const MAX_SERIES: usize = 500;

/// Beyond it the page alone would take more memory than everything else.
const MAX_SERIES_MOST: usize = 100_000;

/// Two scrapes and more of anybody's interval, and not for ever.
const IDLE: Duration = Duration::from_secs(600);

/// What is counted of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Whether Istio's metrics are; what a request costs is less without.
    pub enabled: bool,
    /// The most series of one metric, by sets of labels; greater than zero.
    pub max_series: usize,
    /// How long a series is kept in which nothing is counted; greater than zero.
    pub idle: Duration,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self { enabled: true, max_series: MAX_SERIES, idle: IDLE }
    }
}

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// `None` = off.
    pub path: Option<PathBuf>,
    /// JSON, or Envoy's default line of text.
    pub format: LogFormat,
    /// Which requests and connections it is about.
    pub filter: LogFilter,
    /// Of those that went well, which part; from 0 to 1.
    pub sample: f64,
}

/// Which requests and connections are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFilter {
    /// All.
    #[default]
    All,
    /// Those that failed or were refused: a flag, a status of 400 or more, or a gRPC status other than OK.
    Errors,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawMetrics {
    enabled: Option<bool>,
    max_series: Option<usize>,
    idle: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAccessLog {
    path: Option<String>,
    format: Option<LogFormat>,
    #[serde(default)]
    filter: LogFilter,
    sample: Option<f64>,
}

pub(super) fn telemetry(
    v: &mut Validator<'_>,
    raw: RawMetrics,
    raw_log: &RawAccessLog,
) -> (MetricsSettings, AccessLog) {
    (metrics(v, raw), access_log(v, raw_log))
}

fn metrics(v: &mut Validator<'_>, raw: RawMetrics) -> MetricsSettings {
    let max_series = v.at_least("metrics.maxSeries", raw.max_series, 1, MAX_SERIES);
    MetricsSettings {
        enabled: raw.enabled.unwrap_or(true),
        max_series: v.at_most("metrics.maxSeries", Some(max_series), MAX_SERIES_MOST, MAX_SERIES),
        idle: v.duration("metrics.idle", raw.idle, IDLE),
    }
}

fn access_log(v: &mut Validator<'_>, raw: &RawAccessLog) -> AccessLog {
    let path = match raw.path.as_deref() {
        Some("off") => None,
        Some(path) => Some(v.resolve(path)),
        None => Some(PathBuf::from("/dev/stdout")),
    };
    let sample = raw.sample.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&sample) {
        v.fail("accessLog.sample", format!("{sample} is no part of a whole: from 0 to 1"));
    }
    AccessLog { path, format: raw.format.unwrap_or(LogFormat::Json), filter: raw.filter, sample }
}
