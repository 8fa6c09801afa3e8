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
    for arguments in ["-p 0", "-z 65536", "-u proxy", "-u -1", "-b http", "-d 1-0", "-x 10.0.0.0/40", "--ipv6 maybe"] {
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
        ("-i fd00::/8 --ipv6 false", "fd00::/8 is IPv6, and --ipv6 is false"),
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
