//! The page that a scraper reads: OpenMetrics 1.0 for who asks for it, the Prometheus text format 0.0.4 for all others.
//!
//! The one idea: a series' labels are written down once and copied to each of its lines, twenty-two for a histogram, so that a page of
//! thousands of lines costs little more than moving its bytes. The two formats differ in the end of the page and in what a counter's
//! family is called, see [`Page::counter`]. What is asked for is put on the page by a [`Source`], which looks it up then: nothing is
//! registered beforehand.

use std::fmt::{self, Write};

use super::series::{BOUNDS, Histogram};

/// What a page takes that is not much used: it grows from there.
const ROOM: usize = 64 * 1024;

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

/// What has metrics to show.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Puts them on the page.
    ///
    /// # Errors
    /// The page cannot be written.
    fn write(&self, page: &mut Page) -> fmt::Result;
}

/// What tells a series from the others of its metric.
pub trait Labels {
    /// Writes each of them down.
    fn write(&self, line: &mut Line<'_>);
}

/// The labels of a line.
#[derive(Debug)]
pub struct Line<'a>(&'a mut String);

impl Line<'_> {
    /// One more; `name` is one of ours, `value` may be anything.
    pub fn label(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        // A pass without an early end is one that the compiler vectorises.
        if value.bytes().fold(false, |found, byte| found | matches!(byte, b'\\' | b'"' | b'\n')) {
            escape(value, self.0);
        } else {
            self.0.push_str(value);
        }
        self.0.push('"');
    }
}

fn escape(value: &str, out: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

impl<V: AsRef<str>, const N: usize> Labels for [(&str, V); N] {
    fn write(&self, line: &mut Line<'_>) {
        self.iter().for_each(|(name, value)| line.label(name, value.as_ref()));
    }
}

/// What stands behind the labels. A whole number that is held as a float keeps its point.
pub trait Number: Copy {
    /// Writes it down.
    fn write(self, out: &mut String);
}

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl Number for $kind {
            fn write(self, out: &mut String) {
                out.push_str(itoa::Buffer::new().format(self));
            }
        }
    )*};
}
numbers!(u32 u64 usize i64);

impl Number for f64 {
    fn write(self, out: &mut String) {
        // Writing into a String cannot fail.
        let _ = write!(out, "{self:?}");
    }
}

/// The page of a source.
pub fn page(format: Format, source: impl Source) -> String {
    let mut page = Page { out: String::with_capacity(ROOM), labels: String::new(), buckets: buckets(), format };
    let written = source.write(&mut page);
    // Writing into a String cannot fail.
    debug_assert!(written.is_ok());
    if format == Format::OpenMetrics {
        page.out.push_str("# EOF\n");
    }
    page.out
}

/// What the lines of buckets begin with, behind the name of their metric.
#[allow(clippy::cast_precision_loss)]
fn buckets() -> Vec<String> {
    let bounds = BOUNDS.iter().map(|bound| format!("{:?}", *bound as f64 / 1000.0)).chain(["+Inf".to_owned()]);
    bounds.map(|bound| format!("_bucket{{le=\"{bound}\"")).collect()
}

/// A page that is being written.
#[derive(Debug)]
pub struct Page {
    out: String,
    /// Of the series that is being written, without the brackets.
    labels: String,
    buckets: Vec<String>,
    format: Format,
}

impl Page {
    /// Begins a metric that only grows. Its name is given with its `_total`, which in OpenMetrics is on the lines of values alone
    /// and no part of the family's name.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn counter<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Metric<'s>, fmt::Error> {
        let family = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Text => name,
        };
        self.begin(name, family, help, "counter")
    }

    /// Begins a metric that goes up and down.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn gauge<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Metric<'s>, fmt::Error> {
        self.begin(name, name, help, "gauge")
    }

    /// Begins a metric that has buckets.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn histogram<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Metric<'s>, fmt::Error> {
        self.begin(name, name, help, "histogram")
    }

    fn begin<'s>(&'s mut self, name: &'s str, family: &str, help: &str, kind: &str) -> Result<Metric<'s>, fmt::Error> {
        writeln!(self.out, "# HELP {family} {help}.\n# TYPE {family} {kind}")?;
        self.labels.clear();
        Ok(Metric { page: self, name })
    }

    /// A line of the series, from its name to its end.
    fn line(&mut self, name: &str, suffix: &str, value: impl Number) {
        let Self { out, labels, .. } = self;
        out.push_str(name);
        out.push_str(suffix);
        if !labels.is_empty() {
            out.push('{');
            out.push_str(labels);
            out.push('}');
        }
        out.push(' ');
        value.write(out);
        out.push('\n');
    }
}

