//! How many files and sockets this process may have open: as many as the system lets it, and of those half are for callers.
//!
//! The one idea: a connection that is served has another one upstream. Where callers may take no more than half of what there is,
//! those that are in always get on, and running out stays something that happens to others.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, and says how many descriptors there may be then; `None` = as many as one likes.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files from {current:?} to {maximum:?}");
        return current;
    }
    maximum
}

/// As many connections as the operator wants, or as can be served with so many `descriptors`.
pub fn fit(connections: usize, descriptors: Option<u64>) -> usize {
    let most = descriptors.map_or(usize::MAX, |all| usize::try_from(all / 2).unwrap_or(usize::MAX)).max(1);
    if connections > most {
        let all = descriptors.unwrap_or_default();
        tracing::warn!(
            "limits.connections is {connections}, and only {all} files may be open: {most} connections at most \
             (raise the hard limit of open files, RLIMIT_NOFILE)"
        );
    }
    connections.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_get_half_of_what_there_is_and_no_more_than_they_were_given() {
        assert_eq!(fit(65536, Some(1024)), 512);
        assert_eq!(fit(100, Some(1024)), 100);
        assert_eq!(fit(65536, None), 65536);
        assert_eq!(fit(65536, Some(1)), 1);
    }
}
