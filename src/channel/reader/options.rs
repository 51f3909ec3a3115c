//! The rules of `probe` and `balance`: vitald's own options, in files only.

use std::collections::HashMap;

use super::super::document::Place;
use super::super::model::{
    BalanceOptions, ClientIdentity, ProbeOptions, TlsOptions, TlsVersion, VerifyCertificate,
};
use super::super::violation::{Rule, Violation};
use super::super::words::{CloseMode, FailOpen, Health};
use super::section::{Case, FieldReader, TableReader, ViolationLog};
use super::wording::quoted;
use super::{ClientIdentityError, ReadContext, text};

pub(super) const PROBE_KEYS: [&str; 5] = ["initial_state", "host", "headers", "close", "tls"];
pub(super) const TLS_KEYS: [&str; 6] =
    ["verify", "ca_file", "server_name", "client_certificate", "client_key", "min_version"];
pub(super) const BALANCE_KEYS: [&str; 1] = ["fail_open"];

pub(super) fn probe_of(
    section: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog<'_>,
) -> ProbeOptions {
    section.refuse_unknown_keys(&PROBE_KEYS, log);
    let states = Health::ALL.map(|health| (health.word(), health));
    let closes = [("reset", CloseMode::Reset), ("fin", CloseMode::Fin)];
    let initial_state =
        section.field("initial_state").and_then(|field| field.word(&states, Case::Exact, log));
    let close = section.field("close").and_then(|field| field.word(&closes, Case::Exact, log));
    let host = section.field("host").and_then(|field| text::authority(&field, log));
    let headers = section.field("headers").map(|field| headers_of(&field, log)).unwrap_or_default();
    let tls = section
        .field("tls")
        .and_then(|field| Some(tls_of(&field.section("TLS table", log)?, context, log)))
        .unwrap_or_default();
    ProbeOptions {
        initial_state: initial_state.unwrap_or_default(),
        host,
        headers,
        close: close.unwrap_or_default(),
        tls,
    }
}

/// Extra request headers. Those that frame the request are ours to send: a
/// second one would make servers read the request in different ways (RFC 9112, 11.2).
fn headers_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Vec<(String, String)> {
    let Some(section) = field.section("header table", log) else { return Vec::new() };
    let mut headers = Vec::new();
    let mut seen: HashMap<String, Place> = HashMap::new();
    for (name, name_place, value) in section.entries() {
        let lower = name.to_ascii_lowercase();
        let mut breach = |rule, message: String, remedy: &str, related| {
            let violation = value.violation(rule, message, remedy);
            log.report(Violation { place: name_place, related, ..violation });
        };
        if !text::is_token(name) {
            let message = format!("{} is no header name", quoted(name));
            breach(Rule::WrongFormat, message, "use letters, digits and `-`", None);
            continue;
        }
        let reserved = match lower.as_str() {
            "host" => Some("set `host` in [channels.probe] instead"),
            "connection" => Some("remove it; every probe is one request on a connection of its own"),
            "content-length" | "transfer-encoding" => Some("remove it; a probe has no body"),
            _ => None,
        };
        if let Some(remedy) = reserved {
            breach(
                Rule::Conflict,
                format!("the header {} is set by the probe itself", quoted(name)),
                remedy,
                None,
            );
            continue;
        }
        if let Some(first) = seen.insert(lower, name_place) {
            let related = Some((first, "the first one".to_owned()));
            breach(
                Rule::Conflict,
                format!("the header {} is given twice; case does not tell headers apart", quoted(name)),
                "remove one of them",
                related,
            );
            continue;
        }
        if let Some(text) = text::header_value(&value, log) {
            headers.push((name.to_owned(), text));
        }
    }
    headers
}

fn tls_of(section: &TableReader<'_>, context: &dyn ReadContext, log: &mut ViolationLog<'_>) -> TlsOptions {
    section.refuse_unknown_keys(&TLS_KEYS, log);
    let verify = section.field("verify").map(|field| field.boolean(log));
    let versions = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
    let min_version = section.field("min_version").and_then(|field| field.word(&versions, Case::Exact, log));
    let server_name = section.field("server_name").and_then(|field| text::server_name(&field, log));
    let ca = section.field("ca_file").and_then(|field| {
        // Written for a purpose, and without `verify` it would silently have none.
        if matches!(verify, None | Some(Some(false))) {
            let message = "`ca_file` has no effect unless `verify` is true".to_owned();
            field.report(Rule::Conflict, message, "write verify = true, or remove `ca_file`", log);
        }
        let path = field.text(log)?;
        let anchors = context.trust_anchors(path);
        anchors.map_err(|problem| report_file(&field, path, &problem, log)).ok()
    });
    let client = client_identity_of(section, ("client_certificate", "client_key"), context, log);
    TlsOptions {
        verify: if verify == Some(Some(true)) { VerifyCertificate::Yes } else { VerifyCertificate::No },
        ca,
        server_name,
        client,
        min_version: min_version.unwrap_or_default(),
    }
}

/// A certificate and its key, under two keys of a section that must be given
/// together. `config` reads the daemon's own pair with it.
pub fn client_identity_of(
    section: &TableReader<'_>,
    (certificate_key, key_key): (&str, &str),
    context: &dyn ReadContext,
    log: &mut ViolationLog<'_>,
) -> Option<ClientIdentity> {
    let (certificate, key) = match (section.field(certificate_key), section.field(key_key)) {
        (None, None) => return None,
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            let remedy = format!("give `{key_key}`, the file of the certificate's private key");
            section.report_missing(key_key, &remedy, log);
            return None;
        }
        (None, Some(_)) => {
            let remedy = format!("give `{certificate_key}`, the file of the key's certificate");
            section.report_missing(certificate_key, &remedy, log);
            return None;
        }
    };
    let (certificate_path, key_path) = (certificate.text(log), key.text(log));
    let (certificate_path, key_path) = (certificate_path?, key_path?);
    match context.client_identity(certificate_path, key_path) {
        Ok(identity) => return Some(identity),
        Err(ClientIdentityError::Certificate(problem)) => {
            report_file(&certificate, certificate_path, &problem, log);
        }
        Err(ClientIdentityError::Key(problem)) => report_file(&key, key_path, &problem, log),
        Err(ClientIdentityError::Mismatch) => {
            let message = format!("{} is not the key of {}", quoted(key_path), quoted(certificate_path));
            let remedy = "give the key that the certificate was made for";
            let violation = key.violation(Rule::CertificateKeyMismatch, message, remedy);
            let related = Some((certificate.place(), "the certificate".to_owned()));
            log.report(Violation { related, ..violation });
        }
    }
    None
}

fn report_file(field: &FieldReader<'_>, path: &str, problem: &str, log: &mut ViolationLog<'_>) {
    let message = format!("cannot use {}: {problem}", quoted(path));
    let remedy = "give a PEM file that the daemon may read; paths are relative to the file that names them";
    field.report(Rule::BadFile, message, remedy, log);
}

pub(super) fn balance_of(section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> BalanceOptions {
    section.refuse_unknown_keys(&BALANCE_KEYS, log);
    let is_open = section.field("fail_open").and_then(|field| field.boolean(log));
    let fail_open = if is_open == Some(true) { FailOpen::AllEnabled } else { FailOpen::Closed };
    BalanceOptions { fail_open }
}
