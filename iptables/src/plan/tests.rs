use super::*;

const WANTED: &str = "*nat
:MESHGATE_OUTBOUND - [0:0]
-A OUTPUT -p tcp -m comment --comment meshgate/install-outbound -j MESHGATE_OUTBOUND
-A MESHGATE_OUTBOUND -p tcp -j RETURN
COMMIT
";

fn transition(loaded: &str, wanted: &str) -> String {
    super::transition(&Dump::parse(loaded), &Dump::parse(wanted))
}

#[test]
fn nothing_is_done_when_all_is_there() {
    assert_eq!(transition("", ""), "");
    assert_eq!(transition(WANTED, WANTED), "");
    let shown = WANTED.replace("meshgate/install-outbound", "\"meshgate/install-outbound\"");
    assert_eq!(transition(&shown, WANTED), "");
}

#[test]
fn one_text_takes_away_what_was_and_makes_what_is_to_be() {
    let loaded = "*nat
:OUTPUT ACCEPT [0:0]
:MESHGATE_DNS - [0:0]
:MESHGATE_OUTBOUND - [0:0]
-A OUTPUT -p udp -j MESHGATE_DNS
-A OUTPUT -j CNI-OUT
-A OUTPUT -p tcp -m comment --comment \"meshgate/install-outbound\" -j MESHGATE_OUTBOUND
-A OUTPUT -p tcp -m comment --comment \"meshgate/install-outbound\" -j MESHGATE_OUTBOUND
-A MESHGATE_OUTBOUND -j MESHGATE_DNS
COMMIT
";
    let expected = "*nat
:MESHGATE_DNS - [0:0]
:MESHGATE_OUTBOUND - [0:0]
-D OUTPUT -p udp -j MESHGATE_DNS
-D OUTPUT -p tcp -m comment --comment \"meshgate/install-outbound\" -j MESHGATE_OUTBOUND
-D OUTPUT -p tcp -m comment --comment \"meshgate/install-outbound\" -j MESHGATE_OUTBOUND
-A OUTPUT -p tcp -m comment --comment meshgate/install-outbound -j MESHGATE_OUTBOUND
-A MESHGATE_OUTBOUND -p tcp -j RETURN
-X MESHGATE_DNS
COMMIT
";
    assert_eq!(transition(loaded, WANTED), expected);
}

#[test]
fn what_captures_comes_before_what_goes() {
    let of = |table: &str| WANTED.replace("*nat", &format!("*{table}"));
    let tables = |text: String| -> String { text.lines().filter(|line| line.starts_with('*')).collect() };
    let all = of("nat") + &of("mangle") + &of("raw");
    assert_eq!(tables(transition("", &all)), "*raw*mangle*nat");
    assert_eq!(tables(transition(&all, "")), "*nat*mangle*raw");
    // From redirection to TPROXY and back: the table that begins to capture is first.
    let less = of("nat").replace("-j RETURN", "-j ACCEPT");
    assert_eq!(tables(transition(&of("nat"), &(less.clone() + &of("mangle")))), "*mangle*nat");
    assert_eq!(tables(transition(&(less + &of("mangle")), &of("nat"))), "*nat*mangle");
}
