use super::*;

const WRITTEN: &str = "table inet meshgate
delete table inet meshgate
table inet meshgate {
\tchain outbound {
\t\ttcp dport { 443, 80, 9000-9010 } counter return comment \"meshgate/a\"
\t\ttcp dport { 15020 } counter return comment \"meshgate/b\"
\t\toifname \"lo\" ip saddr 127.0.0.6/32 counter return
\t\tip6 daddr ::1/128 meta mark set 1337 counter return
\t}
\tchain output {
\t\ttype nat hook output priority -100; policy accept;
\t\tct state established,related counter jump outbound
\t}
\tchain nothing {
\t}
}
";

const LISTED: &str = "table inet meshgate {
\tchain output {
\t\ttype nat hook output priority dstnat; policy accept;
\t\tct state { related, established } counter packets 12 bytes 720 jump outbound
\t}

\tchain outbound {
\t\ttcp dport { 80, 443, 9000-9010 } counter packets 0 bytes 0 return comment \"meshgate/a\"
\t\ttcp dport 15020 counter return comment \"meshgate/b\"
\t\toifname \"lo\" ip saddr 127.0.0.6 counter return
\t\tip6 daddr ::1 meta mark set 0x00000539 counter return
\t}

\tchain nothing {
\t}
}
";

#[test]
fn what_is_written_reads_like_what_is_listed() {
    assert_eq!(parse(LISTED).difference(&parse(WRITTEN)), Vec::<String>::new());
}

#[test]
fn what_is_another_rule_reads_otherwise() {
    for (from, to) in [
        ("443", "444"),
        ("127.0.0.6", "127.0.0.0/8"),
        ("::1", "::2"),
        ("0x00000539", "0x0000053a"),
        ("priority dstnat", "priority -101"),
        ("policy accept", "policy drop"),
        ("saddr", "daddr"),
        ("meshgate/a", "meshgate/c"),
        ("chain nothing", "chain something"),
    ] {
        assert_ne!(parse(&LISTED.replace(from, to)), parse(WRITTEN), "{from}");
    }
    assert_eq!(parse(""), Rules::default());
}
