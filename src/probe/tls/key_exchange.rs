//! Key pairs of the key exchange: one for each session, also where a member chooses
//! TLS 1.2.
//!
//! A client that offers TLS 1.3 sends the public half of a key pair with its first message
//! (RFC 8446, 4.2.8). When the member chooses TLS 1.2, the TLS library throws that pair away
//! and makes another one of the same group, although no secret has been made with the first.
//! The groups here, which `tls` has in its provider, keep it for the rest of the same
//! session. `https` says with [`in_session`] which session the library works on. No pair is
//! ever used for a second secret, nor offered in a second session.

use std::cell::Cell;

use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, ProtocolVersion, SupportedProtocolVersion};

/// A session's key pair that was offered and not used.
#[derive(Default)]
pub(in crate::probe) struct UnusedPair(Option<Box<dyn ActiveKeyExchange>>);

thread_local! {
    /// The unused pair of the session on which the TLS library works in this thread; none
    /// outside of [`in_session`], where pairs are dropped.
    static RUNNING: Cell<Option<UnusedPair>> = const { Cell::new(None) };
}

/// Runs one call into the TLS library for the session that `unused` is of.
pub(in crate::probe) fn in_session<R>(unused: &mut UnusedPair, call: impl FnOnce() -> R) -> R {
    RUNNING.set(Some(std::mem::take(unused)));
    let result = call();
    *unused = RUNNING.take().unwrap_or_default();
    result
}

/// A group of the TLS library whose key pairs are used within their session.
#[derive(Debug)]
pub(super) struct ThriftyGroup(pub(super) &'static dyn SupportedKxGroup);

impl SupportedKxGroup for ThriftyGroup {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut running = RUNNING.take();
        let kept = running.as_mut().and_then(|unused| unused.0.take_if(|pair| pair.group() == self.name()));
        RUNNING.set(running);
        let pair = match kept {
            Some(pair) => pair,
            None => self.0.start()?,
        };
        Ok(Box::new(OfferedPair { group: pair.group(), pair: UnusedPair(Some(pair)) }))
    }

    fn start_and_complete(&self, peer_pub_key: &[u8]) -> Result<CompletedKeyExchange, Error> {
        self.0.start_and_complete(peer_pub_key)
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.0.ffdhe_group()
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        self.0.usable_for_version(version)
    }
}

/// A key pair as the library holds it.
struct OfferedPair {
    group: NamedGroup,
    /// Empty once the pair has been used, which takes this value away from its holder.
    pair: UnusedPair,
}

impl OfferedPair {
    fn taken(&mut self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        self.pair.0.take().ok_or_else(|| Error::General("a key pair was used twice".to_owned()))
    }
}

impl ActiveKeyExchange for OfferedPair {
    fn complete(mut self: Box<Self>, peer_pub_key: &[u8]) -> Result<SharedSecret, Error> {
        self.taken()?.complete(peer_pub_key)
    }

    fn complete_for_tls_version(
        mut self: Box<Self>,
        peer_pub_key: &[u8],
        tls_version: &SupportedProtocolVersion,
    ) -> Result<SharedSecret, Error> {
        self.taken()?.complete_for_tls_version(peer_pub_key, tls_version)
    }

    fn pub_key(&self) -> &[u8] {
        self.pair.0.as_ref().map_or(&[], |pair| pair.pub_key())
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.pair.0.as_ref().and_then(|pair| pair.ffdhe_group())
    }

    fn group(&self) -> NamedGroup {
        self.group
    }
}

impl Drop for OfferedPair {
    fn drop(&mut self) {
        // A session's last pair may be dropped while its thread ends.
        let _ = RUNNING.try_with(|running| {
            if let Some(mut unused) = running.take() {
                if let Some(pair) = self.pair.0.take() {
                    unused.0 = Some(pair);
                }
                running.set(Some(unused));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};

    use rcgen::CertifiedKey;
    use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, version};

    use super::*;

    /// Notes the pairs that are made.
    #[derive(Debug, Default)]
    struct Counted(Mutex<Vec<Vec<u8>>>);

    impl SupportedKxGroup for Counted {
        fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
            let pair = kx_group::X25519.start()?;
            self.0.lock().expect("no panic").push(pair.pub_key().to_vec());
            Ok(pair)
        }

        fn name(&self) -> NamedGroup {
            kx_group::X25519.name()
        }
    }

    /// How many pairs a handshake over a group takes with a member of a version, whose
    /// answers come in pieces of `piece` bytes; and that it succeeds.
    fn pairs(
        counted: &Counted,
        group: &'static dyn SupportedKxGroup,
        version: &'static SupportedProtocolVersion,
        piece: usize,
    ) -> usize {
        let before = counted.0.lock().expect("no panic").len();
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["member.example".to_owned()]).expect("a certificate");
        let mut anchors = RootCertStore::empty();
        anchors.add(cert.der().clone()).expect("an anchor");
        let mut provider = default_provider();
        provider.kx_groups = vec![group];
        let client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(anchors)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a server");
        let mut unused = UnusedPair::default();
        let name = ServerName::try_from("member.example").expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), name).expect("a session");
        let mut server = ServerConnection::new(Arc::new(server)).expect("a session");
        for _ in 0..4 {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).expect("memory");
            }
            server.read_tls(&mut sent.as_slice()).expect("memory");
            server.process_new_packets().expect("a good client");
            let mut answer = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answer).expect("memory");
            }
            for mut bytes in answer.chunks(piece) {
                client.read_tls(&mut bytes).expect("memory");
                in_session(&mut unused, || client.process_new_packets()).expect("a good server");
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        counted.0.lock().expect("no panic").len() - before
    }

    #[test]
    fn a_session_takes_one_key_pair_and_no_two_take_the_same() {
        let counted: &'static Counted = Box::leak(Box::default());
        let thrifty: &'static ThriftyGroup = Box::leak(Box::new(ThriftyGroup(counted)));
        for piece in [16 * 1024, 50] {
            assert_eq!(pairs(counted, thrifty, &version::TLS12, piece), 1);
            assert_eq!(pairs(counted, thrifty, &version::TLS13, piece), 1);
        }
        // What the library does by itself; as soon as it does better, this file can go.
        assert_eq!(pairs(counted, counted, &version::TLS12, 16 * 1024), 2);
        let made = counted.0.lock().expect("no panic");
        assert_eq!(made.iter().collect::<HashSet<_>>().len(), made.len());
    }
}
