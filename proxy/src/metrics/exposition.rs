//! The page that a scraper reads: OpenMetrics 1.0 for who asks for it, the Prometheus text format 0.0.4 for all others.
//!
//! `prometheus-client` writes it: names, escaping and numbers are its business, and ours which metrics there are. It knows OpenMetrics
//! alone; the two differ in the end of the page and in what a counter's family is called, see [`Metric`]. What is asked for is
//! put on the page by a [`Source`], which looks it up then: nothing is registered beforehand.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, LabelSetEncoder, MetricEncoder,
    NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::series::{BOUNDS, Histogram};

/// A page is made of pieces of about this size. After each others may have the core, which is after less than a tenth of a millisecond of
/// work. Linux (EEVDF) lets a thread that runs finish its slice, of one to three milliseconds, before one that wakes up, and that may be a
/// worker whose request has come. A core that is busy throughout goes on for a slice each time: so a page of nine megabytes takes less than
/// half a second there.
const PIECE: usize = 64 * 1024;

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
    fn write(&self, page: &mut Page<'_>) -> fmt::Result;
}

/// A source as `prometheus-client` asks it.
#[derive(Debug)]
struct Scrape<S>(Format, S);

impl<S: Source> Collector for Scrape<S> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.1.write(&mut Page { encoder, format: self.0 })
    }
}

/// The page of a source, in one piece.
pub fn page(format: Format, source: impl Source) -> String {
    pieces(format, source).concat()
}

/// The page of a source, in pieces: a page of megabytes that grows as one text is copied again and again, and each of its parts goes back
/// to the allocator as soon as it is sent.
pub fn pieces(format: Format, source: impl Source) -> Vec<String> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(format, source)));
    let mut out = Patient { done: Vec::new(), piece: String::new() };
    let written = match format {
        Format::Text => text::encode_registry(&mut out, &registry),
        Format::OpenMetrics => text::encode(&mut out, &registry),
    };
    // Writing into a String cannot fail.
    debug_assert!(written.is_ok());
    out.done.push(out.piece);
    out.done
}

/// A text that is written with rests, for others who want the core.
#[derive(Debug)]
struct Patient {
    done: Vec<String>,
    piece: String,
}

impl fmt::Write for Patient {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.piece.len() + more.len() > PIECE {
            self.done.push(std::mem::replace(&mut self.piece, String::with_capacity(PIECE)));
            std::thread::yield_now();
        }
        self.piece.push_str(more);
        Ok(())
    }
}

/// Labels as they stand on the page, for who has many lines of the same: some twenty labels are written and looked at for what has to
/// be escaped once, and copied from then on.
#[derive(Debug)]
pub struct Written(String);

impl Written {
    /// These labels, as `prometheus-client` writes them.
    pub fn of<L: EncodeLabelSet + fmt::Debug + Send + Sync + 'static>(labels: Arc<L>) -> Self {
        let text = page(Format::Text, Labelled(labels));
        let braces = text.rsplit_once('}').and_then(|(line, _)| line.split_once('{'));
        Self(braces.map(|(_, inside)| inside.to_owned()).unwrap_or_default())
    }
}

impl EncodeLabelSet for Written {
    /// All is one key, behind which no value is begun: that leaves it as it is.
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        encoder.encode_label().encode_label_key()?.write_str(&self.0)
    }
}

/// A page with nothing but one series of these labels.
#[derive(Debug)]
struct Labelled<L>(Arc<L>);

impl<L: EncodeLabelSet + fmt::Debug + Send + Sync + 'static> Source for Labelled<L> {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("labels", "Labels")?.of(&*self.0)?.level(0_u64)
    }
}

/// A page that is being written.
#[derive(Debug)]
pub struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
    format: Format,
}

impl Page<'_> {
    /// Begins a metric that only grows. Its name is given with its `_total`.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn counter<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Metric<'s>, fmt::Error> {
        let name = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Text => name,
        };
        self.begin(name, help, MetricType::Counter)
    }

    /// Begins a metric that goes up and down.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn gauge<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Metric<'s>, fmt::Error> {
        self.begin(name, help, MetricType::Gauge)
    }

    /// Begins a metric that has buckets.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn histogram<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Metric<'s>, fmt::Error> {
        self.begin(name, help, MetricType::Histogram)
    }

    fn begin<'s>(&'s mut self, name: &'s str, help: &str, kind: MetricType) -> Result<Metric<'s>, fmt::Error> {
        let encoder = self.encoder.encode_descriptor(name, &format!("{help}."), None, kind)?;
        Ok(Metric { encoder, format: self.format })
    }
}

