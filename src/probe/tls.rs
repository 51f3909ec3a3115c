//! TLS settings of a channel, and the certificates of its members.
//!
//! `plan` builds one [`TlsPlan`] per channel; `https` runs sessions with it.
//!
//! - Every probe makes a full handshake. A resumed session would not show the
//!   member's certificate: an expired one would go unseen for as long as
//!   tickets last.
//! - Verification is off by default: members are addresses, and the documented
//!   check is about reachability. The member must still prove that it holds
//!   the key of the certificate it shows, where that key can be used here.
//! - The certificate is read before it is verified, so its expiry is known even when
//!   verification refuses it.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Once, PoisonError, RwLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ProtocolVersion, RootCertStore, SignatureScheme, SupportedCipherSuite,
    SupportedProtocolVersion, Tls12CipherSuite, version,
};
use rustls_platform_verifier::Verifier as SystemVerifier;

use self::key_exchange::ThriftyGroup;
use self::verifier::{PathVerifier, RecordingVerifier};
use super::finding::TlsOffer;
use crate::channel::{
    ClientCertificate, ClientIdentity, Host, MemberAddress, PemFile, ProbeOptions, TlsOptions, TlsVersion,
    VerifyCertificate,
};

pub(super) mod failure;
pub(super) mod key_exchange;
mod signature;
pub(super) mod verifier;

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
    lowest: TlsVersion,
    verifier: Arc<RecordingVerifier>,
}

impl TlsPlan {
    /// Reads trust anchors and the client certificate, and fixes the settings.
    pub(super) fn new(present: ClientCertificate, options: &ProbeOptions) -> Result<Self, PlanError> {
        let tls = &options.tls;
        let provider = Arc::new(tls_provider());
        let verifier = RecordingVerifier::new(path_verifier(tls, &provider)?, Arc::clone(&provider));
        let verifier = Arc::new(verifier);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(tls.min_version))
            .map_err(|error| PlanError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
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
        let server_name = configured_name(options)?;
        Ok(Self { config: Arc::new(config), server_name, lowest: tls.min_version, verifier })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The versions that are offered, for people.
    pub(super) fn versions(&self) -> &'static str {
        match self.lowest {
            TlsVersion::Tls12 => "TLS 1.2 and 1.3",
            TlsVersion::Tls13 => "TLS 1.3",
        }
    }

    /// All that is offered, by the names of the RFCs.
    pub(super) fn offer(&self) -> TlsOffer {
        let provider = self.config.crypto_provider();
        let versions = versions(self.lowest);
        let suites = provider.cipher_suites.iter().filter(|suite| versions.contains(&suite.version()));
        TlsOffer {
            versions: versions.iter().map(|offered| version_word(offered.version)).collect(),
            suites: suites.map(|suite| format!("{:?}", suite.suite())).collect(),
            groups: provider.kx_groups.iter().map(|group| format!("{:?}", group.name())).collect(),
            signatures: self.verifier.supported_verify_schemes().into_iter().map(signature::name).collect(),
        }
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

/// Does what makes the first handshake of a process slow, once: aws-lc gathers entropy for
/// 60 to 110 ms before its first random number. Whoever is about to speak TLS calls this
/// before any time is taken. What fails here fails again, and is reported, in a handshake.
pub fn prepare_tls() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        let _ = tls_provider().secure_random.fill(&mut [0; 32]);
    });
}

/// The one TLS provider of this program, for its server and demo as well: aws-lc. It
/// offers the three groups that every member of this decade answers at once; the library's
/// own list adds X25519MLKEM768, which some members answer with another round trip. Suites
/// that hash with SHA-256 come before those with SHA-384: processors have instructions for
/// the former. Which suite is used is the member's choice among them.
#[must_use]
pub fn tls_provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.clone_from(&SUITES);
    provider.kx_groups = GROUPS.iter().map(|group| group as &dyn SupportedKxGroup).collect();
    provider.signature_verification_algorithms.all = signature::for_certificates();
    provider
}

