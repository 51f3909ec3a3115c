//! Whether a member holds the key of its certificate.
//!
//! The TLS library judges a member's signature first. What it refuses, `verifier` brings
//! here: the library wants keys of certain sizes in certificates of version 3, but a
//! reachability check must not fail for a key that the library cannot use. So possession
//! is proved with the bare key where some algorithm of aws-lc can, and else it stays open.

use std::sync::LazyLock;

use ::aws_lc_rs::signature as lc;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::RSAPublicKey;

use crate::channel::VerifyCertificate;

/// Schemes for keys that say themselves that they are for RSA-PSS alone (RFC 8446, 4.2.3).
/// Over TLS 1.2 the library refuses them by itself.
const FOR_PSS_KEYS: [SignatureScheme; 3] =
    [SignatureScheme::Unknown(0x0809), SignatureScheme::Unknown(0x080a), SignatureScheme::Unknown(0x080b)];

/// Schemes that are offered where no certificate is verified, so that a member with no
/// other can answer: Ed448, Brainpool curves, and SHA-1 and SHA-224 of old TLS 1.2.
const FOR_REACHABILITY: [SignatureScheme; 8] = [
    SignatureScheme::ED448,
    SignatureScheme::Unknown(0x081a),
    SignatureScheme::Unknown(0x081b),
    SignatureScheme::Unknown(0x081c),
    SignatureScheme::Unknown(0x0301),
    SignatureScheme::Unknown(0x0303),
    SignatureScheme::RSA_PKCS1_SHA1,
    SignatureScheme::ECDSA_SHA1_Legacy,
];

/// The schemes to offer. Where no certificate is verified, short hashes come first: the
/// signature of a short RSA key has no room for a long one, and some members take the first
/// scheme of their kind even so.
pub(super) fn offered(mut own: Vec<SignatureScheme>, verify: VerifyCertificate) -> Vec<SignatureScheme> {
    own.extend(FOR_PSS_KEYS);
    if verify == VerifyCertificate::No {
        own.sort_by_key(|scheme| match u16::from(*scheme) {
            0x0401 | 0x0403 | 0x0804 | 0x0809 => 256,
            0x0501 | 0x0503 | 0x0805 | 0x080a => 384,
            _ => 512,
        });
        own.extend(FOR_REACHABILITY);
    }
    own
}

/// A scheme by its name in RFC 8446 and RFC 8734, or by its number.
pub(super) fn name(scheme: SignatureScheme) -> String {
    match u16::from(scheme) {
        0x0201 => "rsa_pkcs1_sha1",
        0x0203 => "ecdsa_sha1",
        0x0301 => "rsa_pkcs1_sha224",
        0x0303 => "ecdsa_sha224",
        0x0401 => "rsa_pkcs1_sha256",
        0x0403 => "ecdsa_secp256r1_sha256",
        0x0501 => "rsa_pkcs1_sha384",
        0x0503 => "ecdsa_secp384r1_sha384",
        0x0601 => "rsa_pkcs1_sha512",
        0x0603 => "ecdsa_secp521r1_sha512",
        0x0804 => "rsa_pss_rsae_sha256",
        0x0805 => "rsa_pss_rsae_sha384",
        0x0806 => "rsa_pss_rsae_sha512",
        0x0807 => "ed25519",
        0x0808 => "ed448",
        0x0809 => "rsa_pss_pss_sha256",
        0x080a => "rsa_pss_pss_sha384",
        0x080b => "rsa_pss_pss_sha512",
        0x081a => "ecdsa_brainpoolP256r1tls13_sha256",
        0x081b => "ecdsa_brainpoolP384r1tls13_sha384",
        0x081c => "ecdsa_brainpoolP512r1tls13_sha512",
        0x0904 => "mldsa44",
        0x0905 => "mldsa65",
        0x0906 => "mldsa87",
        number => return format!("{number:#06x}"),
    }
    .to_owned()
}

/// The library's algorithms for the signatures of certificates, and those for authorities
/// with a key for RSA-PSS alone.
pub(super) fn for_certificates() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
        let own = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let pss = BY_PSS_KEYS.iter().map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm);
        own.iter().copied().chain(pss).collect()
    });
    &ALL
}

/// A signature in a certificate by a key for RSA-PSS alone: the same as by any RSA key,
/// under another name.
#[derive(Debug)]
struct ByPssKey {
    /// How the key is named: without parameters, or with those of the signature.
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
    verify: &'static lc::RsaParameters,
}

/// id-RSASSA-PSS without parameters (RFC 4055, 3.1), as in a SEQUENCE.
const ANY_PSS: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(&[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]);

