//! What `vitald probe --explain` shows of one probe, beyond its report.
//!
//! Filled by the machines as they go; a probe of a driver carries none.

use std::net::SocketAddr;

/// One probe, as seen from inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Our end of the connection.
    pub local: Option<SocketAddr>,
    /// The member's end.
    pub peer: Option<SocketAddr>,
    /// The handshake; none for TCP and HTTP, or when it was not reached.
    pub tls: Option<TlsExplanation>,
    /// The request that was sent, line by line as on the wire.
    pub request: Option<String>,
    /// The final status line, bounded and printable.
    pub status_line: Option<String>,
    /// Interim answers (1xx) that were passed over.
    pub interim: Vec<u16>,
}

/// One TLS handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsExplanation {
    /// The name that was sent (SNI) or, for an address, only checked.
    pub server_name: String,
    /// `TLSv1.3`; none when the handshake did not get so far.
    pub version: Option<String>,
    /// The cipher suite.
    pub cipher: Option<String>,
    /// The member's own certificate.
    pub certificate: Option<CertificateExplanation>,
    /// Why the certificate was refused; none when it was accepted or not verified.
    pub verification_error: Option<String>,
}

/// The member's certificate. Texts are bounded and printable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateExplanation {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// DNS names and addresses it is valid for.
    pub names: Vec<String>,
    /// Start of validity, seconds since the Unix epoch.
    pub not_before: i64,
    /// End of validity, seconds since the Unix epoch.
    pub not_after: i64,
}
