//! Says who sent a request: by its token, its signature or its socket.
//!
//! The gate holds the accounts of the configuration, the tokens, and who failed
//! lately. Requests are judged in two steps, so that nobody without a known
//! access key makes the daemon read a body: [`AuthGate::inspect`] reads the head,
//! [`AuthGate::conclude`] the body's hash. A failed attempt is counted and its
//! answer waits ([`AuthGate::penalty`]); a good one never does.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Extensions;
use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use zeroize::Zeroizing;

use super::identity::{Accounts, Action, AuthFault, Identity, Principal, UserAccount, UserName};
use super::signature::{BodyHash, Claim, RequestHead, SignatureFault};
use super::throttle::{HashingQueue, Slowdown};
use super::tokens::{Grant, Issued, Proof, Scope, TokenFault, TokenTable, Validity};
use crate::config::api::{AccountRole, ApiSettings};
use crate::config::secret::Secret;
use crate::health::Now;
use crate::serve::audit::{AuditNote, AuthFailure};
use crate::serve::http::{BodyReader, RequestId};
use crate::serve::peer::{ConnectionInfo, PeerAddress, PeerNetwork};
use crate::serve::shares::{NoShare, Shares, lock};

/// Where a client puts its token.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-auth-token");

/// Answers that may wait at once, in all and of one source. They hold connections, so
/// they must stay few; beyond that a failure is told that there is no place for it, and
/// its connection closes.
const WAITING_ANSWERS: usize = 48;
const WAITING_ANSWERS_EACH: usize = 8;

/// Reads both clocks.
pub(super) type ReadClock = Arc<dyn Fn() -> Now + Send + Sync>;

/// Who may use the management API. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct AuthGate {
    state: Arc<GateState>,
}

struct GateState {
    clock: ReadClock,
    /// Replaced whole on reload.
    accounts: RwLock<Arc<Accounts>>,
    tokens: Mutex<TokenTable>,
    slowdown: Mutex<Slowdown>,
    hashing: HashingQueue,
    waiting_answers: Shares,
    /// Access keys are no secret, so anybody may send a signed body.
    bodies: BodyReader,
}

impl fmt::Debug for AuthGate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthGate").field("accounts", &self.accounts()).finish_non_exhaustive()
    }
}

/// What a request's head says about its sender.
#[derive(Debug)]
pub(super) enum Inspected {
    /// Who it is; the body does not matter.
    Known(Identity),
    /// Who it is if the signature fits the body.
    Signed(SignedClaim),
}

/// A signature with a known access key, still to be checked.
#[derive(Debug)]
pub(super) struct SignedClaim {
    claim: Claim,
    secret_key: Secret,
    identity: Identity,
}

/// What a good token says.
#[derive(Debug)]
pub(super) struct HeldToken {
    pub(super) user: Arc<UserAccount>,
    pub(super) scope: Scope,
    pub(super) proof: Proof,
    pub(super) validity: Validity,
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginFault {
    /// No such user, or another password; the client is not told which.
    Refused,
    /// The source has taken its share of the line, or of the answers that wait.
    NoPlace,
    /// Too many logins at once, of all sources.
    Busy,
}

impl AuthGate {
    /// A gate for the accounts of a configuration. `cores` bounds how many
    /// passwords are checked at once.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(api: &ApiSettings, clock: ReadClock, cores: usize) -> Result<Self, getrandom::Error> {
        let state = GateState {
            clock,
            accounts: RwLock::new(Arc::new(accounts_of(api)?)),
            tokens: Mutex::default(),
            slowdown: Mutex::default(),
            hashing: HashingQueue::new(cores),
            waiting_answers: Shares::new(WAITING_ANSWERS, WAITING_ANSWERS_EACH),
            bodies: BodyReader::of_unproven(),
        };
        Ok(Self { state: Arc::new(state) })
    }

    /// Puts the accounts of a new configuration into effect. Tokens of users who
    /// are gone or have another password are no good from now on; roles change
    /// at once.
    ///
    /// # Errors
    /// The system has no random numbers; the old accounts stay.
    pub fn replace(&self, api: &ApiSettings) -> Result<(), getrandom::Error> {
        let accounts = Arc::new(accounts_of(api)?);
        lock(&self.state.tokens).retain_users(|user| accounts.user_by_id(user).is_some());
        *self.state.accounts.write().unwrap_or_else(PoisonError::into_inner) = accounts;
        Ok(())
    }

    /// The accounts in effect.
    pub(super) fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.state.accounts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Judges a request's head, and tells the audit. A token wins over a signature,
    /// because SDKs that are given a token sign all the same.
    pub(super) fn inspect(&self, parts: &Parts) -> Result<Inspected, AuthFault> {
        let inspected = self.judge_head(parts);
        match &inspected {
            Ok(Inspected::Known(identity)) => note_proven(&parts.extensions, identity),
            Ok(Inspected::Signed(signed)) => AuditNote::claim(&parts.extensions, &signed.identity.principal),
            Err(_) => {}
        }
        inspected
    }

