//! TLS settings of a channel, and the certificates of its members.
//!
//! `plan` builds one [`TlsPlan`] per channel; `https` runs sessions with it.
//!
//! - Every probe makes a full handshake. A resumed session would not show the
//!   member's certificate: an expired one would go unseen for as long as
//!   tickets last.
//! - Verification is off by default: members are addresses, and the documented
//!   check is about reachability. The member must still prove that it holds
//!   the key of the certificate it shows.
//! - The certificate is read before it is verified, so its expiry is known even when
//!   verification refuses it.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore,
    SignatureScheme, SupportedProtocolVersion, version,
};
use x509_parser::extensions::GeneralName;
use x509_parser::nom::Parser as _;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificateParser};

use super::finding::{CertificateTrace, printable};
use crate::channel::{
    ClientCertificate, ClientIdentity, Host, MemberAddress, PemFile, ProbeOptions, TlsOptions, TlsVersion,
    VerifyCertificate,
};

/// Why a plan cannot be made. Configuration checks find most of these earlier;
/// what is left is what changed since, or what only the TLS library knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// `ca_file` holds no usable trust anchor.
    #[error("{path} holds no usable CA certificate: {message}")]
    TrustAnchors {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// `verify` without `ca_file`, and the system has no trust anchors.
    #[error("the system's trust anchors cannot be used: {0}")]
    SystemTrustAnchors(String),
    /// The client certificate or its key cannot be used.
    #[error("the client certificate {path} cannot be used: {message}")]
    ClientIdentity {
        /// The certificate's or the key's file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// `enable_client_ssl` without a client certificate.
    #[error("enable_client_ssl is set, but there is no client certificate")]
    NoClientIdentity,
    /// `server_name` (or `host`) is neither a DNS name nor an address.
    #[error("\"{0}\" is neither a DNS name nor an IP address, so it cannot be a TLS server name")]
    ServerName(String),
    /// The TLS library refuses the settings.
    #[error("the TLS settings cannot be used: {0}")]
    Tls(String),
}

/// TLS as all members of a channel get it.
#[derive(Debug)]
pub(super) struct TlsPlan {
    config: Arc<ClientConfig>,
    /// The configured name; none: the member's own.
    server_name: Option<ServerName<'static>>,
}

impl TlsPlan {
    /// Reads trust anchors and the client certificate, and fixes the settings.
    pub(super) fn new(present: ClientCertificate, options: &ProbeOptions) -> Result<Self, PlanError> {
        let tls = &options.tls;
        let provider = Arc::new(tls_provider());
        let verifier =
            RecordingVerifier { inner: verifier(tls, &provider)?, provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(tls.min_version))
            .map_err(|error| PlanError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (present, &tls.client) {
            (ClientCertificate::None, _) => builder.with_no_client_auth(),
            (ClientCertificate::Present, None) => return Err(PlanError::NoClientIdentity),
            (ClientCertificate::Present, Some(identity)) => {
                let (chain, key) = read_identity(identity)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unusable(&identity.certificate, &error))?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name: configured_name(options)? })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name to send (SNI) and to verify. An address is never sent. A host
    /// that is no DNS name stands for its address.
    pub(super) fn server_name(&self, member: &MemberAddress, peer: IpAddr) -> ServerName<'static> {
        if let Some(name) = &self.server_name {
            return name.clone();
        }
        let own = match &member.host {
            Host::Ip(_) => None,
            Host::Name(name) => ServerName::try_from(name.trim_end_matches('.')).ok(),
        };
        own.map_or_else(|| ServerName::from(peer), |name| name.to_owned())
    }
}

/// TLS settings for a connection that is no probe: the command line's to a
/// daemon. Certificates are verified, or not, as those of members are.
///
/// # Errors
/// The authorities cannot be used.
pub fn tls_settings(tls: &TlsOptions) -> Result<Arc<ClientConfig>, PlanError> {
    let options = ProbeOptions { tls: tls.clone(), ..ProbeOptions::default() };
    TlsPlan::new(ClientCertificate::None, &options).map(|plan| plan.config)
}

/// The one TLS provider of this program, for its server and demo as well: aws-lc. It
/// offers the three groups that every member of this decade answers at once; the library's
/// own list adds X25519MLKEM768, which some members answer with another round trip. Suites
/// that hash with SHA-256 come before those with SHA-384: processors have instructions for
/// the former. Which suite is used is the member's choice among them.
#[must_use]
pub fn tls_provider() -> CryptoProvider {
    let mut provider = crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| hashes_with_sha384(suite.suite()));
    provider.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    provider
}

fn hashes_with_sha384(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    )
}

static FROM_1_2: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
static FROM_1_3: [&SupportedProtocolVersion; 1] = [&version::TLS13];

fn versions(lowest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match lowest {
        TlsVersion::Tls12 => &FROM_1_2,
        TlsVersion::Tls13 => &FROM_1_3,
    }
}

