//! The authority in the Host header, against what an address shows and RFC 9110 wants.

use super::*;

#[test]
fn the_authority_is_the_address_as_it_is_shown() {
    for (host, port) in [("10.0.0.255", 80), ("127.1.2.3", 65535), ("2001:db8::1", 8080)] {
        let member = MemberAddress { host: Host::Ip(host.parse().unwrap()), port };
        let mut authority = Vec::new();
        write_authority(&member, 443, &mut authority);
        assert_eq!(String::from_utf8(authority).unwrap(), member.to_string());
    }
}

#[test]
fn an_authority_leaves_out_the_default_port() {
    let hosts = [
        (Host::Ip("10.0.0.1".parse().unwrap()), "10.0.0.1"),
        (Host::Ip("2001:db8::1".parse().unwrap()), "[2001:db8::1]"),
        (Host::Name("app".into()), "app"),
    ];
    for (host, alone) in hosts {
        for (port, default_port) in [(80, 80), (443, 443), (80, 443), (443, 80), (8080, 80)] {
            let member = MemberAddress { host: host.clone(), port };
            let mut authority = b"Host: ".to_vec();
            write_authority(&member, default_port, &mut authority);
            let port = if port == default_port { String::new() } else { format!(":{port}") };
            assert_eq!(String::from_utf8(authority).unwrap(), format!("Host: {alone}{port}"));
        }
    }
}
