//! The settings of a TLS client, and the names it is given.

use rustls::NamedGroup;

use super::*;

#[test]
fn suites_with_sha_256_are_offered_first_and_none_is_lost() {
    let suites = |provider: CryptoProvider| -> Vec<_> {
        provider.cipher_suites.iter().map(|suite| suite.suite()).collect()
    };
    let ours = suites(tls_provider());
    let all = suites(aws_lc_rs::default_provider());
    assert_eq!(ours.first(), Some(&CipherSuite::TLS13_AES_128_GCM_SHA256));
    assert!(ours.is_sorted_by_key(|suite| format!("{suite:?}").ends_with("SHA384")), "{ours:?}");
    assert!(ours.len() == all.len() && all.iter().all(|suite| ours.contains(suite)), "{ours:?}");
}

#[test]
fn three_groups_are_offered_for_the_key_exchange() {
    let groups: Vec<_> = tls_provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups, [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1]);
}

#[test]
fn a_host_loses_its_port_and_brackets() {
    for (host, name) in [
        ("app.internal", "app.internal"),
        ("app.internal:8443", "app.internal"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        assert_eq!(without_port(host), name);
    }
}
