//! What the TLS library's refusal means for a member, in words: the one table.
//!
//! Called by `https`. The library's own texts are for its programmers; here each error is
//! a sentence about the member. An error that only this host can cause is inconclusive.

use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, Error, HandshakeType, InvalidMessage, OtherError, PeerIncompatible,
    PeerMisbehaved,
};
use webpki::Error as PathError;
use x509_parser::asn1_rs::{FromDer, Oid};

use crate::health::{MemberReason, ProberReason};
use crate::probe::finding::{Finding, first_line, printable};

/// What a probe knows beside the library's error.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::probe) struct Situation<'a> {
    /// The first bytes that the member sent, if it is they that were refused.
    pub(in crate::probe) first: &'a [u8],
    /// The member's certificate names itself as its issuer.
    pub(in crate::probe) is_self_signed: bool,
    /// The key of the member's certificate is for RSA-PSS alone.
    pub(in crate::probe) has_pss_key: bool,
    /// The member has accepted a version and a cipher suite.
    pub(in crate::probe) has_hello: bool,
    /// The member has asked to renegotiate.
    pub(in crate::probe) renegotiates: bool,
    /// The versions that the check offers.
    pub(in crate::probe) versions: &'static str,
}

/// Said of a member that wants a second handshake in a session.
pub(in crate::probe) const RENEGOTIATION: &str = "the member asked to renegotiate; vitald does not";

/// The handshake has failed, or the member has ended the session with an alert.
pub(in crate::probe) fn handshake(error: &Error, situation: &Situation<'_>) -> Finding {
    let failure = |detail: String| Finding::failure(MemberReason::TlsHandshake, detail);
    match error {
        Error::InvalidCertificate(reason) => {
            Finding::failure(MemberReason::TlsCertificate, certificate(reason, situation.is_self_signed))
        }
        Error::AlertReceived(alert) => failure(ended_by(*alert, situation)),
        error => match member_error(error, situation) {
            Some(detail) => failure(detail),
            None => own_error(error),
        },
    }
}

/// What bytes that are no TLS record, or a record that cannot be decrypted, mean once
/// the session is established: the answer is to blame, not the handshake.
pub(in crate::probe) fn broken_record(error: &Error, situation: &Situation<'_>) -> Finding {
    let why = match error {
        Error::InvalidMessage(_) => "what came is not TLS".to_owned(),
        Error::DecryptError => "it cannot be decrypted".to_owned(),
        Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests) => {
            return Finding::failure(MemberReason::TlsHandshake, RENEGOTIATION);
        }
        error => match member_error(error, situation) {
            Some(why) => why,
            None => return own_error(error),
        },
    };
    Finding::failure(MemberReason::Protocol, format!("a broken TLS record: {why}"))
}

fn ended_by(alert: AlertDescription, situation: &Situation<'_>) -> String {
    let word = alert_word(alert);
    let ended = format!("the member ended the TLS session: alert {word}");
    if situation.renegotiates {
        return format!("{RENEGOTIATION} (alert {word})");
    }
    let versions = situation.versions;
    match alert {
        AlertDescription::NoApplicationProtocol => {
            format!("{ended}: it wants another protocol, such as HTTP/2 alone; vitald speaks HTTP/1.1")
        }
        AlertDescription::ProtocolVersion if !situation.has_hello => {
            format!("{ended}; vitald offers {versions}")
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity
            if !situation.has_hello =>
        {
            format!("{ended}; vitald offers {versions} with ECDHE and AES-GCM or ChaCha20")
        }
        _ => ended,
    }
}

/// What the member did, unless the error is this host's own.
fn member_error(error: &Error, situation: &Situation<'_>) -> Option<String> {
    Some(match error {
        Error::InvalidMessage(_) if situation.first.starts_with(b"HTTP/") => {
            format!("the member speaks plain HTTP: \"{}\"", first_line(situation.first))
        }
        Error::InvalidMessage(message) => unreadable(*message),
        Error::InappropriateHandshakeMessage { got_type: HandshakeType::ClientHello, .. } => {
            "the member answers with a ClientHello: it sends back what it gets, or is a TLS client".to_owned()
        }
        Error::InappropriateHandshakeMessage { got_type, .. } => {
            format!("the member sent a TLS message out of turn: {}", spaced(&format!("{got_type:?}")))
        }
        Error::InappropriateMessage { got_type, .. } => {
            format!("the member sent a TLS record out of turn: {}", spaced(&format!("{got_type:?}")))
        }
        Error::NoCertificatesPresented => "the member shows no certificate".to_owned(),
        Error::DecryptError => "a message of the TLS handshake cannot be decrypted".to_owned(),
        Error::PeerSentOversizedRecord => "the member sent a TLS record that is too long".to_owned(),
        Error::PeerIncompatible(why) => incompatible(why, situation),
        Error::PeerMisbehaved(why) => misbehaved(why, situation),
        // Of the verifier of this room.
        Error::General(message) => message.clone(),
        // What aws-lc says of a key share that is no point of its curve, and the like.
        Error::Other(_) => "a value in the TLS handshake of the member cannot be computed with".to_owned(),
        _ => return None,
    })
}

/// An error of this host: nothing is known of the member then.
fn own_error(error: &Error) -> Finding {
    let what = match error {
        Error::FailedToGetCurrentTime => "the time cannot be read",
        Error::FailedToGetRandomBytes => "the system gives no random bytes",
        Error::EncryptError => "a message cannot be encrypted",
        _ => "the TLS library failed",
    };
    Finding::inconclusive(ProberReason::Internal, format!("TLS: {what}"))
}

fn unreadable(message: InvalidMessage) -> String {
    let what = match message {
        InvalidMessage::HandshakePayloadTooLarge => {
            return "a message of the TLS handshake is too large".to_owned();
        }
        InvalidMessage::CertificatePayloadTooLarge => {
            return "the member's certificates are larger than 64 KiB".to_owned();
        }
        InvalidMessage::InvalidContentType
        | InvalidMessage::InvalidEmptyPayload
        | InvalidMessage::MessageTooLarge
        | InvalidMessage::MessageTooShort
        | InvalidMessage::UnknownProtocolVersion => return "the member does not speak TLS".to_owned(),
        InvalidMessage::MissingData(part) => format!("{} is cut short", spaced(part)),
        InvalidMessage::TrailingData(part) => format!("{} is too long", spaced(part)),
        InvalidMessage::UnexpectedMessage(part) => format!("{} is out of place", spaced(part)),
        InvalidMessage::IllegalEmptyList(part) => format!("{} is empty", spaced(part)),
        InvalidMessage::UnsupportedKeyExchangeAlgorithm(_) => {
            "its kind of key exchange is not one of vitald's".to_owned()
        }
        InvalidMessage::DuplicateExtension(number) => format!("extension {number} comes twice"),
        other => spaced(&format!("{other:?}")),
    };
    format!("a message of the TLS handshake cannot be read: {what}")
}

fn incompatible(why: &PeerIncompatible, situation: &Situation<'_>) -> String {
    let versions = situation.versions;
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13 => {
            format!("the member speaks {}; vitald offers {versions}", chosen_version(situation.first))
        }
        PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            format!("the member speaks an older TLS; this check offers {versions}")
        }
        other => format!("the member's TLS does not fit: {}", spaced(&format!("{other:?}"))),
    }
}

