//! Addresses of what is no service of the mesh (providers, other clusters' gateways): the system's resolver, asked once for
//! all who want to know.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{ErrorKind, ProxyError};

/// The system's resolver does not say how long an answer holds. Kubernetes' names change within seconds, and its DNS gives
/// its answers this long.
const KEPT: Duration = Duration::from_secs(5);

/// The answers that one owner has got. There is an entry for each name that the configuration has, since nothing else is looked
/// up.
#[derive(Debug, Default)]
pub struct Resolver(RefCell<HashMap<(String, u16), Rc<Name>>>);

#[derive(Debug, Default)]
struct Name {
    found: RefCell<Option<(Instant, Rc<[SocketAddr]>)>>,
    looking: Cell<bool>,
    looked: Notify,
}

impl Resolver {
    /// The addresses of a name. The deadline is the caller's; a look-up that outlives it goes on alone, for the next caller.
    ///
    /// # Errors
    /// The name has none, or the resolver did not say.
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Rc<[SocketAddr]>, ProxyError> {
        let name = Rc::clone(self.0.borrow_mut().entry((host.to_owned(), port)).or_default());
        // The first look may be an old one's end; the second is of our own time.
        for _ in 0..2 {
            let looked = name.looked.notified();
            if let Some(addresses) = name.fresh() {
                return Ok(addresses);
            }
            if !name.looking.replace(true) {
                let (name, host) = (Rc::clone(&name), host.to_owned());
                tokio::task::spawn_local(async move { name.look(&host, port).await });
            }
            looked.await;
        }
        name.fresh().ok_or_else(|| ProxyError::new(ErrorKind::ConnectFailed, format!("no address for {host:?}")))
    }
}

impl Name {
    fn fresh(&self) -> Option<Rc<[SocketAddr]>> {
        let found = self.found.borrow();
        let (at, addresses) = found.as_ref()?;
        (at.elapsed() < KEPT && !addresses.is_empty()).then(|| Rc::clone(addresses))
    }

    async fn look(&self, host: &str, port: u16) {
        let found = match tokio::net::lookup_host((host, port)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                tracing::debug!(host, %error, "no address for a name");
                Vec::new()
            }
        };
        self.found.replace(Some((Instant::now(), found.into())));
        self.looking.set(false);
        self.looked.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_machine_and_keeps_it() {
        crate::runtime::local().unwrap().block_on(async {
            let resolver = Resolver::default();
            let (first, second) =
                tokio::join!(resolver.addresses("localhost", 80), resolver.addresses("localhost", 80));
            let first = first.unwrap();
            assert!(first.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{first:?}");
            assert!(Rc::ptr_eq(&first, &second.unwrap()));
            assert!(resolver.addresses("no-such-name.invalid", 80).await.is_err());
        });
    }
}
