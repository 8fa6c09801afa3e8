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

#[test]
fn reads_ids_and_addresses_into_one_normal_form() {
    assert_eq!("1338,1337, 1337".parse::<IdList>().unwrap().to_string(), "1337,1338");
    assert_eq!("fd00::A,10.0.0.1".parse::<AddressList>().unwrap().to_string(), "10.0.0.1,fd00::a");
    for text in ["-1", "+1", "4294967295", "root", "1,,2", "1;2"] {
        assert!(matches!(text.parse::<IdList>(), Err(ListError::Id { .. })), "{text:?}");
    }
}

#[test]
fn an_interface_is_one_that_can_exist_and_nothing_else() {
    for text in ["eth0", "net-2.7", "k6t-eth0", "a23456789012345", "_"] {
        assert_eq!(text.parse::<Interface>().unwrap().as_str(), text);
    }
    let longer = "a234567890123456";
    for text in [
        "",
        ".",
        "..",
        longer,
        "-i",
        "eth+",
        "veth*",
        "eth0@if5",
        "a/b",
        "a b",
        "eth0\n",
        "eth0\n-A OUTPUT -j ACCEPT",
        "a\"b",
        "$(id)",
        "`id`",
        "a;b",
        "!eth0",
        "eth0:1",
        "\u{e9}th0",
        "a\0b",
    ] {
        assert!(text.parse::<Interface>().is_err(), "{text:?}");
    }
}

#[test]
fn refuses_lists_that_would_be_too_many_rules() {
    let numbers = |count: usize| (1..=count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    assert!(numbers(512).parse::<PortList>().is_ok());
    assert_eq!(numbers(513).parse::<PortList>(), Err(ListError::TooLong { count: 513, max: 512 }));
    assert!(numbers(20).parse::<IdList>().is_ok());
    assert_eq!(numbers(21).parse::<IdList>(), Err(ListError::TooLong { count: 21, max: 20 }));
    let networks = vec!["10.0.0.0/8"; 513].join(",");
    assert_eq!(networks.parse::<CidrList>(), Err(ListError::TooLong { count: 513, max: 512 }));
}
