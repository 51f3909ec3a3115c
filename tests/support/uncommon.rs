//! Members whose keys the TLS library does not have: certificates by openssl, and a
//! server's side that shows them. It cannot sign with such keys, so it signs with noise:
//! whether a signature is right shows in the unit tests of `probe::tls::signature`.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

const RSA_1024: &str = "\
    308201f53082015ea003020102020101300d06092a864886f70d01010b050030153113301106035504030c0a6f6c\
    64206d656d6265723020170d3236313133303139343533305a180f32313236313130363139343533305a30153113\
    301106035504030c0a6f6c64206d656d62657230819f300d06092a864886f70d010101050003818d003081890281\
    8100d2728ffd907e2d1994c19622fe464a2f72ce6e7106f2d55b36d619d9dcaf4312b64dae61be6d82f2667ead38\
    6069e14bbf036e207c0d51445f10a4eac1491a99e6422c90c113b3fd1742efd1fd4023aa7ffd74944047b5667d42\
    a6ed609cd62c95d2a7ca8d8a894c867649dc0f461d9adf8f04120b972b5962ad10b2bb5b72570203010001a35330\
    51301d0603551d0e041604143d81a48f5766ab70d8bfd4498c6d1b6bc268afd0301f0603551d230418301680143d\
    81a48f5766ab70d8bfd4498c6d1b6bc268afd0300f0603551d130101ff040530030101ff300d06092a864886f70d\
    01010b050003818100a2f675a224f277d112c45f0bf8d3ff44482fea282f81497049261685fb25bf2cae6fbbdd82\
    b40f2487281b47a72e126976a9b7333b3169f69a1a29a85f418598e2acb67ff0b4f10a2188b7673e66339b6c0d93\
    d6582be09812e793db160ce486404df03dec72e18457eeb59400de1b72c88cf09852d5219ff9ae80299ad3158e";

const ED448: &str = "\
    308201783081f9a003020102020101300506032b657130153113301106035504030c0a6f6c64206d656d62657230\
    20170d3236313133303139343533305a180f32313236313130363139343533305a30153113301106035504030c0a\
    6f6c64206d656d6265723043300506032b6571033a00126a76be400fbc3ec71f71075256cd4f197f8dd9d7f98b64\
    9fcb66017fcd2377f19f7e4d840cb1d4fc7a4fdf4657d9a393d80693fc4a4c7180a3533051301d0603551d0e0416\
    04142bcd45d5713f563c099b7a95e0d4c1860dfa8204301f0603551d230418301680142bcd45d5713f563c099b7a\
    95e0d4c1860dfa8204300f0603551d130101ff040530030101ff300506032b6571037300015b5b465ac27137f1db\
    917f0a8c9af81005881fd6d77a54dae95a07472632fa792b0d1e05fca6e8eacef5a90e114de5f8d63d23437d4f75\
    80e8fb5cc22e08050071f0fd14f1ad62f2186df7fb58108b5297d7e2acff8c21e651dc12bf55e75c22d3794f1227\
    cdde1534deeda12f95801800";

/// A kind of key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Uncommon {
    /// RSA of 1024 bits.
    Rsa1024,
    /// Ed448.
    Ed448,
}

impl Uncommon {
    /// Shows the certificate and signs with noise.
    pub(crate) fn resolver(self) -> Arc<dyn ResolvesServerCert> {
        let (certificate, noise) = match self {
            Self::Rsa1024 => (RSA_1024, Noise { scheme: SignatureScheme::RSA_PSS_SHA256, length: 128 }),
            Self::Ed448 => (ED448, Noise { scheme: SignatureScheme::ED448, length: 114 }),
        };
        let certificate = CertificateDer::from(bytes(certificate));
        Arc::new(Noisy(Arc::new(CertifiedKey::new(vec![certificate], Arc::new(noise)))))
    }
}

#[derive(Debug)]
struct Noisy(Arc<CertifiedKey>);

impl ResolvesServerCert for Noisy {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Signatures of the right length.
#[derive(Debug, Clone, Copy)]
struct Noise {
    scheme: SignatureScheme,
    length: usize,
}

impl SigningKey for Noise {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme).then(|| Box::new(*self) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.scheme {
            SignatureScheme::ED448 => SignatureAlgorithm::ED448,
            _ => SignatureAlgorithm::RSA,
        }
    }
}

impl Signer for Noise {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![0x5a; self.length])
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
    hex.as_bytes().chunks(2).map(|pair| digits(pair).expect("hex digits")).collect()
}
