//! Instances (gateways) and their features (docs/vendor-api.md, "Features").

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::fault::Fault;
use super::ids::{Id, InstanceId, UnixSeconds};
use crate::channel::reader::ClientIdentityError;
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
#[derive(Default, Deserialize)]
#[serde(default)]
struct CertificateConfig {
    enable: Option<String>,
    ca: Option<String>,
    content: Option<String>,
    key: Option<String>,
}

impl BackendCertificate {
    /// Reads the text form; none when it is switched off.
    fn read(config: &str) -> Result<Option<Self>, Fault> {
        let bad = |why: &str| Fault::Invalid("config", why.to_owned());
        let form = "write {\"enable\":\"on\",\"ca\":PEM,\"content\":PEM,\"key\":PEM} as one string";
        let parsed: CertificateConfig = serde_json::from_str(config).map_err(|_| bad(form))?;
        if parsed.enable.as_deref() == Some("off") {
            return Ok(None);
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
            bad(&match error {
                ClientIdentityError::Certificate(why) => format!("`content`: {why}"),
                ClientIdentityError::Key(why) => format!("`key`: {why}"),
                ClientIdentityError::Mismatch => "`key` is not the key of `content`".to_owned(),
            })
        })?;
        let trust = pem(parsed.ca, "ca");
        if let Some(trust) = &trust {
            config::check_trust_anchors(trust).map_err(|why| bad(&format!("`ca`: {why}")))?;
        }
        Ok(Some(Self { identity, trust }))
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

    /// The same instance with a feature set: by `enable` and `config` of a request. A
    /// `config` of `on` or `off` decides where there is one, else `enable` does; a
    /// feature that is not enabled is off.
    ///
    /// # Errors
    /// A `config` that the feature does not take.
    pub fn with_feature(
        &self,
        name: FeatureName,
        enable: bool,
        config: &str,
        now: UnixSeconds,
    ) -> Result<Self, Fault> {
        let mut changed = self.clone();
        let (is_on, config) = match (name, config) {
            (FeatureName::BackendClientCertificate, "") if enable => return Err(Fault::Missing("config")),
            (FeatureName::BackendClientCertificate, config) => {
                let is_asked = enable && config != "off";
                let certificate = if is_asked { BackendCertificate::read(config)? } else { None };
                changed.certificate = certificate.map(Arc::new);
                let is_on = changed.certificate.is_some();
                (is_on, if is_on { config } else { "" })
            }
            (_, "" | "on") if enable => (true, "on"),
            (_, "" | "on" | "off") => (false, "off"),
            _ => return Err(Fault::Invalid("config", "write \"on\" or \"off\"".to_owned())),
        };
        let place = FeatureName::ALL.iter().zip(&mut changed.features).find(|(held, _)| **held == name);
        if let Some((_, feature)) = place {
            *feature = Feature { id: feature.id, is_on, config: config.into(), updated: now };
        }
        Ok(changed)
    }
}
