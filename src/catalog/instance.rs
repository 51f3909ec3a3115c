//! Instances (gateways) and their features (docs/vendor-api.md, "Features").

use std::collections::BTreeMap;
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
    /// The features that are only kept, as far as they were set.
    pub stored: BTreeMap<StoredFeature, Feature>,
    /// The certificate of the feature `backend_client_certificate`, when on.
    pub certificate: Option<Arc<BackendCertificate>>,
}

/// Longest `config` of a stored feature, in bytes. The vendor names no limit; its
/// longest samples, lists of ciphers and of hosts, have a few hundred.
const LONGEST_CONFIG: usize = 64 * 1024;

/// The vendor's features that have no effect here, by name. They are kept and answered,
/// so that a configuration that sets them can be applied.
const STORED_FEATURES: [&str; 41] = [
    "api_uri_no_escape",
    "app_acl",
    "app_api_key",
    "app_basic",
    "app_jwt",
    "app_quota",
    "app_route",
    "app_secret",
    "app_token",
    "backend_retry_count",
    "backend_timeout",
    "backend_token_allow",
    "breaker",
    "breakerv2",
    "content_type_configurable",
    "cors",
    "custom_auth_header",
    "custom_log",
    "default_group_host_trustlist",
    "gateway_responses",
    "gzip",
    "kafka_log",
    "lts",
    "multi_auth",
    "policy_cookie_param",
    "policy_sys_param",
    "public_key",
    "rate_limit_algorithm",
    "rate_limit_plugin",
    "ratelimit",
    "real_ip_from_xff",
    "real_ip_header_getter",
    "request_body_size",
    "request_custom_config",
    "route",
    "set_resp_headers",
    "sign_aes",
    "sign_basic",
    "sse_strategy",
    "ssl_ciphers",
    "throttle_strategy",
];

/// One of the vendor's features that have no effect here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredFeature(&'static str);

/// A feature that the API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownFeature {
    /// One that has an effect.
    Effective(FeatureName),
    /// One that is only kept.
    Stored(StoredFeature),
}

impl KnownFeature {
    /// The feature of that name, if the vendor has one.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        let stored = || STORED_FEATURES.into_iter().find(|name| *name == word).map(StoredFeature);
        FeatureName::of_word(word).map(Self::Effective).or_else(|| stored().map(Self::Stored))
    }

    /// The vendor's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Effective(name) => name.word(),
            Self::Stored(StoredFeature(word)) => word,
        }
    }
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
                ClientIdentityError::Exposed(file) => format!("`key`: {}", file.problem),
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
        Self { id, name, created, features, stored: BTreeMap::new(), certificate: None }
    }

    /// The setting of a feature with an effect.
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

    /// Every feature that has a setting: those with an effect, then the stored ones by name.
    pub fn settings(&self) -> impl Iterator<Item = (KnownFeature, &Feature)> {
        let effective = FeatureName::ALL.into_iter();
        let effective = effective.map(move |name| (KnownFeature::Effective(name), self.feature(name)));
        effective.chain(self.stored.iter().map(|(name, feature)| (KnownFeature::Stored(*name), feature)))
    }

    /// Whether a feature is on.
    #[must_use]
    pub fn has(&self, name: FeatureName) -> bool {
        self.feature(name).is_on
    }

    /// The features that can be used here. A certificate can be set on every instance,
    /// whether one is set or not.
    pub fn supported_features(&self) -> impl Iterator<Item = FeatureName> {
        let is_supported =
            move |name: &FeatureName| *name == FeatureName::BackendClientCertificate || self.has(*name);
        FeatureName::ALL.into_iter().filter(is_supported)
    }

    /// The same instance with a feature set: by `enable` and `config` of a request.
    ///
    /// # Errors
    /// A `config` that the feature does not take.
    pub fn with_feature(
        &self,
        feature: KnownFeature,
        enable: bool,
        config: &str,
        now: UnixSeconds,
    ) -> Result<Self, Fault> {
        match feature {
            KnownFeature::Effective(name) => self.with_effective(name, enable, config, now),
            KnownFeature::Stored(name) => self.with_stored(name, enable, config, now),
        }
    }

    fn with_stored(
        &self,
        name: StoredFeature,
        is_on: bool,
        config: &str,
        now: UnixSeconds,
    ) -> Result<Self, Fault> {
        if config.len() > LONGEST_CONFIG {
            return Err(Fault::Invalid("config", format!("write at most {LONGEST_CONFIG} bytes")));
        }
        let id = Id::of_parts(&["feature", &self.id, name.0]);
        let mut changed = self.clone();
        changed.stored.insert(name, Feature { id, is_on, config: config.into(), updated: now });
        Ok(changed)
    }

    /// A `config` of `on` or `off` decides where there is one, else `enable` does; a
    /// feature that is not enabled is off.
    fn with_effective(
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
