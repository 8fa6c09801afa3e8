//! What a report knows of what was decided about its request, and by whom.

use crate::access_log::field;
use meshgate_policy::{Decision, Nearest, RequestPrincipal};

use super::refusals::By;
use super::{Asked, LEFT_OUT, Report, count_asked, count_decision, describe};

impl Report {
    /// The policy engine's decision.
    pub fn decision(&mut self, decision: &Decision<'_>) {
        count_decision(&self.0.worker, decision);
        self.0.refused_by = By::of(decision);
        if let Some(line) = &mut self.0.line {
            describe::decision(decision, line);
        }
    }

    /// An external provider was asked.
    pub fn asked(&mut self, asked: &Asked<'_>) {
        count_asked(&self.0.worker, asked);
        if let Some(line) = &mut self.0.line {
            describe::asked(asked, line);
        }
    }

    /// What would have let it in; asked only if it is logged.
    pub fn nearest<'a>(&mut self, nearest: impl FnOnce() -> Option<Nearest<'a>>) {
        if let Some(line) = &mut self.0.line {
            describe::nearest(nearest(), line);
        }
    }

    /// Whom the request's token speaks for.
    pub fn request_principal(&mut self, principal: RequestPrincipal<'_>) {
        if let Some(line) = &mut self.0.line {
            line.display(field!("request_principal"), principal);
        }
    }

    /// The TrafficSplit by which it goes where it goes.
    pub fn split(&mut self, name: Option<&str>) {
        if let (Some(line), Some(name)) = (&mut self.0.line, name) {
            line.text(field!("split"), name);
        }
    }

    /// Endpoints that no TrafficTarget lets this workload call.
    pub fn left_out(&mut self, endpoints: Option<&str>) {
        if let (Some(line), Some(endpoints)) = (&mut self.0.line, endpoints) {
            line.text(LEFT_OUT, endpoints);
        }
    }
}
