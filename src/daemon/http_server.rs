//! The HTTP server: its thread, its listeners, and their change on reload.
//!
//! The server has a thread and a runtime of its own, so that neither a long
//! answer holds up control nor a large change a scrape. Listeners are bound
//! before anything is served, and replaced when their address moves.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::observer::Observer;
use super::process;
use crate::config::ServerSettings;
use crate::config::api::{self, Transport};
use crate::serve::auth::{self, AuthGate, keystone};
use crate::serve::{self, DrainOutcome, Limits, Listener, Tls, TlsError};

/// Owner and group may connect to the Unix socket, which takes write permission.
const SOCKET_MODE: u32 = 0o660;

/// What is served.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Metrics, status, liveness.
    pub observer: Observer,
    /// The management API, if there is one.
    pub api: Option<(AuthGate, Backend)>,
}

impl Routes {
    fn router(&self, listen: SocketAddr) -> axum::Router {
        let router = serve::router(self.observer.clone());
        let Some((gate, backend)) = &self.api else { return router };
        let guard = axum::middleware::from_fn_with_state(gate.clone(), auth::require);
        router
            .merge(serve::api::description())
            .merge(serve::api::export(backend.clone()))
            .merge(keystone::routes(gate.clone(), listen))
            .merge(serve::api::router(backend.clone()).layer(guard))
    }
}

/// The server's thread. Ends when dropped; what it serves then is cut off.
#[derive(Debug)]
pub struct HttpThread {
    handle: Handle,
    stop: CancellationToken,
}

impl HttpThread {
    /// Starts it.
    ///
    /// # Errors
    /// The system gave no thread or no event queue.
    pub fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let build = process::runtime_with_a_spare_thread;
        let (handle, _) = process::thread_with_runtime("http".to_owned(), build, move |runtime| {
            process::lower_priority();
            runtime.block_on(stopped.cancelled());
            // A password check may still run; the end does not wait for it.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop })
    }
}

impl Drop for HttpThread {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A running HTTP server.
#[derive(Debug)]
pub struct HttpServer {
    thread: HttpThread,
    routes: Routes,
    /// Whether the address was given on the command line and no reload moves it.
    listen_override: ListenOverride,
    tcp: RunningListener<BoundListener>,
    tls: Option<Tls>,
    socket: Option<RunningListener<PathBuf>>,
    addresses: watch::Sender<Vec<SocketAddr>>,
}

/// Something listened on.
#[derive(Debug)]
struct RunningListener<P> {
    place: P,
    stop: CancellationToken,
    task: JoinHandle<DrainOutcome>,
}

/// Who decides the listening address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenOverride {
    /// The configuration, also on reload.
    None,
    /// The command line, for good.
    Given,
}

/// An address that is bound.
#[derive(Debug)]
pub struct BoundListener {
    /// What was asked for; port 0 stays 0 here.
    asked: SocketAddr,
    listener: std::net::TcpListener,
}

/// What a new configuration moves, bound and not yet served.
#[derive(Debug)]
pub struct PreparedListeners {
    tcp: Option<BoundListener>,
    tls: Option<Tls>,
    socket: Option<(PathBuf, Option<Listener>)>,
}

/// The server cannot be as the configuration wants it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}; free the address or change [server] listen")]
    Address {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The Unix socket cannot be listened on.
    #[error("cannot listen on {}: {error}; free the path or change [server] socket", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The API must not be offered there.
    #[error("[api]: {exposure}; {}", exposure.remedy())]
    Exposed {
        /// Why.
        exposure: api::Exposure,
    },
}

/// Binds an address.
///
/// # Errors
/// The address is taken, foreign or not permitted.
pub fn bind(address: SocketAddr) -> Result<BoundListener, BindError> {
    let listener = std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| BindError::Address { address, error })?;
    Ok(BoundListener { asked: address, listener })
}

/// Whether the API, if there is one, may be offered on an address.
///
/// # Errors
/// Why not.
pub fn judge_exposure(
    api: Option<&api::ApiSettings>,
    server: &ServerSettings,
    listen: SocketAddr,
) -> Result<(), BindError> {
    let transport = if server.tls.is_some() { Transport::Tls } else { Transport::Plain };
    match api {
        Some(api) => {
            api::judge_exposure(api, listen, transport).map_err(|exposure| BindError::Exposed { exposure })
        }
        None => Ok(()),
    }
}

impl BoundListener {
    /// The address that was really bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.asked)
    }

    /// The same listener once more, so that it can be served anew.
    fn again(&self) -> Result<Self, BindError> {
        let error = |error| BindError::Address { address: self.asked, error };
        Ok(Self { asked: self.asked, listener: self.listener.try_clone().map_err(error)? })
    }
}

impl HttpServer {
    /// Serves on a bound address, and on the socket that the configuration names.
    ///
    /// # Errors
    /// Certificates or the socket cannot be used.
    pub fn open(
        thread: HttpThread,
        bound: BoundListener,
        listen_override: ListenOverride,
        server: &ServerSettings,
        routes: Routes,
        addresses: watch::Sender<Vec<SocketAddr>>,
    ) -> Result<Self, BindError> {
        let tls = server.tls.as_ref().map(Tls::new).transpose()?;
        let socket = match &server.socket {
            Some(path) => Some((path.clone(), thread.bind_socket(path)?)),
            None => None,
        };
        let router = routes.router(bound.address());
        addresses.send_replace(vec![bound.address()]);
        let socket = socket.map(|(path, listener)| thread.serve(path, listener, router.clone()));
        let tcp = thread.serve_tcp(bound, tls.clone(), router)?;
        Ok(Self { thread, routes, listen_override, tcp, tls, socket, addresses })
    }

