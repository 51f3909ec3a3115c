//! Looks at the certificate that a member shows, and verifies it where that is asked for.
//!
//! `tls` makes one [`RecordingVerifier`] for each channel; the TLS library calls it in a
//! handshake, and `https` takes what it saw with [`with_certificate`].

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::nom::Parser as _;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificateParser};
use x509_parser::time::ASN1Time;

use super::signature::{self, KeyProof};
use crate::channel::VerifyCertificate;
use crate::probe::finding::{CertificateTrace, printable};

thread_local! {
    /// The certificate that the member has shown in the running call of the TLS library.
    /// All sessions of a channel share one verifier, which is not told the session it is
    /// called for; as the call is synchronous, the thread identifies the session.
    static SHOWN: Cell<Option<ShownCertificate>> = const { Cell::new(None) };
    /// Certificates that were read last, each at the place that its last byte says, which is
    /// of its signature. Only what the bytes say is kept, never that they were good.
    static READ: RefCell<[Option<Arc<ReadCertificate>>; PLACES]> =
        const { RefCell::new([const { None }; PLACES]) };
}

/// Certificates kept for each thread: a power of two.
const PLACES: usize = 64;
/// A longer certificate is read anew each time.
const KEPT_AT_MOST: usize = 4 * 1024;

/// A member's certificate, read before it is verified.
pub(in crate::probe) struct ShownCertificate {
    /// Why the member could not prove that it holds the certificate's key.
    pub(in crate::probe) unproven: Option<String>,
    read: Arc<ReadCertificate>,
}

/// What a certificate says, whoever shows it and whenever.
#[derive(Debug)]
struct ReadCertificate {
    bytes: CertificateDer<'static>,
    not_after: Option<i64>,
    is_self_signed: bool,
}

impl ReadCertificate {
    /// Reads a certificate, or finds it among those that were read last.
    fn of(certificate: &CertificateDer<'_>) -> Arc<Self> {
        let place = certificate.last().map_or(0, |byte| usize::from(*byte) % PLACES);
        READ.with_borrow_mut(|kept| {
            let mut kept = kept.get_mut(place).filter(|_| certificate.len() <= KEPT_AT_MOST);
            if let Some(Some(known)) = &kept
                && known.bytes == *certificate
            {
                return Arc::clone(known);
            }
            let parsed = read(certificate);
            let fresh = Arc::new(Self {
                bytes: certificate.clone().into_owned(),
                not_after: parsed.as_ref().map(|parsed| parsed.validity().not_after.timestamp()),
                is_self_signed: parsed.is_some_and(|parsed| parsed.subject() == parsed.issuer()),
            });
            if let Some(kept) = &mut kept {
                **kept = Some(Arc::clone(&fresh));
            }
            fresh
        })
    }
}

/// Runs one call into the TLS library; also returns the certificate that the member has
/// shown in it, if any.
pub(in crate::probe) fn with_certificate<R>(call: impl FnOnce() -> R) -> (R, Option<ShownCertificate>) {
    SHOWN.take();
    let result = call();
    (result, SHOWN.take())
}