    fn judge_head(&self, parts: &Parts) -> Result<Inspected, AuthFault> {
        let mut tokens = parts.headers.get_all(&TOKEN_HEADER).iter();
        if let Some(token) = tokens.next() {
            // Of two tokens none can be said to count.
            let is_only = tokens.next().is_none();
            let token = token.as_bytes().trim_ascii();
            return match (token.is_empty(), is_only) {
                (true, true) => Err(AuthFault::TokenMissing),
                (false, true) => self.identify_token(token).map(Inspected::Known),
                (_, false) => Err(AuthFault::TokenUnknown),
            };
        }
        if parts.headers.contains_key(AUTHORIZATION) {
            return self.inspect_signature(parts).map(Inspected::Signed);
        }
        match ConnectionInfo::of(&parts.extensions).peer {
            PeerAddress::UnixSocket => Ok(Inspected::Known(Identity {
                principal: Principal::LocalSocket,
                project: Some(self.accounts().project_id()),
                role: AccountRole::Admin,
            })),
            PeerAddress::Network(_) => Err(AuthFault::TokenMissing),
        }
    }

    /// Judges a signature over the body.
    pub(super) fn conclude(&self, signed: SignedClaim, body: BodyHash) -> Result<Identity, AuthFault> {
        signed.claim.verify(body, signed.secret_key.expose())?;
        Ok(signed.identity)
    }

    /// Both steps for a body that was read, and the wait after a failure.
    pub(super) async fn check(&self, parts: &Parts, body: &[u8]) -> Result<Identity, AuthFault> {
        let verdict = match self.inspect(parts) {
            Ok(Inspected::Known(identity)) => Ok(identity),
            Ok(Inspected::Signed(signed)) => {
                let concluded = self.conclude(signed, BodyHash::of(body));
                concluded.inspect(|identity| note_proven(&parts.extensions, identity))
            }
            Err(fault) => Err(fault),
        };
        match verdict {
            Ok(identity) => Ok(identity),
            Err(fault) => Err(self.penalty(fault, &parts.extensions).await),
        }
    }

    /// Lets an administrator pass who asks something of the daemon itself. Such a request
    /// has no body. A failure has waited already.
    pub(in crate::serve) async fn admit_administrator(&self, parts: &Parts) -> Result<Identity, AuthFault> {
        let identity = self.check(parts, &[]).await?;
        match identity.role {
            AccountRole::Admin => Ok(identity),
            AccountRole::Viewer => {
                AuditNote::fail(&parts.extensions, AuthFailure::Forbidden);
                Err(AuthFault::Forbidden)
            }
        }
    }

    /// Counts a guess and waits for as long as its source deserves; gives the fault to
    /// answer, which is another one when too many answers to the source wait already. To
    /// be awaited before a fault is answered, of which it tells the audit; cancelling it only
    /// ends the wait.
    pub(super) async fn penalty(&self, fault: AuthFault, extensions: &Extensions) -> AuthFault {
        if let Some(failure) = fault.failure() {
            AuditNote::fail(extensions, failure);
        }
        let is_guess = matches!(
            fault,
            AuthFault::TokenUnknown
                | AuthFault::Signature(SignatureFault::Mismatch | SignatureFault::UnknownAccessKey(_))
        );
        if !is_guess {
            return fault;
        }
        match self.wait_after_failure(ConnectionInfo::of(extensions).network).await {
            Ok(()) => fault,
            Err(_) => AuthFault::NoPlace,
        }
    }

    /// The user whose password this is. Takes the same time whether the user
    /// exists or not; a refusal has waited already.
    pub(super) async fn log_in(
        &self,
        name: &UserName,
        password: Zeroizing<String>,
        extensions: &Extensions,
    ) -> Result<Arc<UserAccount>, LoginFault> {
        let network = ConnectionInfo::of(extensions).network;
        let accounts = self.accounts();
        let user = accounts.user(name);
        if let Some(user) = user {
            AuditNote::claim(extensions, &user.principal());
        }
        let hash = user.map_or_else(|| accounts.decoy(), |user| Some(&user.password));
        let matches = match hash {
            Some(hash) => {
                let check = self.state.hashing.matches(Arc::clone(hash), password, network);
                check.await.map_err(|full| match full {
                    NoShare::OfSource => LoginFault::NoPlace,
                    NoShare::OfAll => LoginFault::Busy,
                })?
            }
            // There are no users, so there is nothing to find out by timing.
            None => false,
        };
        match user.filter(|_| matches) {
            Some(user) => {
                AuditNote::prove(extensions, &user.principal());
                Ok(Arc::clone(user))
            }
            None => {
                AuditNote::fail(extensions, AuthFailure::Password);
                self.wait_after_failure(network).await.map_err(|_| LoginFault::NoPlace)?;
                Err(LoginFault::Refused)
            }
        }
    }

    /// Makes a token for a user who has given a password.
    pub(super) fn issue(&self, user: &UserAccount, scope: Scope) -> Result<Issued, getrandom::Error> {
        self.issue_for(user, scope, Proof::Password, Validity::from)
    }