    /// Binds whatever the configuration prepared. Nothing is served or closed yet.
    ///
    /// # Errors
    /// An address, a path or a certificate cannot be used.
    pub fn prepare(
        &self,
        server: &ServerSettings,
        api: Option<&api::ApiSettings>,
    ) -> Result<PreparedListeners, BindError> {
        let is_moved = self.listen_override == ListenOverride::None && server.listen != self.tcp.place.asked;
        judge_exposure(api, server, if is_moved { server.listen } else { self.tcp.place.asked })?;
        let tls = server.tls.as_ref().map(Tls::new).transpose()?;
        let tcp = if is_moved { Some(bind(server.listen)?) } else { None };
        let here = self.socket.as_ref().map(|socket| &socket.place);
        let socket = match &server.socket {
            there if there.as_ref() == here => None,
            Some(path) => Some((path.clone(), Some(self.thread.bind_socket(path)?))),
            None => Some((PathBuf::new(), None)),
        };
        Ok(PreparedListeners { tcp, tls, socket })
    }

    /// Serves what was prepared and closes what it replaces; open requests there
    /// end within the drain bound, in the background.
    pub fn replace(&mut self, prepared: PreparedListeners, server: &ServerSettings) {
        let PreparedListeners { tcp, tls, socket } = prepared;
        let is_toggled = tls.is_some() != self.tls.is_some();
        if !is_toggled
            && let (Some(held), Some(settings)) = (&self.tls, &server.tls)
            && let Err(error) = held.replace(settings)
        {
            // They were good a moment ago.
            tracing::error!(%error, "the old certificates stay");
        }
        if is_toggled {
            self.tls = tls;
        }
        if tcp.is_some() || is_toggled {
            let bound = match tcp {
                Some(bound) => Ok(bound),
                None => self.tcp.place.again(),
            };
            let served = bound.and_then(|bound| {
                let address = bound.address();
                let router = self.routes.router(address);
                tracing::info!(%address, tls = self.tls.is_some(), "listening anew");
                self.addresses.send_replace(vec![address]);
                self.thread.serve_tcp(bound, self.tls.clone(), router)
            });
            match served {
                Ok(served) => std::mem::replace(&mut self.tcp, served).stop.cancel(),
                Err(error) => tracing::error!(%error, "the listener stays as it was"),
            }
        }
        if let Some((path, listener)) = socket {
            let router = self.routes.router(self.tcp.place.address());
            let served = listener.map(|listener| self.thread.serve(path, listener, router));
            if let Some(old) = std::mem::replace(&mut self.socket, served) {
                old.stop.cancel();
                remove_socket(&old.place);
            }
        }
    }

    /// The accounts, if there is an API.
    #[must_use]
    pub fn gate(&self) -> Option<&AuthGate> {
        self.routes.api.as_ref().map(|(gate, _)| gate)
    }

    /// Stops listening and waits for open requests, within the drain bound.
    pub async fn close(self) {
        let RunningListener { place, stop, task } = self.tcp;
        stop.cancel();
        // From here on newcomers are refused, not left waiting.
        drop(place);
        if let Some(socket) = &self.socket {
            socket.stop.cancel();
            remove_socket(&socket.place);
        }
        // A panic in the server was reported by the panic hook.
        let _ = task.await;
        if let Some(socket) = self.socket {
            let _ = socket.task.await;
        }
    }
}

impl HttpThread {
    fn bind_socket(&self, path: &Path) -> Result<Listener, BindError> {
        // The listener belongs to this thread's event queue.
        let _entered = self.handle.enter();
        bind_unix(path)
            .map(Listener::Unix)
            .map_err(|error| BindError::Socket { path: path.to_owned(), error })
    }

    fn serve_tcp(
        &self,
        bound: BoundListener,
        tls: Option<Tls>,
        router: axum::Router,
    ) -> Result<RunningListener<BoundListener>, BindError> {
        let used = bound.again()?;
        let listener = {
            let _entered = self.handle.enter();
            TcpListener::from_std(used.listener)
                .map_err(|error| BindError::Address { address: used.asked, error })?
        };
        Ok(self.serve(bound, Listener::Tcp(listener, tls), router))
    }

    fn serve<P>(&self, place: P, listener: Listener, router: axum::Router) -> RunningListener<P> {
        let stop = CancellationToken::new();
        let task = self.handle.spawn(serve::run(listener, router, stop.clone(), Limits::default()));
        RunningListener { place, stop, task }
    }
}

/// A name that nobody serves is only confusing. That it is gone already is fine.
fn remove_socket(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Binds a Unix socket that owner and group may open (mode 0660). A socket file
/// that a dead process left is replaced; one that somebody serves is not, nor
/// is any other kind of file. Must run inside a runtime.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves this socket"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Under another name until its permissions are right; the rename then
    // replaces what is left of an earlier run in one step.
    let draft = draft_of(path);
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    std::fs::rename(&draft, path)?;
    Ok(listener)
}

/// One byte longer than the path: the configuration leaves room for it.
fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push("~");
    PathBuf::from(draft)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_bound_with_its_permissions_and_replaces_a_dead_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("vitald.sock");
        let first = bind_unix(&path).expect("bound");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(bind_unix(&path).expect_err("served").kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).await.expect("still served");
        drop(first);
        let second = bind_unix(&path).expect("replaced");
        UnixStream::connect(&path).await.expect("served again");
        drop(second);
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1);

        let file = directory.path().join("precious");
        std::fs::write(&file, "text").expect("written");
        assert_eq!(bind_unix(&file).expect_err("a file").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&file).expect("still there"), b"text");
        assert!(bind_unix(&directory.path().join("no/such/dir")).is_err());
    }
}
