//! Certificates for members that should be trusted, and for those that should not.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData, SigningKey,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use vitald::channel::{ClientIdentity, PemFile};

/// A certification authority of our own.
pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in the forms that the two sides want.
pub(crate) struct Pair {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) pem: (String, String),
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub(crate) fn file(&self) -> PemFile {
        pem_file("ca.pem", &self.0.pem())
    }

    /// A certificate for these names, valid from and to these years' first days.
    pub(crate) fn issue(&self, names: &[&str], from: i32, to: i32) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf(names, from, to).signed_by(&key, &self.0).expect("a certificate");
        Pair::new(certificate.der().clone(), &certificate.pem(), &key)
    }
}

pub(crate) fn leaf(names: &[&str], from: i32, to: i32) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, "a member");
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

impl Pair {
    pub(crate) fn new(certificate: CertificateDer<'static>, pem: &str, key: &KeyPair) -> Self {
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        Self { chain: vec![certificate], key: der.into(), pem: (pem.to_owned(), key.serialize_pem()) }
    }

    pub(crate) fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf(names, 2020, 2096).self_signed(&key).expect("a certificate");
        Self::new(certificate.der().clone(), &certificate.pem(), &key)
    }

    pub(crate) fn identity(&self) -> ClientIdentity {
        ClientIdentity {
            certificate: pem_file("client.pem", &self.pem.0),
            key: pem_file("client-key.pem", &self.pem.1),
        }
    }
}

pub(crate) fn pem_file(path: &str, pem: &str) -> PemFile {
    PemFile { path: path.into(), pem: pem.as_bytes().into() }
}

/// A DER element (X.690, 8.1) of these parts.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut element = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..128) => element.push(length),
        Ok(length) => element.extend([0x81, length]),
        Err(_) => {
            element.push(0x82);
            element.extend(u16::try_from(content.len()).expect("a short element").to_be_bytes());
        }
    }
    element.extend(content);
    element
}

/// A certificate of version 1, as `openssl x509 -req` makes without extensions.
pub(crate) fn version_one() -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    // ecdsa-with-SHA256, what the key pair signs with.
    let algorithm = der(0x30, &[&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
    let common_name = der(0x30, &[&[0x06, 3, 0x55, 4, 3], &der(0x0c, &[b"old member"])]);
    let name = der(0x30, &[&der(0x31, &[&common_name])]);
    let validity = der(0x30, &[&der(0x17, &[b"200101000000Z"]), &der(0x18, &[b"20960101000000Z"])]);
    let serial = der(0x02, &[&[7]]);
    let public_key = key.subject_public_key_info();
    let body = der(0x30, &[&serial, &algorithm, &name, &validity, &name, &public_key]);
    let signature = key.sign(&body).expect("a signature");
    let certificate = der(0x30, &[&body, &algorithm, &der(0x03, &[&[0], &signature])]);
    (certificate.into(), key)
}
