//! Secrets: how they are held, and how they are read from files.
//!
//! A [`Secret`] is wiped when it is dropped and has no text form, so it cannot
//! reach a log, an error or a debug print. Secrets come from files or systemd
//! credentials, never from arguments: those are in every process list. Whether a file may
//! hold a secret is decided here for private keys too, which `disk` reads.

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::files::{LoadProgress, open_without_waiting, plain_error};

/// Largest secret file that is read.
const LARGEST_SECRET: usize = 4096;
/// Permission bits that let everybody read a file.
const EVERYBODY_READS: u32 = 0o004;

/// Bytes that nobody may see.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for computing with them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// Compared in constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl Eq for Secret {}

/// Why a secret file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {}: {}", .0.display(), plain_error(.1))]
    Unreadable(PathBuf, #[source] io::Error),
    /// Everybody on the machine could read it.
    #[error("everybody may read {}", .0.display())]
    ReadableByEverybody(PathBuf),
    /// A directory, a device or the like.
    #[error("{} is no regular file", .0.display())]
    NoFile(PathBuf),
    /// Nothing is in it.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// No secret is that long.
    #[error("{} is larger than {LARGEST_SECRET} bytes", .0.display())]
    TooLarge(PathBuf),
}

impl SecretFileError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreadable(..) => "name a file that the daemon may read, or a systemd credential",
            Self::ReadableByEverybody(_) => "run `chmod o-r` on it",
            Self::NoFile(_) => "name a file",
            Self::Empty(_) => "write the secret into it",
            Self::TooLarge(_) => "name the file that holds the secret, and nothing else",
        }
    }
}

/// Where secret files are looked for.
#[derive(Debug, Clone, Default)]
pub struct SecretPlaces {
    /// What relative paths are relative to: the configuration's directory.
    pub base: PathBuf,
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts what `LoadCredential=`
    /// names. A bare file name is looked for here first.
    pub credentials: Option<PathBuf>,
    /// What is being read.
    pub progress: LoadProgress,
}

impl SecretPlaces {
    /// These places, with the credentials directory of the environment.
    #[must_use]
    pub fn of_environment(base: &Path, progress: LoadProgress) -> Self {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty());
        Self { base: base.to_owned(), credentials: credentials.map(PathBuf::from), progress }
    }

    /// Reads a secret. One newline at its end does not belong to it.
    ///
    /// # Errors
    /// The file cannot be read, is empty or too large, or everybody may read it.
    /// systemd's credentials have their own protection.
    pub fn read(&self, file: &Path) -> Result<Secret, SecretFileError> {
        if let Some(credentials) = &self.credentials
            && is_bare_name(file)
        {
            let path = credentials.join(file);
            self.progress.begin(&path);
            if path.exists() {
                return self.read_file(path);
            }
        }
        let path = self.base.join(file);
        self.progress.begin(&path);
        self.read_file(path)
    }

    /// Whether a file with this mode may hold a secret: not everybody may read it, or it is
    /// one of systemd's credentials, whose directory protects it.
    ///
    /// # Errors
    /// [`SecretFileError::ReadableByEverybody`].
    pub fn judge_mode(&self, path: &Path, mode: u32) -> Result<(), SecretFileError> {
        let is_credential =
            self.credentials.as_ref().is_some_and(|credentials| path.starts_with(credentials));
        match is_credential || mode & EVERYBODY_READS == 0 {
            true => Ok(()),
            false => Err(SecretFileError::ReadableByEverybody(path.to_owned())),
        }
    }

    fn read_file(&self, path: PathBuf) -> Result<Secret, SecretFileError> {
        let unreadable = |source| SecretFileError::Unreadable(path.clone(), source);
        if !std::fs::metadata(&path).map_err(unreadable)?.is_file() {
            return Err(SecretFileError::NoFile(path));
        }
        // Something else may have the path by now.
        let file = open_without_waiting(&path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(SecretFileError::NoFile(path));
        }
        self.judge_mode(&path, metadata.mode())?;
        // Room for all of it, so that no copy stays behind where the buffer grew.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_SECRET + 2));
        file.take(LARGEST_SECRET as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > LARGEST_SECRET {
            return Err(SecretFileError::TooLarge(path));
        }
        let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.is_empty() {
            return Err(SecretFileError::Empty(path));
        }
        Ok(Secret::new(secret.to_vec()))
    }
}

fn is_bare_name(path: &Path) -> bool {
    let mut components = path.components();
    matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn place(directory: &Path, name: &str, text: &[u8], mode: u32) {
        let path = directory.join(name);
        fs::write(&path, text).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    #[test]
    fn files_and_credentials() {
        let (base, credentials) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        place(base.path(), "ak.secret", b"from a file\n", 0o600);
        place(base.path(), "crlf", b"line\r\n", 0o640);
        place(base.path(), "inner", b" a\nb \n\n", 0o600);
        place(credentials.path(), "token", b"from systemd", 0o444);
        fs::create_dir(base.path().join("sub")).expect("mkdir");
        place(&base.path().join("sub"), "token", b"in sub", 0o600);
        let whole_path = credentials.path().join("token").display().to_string();
        let places = SecretPlaces {
            base: base.path().to_owned(),
            credentials: Some(credentials.path().to_owned()),
            ..SecretPlaces::default()
        };
        let read = |file: &str| places.read(Path::new(file)).expect(file).expose().to_vec();
        assert_eq!(read("ak.secret"), b"from a file");
        assert_eq!(read("crlf"), b"line");
        assert_eq!(read("inner"), b" a\nb \n");
        assert_eq!(read("token"), b"from systemd");
        assert_eq!(read("sub/token"), b"in sub");
        assert_eq!(read(&whole_path), b"from systemd");
    }

    #[test]
    fn files_that_are_refused() {
        let base = tempfile::tempdir().expect("dir");
        place(base.path(), "open", b"hidden-value", 0o644);
        place(base.path(), "empty", b"\n", 0o600);
        place(base.path(), "large", &[b'x'; 4097], 0o600);
        let places = SecretPlaces { base: base.path().to_owned(), ..SecretPlaces::default() };
        for (file, words) in [
            ("open", "everybody may read"),
            ("empty", "is empty"),
            ("large", "larger"),
            ("absent", "cannot read"),
            (".", "no regular"),
        ] {
            let error = places.read(Path::new(file)).expect_err(file).to_string();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("hidden-value"), "{error}");
        }
    }

    #[test]
    fn a_secret_has_no_text_form() {
        let secret = Secret::new(b"hidden-value".to_vec());
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(..) Secret(..)");
        assert_eq!(secret, secret.clone());
        assert_ne!(secret, Secret::new(b"hidden-valuf".to_vec()));
        assert_ne!(secret, Secret::new(b"hidden".to_vec()));
    }
}