/// The groups for the key exchange in the order of the offer.
static GROUPS: [ThriftyGroup; 3] =
    [ThriftyGroup(kx_group::X25519), ThriftyGroup(kx_group::SECP256R1), ThriftyGroup(kx_group::SECP384R1)];

/// The suites in the order of the offer.
static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
    let mut suites: Vec<_> = aws_lc_rs::DEFAULT_CIPHER_SUITES.iter().copied().map(with_ed448).collect();
    suites.sort_by_key(|suite| hashes_with_sha384(suite.suite()));
    suites
});

fn hashes_with_sha384(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    )
}

/// Over TLS 1.2 the library lets a member sign only as the list of the suite says, and
/// Ed448 is in none: RFC 8422, 5.10, has it go with the suites for ECDSA.
fn with_ed448(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let SupportedCipherSuite::Tls12(old) = suite else { return suite };
    if !old.sign.contains(&SignatureScheme::ED25519) {
        return suite;
    }
    let common = CipherSuiteCommon {
        suite: old.common.suite,
        hash_provider: old.common.hash_provider,
        confidentiality_limit: old.common.confidentiality_limit,
    };
    let sign = [old.sign, &[SignatureScheme::ED448]].concat();
    // Kept for good: a suite has to outlive all sessions, and this happens once.
    SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
        common,
        prf_provider: old.prf_provider,
        kx: old.kx,
        sign: Vec::leak(sign),
        aead_alg: old.aead_alg,
    })))
}

/// `TLS 1.3`.
pub(super) fn version_word(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
        other => format!("{other:?}"),
    }
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

/// The system's authorities as the last load of the configuration found them, or why there
/// are none. The thread that loads writes it: the control loop, which makes plans, must not
/// wait for a disk. None in commands, and while no channel is verified by them.
static SYSTEM_AUTHORITIES: RwLock<Option<SystemAuthorities>> = RwLock::new(None);

type SystemAuthorities = Result<Arc<SystemVerifier>, String>;

/// Reads the system's authorities; plans made from now on have these. Blocks.
pub fn read_system_authorities() {
    let read = system_authorities(&Arc::new(tls_provider()));
    *SYSTEM_AUTHORITIES.write().unwrap_or_else(PoisonError::into_inner) = Some(read);
}

fn system_authorities(provider: &Arc<CryptoProvider>) -> SystemAuthorities {
    SystemVerifier::new(Arc::clone(provider)).map(Arc::new).map_err(|error| error.to_string())
}

fn path_verifier(
    tls: &TlsOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<PathVerifier>, PlanError> {
    match (tls.verify, &tls.ca) {
        (VerifyCertificate::No, _) => Ok(None),
        (VerifyCertificate::Yes, Some(ca)) => {
            let (anchors, pinned) = read_anchors(ca)?;
            let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider))
                .build()
                .map_err(|error| PlanError::Tls(error.to_string()))?;
            Ok(Some(PathVerifier { inner, pinned }))
        }
        (VerifyCertificate::Yes, None) => {
            let read = SYSTEM_AUTHORITIES.read().unwrap_or_else(PoisonError::into_inner).clone();
            let inner = read.unwrap_or_else(|| system_authorities(provider));
            let inner = inner.map_err(PlanError::SystemTrustAnchors)?;
            Ok(Some(PathVerifier { inner, pinned: Vec::new() }))
        }
    }
}

/// The authorities, and all that may be a member's own certificate.
fn read_anchors(ca: &PemFile) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), PlanError> {
    let unusable = |message: String| PlanError::TrustAnchors { path: ca.path.display().to_string(), message };
    let mut anchors = RootCertStore::empty();
    let mut pinned = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&ca.pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        pinned.push(certificate.clone());
        anchors.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if anchors.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    Ok((anchors, pinned))
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

#[cfg(test)]
mod tests;
