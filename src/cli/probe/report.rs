//! What the probes found, as a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::explain;
use super::round::Probed;
use crate::cli::console::{Colour, Tone, paint};
use crate::cli::table::{Columns, Field, Side};
use crate::health::{Outcome, Report};

/// Results by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    success: usize,
    failure: usize,
    inconclusive: usize,
}

impl Tally {
    fn of(results: &[Probed]) -> Self {
        let mut tally = Self::default();
        for result in results {
            match result.report.outcome {
                Outcome::Success => tally.success += 1,
                Outcome::Failure(_) => tally.failure += 1,
                Outcome::Inconclusive(_) => tally.inconclusive += 1,
            }
        }
        tally
    }
}

/// The tone of an outcome.
pub(super) fn tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Success => Tone::Good,
        Outcome::Failure(_) => Tone::Bad,
        Outcome::Inconclusive(_) => Tone::Warning,
    }
}

/// One line per probe, and a line that sums up.
pub(super) fn table(results: &[Probed], colour: Colour) -> String {
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
            subject.channel().name().into(),
            subject.address().into(),
            Field::toned(tone(report.outcome), report.outcome.word()),
            report.outcome.reason().unwrap_or_default().into(),
            time(phases.connect),
            time(phases.tls),
            time(phases.response),
            time(Some(report.total)),
            report.detail.as_ref().into(),
        ]);
    }
    if results.is_empty() {
        return String::new();
    }
    let Tally { success, failure, inconclusive } = Tally::of(results);
    let tone = match (failure, inconclusive) {
        (0, 0) => Tone::Good,
        (0, _) => Tone::Warning,
        _ => Tone::Bad,
    };
    let sum = format!("{success} success, {failure} failure, {inconclusive} inconclusive");
    format!("{}\n{}\n", columns.render(), paint(colour, tone, sum))
}

fn time(duration: Option<Duration>) -> Field {
    duration.map(|duration| crate::cli::milliseconds(duration.as_secs_f64())).unwrap_or_default().into()
}

/// The same fields as `last_probe` of the daemon's status.
pub(super) fn document(results: &[Probed]) -> Value {
    let Tally { success, failure, inconclusive } = Tally::of(results);
    let probes: Vec<Value> = results.iter().map(probe_document).collect();
    json!({
        "success": success,
        "failure": failure,
        "inconclusive": inconclusive,
        "probes": probes,
    })
}

fn probe_document(result: &Probed) -> Value {
    let Report { outcome, phases, total, waited: _, status, detail, peer, certificate_not_after } =
        &result.report;
    let seconds = |duration: &Option<Duration>| duration.map(|duration| duration.as_secs_f64());
    let mut document = json!({
        "channel": result.subject.channel().name(),
        "member": result.subject.address(),
        "url": result.subject.url(),
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
        "certificate_not_after": certificate_not_after.and_then(explain::date),
    });
    if let (Some(explanation), Some(fields)) = (&result.explanation, document.as_object_mut()) {
        fields.insert("explanation".to_owned(), explain::document(explanation));
    }
    document
}