impl ShownCertificate {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self { unproven: None, read: ReadCertificate::of(certificate) }
    }

    /// End of validity, seconds since the Unix epoch; none when unreadable.
    pub(in crate::probe) fn not_after(&self) -> Option<i64> {
        self.read.not_after
    }

    /// Whether it names itself as its issuer.
    pub(in crate::probe) fn is_self_signed(&self) -> bool {
        self.read.is_self_signed
    }

    /// Whether its key says that it is for RSA-PSS alone.
    pub(in crate::probe) fn has_pss_key(&self) -> bool {
        read(&self.read.bytes).is_some_and(|parsed| signature::is_for_pss_alone(parsed.public_key()))
    }

    /// What a person wants to see of it; none when it cannot be read.
    pub(in crate::probe) fn explain(&self) -> Option<CertificateTrace> {
        let (_, parsed) = X509Certificate::from_der(&self.read.bytes).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        Some(CertificateTrace {
            subject: printable(parsed.subject().to_string().as_bytes()),
            issuer: printable(parsed.issuer().to_string().as_bytes()),
            names: names.map_or_else(Vec::new, |names| {
                names.value.general_names.iter().filter_map(alternative_name).collect()
            }),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(printable(name.as_bytes())),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            ip.ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// A certificate without its extensions: nothing here needs them, and they are most of
/// the work.
fn read<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    parser.parse(certificate).ok().map(|(_, parsed)| parsed)
}

/// How certificates are verified.
#[derive(Debug)]
pub(super) struct PathVerifier {
    /// By a path to an authority.
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    /// What is in `ca_file`: a member may show one of them as its own certificate, whether
    /// it is an authority's or not. It is trusted as it is; its name and dates count.
    pub(super) pinned: Vec<CertificateDer<'static>>,
}

/// Records the certificate, then verifies it, if that is asked for. In any case the member
/// has to hold the certificate's key; where nothing is verified, it is believed if its key
/// is of a kind that nothing here can use.
#[derive(Debug)]
pub(super) struct RecordingVerifier {
    path: Option<PathVerifier>,
    provider: Arc<CryptoProvider>,
    schemes: Vec<SignatureScheme>,
}

impl RecordingVerifier {
    pub(super) fn new(path: Option<PathVerifier>, provider: Arc<CryptoProvider>) -> Self {
        let own = provider.signature_verification_algorithms.supported_schemes();
        let verify = if path.is_some() { VerifyCertificate::Yes } else { VerifyCertificate::No };
        let schemes = signature::offered(own, verify);
        Self { path, provider, schemes }
    }

    /// A second try where the TLS library refuses a member's signature.
    fn prove(
        &self,
        refusal: &Error,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let is_verified = self.path.is_some();
        let proof = match read(certificate) {
            Some(parsed) => signature::prove(parsed.public_key(), message, signed, refusal, is_verified),
            None => KeyProof::Impossible("a certificate that cannot be read".to_owned()),
        };
        match proof {
            KeyProof::Given => Ok(HandshakeSignatureValid::assertion()),
            KeyProof::Impossible(what) if is_verified => {
                Err(Error::General(format!("the member signs with what cannot be verified: {what}")))
            }
            KeyProof::Impossible(what) => {
                SHOWN.set(SHOWN.take().map(|shown| ShownCertificate { unproven: Some(what), ..shown }));
                Ok(HandshakeSignatureValid::assertion())
            }
            KeyProof::False => {
                Err(Error::General("the member does not hold the key of its certificate".to_owned()))
            }
        }
    }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        SHOWN.set(Some(ShownCertificate::of(end_entity)));
        match &self.path {
            None => Ok(ServerCertVerified::assertion()),
            Some(path) if path.pinned.contains(end_entity) => verify_pinned(end_entity, server_name, now),
            Some(path) => {
                path.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
            .or_else(|refusal| self.prove(&refusal, message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
            .or_else(|refusal| self.prove(&refusal, message, certificate, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Name and dates of a certificate that is trusted as it is.
fn verify_pinned(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let parsed = read(certificate).ok_or(CertificateError::BadEncoding)?;
    let (not_before, not_after) = (unix(&parsed.validity().not_before), unix(&parsed.validity().not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    Ok(ServerCertVerified::assertion())
}

/// A time before 1970 is as past as 1970 is.
fn unix(time: &ASN1Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_once_and_another_at_its_place_for_itself() {
        let certificate = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
            made.cert.der().clone()
        };
        let first = ReadCertificate::of(&certificate("a.example"));
        assert!(first.is_self_signed && first.not_after.is_some());
        assert!(Arc::ptr_eq(&first, &ReadCertificate::of(&first.bytes)));
        // Of the same place, and no certificate.
        let broken = [b"no certificate", &first.bytes[first.bytes.len() - 1..]].concat();
        let second = ReadCertificate::of(&CertificateDer::from(broken));
        assert_eq!((second.not_after, second.is_self_signed), (None, false));
        let again = ReadCertificate::of(&first.bytes);
        assert!(!Arc::ptr_eq(&first, &again));
        assert_eq!((again.not_after, again.is_self_signed), (first.not_after, first.is_self_signed));
        let long = CertificateDer::from([&first.bytes[..], &[0; KEPT_AT_MOST]].concat());
        assert!(!Arc::ptr_eq(&ReadCertificate::of(&long), &ReadCertificate::of(&long)));
    }
}
