//! The rules of `vpc_health_config` (docs/vendor-api.md, "VpcHealthConfig").

use std::num::NonZeroU16;
use std::time::Duration;

use super::super::code_set::CodeSet;
use super::super::document::{Kind, Value};
use super::super::model::{ClientCertificate, HealthCheck, HttpCheck, ProbeOptions, Protocol};
use super::super::violation::{Rule, Violation};
use super::super::words::{CheckStatus, HttpMethod};
use super::context::{Dialect, ReadContext, ViolationLog};
use super::section::{Case, DurationLimits, FieldReader, TableReader};
use super::text;

pub(super) const KEYS: [&str; 11] = [
    "protocol",
    "path",
    "method",
    "port",
    "threshold_normal",
    "threshold_abnormal",
    "time_interval",
    "timeout",
    "http_code",
    "enable_client_ssl",
    "status",
];

/// `time_interval`: 1 to 300 s as documented; files may go down to 100 ms, which
/// is as often as a small member should be asked.
const INTERVAL: DurationLimits =
    DurationLimits { least: Duration::from_millis(100), least_seconds: 1, most_seconds: 300 };

/// `timeout`: 1 to 30 s as documented; files may go down to 10 ms, about the
/// slack of timers and schedulers.
const TIMEOUT: DurationLimits =
    DurationLimits { least: Duration::from_millis(10), least_seconds: 1, most_seconds: 30 };

/// The words of `protocol` before the HTTP parts are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProtocolWord {
    Tcp,
    Http,
    Https,
}

/// Reads a health config by itself, as `PUT .../health-config` sends it.
/// `probe` are the options of the channel it will serve.
///
/// # Errors
/// Every broken rule.
pub fn read_health_check(
    health_config: &Value,
    probe: &ProbeOptions,
    context: &dyn ReadContext,
) -> Result<HealthCheck, Vec<Violation>> {
    let mut log = ViolationLog::new(Dialect::Api);
    let check = TableReader::root(health_config, "health config", &mut log).and_then(|section| {
        let check = health_check_of(&section, &mut log);
        check_client_certificate(&section, probe, context, &mut log);
        check
    });
    log.finish(check)
}

/// Everything but what depends on `[channels.probe]`.
pub(super) fn health_check_of(section: &TableReader<'_>, log: &mut ViolationLog) -> Option<HealthCheck> {
    section.refuse_unknown_keys(&KEYS, log);
    let words = [("TCP", ProtocolWord::Tcp), ("HTTP", ProtocolWord::Http), ("HTTPS", ProtocolWord::Https)];
    let protocol = section
        .required("protocol", "write protocol = \"TCP\", \"HTTP\" or \"HTTPS\"", log)
        .and_then(|field| field.word(&words, Case::Any, log));
    let http = protocol.and_then(|protocol| http_of(section, protocol, log));
    let port = section.field("port").and_then(|field| field.number(0..=65535_u16, log));
    let mut threshold = |key: &str, remedy: &str| {
        section.required(key, remedy, log).and_then(|field| field.number(1..=10_u8, log))
    };
    let threshold_normal =
        threshold("threshold_normal", "give the successes in a row that make a member healthy, such as 2");
    let threshold_abnormal =
        threshold("threshold_abnormal", "give the failures in a row that make a member unhealthy, such as 3");
    let (interval, timeout) = times_of(section, log);
    let wants_certificate = section.field("enable_client_ssl").and_then(|field| field.boolean(log));
    if let (Some(true), Some(protocol)) = (wants_certificate, protocol) {
        refuse_certificate_without_tls(section, protocol, log);
    }
    let client_certificate = match (wants_certificate, protocol) {
        (Some(true), Some(ProtocolWord::Https)) => ClientCertificate::Present,
        _ => ClientCertificate::None,
    };
    let statuses = CheckStatus::ALL.map(|status| (status.number().into(), status));
    let status =
        section.field("status").and_then(|field| field.choice(&statuses, "1 is checking on, 2 is off", log));
    let protocol = match (protocol?, http) {
        (ProtocolWord::Tcp, _) => Protocol::Tcp,
        (ProtocolWord::Http, http) => Protocol::Http(http?),
        (ProtocolWord::Https, http) => Protocol::Https(http?),
    };
    Some(HealthCheck {
        protocol,
        port: port.and_then(NonZeroU16::new),
        threshold_normal: threshold_normal?,
        threshold_abnormal: threshold_abnormal?,
        interval: interval?,
        timeout: timeout?,
        client_certificate,
        status: status.unwrap_or_default(),
    })
}

