//! The command line is read as istio-init reads it, and contradictions are refused by name.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn parse(arguments: &str) -> Result<Options, clap::Error> {
    // Two quotes stand for an empty value, as a shell would have it.
    let words = arguments.split_whitespace().map(|word| if word == "''" { "" } else { word });
    Cli::try_parse_from(std::iter::once("test").chain(words)).map(|cli| cli.options)
}

fn ids(ids: &[u32]) -> IdList {
    ids.iter().copied().collect()
}

#[test]
fn no_flags_are_the_default() {
    assert_eq!(parse("").unwrap(), Options::default());
}

#[test]
fn accepts_the_arguments_of_an_istio_init_container() {
    let options = parse("-p 15001 -z 15006 -u 1337 -i * -x '' -b * -d 15090,15021,15020").unwrap();
    let exclude = PortList::of(&[15020, 15021, 15090]);
    assert_eq!(options, Options { inbound_ports_exclude: exclude, ..Options::default() });
    options.validate().unwrap();
}

#[test]
fn accepts_the_arguments_of_a_proxy_init_container() {
    let options = parse(
        "--incoming-proxy-port 4143 --outgoing-proxy-port 4140 --proxy-uid 2102 --inbound-ports-to-ignore 4190,4191,4567-4568 \
         --outbound-ports-to-ignore 4567-4568 --subnets-to-ignore 10.0.0.0/8 --ipv6=false",
    )
    .unwrap();
    let expected = Options {
        inbound_capture_port: 4143,
        outbound_port: 4140,
        proxy_uid: ids(&[2102]),
        inbound_ports_exclude: "4190,4191,4567-4568".parse().unwrap(),
        outbound_ports_exclude: "4567-4568".parse().unwrap(),
        inbound_cidrs_exclude: "10.0.0.0/8".parse().unwrap(),
        ipv6: Ipv6::Off,
        ..Options::default()
    };
    assert_eq!(options, expected);
    options.validate().unwrap();
    let listed = parse("--ports-to-redirect 8080").unwrap();
    assert_eq!(listed.inbound_ports, "8080".parse().unwrap());
}

#[test]
fn long_names_and_our_own_aliases_mean_the_same() {
    for arguments in [
        "-p 1 -z 2 -u 3 -g 4",
        "--envoy-port 1 --inbound-capture-port 2 --proxy-uid 3 --proxy-gid 4",
        "--outbound-port 1 --inbound-port 2 --proxy-uid 3 --proxy-gid 4",
    ] {
        let options = parse(arguments).unwrap();
        assert_eq!((options.outbound_port, options.inbound_capture_port), (1, 2), "{arguments}");
        assert_eq!((options.proxy_uid, options.proxy_gid), (ids(&[3]), ids(&[4])), "{arguments}");
    }
}

#[test]
fn refuses_values_that_cannot_be_read() {
    for arguments in [
        "-p 0",
        "-z 65536",
        "-e 0",
        "-e 65536",
        "-e ''",
        "-u proxy",
        "-u -1",
        "-u 4294967295",
        "-b http",
        "-d 1-0",
        "-x 10.0.0.0/40",
        "--ipv6 maybe",
        "-m NONE",
        "-t x",
        "-c eth0/../lo",
        "-k eth+",
        "--outbound-owner-groups java",
        "--redirect-dns=perhaps",
        "--dns-servers 10.0.0.0/8",
        "--dns-port 0",
        "--outbound-ipv4-loopback-cidr ::1/128",
    ] {
        assert!(parse(arguments).is_err(), "{arguments}");
    }
}

#[test]
fn accepts_exclusions_that_are_holes_in_what_is_included() {
    for arguments in [
        "-x 10.0.0.0/8",
        "-i 10.0.0.0/8 -x 10.1.0.0/16",
        "-b 80,443 -d 15020",
        "-q 9000 -o 9001",
        "-b '' -i ''",
        "-u 1337,1338 -g 1337",
        "--ipv6 false -x fd00::/8",
        "-i 127.0.0.0/8",
        "-c eth1 -k k6t-eth0",
        "-e none --ports-to-redirect 15008",
        "--outbound-owner-groups 0,1000",
        "--redirect-dns --dns-servers 10.96.0.10",
        "-m TPROXY -t 1 -r 252",
    ] {
        parse(arguments).unwrap().validate().unwrap_or_else(|error| panic!("{arguments}: {error}"));
    }
}

