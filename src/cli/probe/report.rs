//! What the probes found: as a table, step by step, and as JSON.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::round::Probed;
use crate::cli::console::{Colour, TerminalText, Tone, milliseconds, paint};
use crate::cli::table::{Columns, Side, TableCell};
use crate::health::{Outcome, Report};
use crate::probe::{CertificateTrace, ProbeTrace, SentName, TlsOffer, TlsTrace};

/// How many probes succeeded, failed and were inconclusive.
fn tally(results: &[Probed]) -> [usize; 3] {
    let count = |is_counted: fn(Outcome) -> bool| {
        results.iter().filter(|result| is_counted(result.report.outcome)).count()
    };
    [
        count(|outcome| matches!(outcome, Outcome::Success)),
        count(|outcome| matches!(outcome, Outcome::Failure(_))),
        count(|outcome| matches!(outcome, Outcome::Inconclusive(_))),
    ]
}

fn tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Success => Tone::Good,
        Outcome::Failure(_) => Tone::Bad,
        Outcome::Inconclusive(_) => Tone::Warning,
    }
}

/// One line per probe, and a line that sums up.
pub(super) fn table(results: &[Probed], colour: Colour) -> TerminalText {
    let mut columns = Columns::new(
        colour,
        &[
            ("CHANNEL", Side::Left),
            ("MEMBER", Side::Left),
            ("RESULT", Side::Left),
            ("REASON", Side::Left),
            ("CONNECT", Side::Right),
            ("TLS", Side::Right),
            ("RESPONSE", Side::Right),
            ("TOTAL", Side::Right),
            ("DETAIL", Side::Left),
        ],
    );
    for Probed { subject, report, .. } in results {
        let phases = report.phases;
        columns.row([
            subject.channel.name().into(),
            subject.address.as_str().into(),
            TableCell::toned(tone(report.outcome), report.outcome.word()),
            report.outcome.reason().unwrap_or_default().into(),
            time(phases.connect),
            time(phases.tls),
            time(phases.response),
            time(Some(report.total)),
            report.detail.as_ref().into(),
        ]);
    }
    if results.is_empty() {
        return TerminalText::default();
    }
    let [success, failure, inconclusive] = tally(results);
    let tone = match (failure, inconclusive) {
        (0, 0) => Tone::Good,
        (0, _) => Tone::Warning,
        _ => Tone::Bad,
    };
    let sum = format!("{success} success, {failure} failure, {inconclusive} inconclusive");
    columns.render().and("\n").and(paint(colour, tone, sum)).and("\n")
}

fn time(duration: Option<Duration>) -> TableCell {
    duration.map(|duration| milliseconds(duration.as_secs_f64())).unwrap_or_default().into()
}

/// The same fields as `last_probe` of the daemon's status.
pub(super) fn document(results: &[Probed]) -> Value {
    let [success, failure, inconclusive] = tally(results);
    let probes: Vec<Value> = results.iter().map(probe_document).collect();
    json!({
        "success": success,
        "failure": failure,
        "inconclusive": inconclusive,
        "probes": probes,
    })
}

fn probe_document(result: &Probed) -> Value {
    let Report { outcome, phases, total, waited: _, status, detail, peer, address: _, certificate_not_after } =
        &result.report;
    let seconds = |duration: &Option<Duration>| duration.map(|duration| duration.as_secs_f64());
    let mut document = json!({
        "channel": result.subject.channel.name(),
        "member": result.subject.address,
        "url": result.subject.url,
        "peer": peer.map(|peer| peer.to_string()),
        "result": outcome.word(),
        "reason": outcome.reason(),
        "detail": detail,
        "status": status,
        "seconds": total.as_secs_f64(),
        "phases": {
            "connect": seconds(&phases.connect),
            "tls": seconds(&phases.tls),
            "response": seconds(&phases.response),
        },
        "certificate_not_after": certificate_not_after.and_then(date),
    });
    if let (Some(explanation), Some(fields)) = (&result.explanation, document.as_object_mut()) {
        fields.insert("explanation".to_owned(), explanation_document(explanation));
    }
    document
}

/// Where the second column begins.
const INDENT: usize = 13;

/// One probe, step by step, for `--explain`: a block for each, a blank line between them.
pub(super) fn explained(results: &[Probed], colour: Colour) -> TerminalText {
    let mut text = TerminalText::default();
    for (index, result) in results.iter().enumerate() {
        text.push(if index == 0 { "" } else { "\n" });
        text.push(block(result, colour));
    }
    text
}

fn block(result: &Probed, colour: Colour) -> TerminalText {
    let empty = ProbeTrace::default();
    let explanation = result.explanation.as_ref().unwrap_or(&empty);
    let report = &result.report;
    let mut lines = Lines { text: TerminalText::default(), colour };
    lines.step("target", result.subject.url.as_str(), None);
    let peer = report.peer.or(explanation.peer);
    if let Some(name) = result.subject.name() {
        let addresses: Vec<String> = explanation.addresses.iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
        lines.step("resolve", format!("{name} -> {addresses}"), None);
    }
    for (address, said) in &explanation.attempts {
        lines.step("tried", format!("{address}: {said}"), None);
    }
    // Where no address was connected to, each has been shown.
    if let Some(peer) = peer.filter(|_| explanation.attempts.is_empty() || report.phases.connect.is_some()) {
        let from = explanation.local.map(|local| format!(" from {local}")).unwrap_or_default();
        lines.step("connect", format!("{peer}{from}"), Some(report.phases.connect));
    }
    if let Some(tls) = &explanation.tls {
        tls_lines(&mut lines, tls, report.phases.tls);
    }
    if let Some(request) = &explanation.request {
        for (index, line) in request.lines().filter(|line| !line.is_empty()).enumerate() {
            lines.step(if index == 0 { "request" } else { "" }, line, None);
        }
    }
    for status in &explanation.interim {
        lines.step("interim", format!("{status}, passed over"), None);
    }
    if let Some(status_line) = &explanation.status_line {
        lines.step("response", status_line.as_str(), Some(report.phases.response));
    }
    let reason = report.outcome.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let outcome = paint(colour, tone(report.outcome), format!("{}{reason}", report.outcome.word()));
    lines.step("outcome", outcome.and(format!(": {}", report.detail)), Some(Some(report.total)));
    lines.text
}

