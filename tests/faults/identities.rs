//! Certificates good and bad, and the TLS servers that show them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use crate::uncommon::Uncommon;

/// A chain, leaf first, and the leaf's key.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            certificate_pem: self.certificate_pem.clone(),
            key_pem: self.key_pem.clone(),
        }
    }
}

/// An authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// The certificates between this authority and the root.
    between: Vec<CertificateDer<'static>>,
}

/// A certificate for `names`, valid from 2020 to 2090, for servers and clients.
pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names that a certificate can hold");
    params.distinguished_name.push(DnType::CommonName, "member");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 12, 31);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = Self::params(name);
        let own = params.self_signed(&key).expect("a self-signed certificate");
        Self {
            pem: own.pem(),
            certificate: own.der().clone(),
            issuer: Issuer::new(params, key),
            between: Vec::new(),
        }
    }

    /// An authority under this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = Self::params(name);
        let own = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        let between = [&[own.der().clone()], self.between.as_slice()].concat();
        Self { pem: own.pem(), certificate: own.der().clone(), issuer: Issuer::new(params, key), between }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Identity {
        self.issue_for(params, &PKCS_ECDSA_P256_SHA256)
    }

    /// For a key of this kind.
    pub(crate) fn issue_for(
        &self,
        params: &CertificateParams,
        kind: &'static SignatureAlgorithm,
    ) -> Identity {
        let key = KeyPair::generate_for(kind).expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        let mut chain = vec![signed.der().clone()];
        chain.extend(self.between.iter().cloned());
        Identity {
            chain,
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            certificate_pem: signed.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Identity {
    pub(crate) fn self_signed(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a self-signed certificate");
        Self {
            chain: vec![own.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            certificate_pem: own.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// The leaf alone, as a server does that forgot its intermediate.
    pub(crate) fn without_chain(mut self) -> Self {
        self.chain.truncate(1);
        self
    }

    /// Shows the certificates of another's chain as well, before its own authorities, which
    /// come in the wrong order then.
    pub(crate) fn with_needless(mut self, others: &[Self]) -> Self {
        let own = self.chain.split_off(1);
        self.chain.extend(others.iter().flat_map(|other| other.chain.iter().cloned()));
        self.chain.extend(own.into_iter().rev());
        self
    }

    pub(crate) fn shown(&self) -> usize {
        self.chain.len()
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.pem")), &self.certificate_pem).expect("a folder to write to");
        let key = folder.join(format!("{name}.key"));
        fs::write(&key, &self.key_pem).expect("a folder to write to");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("an own file");
    }

    fn certified(&self) -> CertifiedKey {
        let key = aws_lc_rs::sign::any_supported_type(&self.key).expect("a key that can sign");
        CertifiedKey::new(self.chain.clone(), key)
    }
}

/// Always the same certificate, with whatever key.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What a server asks of its clients.
pub(crate) enum Clients<'a> {
    Anybody,
    SignedBy(&'a Authority),
}

static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
static OLD: [&SupportedProtocolVersion; 1] = [&version::TLS12];
static NEW: [&SupportedProtocolVersion; 1] = [&version::TLS13];

/// Which versions a server speaks.
#[derive(Clone, Copy)]
pub(crate) enum Speaks {
    Both,
    Only12,
    Only13,
}

pub(crate) fn server(identity: &Identity, speaks: Speaks, clients: &Clients<'_>) -> ServerConfig {
    with_resolver(Arc::new(Shows(Arc::new(identity.certified()))), speaks, clients)
}

/// Shows the certificate of one and signs with the key of another.
pub(crate) fn server_with_a_foreign_key(shown: &Identity, other: &Identity) -> ServerConfig {
    let key = CertifiedKey::new(shown.chain.clone(), other.certified().key);
    with_resolver(Arc::new(Shows(Arc::new(key))), Speaks::Both, &Clients::Anybody)
}

/// Knows only this name and turns all others away.
pub(crate) fn server_of_one_name(identity: &Identity, name: &str) -> ServerConfig {
    let mut names = ResolvesServerCertUsingSni::new();
    names.add(name, identity.certified()).expect("a certificate of that name");
    with_resolver(Arc::new(names), Speaks::Both, &Clients::Anybody)
}

/// Signs with noise, as with a key that the TLS library does not have.
pub(crate) fn server_of_uncommon_key(kind: Uncommon) -> ServerConfig {
    with_resolver(kind.resolver(), Speaks::Only13, &Clients::Anybody)
}

fn with_resolver(
    resolver: Arc<dyn ResolvesServerCert>,
    speaks: Speaks,
    clients: &Clients<'_>,
) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[&SupportedProtocolVersion] = match speaks {
        Speaks::Both => &BOTH,
        Speaks::Only12 => &OLD,
        Speaks::Only13 => &NEW,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("versions that the library speaks");
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::SignedBy(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder.with_cert_resolver(resolver)
}
