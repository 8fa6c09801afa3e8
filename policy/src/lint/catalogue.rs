//! All lints there are.
//!
//! Codes are never used again for something else. MG020 to MG029 are SMI's, MG030 to MG039 tokens', MG040 to MG049 external
//! providers', MG050 to MG059 those of services over several clusters.

/// A lint, for lists and for the switch that turns it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LintInfo {
    /// `MG001` and so on.
    pub code: &'static str,
    /// The same in words: `dead-allow`.
    pub slug: &'static str,
    /// What it says, in one line.
    pub summary: &'static str,
}

macro_rules! catalogue {
    ($($name:ident $code:literal $slug:literal $summary:literal;)*) => {
        $(#[doc = concat!("`", $slug, "`: ", $summary)] pub const $name: &str = $code;)*

        /// Every lint, by its code.
        pub const CATALOGUE: &[LintInfo] = &[
            $(LintInfo { code: $code, slug: $slug, summary: $summary },)*
        ];
    };
}

catalogue! {
    DEAD_ALLOW "MG001" "dead-allow"
        "an ALLOW policy is dead: a catch-all DENY selects every workload it selects";
    PRINCIPAL_WITH_SCHEME "MG002" "principal-with-scheme"
        "a principal is written with `spiffe://`, which never matches";
    DENY_OF_ALL_TCP "MG003" "deny-of-all-tcp"
        "a DENY rule has nothing but HTTP fields and so denies all TCP";
    PEER_SELECTOR_IN_ROOT "MG004" "peer-selector-in-root"
        "a PeerAuthentication with a selector in the root namespace is ignored";
    PEER_SCOPE_TAKEN "MG005" "peer-scope-taken"
        "a second PeerAuthentication in one scope is ignored";
    EMPTY_SELECTOR "MG006" "empty-selector"
        "a selector without labels selects every workload";
    SNI_WITH_CAPITALS "MG007" "sni-with-capitals"
        "a `connection.sni` value with capitals never matches";
    SELECTS_NOBODY "MG008" "selects-nobody"
        "a policy selects none of the workloads that are known in its reach";
    UNKNOWN_TRUST_DOMAIN "MG009" "unknown-trust-domain"
        "a principal is of a trust domain that is not the mesh's, an alias of it, or federated";
    PATH_WITH_QUERY "MG010" "path-with-query"
        "a path has a `?` or a `#`, which no path has when it is compared";
    HTTP_ON_TCP_PORT "MG011" "http-on-tcp-port"
        "a rule has HTTP fields for ports that are declared TCP: ALLOW is void there, DENY is wider than written";
    UNKNOWN_NAME "MG012" "unknown-name"
        "a rule names a service account or a namespace that does not exist";
    ALLOW_BY_ABSENCE "MG013" "allow-by-absence"
        "an ALLOW rule says only who the caller is not, and so lets in callers without any identity";
    REMOTE_IP_WITHOUT_PROXIES "MG014" "remote-ip-without-proxies"
        "a rule looks at `remote.ip`, which is the peer's own address while `numTrustedProxies` is 0";
    HOST_WITHOUT_PORT_FORM "MG015" "host-without-port-form"
        "a DENY rule lists a host with or without a port, but not both";
    METHOD_IN_LOWER_CASE "MG016" "method-in-lower-case"
        "a method has small letters, which no client sends";
    PEER_EMPTY_SELECTOR "MG017" "peer-empty-selector"
        "a PeerAuthentication's selector without labels makes it the rule of the whole namespace, or mesh";
    WIDE_PATH "MG020" "wide-path"
        "a `pathRegex` admits more paths than it seems to";
    COVERED_TARGET "MG021" "covered-target"
        "a TrafficTarget lets nobody in whom another one does not let in as well";
    MISSING_ROUTE "MG022" "missing-route"
        "a TrafficTarget names a route, or a match of one, that is not there or without effect";
    UNKNOWN_DESTINATION "MG023" "unknown-destination"
        "a TrafficTarget's destination is no service account that is known";
    NOT_IN_FORCE "MG024" "not-in-force"
        "a TrafficTarget has no effect in permissive mode";
    FOREIGN_NAMESPACE "MG025" "foreign-namespace"
        "a TrafficTarget for another namespace than its own is ignored";
    TOKEN_NOT_REQUIRED "MG030" "token-not-required"
        "a RequestAuthentication goes with no policy that asks for a token, and requests without one pass";
    TOKEN_NOT_READ "MG031" "token-not-read"
        "a rule is about a token where no RequestAuthentication reads any";
    PLACES_DIFFER "MG032" "places-differ"
        "two rules for one issuer read different places, so that a good token hides a bad one";
    KEYS_IN_CLEAR "MG033" "keys-in-clear"
        "a `jwksUri` is fetched without TLS";
    PRIVATE_KEY "MG034" "private-key"
        "a `jwks` holds a private key";
    UNKNOWN_PROVIDER "MG040" "unknown-provider"
        "a CUSTOM policy names a provider that the bootstrap does not have, and refuses what it matches";
    TWO_PROVIDERS "MG041" "two-providers"
        "CUSTOM policies of one workload name different providers, and refuse what they match";
    PROVIDER_FAILS_OPEN "MG042" "provider-fails-open"
        "the provider of a CUSTOM policy lets requests pass when it cannot be asked";
    PROVIDER_WITHOUT_TCP "MG043" "provider-without-tcp"
        "a CUSTOM policy with an HTTP provider asks nobody on a TCP port";
    UNKNOWN_CLUSTER "MG050" "unknown-cluster"
        "a GlobalTrafficPolicy names a cluster that nothing imports the service from";
    POLICY_WITHOUT_SERVICE "MG051" "policy-without-service"
        "a GlobalTrafficPolicy has the name of no Service and no ServiceImport";
    EXPORT_WITHOUT_SERVICE "MG052" "export-without-service"
        "a ServiceExport is of a Service, or a port of one, that is not there, and exports nothing";
    DUPLICATE_EXPORT_PATH "MG053" "duplicate-export-path"
        "a ServiceExport's path is already another one's, and its rule is refused";
    EXACT_EXPORT_PATH "MG054" "exact-export-path"
        "a ServiceExport has `pathType: Exact`, which no sidecar's request fits";
    IMPORT_WITHOUT_ACCOUNT "MG055" "import-without-account"
        "a ServiceImport does not say which service account runs the service, whose endpoints are not used";
    LOCALITY_WITH_TARGET "MG056" "locality-with-target"
        "a GlobalTrafficPolicy has a target under Locality, where it is not looked at";
    FOREIGN_EXPORT_ACCOUNT "MG057" "foreign-export-account"
        "a ServiceExport names a service account that none of the Pods behind it runs as";
    WEIGHT_IGNORED "MG058" "weight-ignored"
        "a GlobalTrafficPolicy gives a weight under FailOver, which goes by priority";
}
