//! Every finding there is, in one line each. The user guide has a section for each.

/// A finding that there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LintInfo {
    /// `MG001` and so on.
    pub code: &'static str,
    /// What it says, in a line.
    pub summary: &'static str,
}

const fn info(code: &'static str, summary: &'static str) -> LintInfo {
    LintInfo { code, summary }
}

/// All findings, by code.
pub const CATALOGUE: &[LintInfo] = &[
    info("MG001", "an ALLOW policy is dead: a catch-all DENY selects every workload it selects"),
    info("MG002", "a principal is written with spiffe://, which never matches"),
    info("MG003", "a DENY rule has nothing but HTTP fields and so denies all TCP"),
    info("MG004", "a PeerAuthentication with a selector in the root namespace is ignored"),
    info("MG005", "a second PeerAuthentication in one scope is ignored"),
    info("MG006", "a selector without labels selects every workload"),
    info("MG007", "a connection.sni value with capitals never matches"),
    info("MG008", "a policy selects none of the workloads that are known"),
    info("MG009", "a principal is of a trust domain that is not known"),
    info("MG010", "a paths value has a ? or a #, which no path has"),
    info("MG011", "HTTP fields apply to a port that is TCP"),
    info("MG012", "a name does not exist"),
    info("MG013", "nothing but not fields on the identity: plaintext matches"),
    info("MG014", "remoteIpBlocks while no proxy in front is trusted"),
    info("MG015", "a DENY lists a host without its form with a port"),
    info("MG016", "a method is in lower case, which never matches"),
    info("MG020", "a regular expression admits more than it seems to"),
    info("MG021", "two TrafficTargets overlap"),
    info("MG022", "a TrafficTarget names a route or match that does not exist"),
    info("MG023", "a TrafficTarget selects nobody"),
    info("MG024", "TrafficTargets without traffic policy mode decide nothing"),
    info("MG025", "a TrafficTarget is in another namespace than its destination"),
    info("MG030", "a RequestAuthentication without a policy that requires a token"),
    info("MG031", "token fields where no RequestAuthentication applies"),
    info("MG032", "rules of one issuer read tokens from different places"),
    info("MG033", "keys are fetched over http"),
    info("MG040", "a CUSTOM policy names a provider that is not known"),
    info("MG041", "CUSTOM policies of one workload name two providers"),
    info("MG042", "a provider lets pass when it fails"),
    info("MG043", "an HTTP provider on a TCP port"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_distinct() {
        assert!(CATALOGUE.is_sorted_by(|a, b| a.code < b.code));
        assert!(CATALOGUE.iter().all(|lint| lint.code.len() == 5 && lint.code.starts_with("MG")));
    }
}
