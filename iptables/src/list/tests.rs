//! What lists take, what they refuse, and their one normal form.

use super::*;

#[test]
fn reads_ports_into_one_normal_form() {
    for (text, normal) in [
        ("", ""),
        ("  ", ""),
        ("80", "80"),
        (" 443 , 80 ", "80,443"),
        ("80,80", "80"),
        ("8000:8100", "8000-8100"),
        ("8000-8100,8050-8200,9000", "8000-8200,9000"),
        ("8000-8100,8010", "8000-8100"),
        ("8000-8100,8101", "8000-8100,8101"),
    ] {
        let list: PortList = text.parse().unwrap();
        assert_eq!(list.to_string(), normal, "{text:?}");
        assert_eq!(normal.parse::<PortList>().unwrap(), list, "{text:?}");
    }
}

#[test]
fn refuses_what_is_not_a_port() {
    for text in ["0", "65536", "http", "80,", ",80", "80,,443", "-1", "+80", "8000-", "8000-http", "1-2-3", "*"] {
        assert!(matches!(text.parse::<PortList>(), Err(ListError::Port { .. })), "{text:?}");
    }
    assert!(matches!("90-80".parse::<PortList>(), Err(ListError::ReversedRange { .. })));
}

#[test]
fn reads_networks_into_one_normal_form() {
    for (text, normal) in [
        ("", ""),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("fd00::/8,10.0.0.0/8,10.0.0.0/8", "10.0.0.0/8,fd00::/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::1", "2001:db8::1/128"),
    ] {
        assert_eq!(text.parse::<CidrList>().unwrap().to_string(), normal, "{text:?}");
    }
}

#[test]
fn refuses_what_is_not_a_network() {
    for text in ["10.0.0.0/33", "10.0.0/8", "example.com", "10.0.0.0/8,", "*", "10.0.0.0/8 fd00::/8"] {
        assert!(matches!(text.parse::<CidrList>(), Err(ListError::Cidr { .. })), "{text:?}");
    }
}

#[test]
fn a_star_selects_all_and_nothing_selects_nothing() {
    assert_eq!("*".parse(), Ok(Selection::<PortList>::All));
    assert_eq!("".parse(), Ok(Selection::Listed(PortList::default())));
}