/// `path`, `method` and `http_code`. All are checked whatever the protocol, but
/// only HTTP and HTTPS need them; `http_code` may be absent for HTTPS
/// (docs/vendor-api.md, "VpcHealthConfig").
fn http_of(section: &TableReader<'_>, protocol: ProtocolWord, log: &mut ViolationLog) -> Option<HttpCheck> {
    let path = match section.filled("path") {
        Some(field) => text::path(&field, log),
        None if protocol == ProtocolWord::Tcp => None,
        None => {
            section.report_missing("path", "give the path to ask for: path = \"/health\"", log);
            None
        }
    };
    let methods = [("GET", HttpMethod::Get), ("HEAD", HttpMethod::Head)];
    let method = section.filled("method").map(|field| field.word(&methods, Case::Any, log));
    let codes = match (section.filled("http_code"), protocol) {
        (Some(field), _) => code_set(&field, log),
        (None, ProtocolWord::Tcp | ProtocolWord::Https) => Some(CodeSet::default()),
        (None, ProtocolWord::Http) => {
            section.report_missing("http_code", "give the good status codes: http_code = \"200-299\"", log);
            None
        }
    };
    Some(HttpCheck { path: path?, method: method.unwrap_or(Some(HttpMethod::Get))?, codes: codes? })
}

fn code_set(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<CodeSet> {
    if let Kind::Array(items) = field.kind() {
        let words = items.iter().filter_map(|item| match &item.kind {
            Kind::String(text) => Some(text.clone()),
            Kind::Integer(code) => Some(code.to_string()),
            _ => None,
        });
        let codes = Some(words.collect::<Vec<_>>().join(",")).filter(|codes| CodeSet::parse(codes).is_ok());
        let remedy = format!("write one string: \"{}\"", codes.as_deref().unwrap_or("200,210-299"));
        field.report_type("a string", &remedy, log);
        return None;
    }
    match CodeSet::parse(field.text(log)?) {
        Ok(codes) => Some(codes),
        Err(error) => {
            let remedy = "write codes and ranges joined by commas, without spaces: \"200,201,210-299\"";
            let (start, end) = error.range;
            let message = format!("`http_code`: {}", error.message);
            let place = field.place_within(start, end);
            log.report(Violation { place, ..field.violation(Rule::BadCodeSet, message, remedy) });
            None
        }
    }
}

/// `time_interval` and `timeout`, and that the second fits into the first. The
/// documents say "smaller", the service takes equal ones (docs/vendor-api.md, "Where sources disagree").
fn times_of(section: &TableReader<'_>, log: &mut ViolationLog) -> (Option<Duration>, Option<Duration>) {
    let interval_field =
        section.required("time_interval", "give the time between two checks, such as time_interval = 5", log);
    let interval = interval_field.and_then(|field| field.duration(&INTERVAL, log));
    let timeout_field =
        section.required("timeout", "give the longest time of one check, such as timeout = 2", log);
    let timeout = timeout_field.and_then(|field| field.duration(&TIMEOUT, log));
    if let (Some(interval_field), Some(interval), Some(timeout_field), Some(timeout)) =
        (interval_field, interval, timeout_field, timeout)
        && timeout > interval
    {
        let (interval_text, timeout_text) =
            (humantime::format_duration(interval), humantime::format_duration(timeout));
        let message = format!("`timeout` is {timeout_text}, longer than `time_interval`");
        let remedy = format!("write a timeout of at most {interval_text}, or a longer interval");
        let violation = timeout_field.violation(Rule::TimeoutAboveInterval, message, remedy);
        let related = Some((interval_field.place(), format!("the interval is {interval_text}")));
        log.report(Violation { related, ..violation });
    }
    (interval, timeout)
}

/// Only HTTPS has a use for a client certificate (docs/vendor-api.md, "One check"). The API
/// ignores the flag elsewhere; in a file it shows a misunderstanding.
fn refuse_certificate_without_tls(section: &TableReader<'_>, protocol: ProtocolWord, log: &mut ViolationLog) {
    if protocol == ProtocolWord::Https || log.dialect == Dialect::Api {
        return;
    }
    let (Some(field), Some(other)) = (section.field("enable_client_ssl"), section.field("protocol")) else {
        return;
    };
    let message = "`enable_client_ssl` needs a check over TLS".to_owned();
    let remedy = "write protocol = \"HTTPS\", or enable_client_ssl = false";
    let related = Some((other.place(), "this check has no TLS".to_owned()));
    let violation = field.violation(Rule::Conflict, message, remedy);
    log.report(Violation { related, ..violation });
}

/// `enable_client_ssl` needs a certificate: the channel's own or the daemon's.
pub(super) fn check_client_certificate(
    section: &TableReader<'_>,
    probe: &ProbeOptions,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) {
    let Some(field) = section.field("enable_client_ssl").filter(|field| *field.kind() == Kind::Boolean(true))
    else {
        return;
    };
    let is_https = section.field("protocol").is_some_and(
        |field| matches!(field.kind(), Kind::String(word) if word.eq_ignore_ascii_case("https")),
    );
    if !is_https || probe.tls.client.is_some() || context.daemon_client_identity().is_some() {
        return;
    }
    let remedy = "set client_certificate and client_key in [channels.probe] tls, \
                  or backend_client_certificate in [tls]";
    field.report(
        Rule::NoClientCertificate,
        "`enable_client_ssl` is set, but there is no client certificate".to_owned(),
        remedy,
        log,
    );
}
