//! What the rules of channels ask of the disk while files are read.
//!
//! `loader` has one [`LoadContext`] for a load and a [`Disk`] for each file. A PEM file is
//! read once per load however many channels name it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificates::{check_trust_anchors, client_identity_of};
use super::files::{LoadProgress, read_with_mode};
use super::secret::{SecretFileError, SecretPlaces};
use crate::channel::reader::{ClientIdentityError, FileProblem, ReadContext};
use crate::channel::{ClientIdentity, Host, PemFile, ProbeSettings, SecretFile};

/// No certificate or key comes near this; a wrong path may (a device, a log).
const LARGEST_PEM: u64 = 4 * 1024 * 1024;

/// The bytes of a PEM file, and the mode of that file.
type Pem = (Arc<[u8]>, u32);

/// What is the same for every file of a configuration.
#[derive(Debug, Default)]
pub(super) struct LoadContext {
    /// Each PEM file by its path; or why it cannot be read.
    pem_files: RefCell<HashMap<PathBuf, Result<Pem, String>>>,
    pub(super) ecs: HashMap<String, Host>,
    pub(super) daemon_identity: Option<ClientIdentity>,
    pub(super) probe_defaults: ProbeSettings,
    /// What is being read.
    pub(super) progress: LoadProgress,
}

/// The context of one file: paths in it are relative to its directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk<'s> {
    pub(super) base: &'s Path,
    pub(super) context: &'s LoadContext,
}

impl Disk<'_> {
    /// A PEM file and its mode.
    fn pem_file(&self, path: &str) -> Result<(PemFile, u32), String> {
        let path = self.base.join(path);
        let mut files = self.context.pem_files.borrow_mut();
        let read = files.entry(path.clone()).or_insert_with_key(|path| {
            self.context.progress.begin(path);
            read_with_mode(path, LARGEST_PEM).map(|(bytes, mode)| (Arc::from(bytes), mode))
        });
        let (pem, mode) = read.as_ref().map_err(Clone::clone)?;
        Ok((PemFile { path, pem: Arc::clone(pem) }, *mode))
    }

    fn secret_places(&self) -> SecretPlaces {
        SecretPlaces::of_environment(self.base, self.context.progress.clone())
    }
}

fn problem_of(error: &SecretFileError) -> FileProblem {
    FileProblem { problem: error.to_string(), remedy: error.remedy() }
}

impl ReadContext for Disk<'_> {
    fn trust_anchors(&self, path: &str) -> Result<PemFile, String> {
        let (file, _) = self.pem_file(path)?;
        check_trust_anchors(&file)?;
        Ok(file)
    }

    fn client_identity(&self, certificate: &str, key: &str) -> Result<ClientIdentity, ClientIdentityError> {
        let (certificate, _) = self.pem_file(certificate).map_err(ClientIdentityError::Certificate)?;
        let (key, mode) = self.pem_file(key).map_err(ClientIdentityError::Key)?;
        let path = key.path.clone();
        let identity = client_identity_of(certificate, key)?;
        // It is a private key, not something else by mistake: kept like every other secret.
        let judged = self.secret_places().judge_mode(&path, mode);
        judged.map_err(|error| ClientIdentityError::Exposed(problem_of(&error)))?;
        Ok(identity)
    }

    fn secret_file(&self, path: &str) -> Result<SecretFile, FileProblem> {
        let secret = self.secret_places().read(Path::new(path)).map_err(|error| problem_of(&error))?;
        let path = self.base.join(path);
        match std::str::from_utf8(secret.expose()) {
            Ok(text) => Ok(SecretFile { text: text.to_owned(), path }),
            Err(_) => Err(FileProblem {
                problem: format!("{} is no text", path.display()),
                remedy: "save the secret as plain ASCII",
            }),
        }
    }

    fn daemon_client_identity(&self) -> Option<ClientIdentity> {
        self.context.daemon_identity.clone()
    }

    fn probe_defaults(&self) -> Option<&ProbeSettings> {
        Some(&self.context.probe_defaults)
    }

    fn ecs_address(&self, ecs_id: &str) -> Option<Host> {
        self.context.ecs.get(ecs_id).cloned()
    }
}