/// The version in a ServerHello (RFC 5246, 7.4.1.3) that opens `bytes`.
fn chosen_version(bytes: &[u8]) -> &'static str {
    match bytes {
        [22, 3, _, _, _, 2, _, _, _, 3, 0, ..] => "SSL 3",
        [22, 3, _, _, _, 2, _, _, _, 3, 1, ..] => "TLS 1.0",
        [22, 3, _, _, _, 2, _, _, _, 3, 2, ..] => "TLS 1.1",
        _ => "another version of TLS",
    }
}

fn misbehaved(why: &PeerMisbehaved, situation: &Situation<'_>) -> String {
    match why {
        PeerMisbehaved::TooManyRenegotiationRequests => RENEGOTIATION.to_owned(),
        PeerMisbehaved::SignedKxWithWrongAlgorithm if situation.has_pss_key => {
            "the member's key is for RSA-PSS alone: vitald can use it over TLS 1.3, not over 1.2".to_owned()
        }
        PeerMisbehaved::SignedKxWithWrongAlgorithm => {
            "the member's key does not fit the cipher suite that it chose".to_owned()
        }
        PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme => {
            "the member signs in a way that vitald does not offer".to_owned()
        }
        PeerMisbehaved::SelectedUnofferedCipherSuite => {
            "the member chose a cipher suite that vitald does not offer".to_owned()
        }
        PeerMisbehaved::SelectedUnofferedKxGroup
        | PeerMisbehaved::IllegalHelloRetryRequestWithUnofferedNamedGroup => {
            "the member chose a group for the key exchange that vitald does not offer".to_owned()
        }
        PeerMisbehaved::SelectedUnofferedApplicationProtocol => {
            "the member chose a protocol by ALPN, and vitald offers none".to_owned()
        }
        PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported => {
            "the member speaks TLS 1.3, but something on the way made it 1.2".to_owned()
        }
        other => format!("the member breaks a rule of TLS: {}", spaced(&format!("{other:?}"))),
    }
}

/// Why a certificate was refused.
fn certificate(reason: &CertificateError, is_self_signed: bool) -> String {
    match reason {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("certificate expired {}", date(*not_after))
        }
        CertificateError::Expired => "certificate ends before it begins".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate not valid before {}", date(*not_before))
        }
        CertificateError::NotValidYet => "certificate not valid yet".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "certificate has no subjectAltName; its CN alone is not a name".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, .. } => {
            let kind = match expected {
                ServerName::DnsName(_) => "name",
                _ => "address",
            };
            format!("certificate not valid for {kind} {}", printable(expected.to_str().as_bytes()))
        }
        CertificateError::UnknownIssuer if is_self_signed => "self-signed certificate".to_owned(),
        CertificateError::UnknownIssuer => "certificate from an unknown issuer".to_owned(),
        CertificateError::Revoked => "certificate revoked".to_owned(),
        CertificateError::BadEncoding => "certificate cannot be read".to_owned(),
        CertificateError::BadSignature => {
            "a certificate's signature is not of the authority's key, or that key is too short".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is not for servers".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            format!(
                "certificate signed with {}, which vitald does not trust",
                algorithm(signature_algorithm_id)
            )
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id, ..
        } => format!(
            "certificate signed with {} by a key that does not fit it",
            algorithm(signature_algorithm_id)
        ),
        CertificateError::Other(OtherError(other)) => match other.downcast_ref::<PathError>() {
            Some(error) => path(error),
            None => "certificate refused by the system's rules".to_owned(),
        },
        other => format!("certificate refused: {}", spaced(variant(&format!("{other:?}")))),
    }
}