fn configured_name(options: &ProbeOptions) -> Result<Option<ServerName<'static>>, PlanError> {
    let text = match (&options.tls.server_name, &options.host) {
        (Some(name), _) => name.as_str(),
        (None, Some(host)) => without_port(host),
        (None, None) => return Ok(None),
    };
    match ServerName::try_from(text.trim_end_matches('.')) {
        Ok(name) => Ok(Some(name.to_owned())),
        Err(_) => Err(PlanError::ServerName(text.to_owned())),
    }
}

/// A `Host` value without its port and brackets (RFC 3986, 3.2.2).
fn without_port(host: &str) -> &str {
    if let Some((inside, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside;
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn verifier(
    tls: &TlsOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ServerCertVerifier>>, PlanError> {
    match (tls.verify, &tls.ca) {
        (VerifyCertificate::No, _) => Ok(None),
        (VerifyCertificate::Yes, Some(ca)) => {
            let anchors = read_anchors(ca)?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider))
                    .build()
                    .map_err(|error| PlanError::Tls(error.to_string()))?;
            Ok(Some(verifier))
        }
        (VerifyCertificate::Yes, None) => {
            let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(provider))
                .map_err(|error| PlanError::SystemTrustAnchors(error.to_string()))?;
            Ok(Some(Arc::new(verifier)))
        }
    }
}

fn read_anchors(ca: &PemFile) -> Result<RootCertStore, PlanError> {
    let unusable = |message: String| PlanError::TrustAnchors { path: ca.path.display().to_string(), message };
    let mut anchors = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&ca.pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        anchors.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if anchors.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    Ok(anchors)
}

fn read_identity(
    identity: &ClientIdentity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PlanError> {
    let chain = CertificateDer::pem_slice_iter(&identity.certificate.pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&identity.certificate, &error))?;
    let key =
        PrivateKeyDer::from_pem_slice(&identity.key.pem).map_err(|error| unusable(&identity.key, &error))?;
    Ok((chain, key))
}

fn unusable(file: &PemFile, message: &dyn std::fmt::Display) -> PlanError {
    PlanError::ClientIdentity { path: file.path.display().to_string(), message: message.to_string() }
}

thread_local! {
    /// The certificate that the member has shown in the running call of the TLS library.
    /// All sessions of a channel share one verifier, which is not told the session it is
    /// called for; as the call is synchronous, the thread identifies the session.
    static SHOWN: Cell<Option<ShownCertificate>> = const { Cell::new(None) };
}

/// A member's certificate, read before it is verified.
pub(super) struct ShownCertificate {
    /// End of validity, seconds since the Unix epoch; none when unreadable.
    pub(super) not_after: Option<i64>,
    /// It names itself as its issuer.
    pub(super) is_self_signed: bool,
    certificate: CertificateDer<'static>,
}

/// Runs one call into the TLS library; also returns the certificate that the member has
/// shown in it, if any.
pub(super) fn with_certificate<R>(call: impl FnOnce() -> R) -> (R, Option<ShownCertificate>) {
    SHOWN.take();
    let result = call();
    (result, SHOWN.take())
}

impl ShownCertificate {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        // Extensions are not read: nothing here needs them, and they are most of the work.
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let parsed = parser.parse(certificate).ok().map(|(_, parsed)| parsed);
        Self {
            not_after: parsed.as_ref().map(|parsed| parsed.validity().not_after.timestamp()),
            is_self_signed: parsed.is_some_and(|parsed| parsed.subject() == parsed.issuer()),
            certificate: certificate.clone().into_owned(),
        }
    }

    /// What a person wants to see of it; none when it cannot be read.
    pub(super) fn explain(&self) -> Option<CertificateTrace> {
        let (_, parsed) = X509Certificate::from_der(&self.certificate).ok()?;
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

/// Records the certificate, then lets `inner` verify it, if there is one.
#[derive(Debug)]
struct RecordingVerifier {
    inner: Option<Arc<dyn ServerCertVerifier>>,
    provider: Arc<CryptoProvider>,
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
        match &self.inner {
            Some(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Ok(ServerCertVerified::assertion()),
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
            .or_else(|error| self.verify_with_key_alone(error, message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
            .or_else(|error| self.verify_with_key_alone(error, message, certificate, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl RecordingVerifier {
    /// A second try for certificates that the TLS library cannot read, such as
    /// the version 1 ones of many home-made members: the signature is checked
    /// against the bare key. Only where nothing else is verified.
    fn verify_with_key_alone(
        &self,
        error: Error,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let unproven = || Error::General("the member does not hold the key of its certificate".to_owned());
        let Error::InvalidCertificate(reason) = error else { return Err(error) };
        if self.inner.is_some() || reason == CertificateError::BadSignature {
            return Err(unproven());
        }
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| unproven())?;
        let key = &parsed.public_key().subject_public_key.data;
        let algorithms = self.provider.signature_verification_algorithms;
        let (_, candidates) = algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme))?;
        candidates
            .iter()
            .find(|algorithm| algorithm.verify_signature(key, message, signed.signature()).is_ok())
            .map(|_| HandshakeSignatureValid::assertion())
            .ok_or_else(unproven)
    }
}

#[cfg(test)]
mod tests;
