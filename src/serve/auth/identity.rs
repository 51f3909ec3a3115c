//! Who sent a request and what they may do; the users and access keys of the
//! configuration; why a request is not let in (docs/vendor-api.md, "Tokens",
//! "Signatures" and "Errors").
//!
//! [`Accounts`] are built at start and at every reload and do not change in between. The
//! ids that the vendor's answers need are made from names, so that they survive
//! restarts.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::http::{Extensions, Method, StatusCode};
use axum::response::Response;
use sha2::{Digest as _, Sha256};

use super::signature::{SignatureFault, hex};
use crate::catalog::Client;
use crate::config::api::{AccessKey, AccountRole, ApiSettings, Project};
use crate::config::password::PasswordHash;
use crate::serve::audit::AuthFailure;
use crate::serve::http::{BodyError, NO_PLACE, NO_PLACE_TEXT, RequestId, VendorError, say_no_place};
use crate::serve::peer::ConnectionInfo;

/// The domain of the project when there are no users.
const DEFAULT_DOMAIN: &str = "local";
/// The id of a Keystone's first domain, which its clients name when they were told none.
const KEYSTONE_DEFAULT: &str = "default";

/// Somebody who has proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub principal: Principal,
    /// The project that the credential is for; none for a token without a project.
    pub project: Option<Arc<str>>,
    /// What they may do in it.
    pub role: AccountRole,
}

/// How somebody proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// With a token.
    User {
        /// The user's name.
        name: Arc<str>,
        /// The account it belongs to.
        domain: Arc<str>,
    },
    /// With a signature.
    AccessKey(Arc<str>),
    /// By being let in to the Unix socket, whose permissions are the proof.
    LocalSocket,
}

/// For logs: `ops@local`, `access key AK1`, `local socket`.
impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { name, domain } => write!(formatter, "{name}@{domain}"),
            Self::AccessKey(id) => write!(formatter, "access key {id}"),
            Self::LocalSocket => formatter.write_str("local socket"),
        }
    }
}

/// Who sent a request, as changes that it asks for are attributed: who has proved who they
/// are, the Unix socket with its user, or else where the request came from.
pub(in crate::serve) fn client_of(extensions: &mut Extensions) -> Client {
    let connection = ConnectionInfo::of(extensions);
    let principal = extensions.get::<Identity>().map(|identity| &identity.principal);
    let name = match principal {
        Some(principal @ (Principal::User { .. } | Principal::AccessKey(_))) => principal.to_string(),
        Some(Principal::LocalSocket) | None => connection.name(),
    };
    Client { name: name.into(), request_id: RequestId::of(extensions).0 }
}

/// What a request wants of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Look.
    Read,
    /// Change.
    Write,
}

impl Action {
    /// What a method wants. Unknown ones count as changes.
    pub(super) fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => Self::Read,
            _ => Self::Write,
        }
    }
}

impl Identity {
    /// Whether this identity may do this in that project.
    pub(super) fn admit(&self, project_id: &str, action: Action) -> Result<(), AuthFault> {
        match &self.project {
            None => return Err(AuthFault::NoProject),
            Some(own) if **own != *project_id => return Err(AuthFault::Forbidden),
            Some(_) => {}
        }
        match (self.role, action) {
            (AccountRole::Admin, _) | (AccountRole::Viewer, Action::Read) => Ok(()),
            (AccountRole::Viewer, Action::Write) => Err(AuthFault::Forbidden),
        }
    }
}

/// Why a request is not let in. The `Display` text is the answer's `error_msg`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthFault {
    /// Neither a token nor a signature.
    #[error("Token missing. Log in again or try again later.")]
    TokenMissing,
    /// The token was good once.
    #[error("Session expired. Please try again later.")]
    TokenExpired,
    /// No such token, or its user has changed since.
    #[error("Incorrect token or token resolution failed")]
    TokenUnknown,
    /// The token is for an account, not for a project.
    #[error("Token contains no project information.")]
    NoProject,
    /// Another project's, or more than the role allows.
    #[error("No permissions to request this method")]
    Forbidden,
    /// The signature was not accepted.
    #[error("Incorrect IAM authentication information: {0}")]
    Signature(#[from] SignatureFault),
    /// A signed request whose body is too large to be judged.
    #[error("The request body exceeds the size limit.")]
    BodyTooLarge,
    /// The body did not arrive whole.
    #[error("The request body could not be read.")]
    BodyUnreadable,
    /// The source has taken its share of what there is for those who have yet to prove
    /// who they are.
    #[error("{NO_PLACE_TEXT}")]
    NoPlace,
}

