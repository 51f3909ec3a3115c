//! What `[api]` says: who may use the management API, on which project.
//!
//! Types and one pure rule, [`judge_exposure`]; `api_tables` reads them. Nothing
//! secret in here has a text form.

use std::net::SocketAddr;

use super::password::PasswordHash;
use super::secret::Secret;

/// `[api]`, switched on and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// `[api.project]`.
    pub project: Project,
    /// `[[api.instances]]`; empty means that one is made and kept in the store.
    pub instances: Vec<InstanceSettings>,
    /// `[[api.users]]`: who may log in with a password. No two share name and domain.
    pub users: Vec<User>,
    /// `[[api.access_keys]]`: who may sign. No two share an id.
    pub access_keys: Vec<AccessKey>,
    /// `insecure_allow_remote_without_tls`.
    pub clear_text: ClearText,
    /// `[api.quotas]`.
    pub quotas: Quotas,
}

/// The project all resources belong to, as in the paths of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// 32 lower-case hexadecimal digits.
    pub id: String,
    /// The vendor names its projects after regions, such as `cn-north-4`.
    pub name: String,
}

impl Default for Project {
    /// The project of a configuration that names none.
    fn default() -> Self {
        Self { id: "00000000000000000000000000000001".to_owned(), name: "local".to_owned() }
    }
}

/// How much the API may make (docs/vendor-api.md, "Quotas"). What is there already stays when
/// a limit is lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Channels that the API may make in one instance.
    pub channels: usize,
    /// Members of one channel.
    pub members: usize,
    /// Groups of one channel. No document names a limit; without one, a client
    /// could make every look at a member's group slow.
    pub groups: usize,
}

impl Default for Quotas {
    /// 200 channels of 200 members, as the vendor's dedicated gateways.
    fn default() -> Self {
        Self { channels: 200, members: 200, groups: 200 }
    }
}

/// One gateway instance that channels belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSettings {
    /// 32 hexadecimal digits, or a UUID with dashes.
    pub id: String,
    /// 1 to 64 characters.
    pub name: String,
    /// `features`, as written; each at most once, with whether it is on.
    pub features: Vec<(FeatureName, bool)>,
}

/// A feature of an instance (docs/vendor-api.md, "Features").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeatureName {
    /// Channels may be renamed; while on, project-level calls are refused.
    VpcNameModifiable,
    /// Members show `health_status`.
    VpcHealthStatus,
    /// The client certificate of checks with `enable_client_ssl`.
    BackendClientCertificate,
    /// Members may be standby. Always on.
    VpcBackup,
}

impl FeatureName {
    /// All features, as they are listed.
    pub const ALL: [Self; 4] =
        [Self::VpcNameModifiable, Self::VpcHealthStatus, Self::BackendClientCertificate, Self::VpcBackup];

    /// The vendor's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::VpcNameModifiable => "vpc_name_modifiable",
            Self::VpcHealthStatus => "vpc_health_status",
            Self::BackendClientCertificate => "backend_client_certificate",
            Self::VpcBackup => "vpc_backup",
        }
    }

    /// The feature of that name.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }
}

/// Somebody who logs in with a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The account that the user belongs to; `local` unless said otherwise.
    pub domain: String,
    /// `password_hash` or `password_hash_file`.
    pub password: PasswordHash,
    /// What the user may do.
    pub role: AccountRole,
}

/// A pair of access key and secret key, for signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// What requests name; not secret.
    pub id: String,
    /// From `secret_file`.
    pub secret_key: Secret,
    /// What its holder may do.
    pub role: AccountRole,
}

/// What somebody may do in the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountRole {
    /// Read only.
    Viewer,
    /// Everything.
    Admin,
}

impl AccountRole {
    /// The word in configurations and token answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}

/// Whether the API may be offered to other machines without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClearText {
    /// Only on loopback addresses.
    #[default]
    LoopbackOnly,
    /// `insecure_allow_remote_without_tls = true`: passwords, tokens and
    /// answers travel readable for everybody on the way.
    EverywhereInsecurely,
}

/// Whether a listener speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP.
    Plain,
    /// HTTPS.
    Tls,
}

