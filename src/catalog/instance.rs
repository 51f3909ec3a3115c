//! Instances (gateways) and their features (docs/vendor-api.md, "Features").

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::fault::Fault;
use super::ids::{Id, InstanceId, UnixSeconds};
use crate::channel::{ClientIdentity, PemFile};
use crate::config;
pub use crate::config::api::{FeatureName, Project, Quotas};

/// One instance: what channels belong to. The daemon is all of them.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: String,
    /// When it was first seen.
    pub created: UnixSeconds,
    /// Its features, in the order of [`FeatureName::ALL`].
    pub features: [Feature; 4],
    /// The certificate of the feature `backend_client_certificate`, when on.
    pub certificate: Option<Arc<BackendCertificate>>,
}

/// A feature's setting.
#[derive(Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its id.
    pub id: Id,
    /// Whether it is on.
    pub is_on: bool,
    /// What the user configured, as text; for the certificate it holds a key.
    pub config: Arc<str>,
    /// When it was last set.
    pub updated: UnixSeconds,
}

impl fmt::Debug for Feature {
    // The configuration stays out: it may hold a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feature").field("id", &self.id).field("is_on", &self.is_on).finish_non_exhaustive()
    }
}

/// What checks with `enable_client_ssl` present and trust.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendCertificate {
    /// What is presented.
    pub identity: ClientIdentity,
    /// What members are verified against; none: they are not.
    pub trust: Option<PemFile>,
}

/// The text form of the feature `backend_client_certificate`.
#[derive(Deserialize)]
struct CertificateConfig {
    #[serde(default)]
    enable: Option<String>,
    #[serde(default)]
    ca: Option<String>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    key: Option<String>,
}

/// A feature as a configuration or a request gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct FeatureSetting {
    /// Which.
    pub name: FeatureName,
    /// Whether it is on.
    pub is_on: bool,
    /// The text that goes with it.
    pub config: String,
    /// What `config` means for the certificate.
    certificate: Option<Certificate>,
}

type Certificate = (ClientIdentity, Option<PemFile>);

impl fmt::Debug for FeatureSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeatureSetting")
            .field("name", &self.name)
            .field("is_on", &self.is_on)
            .finish_non_exhaustive()
    }
}

impl FeatureSetting {
    /// Reads a setting: `enable` and `config` of a request. A `config` of `on`
    /// or `off` decides where there is one, else `enable` does; a feature that
    /// is not enabled is off.
    ///
    /// # Errors
    /// A `config` that the feature does not take.
    pub fn read(name: FeatureName, enable: bool, config: &str) -> Result<Self, Fault> {
        if name == FeatureName::BackendClientCertificate {
            return Self::read_certificate(enable, config);
        }
        let is_on = match config {
            "" => enable,
            "on" => enable,
            "off" => false,
            _ => return Err(Fault::Invalid("config", "write \"on\" or \"off\"".to_owned())),
        };
        let config = if is_on { "on" } else { "off" }.to_owned();
        Ok(Self { name, is_on, config, certificate: None })
    }

    fn read_certificate(enable: bool, config: &str) -> Result<Self, Fault> {
        let name = FeatureName::BackendClientCertificate;
        if !enable || matches!(config, "" | "off") {
            if enable && config.is_empty() {
                return Err(Fault::Missing("config"));
            }
            return Ok(Self { name, is_on: false, config: String::new(), certificate: None });
        }
        let bad = |why: &str| Fault::Invalid("config", why.to_owned());
        let form = "write {\"enable\":\"on\",\"ca\":PEM,\"content\":PEM,\"key\":PEM} as one string";
        let parsed: CertificateConfig = serde_json::from_str(config).map_err(|_| bad(form))?;
        if parsed.enable.as_deref() == Some("off") {
            return Ok(Self { name, is_on: false, config: String::new(), certificate: None });
        }
        let pem = |text: Option<String>, field: &str| {
            text.filter(|text| !text.is_empty()).map(|text| PemFile {
                path: PathBuf::from(format!("backend_client_certificate.{field}")),
                pem: text.into_bytes().into(),
            })
        };
        let certificate = pem(parsed.content, "content").ok_or_else(|| bad("`content` is missing"))?;
        let key = pem(parsed.key, "key").ok_or_else(|| bad("`key` is missing"))?;
        let identity = config::client_identity_of(certificate, key).map_err(|error| {
            use crate::channel::reader::ClientIdentityError as Error;
            bad(&match error {
                Error::Certificate(why) => format!("`content`: {why}"),
                Error::Key(why) => format!("`key`: {why}"),
                Error::Mismatch => "`key` is not the key of `content`".to_owned(),
            })
        })?;
        let trust = pem(parsed.ca, "ca");
        if let Some(trust) = &trust {
            config::check_trust_anchors(trust).map_err(|why| bad(&format!("`ca`: {why}")))?;
        }
        Ok(Self { name, is_on: true, config: config.to_owned(), certificate: Some((identity, trust)) })
    }
}

impl Instance {
    /// An instance with the default features: names modifiable as in the cloud;
    /// health shown and standby members allowed, which the cloud leaves off.
    #[must_use]
    pub fn new(id: InstanceId, name: String, created: UnixSeconds) -> Self {
        let features = FeatureName::ALL.map(|feature| {
            let is_on = feature != FeatureName::BackendClientCertificate;
            let config = if is_on { "on" } else { "" };
            let id = Id::of_parts(&["feature", &id, feature.word()]);
            Feature { id, is_on, config: config.into(), updated: created }
        });
        Self { id, name, created, features, certificate: None }
    }

    /// A feature.
    #[must_use]
    pub fn feature(&self, name: FeatureName) -> &Feature {
        let [modifiable, health, certificate, backup] = &self.features;
        match name {
            FeatureName::VpcNameModifiable => modifiable,
            FeatureName::VpcHealthStatus => health,
            FeatureName::BackendClientCertificate => certificate,
            FeatureName::VpcBackup => backup,
        }
    }

    /// Whether a feature is on.
    #[must_use]
    pub fn has(&self, name: FeatureName) -> bool {
        self.feature(name).is_on
    }

    /// The same instance with a feature set.
    #[must_use]
    pub fn with_feature(&self, setting: FeatureSetting, now: UnixSeconds) -> Self {
        let mut changed = self.clone();
        for (name, feature) in FeatureName::ALL.into_iter().zip(&mut changed.features) {
            if name == setting.name {
                *feature = Feature {
                    id: feature.id,
                    is_on: setting.is_on,
                    config: setting.config.as_str().into(),
                    updated: now,
                };
            }
        }
        if setting.name == FeatureName::BackendClientCertificate {
            changed.certificate =
                setting.certificate.map(|(identity, trust)| Arc::new(BackendCertificate { identity, trust }));
        }
        changed
    }
}