impl AuthFault {
    /// The answer's status and `error_code`.
    pub(in crate::serve) fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Self::TokenMissing => (StatusCode::UNAUTHORIZED, "APIG.1000"),
            Self::TokenExpired => (StatusCode::UNAUTHORIZED, "APIG.1001"),
            Self::TokenUnknown => (StatusCode::UNAUTHORIZED, "APIG.1002"),
            Self::NoProject => (StatusCode::UNAUTHORIZED, "APIG.1003"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "APIG.1005"),
            Self::Signature(_) => (StatusCode::UNAUTHORIZED, "APIG.0301"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "APIG.0201"),
            Self::BodyUnreadable => (StatusCode::BAD_REQUEST, "APIG.2000"),
            Self::NoPlace => (StatusCode::INTERNAL_SERVER_ERROR, NO_PLACE),
        }
    }

    /// What the audit calls it; none where the sender's rights are not the reason.
    pub(in crate::serve) fn failure(&self) -> Option<AuthFailure> {
        match self {
            Self::TokenMissing => Some(AuthFailure::TokenMissing),
            Self::TokenExpired => Some(AuthFailure::TokenExpired),
            Self::TokenUnknown => Some(AuthFailure::TokenUnknown),
            Self::NoProject => Some(AuthFailure::Scope),
            Self::Forbidden => Some(AuthFailure::Forbidden),
            Self::Signature(SignatureFault::UnknownAccessKey(_)) => Some(AuthFailure::AccessKeyUnknown),
            Self::Signature(_) => Some(AuthFailure::Signature),
            Self::BodyTooLarge | Self::BodyUnreadable | Self::NoPlace => None,
        }
    }

    /// The whole answer but for `X-Request-Id`, which belongs on every answer.
    pub(super) fn into_answer(self, request_id: &RequestId) -> Response {
        let (status, error_code) = self.answer();
        let answer = VendorError {
            error_code,
            error_msg: &self.to_string(),
            details: &[],
            request_id: matches!(self, Self::Signature(_)).then_some(&request_id.0),
        };
        let mut response = answer.answer(status);
        if self == Self::NoPlace {
            say_no_place(&mut response);
        }
        response
    }
}

impl From<BodyError> for AuthFault {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge,
            BodyError::Malformed | BodyError::Lost => Self::BodyUnreadable,
            BodyError::NoPlace => Self::NoPlace,
        }
    }
}

/// Everybody who may prove who they are.
#[derive(Debug)]
pub(super) struct Accounts {
    project: Project,
    project_id: Arc<str>,
    project_domain: Domain,
    /// By user id, which is made of name and domain.
    users: HashMap<Arc<str>, Arc<UserAccount>>,
    access_keys: HashMap<String, AccessKey>,
    /// What is hashed for users that do not exist.
    decoy: Option<Arc<PasswordHash>>,
}

/// One user, with the ids of the vendor's answers.
#[derive(Debug)]
pub(super) struct UserAccount {
    /// 32 hexadecimal digits, made of name and domain.
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) domain: Domain,
    pub(super) role: AccountRole,
    pub(super) password: Arc<PasswordHash>,
    /// Changes with the password: tokens from before are no good then.
    pub(super) stamp: [u8; 32],
}

/// An account of the cloud: what users belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Domain {
    /// 32 hexadecimal digits, made of the name.
    pub(super) id: String,
    pub(super) name: Arc<str>,
}

impl Domain {
    fn named(name: &str) -> Self {
        Self { id: made_id(&["domain", name]), name: Arc::from(name) }
    }
}

impl UserAccount {
    pub(super) fn principal(&self) -> Principal {
        Principal::User { name: Arc::clone(&self.name), domain: Arc::clone(&self.domain.name) }
    }
}

/// How a login names its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserName {
    Id(String),
    Named { name: String, domain: NamedOrId },
}

/// How a login names a domain or a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NamedOrId {
    Name(String),
    Id(String),
}

impl Accounts {
    /// Looks everything up once. The project belongs to the domain of the user who is
    /// configured first, whoever asks. `random` makes a hash that no password has, so
    /// that a login takes as long for a user who does not exist.
    pub(super) fn new(api: &ApiSettings, random: [u8; 32]) -> Self {
        let users = api.users.iter().map(|user| {
            let domain = Domain::named(&user.domain);
            let id: Arc<str> = made_id(&["user", &user.domain, &user.name]).into();
            let account = UserAccount {
                id: Arc::clone(&id),
                name: Arc::from(user.name.as_str()),
                domain,
                role: user.role,
                password: Arc::new(user.password.clone()),
                stamp: Sha256::digest(user.password.to_phc_string()).into(),
            };
            (id, Arc::new(account))
        });
        let costliest = api.users.iter().map(|user| &user.password).max_by_key(|password| password.cost());
        Self {
            project: api.project.clone(),
            project_id: Arc::from(api.project.id.as_str()),
            project_domain: Domain::named(api.users.first().map_or(DEFAULT_DOMAIN, |user| &user.domain)),
            users: users.collect(),
            access_keys: api.access_keys.iter().map(|key| (key.id.clone(), key.clone())).collect(),
            decoy: costliest.map(|password| Arc::new(password.decoy(random))),
        }
    }

