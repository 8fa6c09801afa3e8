//! Whether a request that was let in would still be.
//!
//! A request is judged once, when it comes. Where it is still in progress when the configuration changes, it is judged again,
//! on the little that is kept of its head; so an exchange that is over before pays for the keeping alone. A [`Standing`] lives as
//! long as anything of its exchange does: its report, or a request body on its way upstream.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use meshgate_policy::{Decision, RequestView, Residual, Token};

/// What is kept of a request's head.
#[derive(Debug)]
pub struct Head {
    /// As it was judged, like everything here.
    pub method: Method,
    /// With the authority, where the request came over HTTP/2.
    pub uri: Uri,
    host: Option<HeaderValue>,
    headers: Option<Box<Headers>>,
    /// What its token says.
    pub token: Option<Arc<Token>>,
    /// The client's address.
    pub remote_ip: IpAddr,
}

#[derive(Debug)]
struct Headers {
    /// Those that are kept; of the request's other headers nothing is known any more.
    names: Arc<[HeaderName]>,
    fields: HeaderMap,
}

impl Head {
    /// Keeps what policies look at; of the headers only the `names`. Everything but those is kept by reference.
    pub fn keep<B>(
        request: &Request<B>,
        names: &Arc<[HeaderName]>,
        token: Option<Arc<Token>>,
        remote_ip: IpAddr,
    ) -> Self {
        let uri = request.uri().clone();
        let host = if uri.authority().is_some() { None } else { request.headers().get(header::HOST).cloned() };
        let headers = (!names.is_empty()).then(|| {
            let mut fields = HeaderMap::new();
            for name in &**names {
                fields.extend(request.headers().get_all(name).iter().map(|value| (name.clone(), value.clone())));
            }
            Box::new(Headers { names: Arc::clone(names), fields })
        });
        Self { method: request.method().clone(), uri, host, headers, token, remote_ip }
    }

    /// What a residual makes of it now; `scheme` is what it came by.
    pub fn decide_again<'a>(&self, residual: &'a Residual, scheme: &str) -> Decision<'a> {
        let none = HeaderMap::new();
        let (headers, names) = self.headers().unwrap_or((&none, &[]));
        let view = RequestView {
            method: self.method.as_str(),
            path: self.uri.path(),
            path_and_query: self.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            host: self.host().unwrap_or_default(),
            scheme,
            headers,
            token: self.token.as_deref(),
            remote_ip: self.remote_ip,
        };
        residual.decide_again(&view, names)
    }

    /// The authority that it was for.
    fn host(&self) -> Option<&str> {
        match self.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => self.host.as_ref().and_then(|value| value.to_str().ok()),
        }
    }

    /// The headers that are kept, and their names.
    fn headers(&self) -> Option<(&HeaderMap, &[HeaderName])> {
        self.headers.as_ref().map(|headers| (&headers.fields, &*headers.names))
    }
}

/// The exchanges of a connection that may have to end before they are over.
#[derive(Debug, Default)]
pub struct InProgress {
    let_in: RefCell<Vec<Weak<Standing>>>,
    /// Why all end, also those that were not let in yet.
    ended: OnceCell<&'static str>,
}

/// The standing of one exchange.
#[derive(Debug)]
pub struct Standing {
    head: Head,
    among: Rc<InProgress>,
    /// Why it ends.
    withdrawn: OnceCell<String>,
    answer: Waiting,
    upload: Waiting,
}

/// One that has to be told.
#[derive(Debug, Default)]
struct Waiting(RefCell<Option<Waker>>);

impl InProgress {
    /// One more that was let in.
    pub fn add(self: &Rc<Self>, head: Head) -> Rc<Standing> {
        let standing = Rc::new(Standing {
            head,
            among: Rc::clone(self),
            withdrawn: OnceCell::new(),
            answer: Waiting::default(),
            upload: Waiting::default(),
        });
        self.let_in.borrow_mut().push(Rc::downgrade(&standing));
        standing
    }

    /// Ends all, with their connection.
    pub fn end(&self, why: &'static str) {
        // A connection that ends already ends for its first reason.
        let _ = self.ended.set(why);
        self.withdraw(|_| Some(why.to_owned()));
    }

    /// Why all have to end, if they have to.
    pub fn ended(&self) -> Option<&'static str> {
        self.ended.get().copied()
    }

    /// Ends those for which `why` has a reason; says whether there are any.
    pub fn withdraw(&self, why: impl Fn(&Head) -> Option<String>) -> bool {
        let all: Vec<_> = self.let_in.borrow().iter().filter_map(Weak::upgrade).collect();
        let mut any = false;
        for standing in all {
            if let Some(why) = why(&standing.head) {
                any = true;
                // One that ends already ends for its first reason.
                let _ = standing.withdrawn.set(why);
                standing.answer.wake();
                standing.upload.wake();
            }
        }
        any
    }
}

impl Standing {
    /// Why it ends, if it has to.
    pub fn withdrawn(&self) -> Option<&str> {
        self.withdrawn.get().map(String::as_str)
    }

    /// Ready once the answer has to end.
    pub fn poll_answer(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(&self.answer, cx)
    }

    /// Ready once the request's body has to end.
    pub fn poll_upload(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(&self.upload, cx)
    }

    fn poll(&self, waiting: &Waiting, cx: &Context<'_>) -> Poll<()> {
        if self.withdrawn.get().is_some() {
            return Poll::Ready(());
        }
        waiting.wait(cx);
        Poll::Pending
    }
}

impl Waiting {
    fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.0.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let all = &mut *self.among.let_in.borrow_mut();
        if let Some(place) = all.iter().position(|other| std::ptr::eq(other.as_ptr(), self)) {
            all.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;

    use super::*;

    fn head(path: &str, names: &[&'static str]) -> Head {
        let names = names.iter().map(|name| HeaderName::from_static(name)).collect();
        let request = Request::get(path).header("host", "h").header("a", "1").header("a", "2").header("b", "3");
        Head::keep(&request.body(()).unwrap(), &names, None, [10, 0, 0, 1].into())
    }

    #[test]
    fn keeps_all_lines_of_the_headers_that_are_asked_for_and_no_others() {
        let kept = head("/", &["a", "c"]);
        let (fields, names) = kept.headers().unwrap();
        assert_eq!((fields.len(), fields.get_all("a").iter().count(), names.len()), (2, 2, 2));
        assert_eq!(kept.host(), Some("h"));
        assert!(head("/", &[]).headers().is_none());
        let http2 = Request::get("https://authority/").body(()).unwrap();
        assert_eq!(Head::keep(&http2, &Arc::default(), None, [10, 0, 0, 1].into()).host(), Some("authority"));
    }

    #[test]
    fn withdraws_those_that_have_a_reason_and_forgets_those_that_are_over() {
        let all = Rc::new(InProgress::default());
        let cx = Context::from_waker(noop_waker_ref());
        let (one, other) = (all.add(head("/one", &[])), all.add(head("/other", &[])));
        assert!(one.poll_answer(&cx).is_pending() && one.poll_upload(&cx).is_pending());
        assert!(!all.withdraw(|_| None));
        assert!(all.withdraw(|head| (head.uri.path() == "/one").then(|| "first".into())));
        all.withdraw(|head| (head.uri.path() == "/one").then(|| "second".into()));
        assert!(one.poll_answer(&cx).is_ready() && one.poll_upload(&cx).is_ready());
        assert_eq!((one.withdrawn(), other.withdrawn()), (Some("first"), None));
        drop(one);
        assert_eq!(all.let_in.borrow().len(), 1);
        drop(other);
        assert!(all.let_in.borrow().is_empty());
    }
}
