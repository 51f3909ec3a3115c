//! The users and access keys of the configuration, ready to be looked up.
//!
//! Built at start and at every reload; immutable in between. The ids that the
//! vendor's answers need are made from names, so that they survive restarts.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::signature::hex;
use crate::config::api::{AccessKey, AccountRole, ApiSettings, Project};
use crate::config::password::PasswordHash;

/// Everybody who may prove who they are.
#[derive(Debug)]
pub struct Accounts {
    project: Project,
    project_id: Arc<str>,
    /// By user id, which is made of name and domain.
    users: HashMap<Arc<str>, Arc<UserAccount>>,
    access_keys: HashMap<String, AccessKey>,
    /// What is hashed for users that do not exist.
    decoy: Option<Arc<PasswordHash>>,
}

/// One user, with the ids of the vendor's answers.
#[derive(Debug)]
pub struct UserAccount {
    /// 32 hexadecimal digits, made of name and domain.
    pub id: Arc<str>,
    /// The user's name.
    pub name: Arc<str>,
    /// The account it belongs to.
    pub domain: Domain,
    /// What the user may do.
    pub role: AccountRole,
    /// The password's hash.
    pub password: Arc<PasswordHash>,
    /// Changes with the password: tokens from before are no good then.
    pub stamp: [u8; 32],
}

/// An account of the cloud: what users belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// 32 hexadecimal digits, made of the name.
    pub id: String,
    /// The name.
    pub name: Arc<str>,
}

/// How a login names its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserName {
    /// By id.
    Id(String),
    /// By name and domain.
    Named {
        /// The name.
        name: String,
        /// The domain.
        domain: NamedOrId,
    },
}

/// How a login names a domain or a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedOrId {
    /// By name.
    Name(String),
    /// By id.
    Id(String),
}

impl Accounts {
    /// Looks everything up once. `random` makes a hash that no password has, so
    /// that a login takes as long for a user who does not exist.
    #[must_use]
    pub fn new(api: &ApiSettings, random: [u8; 32]) -> Self {
        let users = api.users.iter().map(|user| {
            let domain =
                Domain { id: made_id(&["domain", &user.domain]), name: Arc::from(user.domain.as_str()) };
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
            users: users.collect(),
            access_keys: api.access_keys.iter().map(|key| (key.id.clone(), key.clone())).collect(),
            decoy: costliest.map(|password| Arc::new(password.decoy(random))),
        }
    }

    /// The one project.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The one project's id, cheap to keep.
    #[must_use]
    pub fn project_id(&self) -> Arc<str> {
        Arc::clone(&self.project_id)
    }

    /// The user that a login names.
    #[must_use]
    pub fn user(&self, name: &UserName) -> Option<&Arc<UserAccount>> {
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

    /// The user of a token.
    #[must_use]
    pub fn user_by_id(&self, id: &str) -> Option<&Arc<UserAccount>> {
        self.users.get(id)
    }

    /// The access key of a signature.
    #[must_use]
    pub fn access_key(&self, id: &str) -> Option<&AccessKey> {
        self.access_keys.get(id)
    }

    /// What is hashed when there is no such user; none when there are no users.
    #[must_use]
    pub fn decoy(&self) -> Option<&Arc<PasswordHash>> {
        self.decoy.as_ref()
    }

    /// Whether a login's scope means the one project. `domain` is the user's.
    #[must_use]
    pub fn is_project(&self, wanted: &NamedOrId) -> bool {
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
