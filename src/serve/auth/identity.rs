//! Who sent a request, and what they may do with which project.

use std::fmt;
use std::sync::Arc;

use axum::http::Method;

use super::fault::AuthFault;
use crate::config::api::AccountRole;

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
