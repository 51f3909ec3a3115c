//! PEM files: how they are read, and whether they hold what they should. Errors never
//! repeat what a file holds: it may be a private key.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use crate::channel::reader::ClientIdentityError;
use crate::channel::{ClientIdentity, PemFile};

/// The private keys that the TLS library has.
const KEY_KINDS: &str =
    "use RSA of 2048 to 8192 bits (not one for RSA-PSS alone), ECDSA over P-256, P-384 or P-521, or Ed25519";

/// A client certificate and its key, from PEM that was read already: from files,
/// or from a feature that an API client set.
///
/// # Errors
/// Which of the two is to blame, or that they do not belong together.
pub fn client_identity_of(certificate: PemFile, key: PemFile) -> Result<ClientIdentity, ClientIdentityError> {
    let chain = certificates_of(&certificate).map_err(ClientIdentityError::Certificate)?;
    refuse_byte_order_mark(&key).map_err(ClientIdentityError::Key)?;
    let der = PrivateKeyDer::from_pem_slice(&key.pem).map_err(|error| {
        ClientIdentityError::Key(match error {
            // PKCS#1 (RFC 1421, 4.6.1.1): the text after that line is no key that can be read.
            _ if holds(&key.pem, b"Proc-Type: 4,ENCRYPTED") => {
                "its private key is encrypted; vitald takes one without a passphrase".to_owned()
            }
            pem::Error::NoItemsFound => no_items(&key.pem, "private key without a passphrase"),
            _ => "it is damaged PEM".to_owned(),
        })
    })?;
    let signer =
        rustls::crypto::aws_lc_rs::default_provider().key_provider.load_private_key(der).map_err(|_| {
            ClientIdentityError::Key(format!("its private key is of a kind that TLS cannot use: {KEY_KINDS}"))
        })?;
    match CertifiedKey::new(chain, signer).keys_match() {
        // Unknown: the signer cannot show its public key, so nothing speaks against it.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok(ClientIdentity { certificate, key })
        }
        Err(Error::InconsistentKeys(_)) => Err(ClientIdentityError::Mismatch),
        Err(_) => {
            let problem = "it holds a certificate that cannot be read".to_owned();
            Err(ClientIdentityError::Certificate(problem))
        }
    }
}

/// Whether PEM that was read already can serve as trust anchors.
///
/// # Errors
/// Why it cannot.
pub fn check_trust_anchors(file: &PemFile) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(file)? {
        roots.add(certificate).map_err(|_| "it holds a certificate that cannot be read".to_owned())?;
    }
    Ok(())
}

fn certificates_of(file: &PemFile) -> Result<Vec<CertificateDer<'static>>, String> {
    refuse_byte_order_mark(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.pem).collect();
    let certificates = certificates.map_err(|_| "it is damaged PEM".to_owned())?;
    if certificates.is_empty() {
        return Err(no_items(&file.pem, "certificate"));
    }
    Ok(certificates)
}

fn no_items(pem: &[u8], wanted: &str) -> String {
    if holds(pem, b"-----BEGIN") { format!("it holds no {wanted}") } else { "it is not PEM".to_owned() }
}

fn holds(pem: &[u8], part: &[u8]) -> bool {
    pem.windows(part.len()).any(|window| window == part)
}

/// The first item after a mark would be passed over without a word.
fn refuse_byte_order_mark(file: &PemFile) -> Result<(), String> {
    let marks: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];
    match marks.iter().any(|mark| file.pem.starts_with(mark)) {
        true => Err("it begins with a byte order mark (BOM); save it as plain ASCII".to_owned()),
        false => Ok(()),
    }
}