/// What is wrong with a certificate, or with the path to an authority, that the library
/// has no kind of its own for.
fn path(error: &PathError) -> String {
    match error {
        PathError::CaUsedAsEndEntity => "certificate is a CA's own and cannot stand for a server",
        PathError::EndEntityUsedAsCa => "certificate signed by one that is no authority's",
        PathError::NameConstraintViolation => "certificate's names are not the authority's to sign",
        PathError::PathLenConstraintViolated => "an authority does not allow so long a path of certificates",
        PathError::MaximumPathDepthExceeded => "the path of certificates is deeper than 6 authorities",
        PathError::MaximumSignatureChecksExceeded
        | PathError::MaximumPathBuildCallsExceeded
        | PathError::MaximumNameConstraintComparisonsExceeded => {
            "too many ways through the certificates to try them all"
        }
        PathError::UnsupportedCertVersion => {
            "certificate of an X.509 version before 3, which holds no subjectAltName"
        }
        PathError::UnsupportedCriticalExtension => "certificate has a critical extension that vitald lacks",
        PathError::SignatureAlgorithmMismatch => "certificate names two different signature algorithms",
        PathError::EmptyEkuExtension => "certificate has an empty list of purposes",
        PathError::CertDistrusted => "certificate of an authority that nobody trusts any more",
        PathError::InvalidSerialNumber => "certificate has an invalid serial number",
        PathError::ExtensionValueInvalid | PathError::MalformedExtensions => {
            "certificate has an extension that cannot be read"
        }
        PathError::MalformedDnsIdentifier => "certificate has a name that is none",
        PathError::MalformedNameConstraint | PathError::InvalidNetworkMaskConstraint => {
            "an authority's name constraint cannot be read"
        }
        other => return format!("certificate refused: {}", spaced(variant(&format!("{other:?}")))),
    }
    .to_owned()
}

/// A signature algorithm by its name, from the content of an AlgorithmIdentifier
/// (RFC 3279, 2.2, RFC 4055, 3.1, RFC 5758, 3.2, RFC 8410, 3).
fn algorithm(identifier: &[u8]) -> String {
    let Ok((_, oid)) = Oid::from_der(identifier) else { return "an unnamed algorithm".to_owned() };
    let oid = oid.to_id_string();
    match oid.as_str() {
        "1.2.840.113549.1.1.4" => "MD5 and RSA",
        "1.2.840.113549.1.1.5" => "SHA-1 and RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS of unusual parameters",
        "1.2.840.113549.1.1.11" => "SHA-256 and RSA",
        "1.2.840.113549.1.1.12" => "SHA-384 and RSA",
        "1.2.840.113549.1.1.13" => "SHA-512 and RSA",
        "1.2.840.113549.1.1.14" => "SHA-224 and RSA",
        "1.2.840.10045.4.1" => "SHA-1 and ECDSA",
        "1.2.840.10045.4.3.1" => "SHA-224 and ECDSA",
        "1.2.840.10045.4.3.2" => "SHA-256 and ECDSA",
        "1.2.840.10045.4.3.3" => "SHA-384 and ECDSA",
        "1.2.840.10045.4.3.4" => "SHA-512 and ECDSA",
        "1.3.101.113" => "Ed448",
        other => return format!("the algorithm {other}"),
    }
    .to_owned()
}

/// The day of a time, UTC.
fn date(time: UnixTime) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    let text = time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    text.as_deref().and_then(|text| text.get(..10)).unwrap_or("at an unknown time").to_owned()
}

/// An alert by the name of RFC 8446, 6, or by its number.
fn alert_word(alert: AlertDescription) -> String {
    match alert {
        // The library has a spelling of its own.
        AlertDescription::UnrecognisedName => "unrecognized_name".to_owned(),
        AlertDescription::Unknown(number) => number.to_string(),
        named => words_of(&format!("{named:?}"), '_'),
    }
}

/// `SelectedUnofferedPsk` as words: `selected unoffered psk`.
fn spaced(name: &str) -> String {
    words_of(name, ' ')
}

/// The name of a variant without what it holds.
fn variant(text: &str) -> &str {
    text.split(|character: char| !character.is_ascii_alphanumeric()).next().unwrap_or(text)
}

/// `CertificateRequired` with its words apart: `certificate_required`.
fn words_of(name: &str, between: char) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && after_lower {
            text.push(between);
        }
        after_lower = character.is_ascii_lowercase();
        text.push(character.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests;