static BY_PSS_KEYS: [ByPssKey; 6] = [
    ByPssKey { key: ANY_PSS, signature: alg_id::RSA_PSS_SHA256, verify: &lc::RSA_PSS_2048_8192_SHA256 },
    ByPssKey { key: ANY_PSS, signature: alg_id::RSA_PSS_SHA384, verify: &lc::RSA_PSS_2048_8192_SHA384 },
    ByPssKey { key: ANY_PSS, signature: alg_id::RSA_PSS_SHA512, verify: &lc::RSA_PSS_2048_8192_SHA512 },
    ByPssKey {
        key: alg_id::RSA_PSS_SHA256,
        signature: alg_id::RSA_PSS_SHA256,
        verify: &lc::RSA_PSS_2048_8192_SHA256,
    },
    ByPssKey {
        key: alg_id::RSA_PSS_SHA384,
        signature: alg_id::RSA_PSS_SHA384,
        verify: &lc::RSA_PSS_2048_8192_SHA384,
    },
    ByPssKey {
        key: alg_id::RSA_PSS_SHA512,
        signature: alg_id::RSA_PSS_SHA512,
        verify: &lc::RSA_PSS_2048_8192_SHA512,
    },
];

impl SignatureVerificationAlgorithm for ByPssKey {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = lc::UnparsedPublicKey::new(self.verify, key);
        key.verify(message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

/// What a signature that the library refused says of the member's key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyProof {
    /// The member holds the key.
    Given,
    /// It may: this key cannot be used here.
    Impossible(String),
    /// It does not.
    False,
}

/// Proves with the bare key that the member holds it, as far as that can be done.
/// `refusal` is why the library did not. `is_verified`: a key that is too short, or a hash
/// that is broken, proves nothing.
pub(super) fn prove(
    key: &SubjectPublicKeyInfo<'_>,
    message: &[u8],
    signed: &DigitallySignedStruct,
    refusal: &Error,
    is_verified: bool,
) -> KeyProof {
    let kind = KeyKind::of(key);
    let is_weak = matches!(kind, KeyKind::Rsa(..2048)) || hash_is_weak(signed.scheme);
    let algorithm = match algorithm(&kind, signed.scheme) {
        Algorithm::Known(algorithm) if !(is_verified && is_weak) => algorithm,
        Algorithm::OfAnotherKind => return KeyProof::False,
        // The library knows the algorithm, so it is the signature that is wrong.
        Algorithm::Unknown
            if *refusal == Error::InvalidCertificate(CertificateError::BadSignature)
                && !matches!(kind, KeyKind::Rsa(_)) =>
        {
            return KeyProof::False;
        }
        Algorithm::Known(_) | Algorithm::Unknown => return KeyProof::Impossible(kind.to_string()),
    };
    let Ok(key) = lc::ParsedPublicKey::new(algorithm, &key.subject_public_key.data) else {
        return KeyProof::Impossible(kind.to_string());
    };
    match key.verify_sig(message, signed.signature()) {
        Ok(()) => KeyProof::Given,
        Err(_) => KeyProof::False,
    }
}

/// Whether a key says that it is for RSA-PSS alone.
pub(super) fn is_for_pss_alone(key: &SubjectPublicKeyInfo<'_>) -> bool {
    key.algorithm.algorithm.to_id_string() == PSS_KEY
}

/// id-RSASSA-PSS (RFC 4055, 1.2).
const PSS_KEY: &str = "1.2.840.113549.1.1.10";

/// A public key by its kind, with its size in bits where that decides.
#[derive(Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa(usize),
    P256,
    P384,
    P521,
    Ed25519,
    Ed448,
    /// On another curve: its name in numbers.
    Curve(String),
    Other(String),
}

impl KeyKind {
    /// By the names of RFC 3279, 2.3, RFC 5480, 2.1.1, and RFC 8410, 3.
    fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let kind = key.algorithm.algorithm.to_id_string();
        match kind.as_str() {
            "1.2.840.113549.1.1.1" | PSS_KEY => match RSAPublicKey::from_der(&key.subject_public_key.data) {
                Ok((_, rsa)) => Self::Rsa(bits(rsa.modulus)),
                Err(_) => Self::Other(kind),
            },
            "1.2.840.10045.2.1" => {
                let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
                let curve = curve.map(|curve| curve.to_id_string());
                match curve.as_deref() {
                    Some("1.2.840.10045.3.1.7") => Self::P256,
                    Some("1.3.132.0.34") => Self::P384,
                    Some("1.3.132.0.35") => Self::P521,
                    _ => Self::Curve(curve.unwrap_or_else(|| "without a name".to_owned())),
                }
            }
            "1.3.101.112" => Self::Ed25519,
            "1.3.101.113" => Self::Ed448,
            _ => Self::Other(kind),
        }
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rsa(bits) => write!(formatter, "an RSA key of {bits} bits"),
            Self::P256 => formatter.write_str("a P-256 key"),
            Self::P384 => formatter.write_str("a P-384 key"),
            Self::P521 => formatter.write_str("a P-521 key"),
            Self::Ed25519 => formatter.write_str("an Ed25519 key"),
            Self::Ed448 => formatter.write_str("an Ed448 key"),
            Self::Curve(name) => write!(formatter, "a key on the curve {name}"),
            Self::Other(name) => write!(formatter, "a key of the kind {name}"),
        }
    }
}

