//! Sends spans to the collector in batches, on the main thread, and never in anybody's way.
//!
//! What is worth it is tried a few times, with pauses that grow; meanwhile the queue fills, and what does not fit is dropped by who comes with
//! it. Every span is counted once, as what became of it.

use std::sync::Arc;
use std::time::Duration;

use meshgate_config::{Bootstrap, TracingSettings};
use meshgate_identity::SpiffeId;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::span::Span;
use super::transport::{ExportError, Partly, Transport};
use super::{Tracer, otlp};
use crate::clusters::jittered;
use crate::dial::DialError;
use crate::metrics::{Metrics, ResultLabels};
use crate::throttle;

/// How often one batch is tried: over seven to fifteen seconds, in which a collector can be started anew.
const TRIES: u32 = 5;

/// Before a batch is tried for the second time; doubled each time.
const PAUSE: Duration = Duration::from_secs(1);

/// At the end, where the drain has left no time: enough for a collector that is there.
const LAST_MIN: Duration = Duration::from_secs(1);

/// What sends, once it is started.
#[derive(Debug)]
pub struct Exporter {
    settings: TracingSettings,
    resource: Resource,
    transport: Transport,
}

/// An exporter at work.
#[derive(Debug)]
pub struct Exporting {
    settings: TracingSettings,
    queue: mpsc::Sender<Box<Span>>,
    full: Arc<Notify>,
    metrics: Metrics,
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Of the bootstrap; `None` where it wants no traces. Connects to nobody yet.
    ///
    /// # Errors
    /// The roots that the collector is to be trusted by are not usable.
    pub fn new(bootstrap: &Bootstrap, id: &SpiffeId) -> Result<Option<Self>, DialError> {
        let Some(settings) = &bootstrap.tracing else { return Ok(None) };
        let resource = otlp::resource(bootstrap, settings, id);
        Ok(Some(Self { resource, transport: Transport::new(settings)?, settings: settings.clone() }))
    }

    /// Begins to send, in a task of this thread.
    pub fn start(self, metrics: &Metrics) -> Exporting {
        let Self { settings, resource, transport } = self;
        let (queue, spans) = mpsc::channel(settings.queue);
        let (end, ends) = watch::channel(false);
        let (full, metrics) = (Arc::<Notify>::default(), metrics.clone());
        let work = Work {
            settings: settings.clone(),
            resource,
            transport,
            spans,
            full: Arc::clone(&full),
            metrics: metrics.clone(),
            is_failing: false,
        };
        let task = tokio::task::spawn_local(work.serve(ends));
        Exporting { settings, queue, full, metrics, end, task }
    }
}

impl Exporting {
    /// One worker's end.
    pub fn tracer(&self) -> Tracer {
        Tracer::new(&self.settings, self.queue.clone(), Arc::clone(&self.full), &self.metrics)
    }

    /// Sends what there is, once, until a deadline or until it is cut; for a second in any case, if the collector takes that long.
    pub async fn finish<T>(this: Option<Self>, deadline: Instant, cut: impl Future<Output = T>) {
        let Some(mut this) = this else { return };
        // One that has panicked has nothing left to send.
        let _ = this.end.send(true);
        let deadline = deadline.max(Instant::now() + LAST_MIN);
        let in_time = tokio::select! {
            biased;
            done = tokio::time::timeout_at(deadline, &mut this.task) => done.is_ok(),
            _ = cut => false,
        };
        if !in_time {
            this.task.abort();
            tracing::warn!("spans are lost: the collector did not take the last ones in time");
        }
    }
}

/// What the task has.
struct Work {
    settings: TracingSettings,
    resource: Resource,
    transport: Transport,
    spans: mpsc::Receiver<Box<Span>>,
    full: Arc<Notify>,
    metrics: Metrics,
    is_failing: bool,
}

impl Work {
    /// Sends until the end is told; then what is there, once.
    async fn serve(mut self, mut ends: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(self.settings.batch);
        loop {
            let is_end = tokio::select! {
                biased;
                () = ended(&mut ends) => true,
                () = self.full.notified() => false,
                () = sleep(self.settings.interval) => false,
            };
            while self.gather(&mut batch) {
                let outcome = self.deliver(&batch, &mut ends).await;
                let failed = outcome.is_err();
                self.settle(batch.len(), outcome);
                if failed && *ends.borrow() {
                    self.give_up(&mut batch);
                }
            }
            if is_end {
                return;
            }
        }
    }

    /// The next batch, if there is anything to send.
    fn gather(&mut self, batch: &mut Vec<Span>) -> bool {
        batch.clear();
        while batch.len() < self.settings.batch
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(*span);
        }
        !batch.is_empty()
    }

    /// Tries until it is taken, is refused for good, or has been tried often enough; at the end, once more and no longer.
    async fn deliver(&mut self, batch: &[Span], ends: &mut watch::Receiver<bool>) -> Result<Partly, ExportError> {
        let request = otlp::request(&self.resource, batch);
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            let last = *ends.borrow();
            match self.transport.send(&request).await {
                Err(error) if error.is_passing() && !last => {
                    tracing::debug!(%error, "spans were not taken; trying again");
                    tokio::select! {
                        biased;
                        () = ended(ends) => {}
                        () = sleep(error.after().unwrap_or_else(|| jittered(pause))) => {}
                    }
                    pause *= 2;
                }
                outcome => return outcome,
            }
        }
        self.transport.send(&request).await
    }

    /// Counts what became of a batch, and says so when that has changed.
    fn settle(&mut self, spans: usize, outcome: Result<Partly, ExportError>) {
        let spans = spans as u64;
        match outcome {
            Ok(partly) => {
                let partly = partly.unwrap_or_default();
                let rejected = u64::try_from(partly.rejected_spans).unwrap_or_default().min(spans);
                self.count("exported", spans - rejected);
                self.count("rejected", rejected);
                if rejected > 0
                    && let Some(left_out) = throttle::admit()
                {
                    let why = partly.error_message;
                    tracing::warn!(rejected, %why, left_out, "the collector did not take all spans");
                }
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                self.count("failed", spans);
                self.is_failing = true;
                if let Some(left_out) = throttle::admit() {
                    tracing::warn!(endpoint = %self.settings.endpoint, %error, spans, left_out, "spans are lost");
                }
            }
        }
    }

    /// Nobody takes what is left, and there is no time to wait for somebody. The batch before has said why.
    fn give_up(&mut self, batch: &mut Vec<Span>) {
        let mut left = 0;
        while self.gather(batch) {
            left += batch.len() as u64;
        }
        self.count("failed", left);
        if left > 0 {
            tracing::warn!(endpoint = %self.settings.endpoint, spans = left, "the last spans are lost too");
        }
    }

    fn count(&self, result: &'static str, spans: u64) {
        if spans > 0 {
            self.metrics.spans.get_or_create(&ResultLabels { result }).inc_by(spans);
        }
    }
}

/// The end has been told, or nobody is left to tell it.
async fn ended(ends: &mut watch::Receiver<bool>) {
    let _ = ends.wait_for(|end| *end).await;
}
