//! What becomes of a call, as people read it: the verdict, then each cluster with its endpoints.

use std::fmt::Write as _;

use meshgate_policy::Verdict;

use super::answer::{BackendSeen, Called, ClusterSeen, EndpointSeen, RequestSeen, SplitSeen, State, Why};
use crate::judge::Outcome;
use crate::judge::text::{BOLD, FAINT, GREEN, RED, painter};

impl Called {
    /// Several lines, the last one ended.
    pub fn text(&self, colours: bool) -> String {
        let paint = painter(colours);
        let colour = if self.verdict == Outcome::Allow { GREEN } else { RED };
        let mut text = format!("{}: {}", paint(colour, self.verdict.as_str()), self.sentence());
        if let Some(detail) = &self.detail {
            let _ = write!(text, ": {detail}");
        }
        let _ = writeln!(text, " {}", paint(FAINT, &format!("({})", self.reason)));
        self.circumstances(&mut text);
        for cluster in &self.clusters {
            let _ = writeln!(text, "cluster {}: {}", paint(BOLD, &cluster.cluster), cluster.words());
            for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.cluster == cluster.cluster) {
                let line = endpoint.words();
                let _ =
                    writeln!(text, "  {}", if endpoint.state == State::LeftOut { paint(FAINT, &line) } else { line });
            }
        }
        if self.clusters.is_empty() {
            for endpoint in &self.endpoints {
                let _ = writeln!(text, "endpoint {}", endpoint.words());
            }
        }
        text
    }

    fn sentence(&self) -> String {
        let closed = "the connection is closed without a byte";
        let told = match (self.status, self.reason) {
            (Some(status), _) => format!("the caller gets {status}"),
            (None, "out_of_reach") if !self.tcp => format!("{closed} (403 on HTTP/2)"),
            (None, _) => closed.to_owned(),
        };
        match self.reason {
            "service" => "goes to endpoints of a service".to_owned(),
            "split" => "goes to backends of a TrafficSplit".to_owned(),
            "no_target_matched" => format!("is not sent to another cluster, {told}"),
            "endpoint" => "goes to the one endpoint that was called by its own address".to_owned(),
            "passthrough" => "is nothing of the mesh, and passes as it is".to_owned(),
            "out_of_reach" => format!("nobody there may be called, {told}"),
            "no_endpoint" => format!("there is no usable endpoint, {told}"),
            _ => format!("leads nowhere, {told}"),
        }
    }

    fn circumstances(&self, text: &mut String) {
        let caller = self.workload.as_deref().unwrap_or("the workload");
        let generation = self.generation.map(|generation| format!(", generation {generation}")).unwrap_or_default();
        let _ = writeln!(text, "caller: {caller}{generation}");
        let spoken = if self.tcp { "TCP" } else { "HTTP" };
        let destination = self.destination.map(|address| format!(" by way of {address}")).unwrap_or_default();
        let _ = writeln!(text, "called: {}{destination}, {spoken}", self.to);
        if let Some(RequestSeen { method, path }) = &self.request {
            let _ = writeln!(text, "request: {method} {path}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        for split in &self.splits {
            let _ = writeln!(text, "split {}: {}", split.name, split.words());
            for backend in &split.backends {
                let _ = writeln!(text, "  {}", backend.words());
            }
        }
        let Some(service) = &self.service else { return };
        let _ = writeln!(text, "service: {}, {}:{}", service.name, service.host, service.port);
        if self.clusters.is_empty() {
            return;
        }
        let spread = match service.spread {
            "FailOver" => "FailOver, the next cluster only when one has nothing usable or answers 5xx",
            "ActiveActive" => "ActiveActive, over clusters by weight",
            _ => "Locality, this cluster only",
        };
        let _ = writeln!(text, "spread: {spread}; within a cluster {}", service.balancer);
        if service.not_ready > 0 {
            let _ = writeln!(text, "not ready in this cluster, and left out: {}", service.not_ready);
        }
    }
}

impl ClusterSeen {
    fn words(&self) -> String {
        let own = if self.own { " (this one)" } else { "" };
        let Some(share) = self.share else { return format!("left out, weight 0{own}") };
        let rank = format!("weight {}, priority {}{own}", share.weight, share.priority);
        match (self.state, self.per_mille) {
            (State::Used, Some(part)) => format!("{}.{}%, {rank}", part / 10, part % 10),
            (State::Standby, _) => format!("stands by, {rank}"),
            _ => format!("nothing usable, {rank}"),
        }
    }
}

impl SplitSeen {
    fn words(&self) -> &'static str {
        match (self.all, self.takes) {
            (true, Some(false)) => "takes what is left, and this is not",
            (true, _) => "takes whatever comes to it",
            (false, None) => "takes requests that match it",
            (false, Some(true)) => "takes requests that match it, as this one does",
            (false, Some(false)) => "takes requests that match it, and not this",
        }
    }
}

impl BackendSeen {
    fn words(&self) -> String {
        let Self { host, weight, per_mille, .. } = self;
        let mut text = format!("{}.{}% {host}, weight {weight}: ", per_mille / 10, per_mille % 10);
        match (self.verdict, self.status) {
            (Outcome::Allow, _) => text.push_str("used"),
            (_, Some(status)) => {
                let _ = write!(text, "the caller gets {status}");
            }
            (_, None) => text.push_str("the connection is closed"),
        }
        if let Some(detail) = &self.detail {
            let _ = write!(text, " ({detail})");
        }
        text
    }
}

impl EndpointSeen {
    fn words(&self) -> String {
        let mut text = self.address.clone();
        if let Some(workload) = &self.workload {
            let _ = write!(text, " {workload}");
        }
        let _ = match self.why {
            None => write!(text, ": {}", if self.state == State::Standby { "stands by" } else { "used" }),
            Some(why) => write!(text, ": left out, {}", why.sentence()),
        };
        if let Some(detail) = &self.detail {
            let _ = write!(text, " ({detail})");
        }
        match (&self.expects, self.why) {
            (Some(expects), None) if expects == "plaintext" => text.push_str(", plaintext"),
            (Some(expects), None) => {
                let _ = write!(text, ", must be {expects}");
            }
            _ => {}
        }
        if !self.targets.is_empty() {
            let _ = write!(text, ", by TrafficTarget {}", self.targets.join(", "));
        } else if self.why == Some(Why::OutOfReach) && !self.targets_of_others.is_empty() {
            let _ = write!(text, "; {} names others", self.targets_of_others.join(", "));
        }
        if let Some(ruling) = self.ruling.as_ref().filter(|ruling| ruling.verdict == Verdict::Deny) {
            let _ = write!(text, ", but this is not sent ({})", ruling.reason);
            if let Some(nearest) = &ruling.nearest {
                let _ = write!(text, ", nearest {nearest}");
            }
        }
        match self.gateway.as_ref().filter(|_| self.why.is_none()).map(|gateway| (gateway.down, gateway.ready)) {
            Some((Some(_), Some(ready))) => {
                let _ = write!(text, ", {ready} ready there");
            }
            Some((Some(_), None)) => text.push_str(", its gateway has not said yet what is ready"),
            _ => {}
        }
        text
    }
}
