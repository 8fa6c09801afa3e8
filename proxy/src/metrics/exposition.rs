//! The page that a scraper reads: the Prometheus text format 0.0.4, or OpenMetrics 1.0 for who asks for it.
//!
//! The two differ in little: what a counter's family is called, and in the end of the page. No line is looked at twice.

use std::fmt::{Display, Write as _};

use super::series::{BOUND_NAMES, Histogram};

/// How the page is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Version 0.0.4, which everything reads.
    #[default]
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for: OpenMetrics where it is named and not ranked below text (RFC 9110, section 12.5.1).
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut text) = (None, None);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let rank = match parts.next().unwrap_or_default() {
                kind if kind.eq_ignore_ascii_case("application/openmetrics-text") => &mut open,
                kind if kind.eq_ignore_ascii_case("text/plain") => &mut text,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            *rank = Some(rank.map_or(weight, |before: f32| before.max(weight)));
        }
        let open = open.unwrap_or(0.0);
        if open > 0.0 && open >= text.unwrap_or(0.0) { Self::OpenMetrics } else { Self::Text }
    }

    /// The page's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What kind of metric a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Has buckets.
    Histogram,
}

/// A page that is being written.
#[derive(Debug)]
pub struct Page {
    out: String,
    format: Format,
}

impl Page {
    /// An empty one, with room for so many bytes.
    pub fn new(format: Format, room: usize) -> Self {
        Self { out: String::with_capacity(room), format }
    }

    /// The whole of it.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    /// Begins a metric. The name of a counter is given with its `_total`.
    pub fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let name = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Text => name,
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing into a String cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    /// One value of a metric; `labels` are as [`Labels`] writes them.
    pub fn value(&mut self, name: &str, labels: &str, value: impl Display) {
        self.out.push_str(name);
        if !labels.is_empty() {
            self.out.push('{');
            self.out.push_str(labels);
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    /// One histogram of a metric.
    pub fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let (buckets, sum) = histogram.read();
        let mut count = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        let mut number = itoa::Buffer::new();
        for (more, bound) in buckets.into_iter().zip(BOUND_NAMES) {
            count += more;
            for part in [name, "_bucket{", labels, comma, "le=\"", bound, "\"} ", number.format(count), "\n"] {
                self.out.push_str(part);
            }
        }
        let _ = writeln!(
            self.out,
            "{name}_sum{{{labels}}} {}.{:03}\n{name}_count{{{labels}}} {count}",
            sum / 1000,
            sum % 1000
        );
    }
}

/// Label pairs, as they stand between the braces.
#[derive(Debug, Default)]
pub struct Labels(String);

impl Labels {
    /// One more pair.
    pub fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    /// More pairs, written already.
    pub fn extend(&mut self, written: &str) {
        if !self.0.is_empty() && !written.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(written);
    }

    /// All of them.
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0", Format::OpenMetrics),
            ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=nonsense, text/plain;q=0.9", Format::OpenMetrics),
            (prometheus, Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn label_values_cannot_end_themselves() {
        let mut labels = Labels::default();
        labels.add("a", "x\"} 1\n# \\");
        labels.extend("b=\"y\"");
        assert_eq!(labels.into_text(), r#"a="x\"} 1\n# \\",b="y""#);
    }

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::default();
        histogram.observe_bytes(3);
        histogram.observe_bytes(700);
        let mut page = Page::new(Format::Text, 0);
        page.head("x_bytes", Kind::Histogram, "Sizes");
        page.histogram("x_bytes", "a=\"b\"", &histogram);
        let text = page.finish();
        assert!(text.starts_with("# HELP x_bytes Sizes.\n# TYPE x_bytes histogram\n"), "{text}");
        for line in [
            "x_bytes_bucket{a=\"b\",le=\"5.0\"} 1",
            "x_bytes_bucket{a=\"b\",le=\"+Inf\"} 2",
            "x_bytes_sum{a=\"b\"} 703.000",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
