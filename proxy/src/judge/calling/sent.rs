//! What a call would carry, where that is described, and what this cluster's TrafficTargets say of it toward other clusters.

use http::{HeaderValue, Request};
use meshgate_config::ServicePort;
use meshgate_policy::RequestView;
use meshgate_policy::normalize::Level;

use super::answer::{RequestSeen, RulingSeen};
use super::{Calling, To};
use crate::case::{Case, CaseError};
use crate::http::view;
use crate::judge::{SOMEWHERE, sound};
use crate::outbound::Hop;
use crate::route::Rulings;

/// What a call carries.
#[derive(Debug)]
pub(super) enum Sent {
    /// Some request, of which nothing is known.
    Unknown,
    /// Bytes.
    Bytes,
    /// This request, as it is forwarded.
    Request(Box<Request<()>>),
}

impl Sent {
    /// What a case describes: a request as soon as anything of one is given.
    ///
    /// # Errors
    /// A request to what carries none, or one that the proxy would refuse by itself.
    pub(super) fn of(case: &Case, to: &To, tcp: bool, level: Level) -> Result<Self, CaseError> {
        let given =
            [("method", case.method.is_some()), ("path", case.path.is_some()), ("headers", case.headers.is_some())];
        let given = given.into_iter().find_map(|(field, given)| given.then_some(field));
        match given {
            Some(field) if tcp => {
                let message = "has no meaning here: nothing on this port is read as a request".to_owned();
                Err(CaseError { field, message })
            }
            None if tcp => Ok(Self::Bytes),
            None => Ok(Self::Unknown),
            Some(field) => {
                let wrong = |message| CaseError { field, message };
                let host = HeaderValue::try_from(to.authority()).map_err(|error| wrong(error.to_string()))?;
                let case = Case { host: Some(host), ..case.clone() };
                let request = sound(&case, level).map_err(|error| wrong(error.to_string()))?;
                Ok(Self::Request(Box::new(request)))
            }
        }
    }

    /// As policies see it.
    pub(super) fn view(&self) -> Option<RequestView<'_>> {
        let Self::Request(request) = self else { return None };
        Some(view::of(request, "http", SOMEWHERE))
    }

    /// For people.
    pub(super) fn seen(&self) -> Option<RequestSeen> {
        let view = self.view()?;
        Some(RequestSeen { method: view.method.to_owned(), path: view.path_and_query.to_owned() })
    }
}

impl Calling<'_> {
    /// What is said of it at the caller's side, where it goes to another cluster.
    pub(super) fn ruling(&self, service: &ServicePort, hop: &Hop, sent: &Sent) -> Option<RulingSeen> {
        if matches!(sent, Sent::Unknown) {
            return None;
        }
        let caller = self.snapshot.elsewhere.caller(self.caller)?;
        let mut rulings = Rulings::default();
        let place = rulings.place(self.snapshot, &caller, service, hop)?;
        let (decision, nearest) = rulings.said(place, sent.view().as_ref())?;
        Some(RulingSeen {
            verdict: decision.verdict,
            reason: decision.reason.as_str(),
            policy: decision.rule.map(|rule| rule.to_string()),
            nearest: nearest.map(|nearest| nearest.to_string()),
        })
    }
}