/// Why the API must not be offered on an address. The texts name the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exposure {
    /// Others could read passwords and tokens on the way.
    #[error("the management API would be on {0} without TLS, so that others could read passwords and tokens")]
    WithoutTls(SocketAddr),
    /// Nobody could prove who they are.
    #[error("the management API would be on {0}, and nobody could log in to it")]
    WithoutAccounts(SocketAddr),
}

impl Exposure {
    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::WithoutTls(_) => {
                "add [server.tls] with `certificate` and `key`, listen on 127.0.0.1 or [::1], or accept the \
                 danger with `insecure_allow_remote_without_tls = true` in [api]"
            }
            Self::WithoutAccounts(_) => {
                "add a user in [[api.users]] or an access key in [[api.access_keys]], or listen on 127.0.0.1 \
                 or [::1]"
            }
        }
    }
}

/// Whether the API may be offered on this address. Loopback always; elsewhere
/// only with TLS and somebody to log in, unless the configuration accepts clear
/// text in so many words. To be asked again when `--listen` moves the address.
///
/// # Errors
/// Why not.
pub fn judge_exposure(api: &ApiSettings, listen: SocketAddr, transport: Transport) -> Result<(), Exposure> {
    if listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if transport == Transport::Plain && api.clear_text == ClearText::LoopbackOnly {
        return Err(Exposure::WithoutTls(listen));
    }
    if api.users.is_empty() && api.access_keys.is_empty() {
        return Err(Exposure::WithoutAccounts(listen));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: Transport = Transport::Tls;
    const PLAIN: Transport = Transport::Plain;

    fn api(clear_text: ClearText, accounts: usize) -> ApiSettings {
        let key = |number| AccessKey {
            id: format!("AK{number}"),
            secret_key: Secret::new(b"hidden-value".to_vec()),
            role: AccountRole::Admin,
        };
        ApiSettings {
            project: Project::default(),
            instances: Vec::new(),
            users: Vec::new(),
            access_keys: (0..accounts).map(key).collect(),
            clear_text,
            quotas: Quotas::default(),
        }
    }

    #[test]
    fn other_machines_need_tls_and_an_account() {
        use ClearText::{EverywhereInsecurely as Insecure, LoopbackOnly as Safe};
        let remote = "192.0.2.1:9650";
        let at = |address: &str| -> SocketAddr { address.parse().expect(address) };
        let no_tls = Err(Exposure::WithoutTls(at(remote)));
        let nobody = Err(Exposure::WithoutAccounts(at(remote)));
        let cases = [
            (remote, PLAIN, Safe, 1, no_tls),
            (remote, PLAIN, Safe, 0, no_tls),
            (remote, TLS, Safe, 0, nobody),
            (remote, TLS, Safe, 1, Ok(())),
            (remote, PLAIN, Insecure, 1, Ok(())),
            (remote, PLAIN, Insecure, 0, nobody),
            ("127.0.0.1:9650", PLAIN, Safe, 0, Ok(())),
            ("127.8.9.10:9650", PLAIN, Safe, 0, Ok(())),
            ("[::1]:9650", PLAIN, Safe, 0, Ok(())),
            ("[::ffff:127.0.0.1]:9650", PLAIN, Safe, 0, Ok(())),
        ];
        for (listen, transport, clear_text, accounts, expected) in cases {
            let verdict = judge_exposure(&api(clear_text, accounts), at(listen), transport);
            assert_eq!(verdict, expected, "{listen} {transport:?} {clear_text:?} {accounts}");
        }
        for everywhere in ["0.0.0.0:9650", "[::]:9650"] {
            let verdict = judge_exposure(&api(Safe, 1), at(everywhere), PLAIN);
            assert_eq!(verdict, Err(Exposure::WithoutTls(at(everywhere))));
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut api = api(ClearText::LoopbackOnly, 2);
        api.users.push(User {
            name: "ops".to_owned(),
            domain: "local".to_owned(),
            password: PasswordHash::cheap(b"hidden-value"),
            role: AccountRole::Viewer,
        });
        let text = format!("{api:?} {api:#?}");
        assert!(text.contains("ops") && text.contains("AK1"), "{text}");
        assert!(!text.contains("hidden") && !text.contains("$argon2"), "{text}");
    }
}
