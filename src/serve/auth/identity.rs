//! Who sent a request and what they may do with which project; why a request is not
//! let in (docs/vendor-api.md, "Tokens", "Signatures" and "Errors").

use std::fmt;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::signature::SignatureFault;
use crate::config::api::AccountRole;
use crate::serve::http::{BodyError, RequestId, VendorError, json};

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
    #[must_use]
    pub fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => Self::Read,
            _ => Self::Write,
        }
    }
}

impl Identity {
    /// Whether this identity may do this in that project.
    ///
    /// # Errors
    /// The credential is for no project or another one, or the role forbids it.
    pub fn admit(&self, project_id: &str, action: Action) -> Result<(), AuthFault> {
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
}

impl AuthFault {
    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TokenMissing
            | Self::TokenExpired
            | Self::TokenUnknown
            | Self::NoProject
            | Self::Signature(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyUnreadable => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer's `error_code`.
    #[must_use]
    pub fn error_code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "APIG.1000",
            Self::TokenExpired => "APIG.1001",
            Self::TokenUnknown => "APIG.1002",
            Self::NoProject => "APIG.1003",
            Self::Forbidden => "APIG.1005",
            Self::Signature(_) => "APIG.0301",
            Self::BodyTooLarge => "APIG.0201",
            Self::BodyUnreadable => "APIG.2000",
        }
    }

    /// The whole answer but for `X-Request-Id`, which belongs on every answer.
    pub(super) fn into_answer(self, request_id: &RequestId) -> Response {
        let answer = VendorError {
            error_code: self.error_code(),
            error_msg: &self.to_string(),
            details: Vec::new(),
            request_id: matches!(self, Self::Signature(_)).then_some(&request_id.0),
        };
        json(self.status(), &answer)
    }
}

impl From<BodyError> for AuthFault {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge,
            BodyError::Lost => Self::BodyUnreadable,
        }
    }
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
