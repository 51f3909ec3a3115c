//! Reads the body of `POST /v3/auth/tokens`. Pure.
//!
//! Read by hand rather than derived, so that every mistake is named and the
//! password or token moves into memory that is wiped. No error repeats the body.

use axum::http::StatusCode;
use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

use crate::serve::auth::identity::{Accounts, NamedOrId, UserAccount, UserName};
use crate::serve::auth::tokens::Scope;
use crate::serve::http::NO_PLACE_TEXT;

type Object = Map<String, Value>;

/// An error in Keystone's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeystoneFault {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl KeystoneFault {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The source has taken its share.
    pub(super) fn no_place() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, NO_PLACE_TEXT)
    }

    /// The text does not tell whether there is such a user.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.")
    }
}

/// Who wants a token, and for what.
pub(super) struct Login {
    pub(super) proof: LoginProof,
    /// None: for nothing in particular.
    pub(super) scope: Option<WantedScope>,
}

/// How a client that wants a token proves who it is.
pub(super) enum LoginProof {
    /// The method `password`.
    Password { user: UserName, password: Zeroizing<String> },
    /// The method `token`: by a token that it has.
    Token(Zeroizing<String>),
}

/// What a token is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WantedScope {
    Project { project: NamedOrId, domain: Option<NamedOrId> },
    Domain(NamedOrId),
}

impl WantedScope {
    /// The scope of the token, if the user may have one for this.
    pub(super) fn judge(&self, accounts: &Accounts, user: &UserAccount) -> Result<Scope, KeystoneFault> {
        let is_own_domain = |domain: &NamedOrId| match domain {
            NamedOrId::Name(name) => **name == *user.domain.name,
            NamedOrId::Id(id) => *id == user.domain.id,
        };
        let refused = |message: String| Err(KeystoneFault::new(StatusCode::UNAUTHORIZED, message));
        match self {
            Self::Domain(domain) if !is_own_domain(domain) => {
                refused(format!("The user belongs to the domain {:?}.", user.domain.name))
            }
            Self::Project { domain: Some(domain), .. } if accounts.is_foreign_domain(domain, user) => {
                refused(format!("The project belongs to the domain {:?}.", accounts.project_domain().name))
            }
            Self::Project { project, .. } if !accounts.is_project(project) => {
                let own = accounts.project();
                refused(format!("There is one project here: id {:?}, name {:?}.", own.id, own.name))
            }
            Self::Domain(_) => Ok(Scope::Domain),
            Self::Project { .. } => Ok(Scope::Project),
        }
    }
}

impl Login {
    pub(super) fn parse(body: &[u8]) -> Result<Self, KeystoneFault> {
        let mut document: Value = serde_json::from_slice(body)
            .map_err(|_| KeystoneFault::bad_request("The request body is not valid JSON."))?;
        let read = Self::read(&mut document);
        wipe(&mut document);
        read
    }

    fn read(document: &mut Value) -> Result<Self, KeystoneFault> {
        let auth = object(document.get_mut("auth"), "auth")?;
        let scope = scope_of(auth.get("scope"))?;
        let identity = object(auth.get_mut("identity"), "auth.identity")?;
        let proof = match method_of(identity.get("methods"))? {
            LoginMethod::Password => {
                let password = object(identity.get_mut("password"), "auth.identity.password")?;
                let user = object(password.get_mut("user"), "auth.identity.password.user")?;
                let password = secret(user, "password", "auth.identity.password.user.password")?;
                LoginProof::Password { user: user_of(user)?, password }
            }
            LoginMethod::Token => {
                let token = object(identity.get_mut("token"), "auth.identity.token")?;
                LoginProof::Token(secret(token, "id", "auth.identity.token.id")?)
            }
        };
        Ok(Self { proof, scope })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoginMethod {
    Password,
    Token,
}

/// Takes a secret out of the document, into memory that is wiped.
fn secret(object: &mut Object, key: &str, field: &str) -> Result<Zeroizing<String>, KeystoneFault> {
    match object.get_mut(key).map(Value::take) {
        Some(Value::String(secret)) => Ok(Zeroizing::new(secret)),
        _ => Err(expected(field)),
    }
}

/// Overwrites every string: one of them may be the password in the wrong place.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn expected(field: &str) -> KeystoneFault {
    KeystoneFault::bad_request(format!("Expecting to find {field} in the request body."))
}

fn object<'v>(value: Option<&'v mut Value>, field: &str) -> Result<&'v mut Object, KeystoneFault> {
    value.and_then(Value::as_object_mut).ok_or_else(|| expected(field))
}

fn method_of(methods: Option<&Value>) -> Result<LoginMethod, KeystoneFault> {
    let Some(Value::Array(methods)) = methods else { return Err(expected("auth.identity.methods")) };
    match methods.as_slice() {
        [Value::String(method)] if method == "password" => Ok(LoginMethod::Password),
        [Value::String(method)] if method == "token" => Ok(LoginMethod::Token),
        [] => Err(expected("auth.identity.methods")),
        _ => Err(KeystoneFault::new(
            StatusCode::UNAUTHORIZED,
            "Attempted to authenticate with an unsupported method. Use \"password\" or \"token\".",
        )),
    }
}

fn user_of(user: &Object) -> Result<UserName, KeystoneFault> {
    const USER: &str = "auth.identity.password.user";
    if let Some(Value::String(id)) = user.get("id") {
        return Ok(UserName::Id(id.clone()));
    }
    let Some(Value::String(name)) = user.get("name") else {
        return Err(expected(&format!("{USER}.name")));
    };
    let domain =
        user.get("domain").and_then(named_or_id).ok_or_else(|| expected(&format!("{USER}.domain")))?;
    Ok(UserName::Named { name: name.clone(), domain })
}

/// Of a project and a domain the project counts.
fn scope_of(scope: Option<&Value>) -> Result<Option<WantedScope>, KeystoneFault> {
    let scope = match scope {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(word)) if word == "unscoped" => return Ok(None),
        Some(Value::Object(scope)) => scope,
        Some(_) => return Err(expected("auth.scope.project")),
    };
    if let Some(project) = scope.get("project") {
        let domain = project.get("domain").and_then(named_or_id);
        let project = named_or_id(project).ok_or_else(|| expected("auth.scope.project.name"))?;
        return Ok(Some(WantedScope::Project { project, domain }));
    }
    if let Some(domain) = scope.get("domain") {
        let domain = named_or_id(domain).ok_or_else(|| expected("auth.scope.domain.name"))?;
        return Ok(Some(WantedScope::Domain(domain)));
    }
    match scope.contains_key("unscoped") {
        true => Ok(None),
        false => Err(expected("auth.scope.project")),
    }
}

fn named_or_id(value: &Value) -> Option<NamedOrId> {
    match (value.get("id"), value.get("name")) {
        (Some(Value::String(id)), _) => Some(NamedOrId::Id(id.clone())),
        (_, Some(Value::String(name))) => Some(NamedOrId::Name(name.clone())),
        _ => None,
    }
}

/// The decoded value of a query parameter.
pub(super) fn query_value(query: &str, name: &str) -> Option<String> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    parameters.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
