//! The table, row by row: what the library says, and the sentence for it.

use std::sync::Arc;

use rustls::{ContentType, ExtendedKeyPurpose, InconsistentKeys};

use super::*;
use crate::health::Outcome;

fn said(error: &Error, situation: &Situation<'_>) -> String {
    let finding = handshake(error, situation);
    assert!(matches!(finding.outcome, Outcome::Failure(_)), "{error:?}: {finding:?}");
    finding.detail.into_owned()
}

fn plain() -> Situation<'static> {
    Situation { versions: "TLS 1.2 and 1.3", ..Situation::default() }
}

#[test]
fn alerts_have_the_names_of_the_rfc() {
    for (alert, written) in [
        (AlertDescription::CertificateRequired, "certificate_required"),
        (AlertDescription::UnknownCA, "unknown_ca"),
        (AlertDescription::UnrecognisedName, "unrecognized_name"),
        (AlertDescription::Unknown(199), "199"),
    ] {
        let detail = format!("the member ended the TLS session: alert {written}");
        assert_eq!(said(&Error::AlertReceived(alert), &plain()), detail);
    }
}

#[test]
fn an_alert_before_a_suite_is_chosen_names_what_was_offered() {
    let ended = "the member ended the TLS session: alert";
    let suites = "; vitald offers TLS 1.2 and 1.3 with ECDHE and AES-GCM or ChaCha20";
    let late = Situation { has_hello: true, ..plain() };
    for (alert, word, offer) in [
        (AlertDescription::HandshakeFailure, "handshake_failure", suites),
        (AlertDescription::InsufficientSecurity, "insufficient_security", suites),
        (AlertDescription::ProtocolVersion, "protocol_version", "; vitald offers TLS 1.2 and 1.3"),
    ] {
        assert_eq!(said(&Error::AlertReceived(alert), &plain()), format!("{ended} {word}{offer}"));
        assert_eq!(said(&Error::AlertReceived(alert), &late), format!("{ended} {word}"));
    }
    let http2 = "the member ended the TLS session: alert no_application_protocol: it wants another protocol, \
                 such as HTTP/2 alone; vitald speaks HTTP/1.1";
    assert_eq!(said(&Error::AlertReceived(AlertDescription::NoApplicationProtocol), &plain()), http2);
    let again = Situation { renegotiates: true, ..late };
    let detail = "the member asked to renegotiate; vitald does not (alert handshake_failure)";
    assert_eq!(said(&Error::AlertReceived(AlertDescription::HandshakeFailure), &again), detail);
}

