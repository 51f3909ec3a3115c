//! What a `probe` table says and what it leaves open; and what is in effect once
//! `[defaults.probe]` has filled the gaps: key by key, the channel's own key first.
//!
//! The reader of `probe` makes settings of both tables and completes those of channels in
//! files; `catalog` completes those of channels of the API.

use super::model::{ClientIdentity, PemFile, ProbeOptions, TlsOptions, TlsVersion, VerifyCertificate};
use super::probe_header::{MASK, ProbeHeader};
use super::words::{CloseMode, Health, ResolveFamily};

/// A `probe` table, checked. None is a key that is not there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProbeSettings {
    /// `initial_state`.
    pub initial_state: Option<Health>,
    /// `host`.
    pub host: Option<String>,
    /// `headers`, no name twice.
    pub headers: Vec<ProbeHeader>,
    /// `close`.
    pub close: Option<CloseMode>,
    /// `resolve`.
    pub resolve: Option<ResolveFamily>,
    /// `tls`.
    pub tls: TlsSettings,
}

/// The `tls` table of a `probe` table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsSettings {
    /// `verify`.
    pub verify: Option<VerifyCertificate>,
    /// `ca_file`.
    pub ca: Option<PemFile>,
    /// `server_name`.
    pub server_name: Option<String>,
    /// `client_certificate` and `client_key`; never a default, which `[tls]
    /// backend_client_certificate` is.
    pub client: Option<ClientIdentity>,
    /// `min_version`.
    pub min_version: Option<TlsVersion>,
}

impl ProbeSettings {
    /// What is in effect where these are a channel's own settings. Headers are completed
    /// name by name. A channel's own `host` is its server name too, before that of the
    /// defaults.
    pub fn complete(self, defaults: Option<&Self>) -> ProbeOptions {
        let nothing = Self::default();
        let Self { initial_state, host, headers, close, resolve, tls } = defaults.unwrap_or(&nothing);
        let TlsSettings { verify, ca, server_name, client: _, min_version } = tls;
        let mut taken = Taken::default();
        let server_name = if self.host.is_some() { &None } else { server_name };
        let verify = taken.or("tls.verify", self.tls.verify, verify).unwrap_or_default();
        // Without it they would be no part of the check.
        let ca = if verify == VerifyCertificate::Yes { ca } else { &None };
        let tls = TlsOptions {
            verify,
            ca: taken.or("tls.ca_file", self.tls.ca, ca),
            server_name: taken.or("tls.server_name", self.tls.server_name, server_name),
            client: self.tls.client,
            min_version: taken.or("tls.min_version", self.tls.min_version, min_version).unwrap_or_default(),
        };
        let mut all = self.headers;
        for header in headers {
            if !all.iter().any(|own| own.is_named(header.name())) {
                taken.0.push(format!("headers.{}", header.name()));
                all.push(header.clone());
            }
        }
        ProbeOptions {
            initial_state: taken.or("initial_state", self.initial_state, initial_state).unwrap_or_default(),
            host: taken.or("host", self.host, host),
            headers: all,
            close: taken.or("close", self.close, close).unwrap_or_default(),
            resolve: taken.or("resolve", self.resolve, resolve).unwrap_or_default(),
            tls,
            from_defaults: taken.sorted(),
        }
    }

    /// Every key that is there with its value, for people; secrets are masked.
    pub fn described(&self) -> Vec<(String, String)> {
        let Self { initial_state, host, headers, close, resolve, tls } = self;
        let TlsSettings { verify, ca, server_name, client, min_version } = tls;
        let fixed = [
            ("initial_state", initial_state.map(|state| state.word().to_owned())),
            ("host", host.clone()),
            ("close", close.map(|close| close.word().to_owned())),
            ("resolve", resolve.map(|family| family.word().to_owned())),
            ("tls.verify", verify.map(|verify| (verify == VerifyCertificate::Yes).to_string())),
            ("tls.ca_file", ca.as_ref().map(|file| file.path.display().to_string())),
            ("tls.server_name", server_name.clone()),
            (
                "tls.client_certificate",
                client.as_ref().map(|client| client.certificate.path.display().to_string()),
            ),
            ("tls.client_key", client.as_ref().map(|client| client.key.path.display().to_string())),
            ("tls.min_version", min_version.map(|version| version.word().to_owned())),
        ];
        let fixed = fixed.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let headers = headers.iter().map(|header| {
            let value = if header.is_secret() { Some(MASK) } else { header.value() };
            (format!("headers.{}", header.name()), value.unwrap_or("false").to_owned())
        });
        let mut all: Vec<_> = fixed.chain(headers).collect();
        all.sort();
        all
    }
}

