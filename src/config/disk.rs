//! What the rules of channels ask of the disk while files are read.
//!
//! `loader` has one [`LoadContext`] for a load and a [`Disk`] for each file. A PEM file is
//! read once per load however many channels name it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificates::{check_trust_anchors, client_identity_of};
use super::files::{LoadProgress, read_regular_file};
use super::secret::SecretPlaces;
use crate::channel::reader::{ClientIdentityError, FileProblem, ReadContext};
use crate::channel::{ClientIdentity, Host, PemFile, ProbeSettings, SecretFile};

/// No certificate or key comes near this; a wrong path may (a device, a log).
const LARGEST_PEM: u64 = 4 * 1024 * 1024;

type Pem = Arc<[u8]>;

/// What is the same for every file of a configuration.
#[derive(Debug, Default)]
pub(super) struct LoadContext {
    /// Each PEM file by its path: its bytes, or why there are none.
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
    fn pem_file(&self, path: &str) -> Result<PemFile, String> {
        let path = self.base.join(path);
        let mut files = self.context.pem_files.borrow_mut();
        let read = files.entry(path.clone()).or_insert_with_key(|path| {
            self.context.progress.begin(path);
            read_regular_file(path, LARGEST_PEM).map(Arc::from)
        });
        let pem = Arc::clone(read.as_ref().map_err(Clone::clone)?);
        Ok(PemFile { path, pem })
    }
}

impl ReadContext for Disk<'_> {
    fn trust_anchors(&self, path: &str) -> Result<PemFile, String> {
        let file = self.pem_file(path)?;
        check_trust_anchors(&file)?;
        Ok(file)
    }

    fn client_identity(&self, certificate: &str, key: &str) -> Result<ClientIdentity, ClientIdentityError> {
        let certificate = self.pem_file(certificate).map_err(ClientIdentityError::Certificate);
        let key = self.pem_file(key).map_err(ClientIdentityError::Key);
        client_identity_of(certificate?, key?)
    }

    fn secret_file(&self, path: &str) -> Result<SecretFile, FileProblem> {
        let places = SecretPlaces::of_environment(self.base, self.context.progress.clone());
        let secret = places.read(Path::new(path));
        let secret =
            secret.map_err(|error| FileProblem { problem: error.to_string(), remedy: error.remedy() })?;
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