#[test]
fn refuses_contradictions_by_name() {
    for (arguments, message) in [
        ("-p 15006", "--outbound-port and --inbound-capture-port are both 15006"),
        ("-u 0", "--proxy-uid 0 is refused"),
        ("-u 1337,0", "--proxy-uid 0 is refused"),
        ("-g 0", "--proxy-gid 0 is refused"),
        ("-b 80,8000-8100 -d 8080", "port 8080 is in --istio-inbound-ports and in --istio-local-exclude-ports"),
        ("-q 9000 -o 8999-9001", "port 9000 is in --istio-outbound-ports"),
        ("-i 10.1.0.0/16 -x 10.0.0.0/8", "--istio-service-exclude-cidr 10.0.0.0/8 leaves nothing of"),
        ("-i 10.0.0.0/8 -x 10.0.0.0/8", "--istio-service-exclude-cidr 10.0.0.0/8 leaves nothing of"),
        ("-x 0.0.0.0/0", "--istio-service-exclude-cidr 0.0.0.0/0 leaves nothing of"),
        ("-i 127.0.0.1", "127.0.0.1/32 is where an application calls itself"),
        ("-i ::1", "::1/128 is where an application calls itself"),
        ("-i fd00::/8 --ipv6 false", "--istio-service-cidr names fd00::/8, which is IPv6, and --ipv6 is false"),
        ("-p 15008", "--outbound-port and --inbound-tunnel-port are both 15008"),
        ("-e 15006", "--inbound-capture-port and --inbound-tunnel-port are both 15006"),
        ("--redirect-dns --capture-all-dns --dns-port 15001", "--outbound-port and --dns-port are both 15001"),
        ("-b 8080,15006 -d ''", "--istio-inbound-ports names 15006, which is the proxy's own (--inbound-capture-port)"),
        ("-b 15000-15010 -d ''", "--istio-inbound-ports names 15001, which is the proxy's own (--outbound-port)"),
        ("-b 15008", "names 15008, which is the proxy's own (--inbound-tunnel-port)"),
        ("-b 15021", "port 15021 is in --istio-inbound-ports and in --istio-local-exclude-ports"),
        ("--inbound-cidrs-exclude ::/0", "--inbound-cidrs-exclude ::/0 leaves no caller"),
        ("--outbound-ipv4-loopback-cidr 10.0.0.0/8", "10.0.0.0/8 is not within 127.0.0.0/8"),
        ("-i 127.1.0.0/16 --outbound-ipv4-loopback-cidr 127.0.0.0/8", "127.1.0.0/16 is where an application calls"),
        ("-c eth1,lo", "--istio-exclude-interfaces names lo"),
        ("-k lo", "--kube-virt-interfaces names lo"),
        ("-c eth1 -k eth1", "eth1 is in --istio-exclude-interfaces and in --kube-virt-interfaces"),
        ("--outbound-owner-groups ''", "--outbound-owner-groups is empty"),
        ("--outbound-owner-groups 1 --outbound-owner-groups-exclude 2", "--outbound-owner-groups is a list"),
        ("--redirect-dns", "--redirect-dns needs --capture-all-dns"),
        ("--capture-all-dns", "do nothing without --redirect-dns"),
        ("--dns-servers 10.0.0.1", "do nothing without --redirect-dns"),
        ("--redirect-dns --capture-all-dns --dns-port 53", "--dns-port is 53"),
        ("--redirect-dns --capture-all-dns -o 50-60", "port 53 is in --istio-local-outbound-ports-exclude"),
        ("--redirect-dns --dns-servers fd00::a --ipv6 false", "--dns-servers names fd00::a, which is IPv6"),
        ("-m TPROXY -t 0", "--istio-inbound-tproxy-mark 0 is taken"),
        ("-m TPROXY -t 1338", "--istio-inbound-tproxy-mark 1338 is taken"),
        ("-m TPROXY -r 254", "--istio-inbound-tproxy-route-table 254 is the kernel's own"),
    ] {
        let error = parse(arguments).unwrap().validate().expect_err(arguments).to_string();
        assert!(error.contains(message), "{arguments}: {error}");
    }
}

#[test]
fn refuses_a_proxy_without_a_user() {
    let options = Options { proxy_uid: IdList::default(), ..Options::default() };
    assert_eq!(options.validate(), Err(OptionsError::NoUid));
}

#[test]
fn switches_need_no_value_and_take_one() {
    for (arguments, ipv6) in [
        ("", Ipv6::Auto),
        ("--ipv6", Ipv6::On),
        ("--ipv6 -p 15001", Ipv6::On),
        ("--ipv6=true", Ipv6::On),
        ("--dual-stack", Ipv6::On),
        ("--ipv6 false", Ipv6::Off),
        ("--ipv6 auto", Ipv6::Auto),
    ] {
        assert_eq!(parse(arguments).unwrap().ipv6, ipv6, "{arguments}");
    }
    for (arguments, on) in [("--drop-invalid", true), ("--drop-invalid=true", true), ("--drop-invalid=false", false)] {
        assert_eq!(parse(arguments).unwrap().drop_invalid, on, "{arguments}");
    }
}

#[test]
fn no_variable_is_read_that_kubernetes_or_an_application_may_set_for_itself() {
    let command = <Cli as clap::CommandFactory>::command();
    let names: Vec<_> = command.get_arguments().filter_map(|argument| argument.get_env()).collect();
    assert!(!names.is_empty());
    assert!(names.iter().all(|name| name.to_string_lossy().starts_with("ISTIO_")), "{names:?}");
}
