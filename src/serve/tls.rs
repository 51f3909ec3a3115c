//! TLS of the HTTP server: certificates that can be replaced while it serves.
//!
//! TLS 1.2 and 1.3. A reload replaces everything at once, the client
//! authorities and resumable sessions too; connections that are open stay as
//! they are.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::ServerTlsSettings;
use crate::probe::{prepare_tls, tls_provider};

/// The certificates of a listener. All clones show the same ones.
#[derive(Clone)]
pub struct Tls {
    settings: Arc<RwLock<Arc<ServerConfig>>>,
}

/// Why certificates cannot be used. The configuration has judged the files
/// already, so these are rare.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file.
    #[error("[server.tls]: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The certificate, its key, or both together.
    #[error("[server.tls]: {0}")]
    Certificate(#[from] rustls::Error),
    /// The client authorities.
    #[error("[server.tls] client_ca: {0}")]
    ClientAuthorities(#[from] rustls::client::VerifierBuilderError),
}

impl Tls {
    /// TLS with the certificates of a configuration.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(tls: &ServerTlsSettings) -> Result<Self, TlsError> {
        prepare_tls();
        Ok(Self { settings: Arc::new(RwLock::new(settings_of(tls)?)) })
    }

    /// Shows another's certificates from the next handshake on.
    pub fn replace(&self, other: &Self) {
        let settings = Arc::clone(&other.settings.read().unwrap_or_else(PoisonError::into_inner));
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Shakes hands, for so long at most.
    pub(super) async fn accept<S>(&self, stream: S, limit: Duration) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        tokio::time::timeout(limit, TlsAcceptor::from(settings).accept(stream))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls(..)")
    }
}

fn settings_of(tls: &ServerTlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(tls_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(&authorities.pem) {
                roots.add(certificate?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&tls.identity.certificate.pem).collect();
    let key = PrivateKeyDer::from_pem_slice(&tls.identity.key.pem)?;
    let mut settings = builder.with_single_cert(chain?, key)?;
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(settings))
}

#[cfg(test)]
mod tests;