/// A metric that has been begun, or one series of it.
#[derive(Debug)]
pub struct Metric<'a> {
    encoder: MetricEncoder<'a>,
    format: Format,
}

impl Metric<'_> {
    /// The series of these labels.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn of<'s>(&'s mut self, labels: &'s impl EncodeLabelSet) -> Result<Metric<'s>, fmt::Error> {
        Ok(Metric { encoder: self.encoder.encode_family(labels)?, format: self.format })
    }

    /// Its value, of one that only grows. OpenMetrics has the `_total` on the lines of values alone, and `prometheus-client` puts it
    /// there; in the older text it is part of the name, on lines that look like any gauge's.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn count<V: EncodeCounterValue + EncodeGaugeValue + Copy>(&mut self, value: V) -> fmt::Result {
        match self.format {
            Format::Text => self.encoder.encode_gauge(&value),
            Format::OpenMetrics => self.encoder.encode_counter::<NoLabelSet, V, f64>(&value, None),
        }
    }

    /// Its value, of one that goes up and down.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn level(&mut self, value: impl EncodeGaugeValue + Copy) -> fmt::Result {
        self.encoder.encode_gauge(&value)
    }

    /// Its buckets, their number and their sum.
    ///
    /// # Errors
    /// The page cannot be written.
    #[allow(clippy::cast_precision_loss)]
    pub fn buckets(&mut self, histogram: &Histogram) -> fmt::Result {
        let (counts, sum) = histogram.read();
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1000.0).chain([f64::INFINITY]);
        let mut buckets = [(0.0, 0); BOUNDS.len() + 1];
        for (bucket, both) in buckets.iter_mut().zip(bounds.zip(counts)) {
            *bucket = both;
        }
        let count = counts.iter().sum();
        self.encoder.encode_histogram::<NoLabelSet>(sum as f64 / 1000.0, count, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Sample(Histogram);

    impl Source for Sample {
        fn write(&self, page: &mut Page<'_>) -> fmt::Result {
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

    /// More than fits into several pieces.
    #[derive(Debug)]
    struct Many;

    impl Source for Many {
        fn write(&self, page: &mut Page<'_>) -> fmt::Result {
            let mut counter = page.counter("x_total", "Things")?;
            (0..10_000_u64).try_for_each(|number| counter.of(&[("a", number)])?.count(number))
        }
    }

    #[test]
    fn a_page_that_is_written_with_rests_is_whole() {
        let pieces = pieces(Format::Text, Many);
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.len() <= PIECE), "{}", pieces.len());
        let text = pieces.concat();
        let expected = (0..10_000).map(|number| format!("x_total{{a=\"{number}\"}} {number}\n"));
        assert_eq!(text, format!("# HELP x_total Things.\n# TYPE x_total counter\n{}", expected.collect::<String>()));
    }

    #[derive(Debug)]
    struct Twice<L>(L);

    impl<L: EncodeLabelSet + fmt::Debug + Send + Sync + 'static> Source for Twice<L> {
        fn write(&self, page: &mut Page<'_>) -> fmt::Result {
            page.counter("x_total", "Things")?.of(&self.0)?.count(3_u64)?;
            page.histogram("x_bytes", "Sizes")?.of(&self.0)?.buckets(&Histogram::default())
        }
    }

    #[test]
    fn labels_that_were_written_once_stand_as_they_would_have_been_written_each_time() {
        let hostile = [("a", "x\"} 1\n# \\"), ("b", "{}"), ("c", "")];
        for format in [Format::Text, Format::OpenMetrics] {
            assert_eq!(page(format, Twice(Written::of(Arc::new(hostile)))), page(format, Twice(hostile)));
            let none: [(&str, &str); 0] = [];
            assert_eq!(page(format, Twice(Written::of(Arc::new(none)))), page(format, Twice(none)));
        }
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