fn tls_lines(lines: &mut Lines, tls: &TlsTrace, duration: Option<Duration>) {
    let version = tls.version.as_deref().unwrap_or("no handshake");
    let cipher = tls.cipher.as_deref().map(|cipher| format!(", {cipher}")).unwrap_or_default();
    let name = match tls.sni {
        SentName::Sent => format!("server name {}", tls.server_name),
        SentName::NotSent => format!("no server name sent: {} is an address", tls.server_name),
    };
    lines.step("tls", format!("{version}{cipher}, {name}"), Some(duration));
    if let Some(certificate) = &tls.certificate {
        let CertificateTrace { subject, issuer, names, not_before, not_after } = certificate;
        lines.step("certificate", format!("subject {subject}"), None);
        lines.step("", format!("issuer {issuer}"), None);
        if !names.is_empty() {
            lines.step("", format!("names {}", names.join(", ")), None);
        }
        let (from, until) = (date(*not_before), date(*not_after));
        let unknown = || "unknown".to_owned();
        let validity = format!("valid {} to {}", from.unwrap_or_else(unknown), until.unwrap_or_else(unknown));
        lines.step("", validity, None);
    }
    if let Some(key) = &tls.unproven_key {
        lines.step("", format!("not proved that the member holds its key: {key}"), None);
    }
    if tls.version.is_none() {
        let TlsOffer { versions, suites, groups, signatures } = &tls.offer;
        lines.step("offered", versions.join(", "), None);
        lines.step("", format!("suites {}", suites.join(", ")), None);
        lines.step("", format!("groups {}", groups.join(", ")), None);
        lines.step("", format!("signatures {}", signatures.join(", ")), None);
    }
    if let Some(error) = &tls.verification_error {
        let refused = paint(lines.colour, Tone::Bad, format!("refused: {error}"));
        lines.step("", refused, None);
    }
}

/// Steps under each other: name, what happened, how long it took.
struct Lines {
    text: TerminalText,
    colour: Colour,
}

impl Lines {
    /// `duration`: none for a step that takes no time, `Some(None)` for one that
    /// did not end.
    fn step(&mut self, name: &str, what: impl Into<TerminalText>, duration: Option<Option<Duration>>) {
        let took = match duration {
            None => String::new(),
            Some(None) => "  not finished".to_owned(),
            Some(Some(duration)) => format!("  {}", milliseconds(duration.as_secs_f64())),
        };
        let name = paint(self.colour, Tone::Faint, format!("{name:<INDENT$}"));
        let took = paint(self.colour, Tone::Faint, took);
        self.text.push(name.and(what).and(took).and("\n"));
    }
}

/// Seconds since the Unix epoch in RFC 3339; none before 1970 and after 9999,
/// which certificates may claim.
fn date(seconds: i64) -> Option<String> {
    const YEAR_10000: u64 = 253_402_300_800;
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds < YEAR_10000)?;
    Some(humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string())
}

/// For `--json --explain`.
fn explanation_document(explanation: &ProbeTrace) -> Value {
    let ProbeTrace { addresses, attempts, local, peer, tls, request, status_line, interim } = explanation;
    let attempts = attempts.iter().map(|(address, said)| json!({ "address": address, "detail": said }));
    json!({
        "addresses": addresses,
        "attempts": attempts.collect::<Vec<Value>>(),
        "local": local.map(|address| address.to_string()),
        "peer": peer.map(|address| address.to_string()),
        "tls": tls.as_ref().map(|tls| json!({
            "server_name": tls.server_name,
            "server_name_sent": tls.sni == SentName::Sent,
            "version": tls.version,
            "cipher": tls.cipher,
            "verification_error": tls.verification_error,
            "unproven_key": tls.unproven_key,
            "offered": {
                "versions": tls.offer.versions,
                "suites": tls.offer.suites,
                "groups": tls.offer.groups,
                "signatures": tls.offer.signatures,
            },
            "certificate": tls.certificate.as_ref().map(|certificate| json!({
                "subject": certificate.subject,
                "issuer": certificate.issuer,
                "names": certificate.names,
                "not_before": date(certificate.not_before),
                "not_after": date(certificate.not_after),
            })),
        })),
        "request": request,
        "interim": interim,
        "status_line": status_line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_strange_certificates_are_none() {
        assert_eq!(date(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(date(253_402_300_799).as_deref(), Some("9999-12-31T23:59:59Z"));
        for seconds in [-1, i64::MIN, 253_402_300_800, i64::MAX] {
            assert_eq!(date(seconds), None, "{seconds}");
        }
    }
}
