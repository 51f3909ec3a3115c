//! What a channel's probes ask of its members, as bytes: equal bytes, equal question.
//!
//! A reload lets members go on whose question stays the same, and verdicts that
//! were kept over a restart are found again by a hash of these bytes (`store`).
//! So they must not depend on the compiler, the platform or the order of
//! anything. A renewed certificate or secret in the same file makes no other question.

use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use super::code_set::CodeSet;
use super::model::{
    Channel, ClientCertificate, HealthCheck, HttpCheck, PemFile, ProbeOptions, Protocol, TlsOptions,
    TlsVersion, VerifyCertificate,
};
use super::probe_header::HeaderContent;
use super::words::{CheckStatus, CloseMode, HttpMethod, ResolveFamily};

/// Goes up when the encoding changes; every kept verdict is then forgotten once.
const VERSION: u8 = 1;
/// Stands where the protocol would, for members that are not checked.
const UNCHECKED: u8 = 255;

/// The identity of a check: what is asked, how often, and by which options.
/// Every field is in it, ended by its length or of fixed length, so that no two
/// definitions share their bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CheckDefinition(Vec<u8>);

impl fmt::Debug for CheckDefinition {
    // Values of secret headers are among the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckDefinition").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

impl CheckDefinition {
    /// The definition of a check that is on, or of none.
    pub fn of(check: Option<&HealthCheck>, options: &ProbeOptions) -> Self {
        let mut bytes = Bytes(vec![VERSION]);
        match check {
            Some(check) => bytes.health_check(check),
            None => drop(bytes.byte(UNCHECKED)),
        }
        bytes.probe_options(options);
        Self(bytes.0)
    }

    /// The canonical bytes, which verdicts on disk are found by.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Channel {
    /// The check, if it is on: without one, members are not probed.
    pub fn active_check(&self) -> Option<&HealthCheck> {
        self.health_check.as_ref().filter(|check| check.status == CheckStatus::On)
    }

    /// The definition of this channel's check. Members differ from each other only
    /// in their addresses.
    pub fn check_definition(&self) -> CheckDefinition {
        CheckDefinition::of(self.active_check(), &self.probe)
    }
}

struct Bytes(Vec<u8>);

impl Bytes {
    // Destructured without `..`: a new field does not compile before it is decided
    // whether it makes another check.
    fn health_check(&mut self, check: &HealthCheck) {
        let HealthCheck {
            protocol,
            port,
            threshold_normal,
            threshold_abnormal,
            interval,
            timeout,
            client_certificate,
            status,
        } = check;
        match protocol {
            Protocol::Tcp => self.byte(0),
            Protocol::Http(http) => self.byte(1).http(http),
            Protocol::Https(http) => self.byte(2).http(http),
        };
        self.number(port.map_or(0, NonZeroU16::get).into());
        self.byte(*threshold_normal).byte(*threshold_abnormal);
        self.duration(*interval).duration(*timeout);
        self.byte(match client_certificate {
            ClientCertificate::None => 0,
            ClientCertificate::Present => 1,
        });
        self.byte(status.number());
    }

    fn http(&mut self, http: &HttpCheck) -> &mut Self {
        let HttpCheck { path, method, codes } = http;
        self.text(path);
        self.byte(match method {
            HttpMethod::Get => 0,
            HttpMethod::Head => 1,
        });
        self.text(CodeSet::text(codes))
    }

    fn probe_options(&mut self, options: &ProbeOptions) {
        // Where a value is from makes no difference to the member.
        let ProbeOptions { initial_state, host, headers, close, resolve, tls, from_defaults: _ } = options;
        self.text(initial_state.word());
        self.optional(host.as_deref());
        self.number(headers.len() as u64);
        for header in headers {
            self.text(header.name());
            match header.content() {
                HeaderContent::Plain(value) | HeaderContent::Secret(value) => self.text(value),
                // No text is as long as these numbers. What is in the file may be renewed.
                HeaderContent::File(file) => self.number(u64::MAX).text(&file.path.to_string_lossy()),
                HeaderContent::LeftOut => self.number(u64::MAX - 1),
            };
        }
        self.byte(match close {
            CloseMode::Reset => 0,
            CloseMode::Fin => 1,
        });
        let TlsOptions { verify, ca, server_name, client, min_version } = tls;
        self.byte(match verify {
            VerifyCertificate::No => 0,
            VerifyCertificate::Yes => 1,
        });
        self.file(ca.as_ref());
        self.optional(server_name.as_deref());
        self.file(client.as_ref().map(|client| &client.certificate));
        self.file(client.as_ref().map(|client| &client.key));
        self.byte(match min_version {
            TlsVersion::Tls12 => 12,
            TlsVersion::Tls13 => 13,
        });
        // Absent where it is the default: verdicts that were kept before there was the
        // option are still found. What stands before it says where it begins.
        match resolve {
            ResolveFamily::Any => {}
            ResolveFamily::V4 => drop(self.byte(4)),
            ResolveFamily::V6 => drop(self.byte(6)),
        }
    }

    fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn duration(&mut self, duration: Duration) -> &mut Self {
        self.number(duration.as_secs()).number(duration.subsec_nanos().into())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.byte(0),
            Some(text) => self.byte(1).text(text),
        }
    }

    /// A file by its path: what is in it may be renewed.
    fn file(&mut self, file: Option<&PemFile>) -> &mut Self {
        let path = file.map(|file| file.path.to_string_lossy());
        self.optional(path.as_deref())
    }
}

#[cfg(test)]
mod tests;