/// The size of a number, big-endian, perhaps with leading zeros.
fn bits(number: &[u8]) -> usize {
    let mut digits = number.iter().skip_while(|&&byte| byte == 0);
    match digits.next() {
        Some(first) => 8 * (digits.count() + 1) - first.leading_zeros() as usize,
        None => 0,
    }
}

enum Algorithm {
    Known(&'static dyn lc::VerificationAlgorithm),
    /// The kind of key may sign so, but nothing here can tell.
    Unknown,
    /// No key of the kind signs so.
    OfAnotherKind,
}

fn algorithm(kind: &KeyKind, scheme: SignatureScheme) -> Algorithm {
    use KeyKind as K;
    use SignatureScheme as S;
    Algorithm::Known(match (kind, scheme) {
        (K::Rsa(1024..=8192), S::RSA_PKCS1_SHA1) => &lc::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (K::Rsa(1024..=8192), S::RSA_PKCS1_SHA256) => &lc::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (K::Rsa(1024..=8192), S::RSA_PKCS1_SHA512) => &lc::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (K::Rsa(2048..=8192), S::RSA_PKCS1_SHA384) => &lc::RSA_PKCS1_2048_8192_SHA384,
        (K::Rsa(2048..=8192), S::RSA_PSS_SHA256 | S::Unknown(0x0809)) => &lc::RSA_PSS_2048_8192_SHA256,
        (K::Rsa(2048..=8192), S::RSA_PSS_SHA384 | S::Unknown(0x080a)) => &lc::RSA_PSS_2048_8192_SHA384,
        (K::Rsa(2048..=8192), S::RSA_PSS_SHA512 | S::Unknown(0x080b)) => &lc::RSA_PSS_2048_8192_SHA512,
        (K::P256, S::ECDSA_SHA1_Legacy) => &lc::ECDSA_P256_SHA1_ASN1,
        (K::P256, S::ECDSA_NISTP256_SHA256) => &lc::ECDSA_P256_SHA256_ASN1,
        (K::P256, S::ECDSA_NISTP384_SHA384) => &lc::ECDSA_P256_SHA384_ASN1,
        (K::P256, S::ECDSA_NISTP521_SHA512) => &lc::ECDSA_P256_SHA512_ASN1,
        (K::P384, S::ECDSA_NISTP256_SHA256) => &lc::ECDSA_P384_SHA256_ASN1,
        (K::P384, S::ECDSA_NISTP384_SHA384) => &lc::ECDSA_P384_SHA384_ASN1,
        (K::P384, S::ECDSA_NISTP521_SHA512) => &lc::ECDSA_P384_SHA512_ASN1,
        (K::P521, S::ECDSA_SHA1_Legacy) => &lc::ECDSA_P521_SHA1_ASN1,
        (K::P521, S::ECDSA_NISTP256_SHA256) => &lc::ECDSA_P521_SHA256_ASN1,
        (K::P521, S::ECDSA_NISTP384_SHA384) => &lc::ECDSA_P521_SHA384_ASN1,
        (K::P521, S::ECDSA_NISTP521_SHA512) => &lc::ECDSA_P521_SHA512_ASN1,
        (K::Ed25519, S::ED25519) => &lc::ED25519,
        (kind, scheme) => {
            let may_fit = match (family(kind), scheme_family(scheme)) {
                (Some(kind), Some(scheme)) => kind == scheme,
                _ => true,
            };
            return if may_fit { Algorithm::Unknown } else { Algorithm::OfAnotherKind };
        }
    })
}

/// Kinds of keys that cannot sign for each other.
#[derive(PartialEq, Eq)]
enum Family {
    Rsa,
    Ecdsa,
    Ed25519,
    Ed448,
}

fn family(kind: &KeyKind) -> Option<Family> {
    match kind {
        KeyKind::Rsa(_) => Some(Family::Rsa),
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 | KeyKind::Curve(_) => Some(Family::Ecdsa),
        KeyKind::Ed25519 => Some(Family::Ed25519),
        KeyKind::Ed448 => Some(Family::Ed448),
        KeyKind::Other(_) => None,
    }
}

/// By the number of the scheme (RFC 8446, 4.2.3): over TLS 1.2 its second byte is the
/// kind of key.
fn scheme_family(scheme: SignatureScheme) -> Option<Family> {
    match u16::from(scheme) {
        0x0804..=0x0806 | 0x0809..=0x080b => Some(Family::Rsa),
        0x0807 => Some(Family::Ed25519),
        0x0808 => Some(Family::Ed448),
        0x081a..=0x081c => Some(Family::Ecdsa),
        number => match number.to_be_bytes() {
            [0x02..=0x06, 0x01] => Some(Family::Rsa),
            [0x02..=0x06, 0x03] => Some(Family::Ecdsa),
            _ => None,
        },
    }
}

/// SHA-1 and SHA-224.
fn hash_is_weak(scheme: SignatureScheme) -> bool {
    matches!(u16::from(scheme).to_be_bytes(), [..=0x03, _])
}

#[cfg(test)]
mod tests;