/// A metric that has been begun, or one series of it.
#[derive(Debug)]
pub struct Metric<'a> {
    page: &'a mut Page,
    name: &'a str,
}

impl Metric<'_> {
    /// The series of these labels.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn of<'s>(&'s mut self, labels: &impl Labels) -> Result<Metric<'s>, fmt::Error> {
        self.page.labels.clear();
        labels.write(&mut Line(&mut self.page.labels));
        Ok(Metric { page: self.page, name: self.name })
    }

    /// Its value, of one that only grows.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn count(&mut self, value: impl Number) -> fmt::Result {
        self.level(value)
    }

    /// Its value, of one that goes up and down.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn level(&mut self, value: impl Number) -> fmt::Result {
        self.page.line(self.name, "", value);
        Ok(())
    }

    /// Its buckets, their number and their sum.
    ///
    /// # Errors
    /// The page cannot be written.
    #[allow(clippy::cast_precision_loss)]
    pub fn buckets(&mut self, histogram: &Histogram) -> fmt::Result {
        let (counts, sum) = histogram.read();
        self.page.line(self.name, "_sum", sum as f64 / 1000.0);
        self.page.line(self.name, "_count", counts.iter().sum::<u64>());
        let Page { out, labels, buckets, .. } = &mut *self.page;
        let (mut so_far, comma) = (0, if labels.is_empty() { "" } else { "," });
        for (begin, count) in buckets.iter().zip(counts) {
            so_far += count;
            for text in [self.name, begin.as_str(), comma, labels.as_str(), "} "] {
                out.push_str(text);
            }
            so_far.write(out);
            out.push('\n');
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Sample(Histogram);

    impl Source for Sample {
        fn write(&self, page: &mut Page) -> fmt::Result {
            let mut counter = page.counter("x_total", "Things")?;
            counter.of(&[("a", "x\"} 1\n# \\")])?.count(3_u64)?;
            counter.of(&[("a", "y"), ("b", "")])?.count(4_u64)?;
            page.gauge("x_level", "Height")?.level(-1_i64)?;
            page.histogram("x_bytes", "Sizes")?.of(&[("a", "b")])?.buckets(&self.0)
        }
    }

    fn sample() -> Sample {
        let histogram = Histogram::default();
        histogram.observe_bytes(3);
        histogram.observe_bytes(700);
        Sample(histogram)
    }

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
    fn the_formats_differ_in_the_names_of_counters_and_in_the_end() {
        let values = "x_total{a=\"x\\\"} 1\\n# \\\\\"} 3\nx_total{a=\"y\",b=\"\"} 4\n\
                      # HELP x_level Height.\n# TYPE x_level gauge\nx_level -1\n\
                      # HELP x_bytes Sizes.\n# TYPE x_bytes histogram\n";
        let text = page(Format::Text, sample());
        let expected = format!("# HELP x_total Things.\n# TYPE x_total counter\n{values}");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.ends_with("\nx_bytes_bucket{le=\"+Inf\",a=\"b\"} 2\n"), "{text}");
        let open = page(Format::OpenMetrics, sample());
        let expected = format!("# HELP x Things.\n# TYPE x counter\n{values}");
        assert!(open.starts_with(&expected), "{open}");
        assert!(open.ends_with("\nx_bytes_bucket{le=\"+Inf\",a=\"b\"} 2\n# EOF\n"), "{open}");
    }

    #[test]
    fn buckets_add_up() {
        let text = page(Format::Text, sample());
        for line in [
            "x_bytes_bucket{le=\"0.5\",a=\"b\"} 0\n",
            "x_bytes_bucket{le=\"5.0\",a=\"b\"} 1\n",
            "x_bytes_bucket{le=\"3600000.0\",a=\"b\"} 2\n",
            "x_bytes_bucket{le=\"+Inf\",a=\"b\"} 2\n",
            "x_bytes_sum{a=\"b\"} 703.0\n",
            "x_bytes_count{a=\"b\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