#[test]
fn each_error_of_a_handshake_has_its_sentence() {
    let unreadable = "a message of the TLS handshake cannot be read";
    let got = |got_type| Error::InappropriateHandshakeMessage { expect_types: Vec::new(), got_type };
    let record =
        Error::InappropriateMessage { expect_types: Vec::new(), got_type: ContentType::ApplicationData };
    let cases: Vec<(Error, String)> = vec![
        (
            got(HandshakeType::ClientHello),
            "the member answers with a ClientHello: it sends back what it gets, or is a TLS client".into(),
        ),
        (
            got(HandshakeType::ServerKeyExchange),
            "the member sent a TLS message out of turn: server key exchange".into(),
        ),
        (record, "the member sent a TLS record out of turn: application data".into()),
        (Error::NoCertificatesPresented, "the member shows no certificate".into()),
        (Error::DecryptError, "a message of the TLS handshake cannot be decrypted".into()),
        (Error::PeerSentOversizedRecord, "the member sent a TLS record that is too long".into()),
        (Error::General("the verifier's".to_owned()), "the verifier's".into()),
        (
            Error::Other(OtherError(Arc::new(std::fmt::Error))),
            "a value in the TLS handshake of the member cannot be computed with".into(),
        ),
        (InvalidMessage::InvalidContentType.into(), "the member does not speak TLS".into()),
        (InvalidMessage::UnknownProtocolVersion.into(), "the member does not speak TLS".into()),
        (
            InvalidMessage::HandshakePayloadTooLarge.into(),
            "a message of the TLS handshake is too large".into(),
        ),
        (
            InvalidMessage::CertificatePayloadTooLarge.into(),
            "the member's certificates are larger than 64 KiB".into(),
        ),
        (
            InvalidMessage::MissingData("ServerHello").into(),
            format!("{unreadable}: server hello is cut short"),
        ),
        (
            InvalidMessage::TrailingData("ServerHello").into(),
            format!("{unreadable}: server hello is too long"),
        ),
        (
            InvalidMessage::UnexpectedMessage("Finished").into(),
            format!("{unreadable}: finished is out of place"),
        ),
        (InvalidMessage::IllegalEmptyList("KeyShares").into(), format!("{unreadable}: key shares is empty")),
        (InvalidMessage::DuplicateExtension(43).into(), format!("{unreadable}: extension 43 comes twice")),
        (InvalidMessage::MissingKeyExchange.into(), format!("{unreadable}: missing key exchange")),
        (
            Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig),
            "the member speaks an older TLS; this check offers TLS 1.2 and 1.3".into(),
        ),
        (
            Error::PeerIncompatible(PeerIncompatible::KeyShareExtensionRequired),
            "the member's TLS does not fit: key share extension required".into(),
        ),
        (
            PeerMisbehaved::SignedKxWithWrongAlgorithm.into(),
            "the member's key does not fit the cipher suite that it chose".into(),
        ),
        (
            PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into(),
            "the member signs in a way that vitald does not offer".into(),
        ),
        (
            PeerMisbehaved::SelectedUnofferedCipherSuite.into(),
            "the member chose a cipher suite that vitald does not offer".into(),
        ),
        (
            PeerMisbehaved::IllegalHelloRetryRequestWithUnofferedNamedGroup.into(),
            "the member chose a group for the key exchange that vitald does not offer".into(),
        ),
        (
            PeerMisbehaved::SelectedUnofferedApplicationProtocol.into(),
            "the member chose a protocol by ALPN, and vitald offers none".into(),
        ),
        (
            PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported.into(),
            "the member speaks TLS 1.3, but something on the way made it 1.2".into(),
        ),
        (PeerMisbehaved::TooManyRenegotiationRequests.into(), RENEGOTIATION.into()),
        (PeerMisbehaved::InvalidKeyShare.into(), "the member breaks a rule of TLS: invalid key share".into()),
    ];
    for (error, detail) in cases {
        assert_eq!(said(&error, &plain()), detail);
    }
    let pss = Situation { has_pss_key: true, ..plain() };
    let detail = "the member's key is for RSA-PSS alone: vitald can use it over TLS 1.3, not over 1.2";
    assert_eq!(said(&PeerMisbehaved::SignedKxWithWrongAlgorithm.into(), &pss), detail);
}

#[test]
fn the_version_that_a_member_chose_is_named() {
    let hello = |minor| [22, 3, minor, 0, 42, 2, 0, 0, 38, 3, minor, 7];
    let error = Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13);
    for (minor, version) in [(0, "SSL 3"), (1, "TLS 1.0"), (2, "TLS 1.1"), (9, "another version of TLS")] {
        let first = hello(minor);
        let detail = format!("the member speaks {version}; vitald offers TLS 1.2 and 1.3");
        assert_eq!(said(&error, &Situation { first: &first, ..plain() }), detail);
    }
}

