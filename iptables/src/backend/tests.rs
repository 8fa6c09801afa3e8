use super::*;
use crate::testing::Script;

const OURS: &str = "*nat\n:MESHGATE_OUTBOUND - [0:0]\n-A OUTPUT -j MESHGATE_OUTBOUND\nCOMMIT\n";
const OTHERS: &str = "*nat\n:CNI-OUT - [0:0]\n-A OUTPUT -j CNI-OUT\nCOMMIT\n";
const OUR_TABLE: &str = "table inet meshgate {\n\tchain output {\n\t\tcounter return\n\t}\n}\n";
const NONE: &str = "Error: No such file or directory\nlist table inet meshgate";
const DENIED: &str = "Operation not permitted (you must be root)";

/// What `nft list` answers, and the two kinds of `iptables-save`; `None` where the program is not there.
fn machine(nft: Option<&str>, iptables_nft: Option<&str>, legacy: Option<&str>) -> Script {
    let mut script = Script::default();
    script = match nft {
        Some(text) if text.starts_with("table") => script.prints("nft -s", &[text]),
        Some(complaint) => script.fails("nft -s", complaint),
        None => script,
    };
    for (kind, saved) in [("nft", iptables_nft), ("legacy", legacy)] {
        let Some(saved) = saved else { continue };
        let [save, restore] = ["save", "restore"].map(|verb| format!("iptables-{kind}-{verb}"));
        script = match saved {
            "" | OURS | OTHERS => script.prints(&save, &[saved]),
            complaint => script.fails(&save, complaint),
        };
        script = script.prints(&restore, &[""]);
    }
    script
}

fn order(script: &Script, choice: Choice) -> String {
    match Survey::of(script, 5).candidates(choice) {
        Ok((candidates, _)) => {
            let names: Vec<_> = candidates.iter().map(|one| format!("{}: {:?}", one.backend, one.why)).collect();
            names.join(", ")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn chooses_by_what_is_there() {
    for (nft, iptables_nft, legacy, expected) in [
        (Some(NONE), Some(""), Some(""), "nft: Preferred, iptables-nft: Preferred, iptables-legacy: Preferred"),
        (None, Some(""), Some(""), "iptables-nft: Preferred, iptables-legacy: Preferred"),
        (None, None, Some(""), "iptables-legacy: Preferred"),
        (Some(NONE), Some(""), Some(OURS), "iptables-legacy: HasOurs, nft: Preferred, iptables-nft: Preferred"),
        (Some(NONE), Some(OTHERS), Some(OURS), "iptables-legacy: HasOurs, iptables-nft: HasOthers, nft: Preferred"),
        (Some(NONE), Some(""), Some(OTHERS), "iptables-legacy: HasOthers, nft: Preferred, iptables-nft: Preferred"),
        (Some(OUR_TABLE), Some(OTHERS), Some(OURS), "nft: HasOurs, iptables-legacy: HasOurs, iptables-nft: HasOthers"),
        (Some(DENIED), Some(""), None, "iptables-nft: Preferred"),
    ] {
        assert_eq!(order(&machine(nft, iptables_nft, legacy), Choice::Auto), expected);
    }
}

#[test]
fn takes_what_is_asked_for_or_nothing() {
    let script = machine(Some(NONE), Some(OURS), None);
    assert_eq!(order(&script, Choice::Nft), "nft: Asked");
    assert!(order(&script, Choice::IptablesLegacy).contains("no iptables-legacy-restore on the PATH"));
    let denied = order(&machine(Some(DENIED), None, None), Choice::Auto);
    assert!(denied.contains("NET_ADMIN") && denied.contains("no iptables-nft-restore"), "{denied}");
}

#[test]
fn a_plain_name_is_of_the_kind_that_it_says() {
    for (version, expected) in [
        ("iptables-restore v1.8.9 (nf_tables)", "iptables-nft: Preferred"),
        ("iptables-restore v1.8.9 (legacy)", "iptables-legacy: Preferred"),
        ("iptables-restore v1.6.1", "iptables-legacy: Preferred"),
    ] {
        let script = Script::default().prints("iptables-restore --version", &[version]).prints("iptables-save", &[""]);
        assert_eq!(order(&script, Choice::Auto), expected);
    }
}
