//! What a check asks of its members, as bytes: equal bytes, equal question.
//!
//! `continuity` compares questions when a channel changes, and `store` keeps their
//! hashes on disk, so the bytes must not depend on the compiler, the platform or the
//! order of anything. A renewed certificate or secret in the same file makes no other
//! question.

use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use super::code_set::CodeSet;
use super::model::{
    Channel, ClientCertificate, HealthCheck, HttpCheck, PemFile, ProbeOptions, Protocol, TlsOptions,
    TlsVersion, VerifyCertificate,
};
use super::probe_header::{HeaderContent, ProbeHeader};
use super::words::{CheckStatus, CloseMode, HttpMethod, ResolveFamily};

/// Goes up when the encoding of questions changes: every verdict that was kept over a
/// restart is then carried over once, as if something else had been asked.
const QUESTION_VERSION: u8 = 2;
/// What the definitions of vitald 0.1 begin with.
const FIRST_VERSION: u8 = 1;

/// What a check asks all members of a channel: the protocol, the request, which answers
/// are good, and TLS. When and how often it asks is no part of it, nor is the port, which
/// belongs to each member. Every field is ended by its length or of fixed length, so that
/// no two questions share their bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CheckQuestion(Vec<u8>);

impl fmt::Debug for CheckQuestion {
    // Values of secret headers are among the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckQuestion").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

impl CheckQuestion {
    /// The question of a check with these options.
    pub fn of(check: &HealthCheck, options: &ProbeOptions) -> Self {
        // Destructured without `..`: a new field does not compile before it is decided
        // whether it changes the question (docs/config.md, "Changes").
        let HealthCheck {
            protocol,
            client_certificate,
            port: _,
            threshold_normal: _,
            threshold_abnormal: _,
            interval: _,
            timeout: _,
            status: _,
        } = check;
        // Where a value is from makes no difference to the member.
        let ProbeOptions { host, headers, resolve, tls, initial_state: _, close: _, from_defaults: _ } =
            options;
        let mut bytes = Bytes(vec![QUESTION_VERSION]);
        bytes.byte(match resolve {
            ResolveFamily::Any => 0,
            ResolveFamily::V4 => 4,
            ResolveFamily::V6 => 6,
        });
        match protocol {
            Protocol::Tcp => drop(bytes.byte(0)),
            Protocol::Http(http) => {
                bytes.byte(1).request(http).codes(&http.codes).optional(host.as_deref()).headers(headers);
            }
            Protocol::Https(http) => {
                bytes.byte(2).request(http).codes(&http.codes).optional(host.as_deref()).headers(headers);
                bytes.client_certificate(*client_certificate).tls(tls);
            }
        }
        Self(bytes.0)
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The identity of a whole check as vitald 0.1 kept it: the question, and when and how
/// often it is asked. Nothing is added to it any more; verdict files of 0.1 are read by it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CheckDefinition(Vec<u8>);

impl fmt::Debug for CheckDefinition {
    // Values of secret headers are among the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckDefinition").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

impl CheckDefinition {
    /// The definition of a check with these options.
    pub fn of(check: &HealthCheck, options: &ProbeOptions) -> Self {
        let mut bytes = Bytes(vec![FIRST_VERSION]);
        match &check.protocol {
            Protocol::Tcp => drop(bytes.byte(0)),
            Protocol::Http(http) => drop(bytes.byte(1).request(http).text(http.codes.text())),
            Protocol::Https(http) => drop(bytes.byte(2).request(http).text(http.codes.text())),
        }
        bytes.number(check.port.map_or(0, NonZeroU16::get).into());
        bytes.byte(check.threshold_normal).byte(check.threshold_abnormal);
        bytes.duration(check.interval).duration(check.timeout);
        bytes.client_certificate(check.client_certificate).byte(check.status.number());
        bytes.text(options.initial_state.word()).optional(options.host.as_deref()).headers(&options.headers);
        bytes.byte(match options.close {
            CloseMode::Reset => 0,
            CloseMode::Fin => 1,
        });
        bytes.tls(&options.tls);
        Self(bytes.0)
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Channel {
    /// The check, if it is on: without one, members are not probed.
    pub fn active_check(&self) -> Option<&HealthCheck> {
        self.health_check.as_ref().filter(|check| check.status == CheckStatus::On)
    }

    /// What the check asks, if it is on.
    pub fn check_question(&self) -> Option<CheckQuestion> {
        Some(CheckQuestion::of(self.active_check()?, &self.probe))
    }

    /// The check as vitald 0.1 defined it, if it is on.
    pub fn check_definition(&self) -> Option<CheckDefinition> {
        Some(CheckDefinition::of(self.active_check()?, &self.probe))
    }
}

struct Bytes(Vec<u8>);

impl Bytes {
    /// The good answers are not in it.
    fn request(&mut self, http: &HttpCheck) -> &mut Self {
        let HttpCheck { path, method, codes: _ } = http;
        self.text(path).byte(match method {
            HttpMethod::Get => 0,
            HttpMethod::Head => 1,
        })
    }

    /// Two texts of the same codes are the same.
    fn codes(&mut self, codes: &CodeSet) -> &mut Self {
        for word in codes.words() {
            self.number(*word);
        }
        self
    }

    fn headers(&mut self, headers: &[ProbeHeader]) -> &mut Self {
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
        self
    }

    fn client_certificate(&mut self, certificate: ClientCertificate) -> &mut Self {
        self.byte(match certificate {
            ClientCertificate::None => 0,
            ClientCertificate::Present => 1,
        })
    }

    fn tls(&mut self, tls: &TlsOptions) {
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