    /// Makes a token for the holder of another, which does not end later than that one.
    pub(super) fn issue_again(&self, held: &HeldToken, scope: Scope) -> Result<Issued, getrandom::Error> {
        self.issue_for(&held.user, scope, Proof::Token, |now| held.validity.again(now))
    }

    fn issue_for(
        &self,
        user: &UserAccount,
        scope: Scope,
        proof: Proof,
        validity: impl FnOnce(Now) -> Validity,
    ) -> Result<Issued, getrandom::Error> {
        let grant = Grant { user_id: Arc::clone(&user.id), stamp: user.stamp, scope, proof };
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(random.as_mut_slice())?;
        let now = (self.state.clock)();
        Ok(lock(&self.state.tokens).issue(grant, validity(now), &random, now.monotonic))
    }

    /// Takes a token back.
    pub(super) fn revoke(&self, token: &[u8]) {
        lock(&self.state.tokens).revoke(token);
    }

    /// A good token's user, and what it is good for.
    pub(super) fn look_up(&self, token: &[u8]) -> Result<HeldToken, AuthFault> {
        let now = (self.state.clock)().monotonic;
        let record = lock(&self.state.tokens).find(token, now).cloned().map_err(|fault| match fault {
            TokenFault::Unknown => AuthFault::TokenUnknown,
            TokenFault::Expired => AuthFault::TokenExpired,
        })?;
        let Grant { user_id, stamp, scope, proof } = record.grant;
        let accounts = self.accounts();
        let user = accounts
            .user_by_id(&user_id)
            .filter(|user| user.stamp == stamp)
            .ok_or(AuthFault::TokenUnknown)?;
        Ok(HeldToken { user: Arc::clone(user), scope, proof, validity: record.validity })
    }

    fn identify_token(&self, token: &[u8]) -> Result<Identity, AuthFault> {
        let held = self.look_up(token)?;
        Ok(Identity {
            principal: held.user.principal(),
            project: (held.scope == Scope::Project).then(|| self.accounts().project_id()),
            role: held.user.role,
        })
    }

    fn inspect_signature(&self, parts: &Parts) -> Result<SignedClaim, AuthFault> {
        let head = RequestHead {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
        };
        let claim = Claim::read(head, (self.state.clock)().wall)?;
        let accounts = self.accounts();
        let key = accounts
            .access_key(claim.access_key())
            .ok_or_else(|| SignatureFault::UnknownAccessKey(claim.access_key().to_owned()))?;
        let identity = Identity {
            principal: Principal::AccessKey(Arc::from(key.id.as_str())),
            project: Some(accounts.project_id()),
            role: key.role,
        };
        Ok(SignedClaim { claim, secret_key: key.secret_key.clone(), identity })
    }

    /// Reads the bodies of senders who have yet to prove who they are.
    pub(super) fn bodies(&self) -> &BodyReader {
        &self.state.bodies
    }

    async fn wait_after_failure(&self, network: PeerNetwork) -> Result<(), NoShare> {
        let delay = lock(&self.state.slowdown).note_failure(network, (self.state.clock)().monotonic);
        if delay > Duration::ZERO {
            let _place = self.state.waiting_answers.try_take(network)?;
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }
}

/// Lets a request pass whose sender may do what it asks, with their
/// [`Identity`] as an extension. The project is the path's second segment:
/// `/v2/{project_id}/...`. The body of a signed request has been read already;
/// the reader of bodies finds it among the extensions.
pub async fn require(State(gate): State<AuthGate>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let id = RequestId::of(&mut parts.extensions);
    let mut response = match admit(&gate, &mut parts, body).await {
        Ok((identity, body)) => {
            parts.extensions.insert(identity);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(fault) => {
            let fault = gate.penalty(fault, &parts.extensions).await;
            fault.into_answer(&id)
        }
    };
    id.mark(&mut response);
    response
}

async fn admit(gate: &AuthGate, parts: &mut Parts, body: Body) -> Result<(Identity, Body), AuthFault> {
    let (identity, body) = match gate.inspect(parts)? {
        Inspected::Known(identity) => (identity, body),
        Inspected::Signed(signed) => {
            let network = ConnectionInfo::of(&parts.extensions).network;
            let whole = gate.bodies().read(body, network).await?;
            let identity = gate.conclude(signed, BodyHash::of(&whole.bytes))?;
            note_proven(&parts.extensions, &identity);
            let body = Body::from(whole.bytes.clone());
            parts.extensions.insert(whole);
            (identity, body)
        }
    };
    let project = parts.uri.path().split('/').nth(2).unwrap_or_default();
    identity.admit(project, Action::of(&parts.method))?;
    Ok((identity, body))
}

/// Tells the audit who has proved who they are. The socket's user is known by the
/// connection.
fn note_proven(extensions: &Extensions, identity: &Identity) {
    match &identity.principal {
        Principal::LocalSocket => {}
        principal @ (Principal::User { .. } | Principal::AccessKey(_)) => {
            AuditNote::prove(extensions, principal);
        }
    }
}

fn accounts_of(api: &ApiSettings) -> Result<Accounts, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(Accounts::new(api, random))
}

#[cfg(test)]
mod tests;