#[test]
fn each_error_of_a_certificate_has_its_sentence() {
    let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let name = || ServerName::try_from("app.internal").expect("a name");
    let address = ServerName::try_from("192.0.2.1").expect("an address");
    let not_for = |expected, presented| CertificateError::NotValidForNameContext { expected, presented };
    let sha1 = vec![6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0];
    let unknown = CertificateError::UnsupportedSignatureAlgorithmContext {
        signature_algorithm_id: sha1.clone(),
        supported_algorithms: Vec::new(),
    };
    let unfit = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
        signature_algorithm_id: vec![6, 3, 0x2b, 0x65, 0x71],
        public_key_algorithm_id: sha1,
    };
    let purpose = CertificateError::InvalidPurposeContext {
        required: ExtendedKeyPurpose::ServerAuth,
        presented: vec![ExtendedKeyPurpose::ClientAuth],
    };
    let path = |error: PathError| CertificateError::Other(OtherError(Arc::new(error)));
    let cases = [
        (
            CertificateError::ExpiredContext { time: time(2), not_after: time(86_400) },
            "certificate expired 1970-01-02",
        ),
        (CertificateError::Expired, "certificate ends before it begins"),
        (
            CertificateError::NotValidYetContext { time: time(2), not_before: time(86_400) },
            "certificate not valid before 1970-01-02",
        ),
        (CertificateError::NotValidYet, "certificate not valid yet"),
        (not_for(name(), vec!["other".to_owned()]), "certificate not valid for name app.internal"),
        (not_for(address, vec!["other".to_owned()]), "certificate not valid for address 192.0.2.1"),
        (not_for(name(), Vec::new()), "certificate has no subjectAltName; its CN alone is not a name"),
        (CertificateError::UnknownIssuer, "certificate from an unknown issuer"),
        (CertificateError::Revoked, "certificate revoked"),
        (CertificateError::BadEncoding, "certificate cannot be read"),
        (
            CertificateError::BadSignature,
            "a certificate's signature is not of the authority's key, or that key is too short",
        ),
        (CertificateError::InvalidPurpose, "certificate is not for servers"),
        (purpose, "certificate is not for servers"),
        (unknown, "certificate signed with SHA-1 and RSA, which vitald does not trust"),
        (unfit, "certificate signed with Ed448 by a key that does not fit it"),
        (CertificateError::UnhandledCriticalExtension, "certificate refused: unhandled critical extension"),
        (
            CertificateError::Other(OtherError(Arc::new(std::fmt::Error))),
            "certificate refused by the system's rules",
        ),
        (path(PathError::CaUsedAsEndEntity), "certificate is a CA's own and cannot stand for a server"),
        (path(PathError::EndEntityUsedAsCa), "certificate signed by one that is no authority's"),
        (path(PathError::NameConstraintViolation), "certificate's names are not the authority's to sign"),
        (
            path(PathError::PathLenConstraintViolated),
            "an authority does not allow so long a path of certificates",
        ),
        (path(PathError::MaximumPathDepthExceeded), "the path of certificates is deeper than 6 authorities"),
        (
            path(PathError::MaximumSignatureChecksExceeded),
            "too many ways through the certificates to try them all",
        ),
        (
            path(PathError::UnsupportedCertVersion),
            "certificate of an X.509 version before 3, which holds no subjectAltName",
        ),
        (
            path(PathError::UnsupportedCriticalExtension),
            "certificate has a critical extension that vitald lacks",
        ),
        (path(PathError::SignatureAlgorithmMismatch), "certificate names two different signature algorithms"),
        (path(PathError::EmptyEkuExtension), "certificate has an empty list of purposes"),
        (path(PathError::CertDistrusted), "certificate of an authority that nobody trusts any more"),
        (path(PathError::InvalidSerialNumber), "certificate has an invalid serial number"),
        (path(PathError::MalformedExtensions), "certificate has an extension that cannot be read"),
        (path(PathError::MalformedDnsIdentifier), "certificate has a name that is none"),
        (path(PathError::MalformedNameConstraint), "an authority's name constraint cannot be read"),
        (path(PathError::InvalidCrlNumber), "certificate refused: invalid crl number"),
    ];
    for (reason, detail) in cases {
        assert_eq!(said(&Error::InvalidCertificate(reason), &plain()), detail);
    }
    let own = Situation { is_self_signed: true, ..plain() };
    assert_eq!(said(&CertificateError::UnknownIssuer.into(), &own), "self-signed certificate");
}

#[test]
fn what_only_this_host_can_cause_says_nothing_of_the_member() {
    for (error, detail) in [
        (Error::FailedToGetCurrentTime, "TLS: the time cannot be read"),
        (Error::FailedToGetRandomBytes, "TLS: the system gives no random bytes"),
        (Error::EncryptError, "TLS: a message cannot be encrypted"),
        (Error::InconsistentKeys(InconsistentKeys::Unknown), "TLS: the TLS library failed"),
    ] {
        for finding in [handshake(&error, &plain()), broken_record(&error, &plain())] {
            assert_eq!(finding.outcome, Outcome::Inconclusive(ProberReason::Internal));
            assert_eq!(finding.detail, detail);
        }
    }
}

#[test]
fn a_broken_record_of_a_session_is_the_answers_fault() {
    for (error, reason, detail) in [
        (Error::DecryptError, MemberReason::Protocol, "a broken TLS record: it cannot be decrypted"),
        (
            InvalidMessage::InvalidContentType.into(),
            MemberReason::Protocol,
            "a broken TLS record: what came is not TLS",
        ),
        (
            PeerMisbehaved::TooManyKeyUpdateRequests.into(),
            MemberReason::Protocol,
            "a broken TLS record: the member breaks a rule of TLS: too many key update requests",
        ),
        (PeerMisbehaved::TooManyRenegotiationRequests.into(), MemberReason::TlsHandshake, RENEGOTIATION),
    ] {
        let finding = broken_record(&error, &plain());
        assert_eq!((finding.outcome, finding.detail.as_ref()), (Outcome::Failure(reason), detail));
    }
}