    pub(super) fn project(&self) -> &Project {
        &self.project
    }

    pub(super) fn project_id(&self) -> Arc<str> {
        Arc::clone(&self.project_id)
    }

    /// What the project belongs to.
    pub(super) fn project_domain(&self) -> &Domain {
        &self.project_domain
    }

    /// All users, in the order of their domains and names.
    pub(super) fn users(&self) -> Vec<&Arc<UserAccount>> {
        let mut users: Vec<_> = self.users.values().collect();
        users.sort_unstable_by(|one, other| {
            (&one.domain.name, &one.name).cmp(&(&other.domain.name, &other.name))
        });
        users
    }

    /// Whether a scope's `project.domain` is another one than the project's and the
    /// user's. Clients that were told no domain write `default`, and each has names of
    /// its own for it: only a domain of another user, or another id, is a mistake.
    pub(super) fn is_foreign_domain(&self, wanted: &NamedOrId, user: &UserAccount) -> bool {
        let own = [&self.project_domain, &user.domain];
        match wanted {
            NamedOrId::Name(name) => {
                let is_known = self.users.values().any(|user| *user.domain.name == **name);
                is_known && own.iter().all(|domain| *domain.name != **name)
            }
            NamedOrId::Id(id) => id != KEYSTONE_DEFAULT && own.iter().all(|domain| domain.id != *id),
        }
    }

    pub(super) fn user(&self, name: &UserName) -> Option<&Arc<UserAccount>> {
        match name {
            UserName::Id(id) => self.users.get(id.as_str()),
            UserName::Named { name, domain: NamedOrId::Name(domain) } => {
                self.users.get(made_id(&["user", domain, name]).as_str())
            }
            UserName::Named { name, domain: NamedOrId::Id(id) } => {
                self.users.values().find(|user| *user.name == **name && user.domain.id == *id)
            }
        }
    }

    pub(super) fn user_by_id(&self, id: &str) -> Option<&Arc<UserAccount>> {
        self.users.get(id)
    }

    pub(super) fn access_key(&self, id: &str) -> Option<&AccessKey> {
        self.access_keys.get(id)
    }

    /// What is hashed when there is no such user; none when there are no users.
    pub(super) fn decoy(&self) -> Option<&Arc<PasswordHash>> {
        self.decoy.as_ref()
    }

    /// Whether a login's scope means the one project. `domain` is the user's.
    pub(super) fn is_project(&self, wanted: &NamedOrId) -> bool {
        match wanted {
            NamedOrId::Name(name) => *name == self.project.name,
            NamedOrId::Id(id) => *id == self.project.id,
        }
    }
}

/// 32 hexadecimal digits that the same words always make. No word can run into
/// the next: lengths are part of what is hashed.
pub(super) fn made_id(words: &[&str]) -> String {
    let mut digest = Sha256::new();
    for word in words {
        digest.update(word.len().to_be_bytes());
        digest.update(word.as_bytes());
    }
    hex(&digest.finalize()).chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_projects() {
        let identity = |project: Option<&str>, role| Identity {
            principal: Principal::LocalSocket,
            project: project.map(Arc::from),
            role,
        };
        let cases = [
            (Some("p"), AccountRole::Admin, Method::GET, Ok(())),
            (Some("p"), AccountRole::Admin, Method::DELETE, Ok(())),
            (Some("p"), AccountRole::Viewer, Method::GET, Ok(())),
            (Some("p"), AccountRole::Viewer, Method::HEAD, Ok(())),
            (Some("p"), AccountRole::Viewer, Method::POST, Err(AuthFault::Forbidden)),
            (Some("p"), AccountRole::Viewer, Method::PUT, Err(AuthFault::Forbidden)),
            (Some("p"), AccountRole::Viewer, Method::PATCH, Err(AuthFault::Forbidden)),
            (Some("p"), AccountRole::Viewer, Method::DELETE, Err(AuthFault::Forbidden)),
            (Some("q"), AccountRole::Admin, Method::GET, Err(AuthFault::Forbidden)),
            (None, AccountRole::Admin, Method::GET, Err(AuthFault::NoProject)),
        ];
        for (project, role, method, expected) in cases {
            let verdict = identity(project, role).admit("p", Action::of(&method));
            assert_eq!(verdict, expected, "{project:?} {role:?} {method}");
        }
    }
}
