//! What the rules use besides the document, and the log of broken rules.

use std::collections::HashSet;
use std::net::IpAddr;

use super::super::model::{ClientIdentity, Host, PemFile, unusable_address};
use super::super::probe_header::SecretFile;
use super::super::probe_settings::ProbeSettings;
use super::super::violation::{FieldPath, Violation};

/// Which source a document comes from. A few rules differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A file of ours: unknown keys and duplicates are errors, durations may be
    /// strings, `probe` and `balance` are read.
    File,
    /// A body of the vendor's API: unknown keys are ignored, `null` is absent,
    /// the first of equal members or groups wins, durations are whole seconds.
    Api,
}

/// What the rules need and the document does not hold. `config` reads it from
/// disk; a body of the API may name no files, which is what the defaults say.
/// Every error is one line and never holds a file's contents.
pub trait ReadContext {
    /// Trust anchors of `ca_file`: the file exists and holds certificates.
    ///
    /// # Errors
    /// Why the file cannot serve. Only files of ours name files.
    fn trust_anchors(&self, _path: &str) -> Result<PemFile, String> {
        Err("no files can be named here".to_owned())
    }

    /// A client certificate and its key.
    ///
    /// # Errors
    /// Why the pair cannot serve, and which of the two files is to blame.
    fn client_identity(&self, _certificate: &str, _key: &str) -> Result<ClientIdentity, ClientIdentityError> {
        Err(ClientIdentityError::Certificate("no files can be named here".to_owned()))
    }

    /// A secret in a file of its own, which not everybody may read.
    ///
    /// # Errors
    /// Why it was not taken. Only files of ours name files.
    fn secret_file(&self, _path: &str) -> Result<SecretFile, FileProblem> {
        let problem = "no files can be named here".to_owned();
        Err(FileProblem { problem, remedy: "write the value itself" })
    }

    /// The daemon-wide `[tls] backend_client_certificate`, if there is one.
    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        None
    }

    /// `[defaults.probe]`.
    fn probe_defaults(&self) -> Option<&ProbeSettings> {
        None
    }

    /// The address that the `[ecs]` table gives for an id.
    fn ecs_address(&self, _ecs_id: &str) -> Option<Host> {
        None
    }

    /// Why no member may have an address; none: one may. Asked of what somebody writes
    /// now: what was taken once stays readable.
    fn refusal_of(&self, address: IpAddr) -> Option<&'static str> {
        unusable_address(address)
    }
}

/// Why a file was not taken, and what to do about it; one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// What is wrong, with the file's path.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Why a client certificate and key cannot serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientIdentityError {
    /// The certificate file.
    Certificate(String),
    /// The key file.
    Key(String),
    /// The key file, which others may read.
    Exposed(FileProblem),
    /// Both are good, but the key is not the certificate's.
    Mismatch,
}

/// Every violation of one document so far, and which source's rules apply to it.
#[derive(Debug)]
pub struct ViolationLog {
    /// Which source the document comes from.
    pub dialect: Dialect,
    /// In the order they were found.
    pub violations: Vec<Violation>,
    /// Fields that an unknown key was probably meant to be: one mistake, so their
    /// absence is not reported as well.
    pub(super) meant: HashSet<FieldPath>,
}

impl ViolationLog {
    /// A log without violations.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, violations: Vec::new(), meant: HashSet::new() }
    }

    /// Notes one broken rule.
    pub fn report(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    /// How many violations there are; compare two counts to see whether a part
    /// was clean.
    pub fn count(&self) -> usize {
        self.violations.len()
    }

    /// What was read, if no rule was broken on the way.
    pub(super) fn finish<T>(self, read: Option<T>) -> Result<T, Vec<Violation>> {
        read.filter(|_| self.violations.is_empty()).ok_or(self.violations)
    }
}