/// The keys that were taken from the defaults.
#[derive(Default)]
struct Taken(Vec<String>);

impl Taken {
    fn or<T: Clone>(&mut self, key: &str, own: Option<T>, default: &Option<T>) -> Option<T> {
        if own.is_none() && default.is_some() {
            self.0.push(key.to_owned());
        }
        own.or_else(|| default.clone())
    }

    fn sorted(mut self) -> Vec<String> {
        self.0.sort();
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn file(path: &str) -> PemFile {
        PemFile { path: path.into(), pem: Arc::from(*b"ca") }
    }

    fn defaults() -> ProbeSettings {
        ProbeSettings {
            initial_state: Some(Health::Unhealthy),
            host: Some("default.internal".to_owned()),
            headers: vec![ProbeHeader::plain("X-Probe", "default"), ProbeHeader::secret("X-Key", "hidden")],
            close: Some(CloseMode::Fin),
            resolve: Some(ResolveFamily::V4),
            tls: TlsSettings {
                verify: Some(VerifyCertificate::Yes),
                ca: Some(file("default.pem")),
                server_name: Some("name.internal".to_owned()),
                client: None,
                min_version: Some(TlsVersion::Tls13),
            },
        }
    }

    #[test]
    fn a_channel_without_settings_takes_every_default() {
        let options = ProbeSettings::default().complete(Some(&defaults()));
        let all: Vec<String> = defaults().described().into_iter().map(|(key, _)| key).collect();
        assert_eq!(options.from_defaults, all);
        let expected = ProbeSettings { ..defaults() }.complete(None);
        assert_eq!(ProbeOptions { from_defaults: Vec::new(), ..options }, expected);
        assert_eq!(ProbeSettings::default().complete(None), ProbeOptions::default());
    }

    #[test]
    fn own_keys_come_first_one_by_one() {
        let own = ProbeSettings {
            close: Some(CloseMode::Reset),
            headers: vec![ProbeHeader::left_out("x-key"), ProbeHeader::plain("X-Own", "own")],
            tls: TlsSettings { min_version: Some(TlsVersion::Tls12), ..TlsSettings::default() },
            ..ProbeSettings::default()
        };
        let options = own.complete(Some(&defaults()));
        let names: Vec<&str> = options.headers.iter().map(ProbeHeader::name).collect();
        assert_eq!(names, ["x-key", "X-Own", "X-Probe"]);
        assert_eq!((options.close, options.tls.min_version), (CloseMode::Reset, TlsVersion::Tls12));
        let taken = [
            "headers.X-Probe",
            "host",
            "initial_state",
            "resolve",
            "tls.ca_file",
            "tls.server_name",
            "tls.verify",
        ];
        assert_eq!(options.from_defaults, taken);
    }

    #[test]
    fn what_would_have_no_effect_or_mislead_is_not_taken() {
        let tls = TlsSettings { verify: Some(VerifyCertificate::No), ..TlsSettings::default() };
        let options = ProbeSettings { tls, ..ProbeSettings::default() }.complete(Some(&defaults()));
        assert_eq!(options.tls.ca, None);
        let host = Some("own.internal".to_owned());
        let options = ProbeSettings { host, ..ProbeSettings::default() }.complete(Some(&defaults()));
        assert_eq!(options.tls.server_name, None);
    }

    #[test]
    fn a_description_has_no_secrets() {
        let text = format!("{:?}", defaults().described());
        assert!(text.contains("(\"headers.X-Key\", \"***\")") && !text.contains("hidden"), "{text}");
    }
}
