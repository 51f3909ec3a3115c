//! The HTTP server: its thread, its listeners, and their change on reload.
//!
//! The server has a thread and a runtime of its own, so that neither a long
//! answer holds up control nor a large change a scrape. Listeners are bound
//! before anything is served, and replaced when their address moves. The file of the
//! Unix socket may be on a file system that does not answer, so it is made and removed on
//! threads that nobody waits for without a bound.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::observer::Observer;
use super::process;
use super::registrar::Backend;
use crate::config::api::{self, Transport};
use crate::config::{AccessSettings, ServerSettings};
use crate::serve::auth::{self, AuthGate, keystone};
use crate::serve::{
    self, Access, Audit, AuditedCalls, DrainOutcome, Limits, Listener, MayOperate, Tls, TlsError,
};

/// Connections that may wait to be accepted. Accepting never waits for clients, so they
/// are many only while this thread gets no processor; the kernel has its own limit too.
const BACKLOG: i32 = 4096;

/// Owner and group may connect to the Unix socket, which takes write permission.
const SOCKET_MODE: u32 = 0o660;

/// How long the end waits for the socket's file to be removed.
const REMOVED_WITHIN: Duration = Duration::from_secs(1);

/// What is served.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Metrics, status, liveness.
    pub observer: Observer,
    /// The management API, if there is one.
    pub api: Option<(AuthGate, Backend)>,
}

impl Routes {
    fn router(&self, listen: SocketAddr, access: &Access) -> axum::Router {
        let Some((gate, backend)) = &self.api else { return serve::router(self.observer.clone(), access) };
        let guard = axum::middleware::from_fn_with_state(gate.clone(), auth::require);
        serve::pages(self.observer.clone(), MayOperate::Administrators(gate.clone()))
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
    listen_override: ListenOverride,
    tcp: RunningListener<BoundListener>,
    /// The certificates of `tcp`.
    tls: Option<Tls>,
    socket: Option<RunningListener<PathBuf>>,
    access: Access,
    audit: Audit,
    addresses: watch::Sender<Vec<SocketAddr>>,
}

/// A listener that is served, and what it was made of.
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
    address: SocketAddr,
    listener: std::net::TcpListener,
}

/// A Unix socket that is bound. Its path is the configuration's.
#[derive(Debug)]
pub struct BoundSocket {
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
}

/// What a new configuration changes, bound and not yet served.
#[derive(Debug)]
pub struct PreparedListeners {
    tcp: Option<(BoundListener, Listener)>,
    tls: Option<Tls>,
    socket: SocketChange,
    access: AccessSettings,
}

#[derive(Debug)]
enum SocketChange {
    None,
    Close,
    Open(PathBuf, Listener),
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
pub fn bind(asked: SocketAddr) -> Result<BoundListener, BindError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(asked)?;
        // `TcpListener::bind` asks for a queue of 128.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(BoundListener { asked, address: listener.local_addr()?, listener })
    };
    bind().map_err(|error| BindError::Address { address: asked, error })
}

/// Binds the Unix socket that a configuration names, unless it is the one in effect. Blocks,
/// for ever on a file system that does not answer.
///
/// # Errors
/// The path cannot be listened on.
pub fn bind_socket(
    server: &ServerSettings,
    in_effect: Option<&Path>,
) -> Result<Option<BoundSocket>, BindError> {
    let Some(path) = server.socket.as_deref().filter(|path| in_effect != Some(path)) else { return Ok(None) };
    match bind_unix(path) {
        Ok(listener) => Ok(Some(BoundSocket { path: path.to_owned(), listener })),
        Err(error) => Err(BindError::Socket { path: path.to_owned(), error }),
    }
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
        self.address
    }

    fn try_clone(&self) -> Result<Self, BindError> {
        let Self { asked, address, listener } = self;
        let error = |error| BindError::Address { address: *asked, error };
        Ok(Self { asked: *asked, address: *address, listener: listener.try_clone().map_err(error)? })
    }
}

impl HttpServer {
    /// Serves on a bound address and a bound socket.
    ///
    /// # Errors
    /// Certificates or the socket cannot be used.
    pub fn open(
        thread: HttpThread,
        (bound, socket): (BoundListener, Option<BoundSocket>),
        listen_override: ListenOverride,
        server: &ServerSettings,
        routes: Routes,
        addresses: watch::Sender<Vec<SocketAddr>>,
    ) -> Result<Self, BindError> {
        let tls = server.tls.as_ref().map(Tls::new).transpose()?;
        let socket = socket.map(|socket| thread.listen_on_socket(socket)).transpose()?;
        let listener = thread.listen(&bound, tls.clone())?;
        let access = Access::new(&server.access);
        let router = routes.router(bound.address, &access);
        addresses.send_replace(vec![bound.address]);
        let calls = if routes.api.is_some() { AuditedCalls::WithApi } else { AuditedCalls::OwnPages };
        let audit = Audit::new(calls);
        let serve_socket = |(path, listener)| thread.serve(path, listener, router.clone(), (&access, &audit));
        let socket = socket.map(serve_socket);
        let tcp = thread.serve(bound, listener, router, (&access, &audit));
        Ok(Self { thread, routes, listen_override, tcp, tls, socket, access, audit, addresses })
    }

    /// Binds the address if the configuration moved it; `bound_socket` is what
    /// [`bind_socket`] gave. Nothing is served or closed yet.
    ///
    /// # Errors
    /// An address, a path or a certificate cannot be used.
    pub fn prepare(
        &self,
        server: &ServerSettings,
        api: Option<&api::ApiSettings>,
        bound_socket: Option<BoundSocket>,
    ) -> Result<PreparedListeners, BindError> {
        let here = &self.tcp.place;
        let is_moved = self.listen_override == ListenOverride::None && server.listen != here.asked;
        judge_exposure(api, server, if is_moved { server.listen } else { here.asked })?;
        let tls = server.tls.as_ref().map(Tls::new).transpose()?;
        let is_toggled = tls.is_some() != self.tls.is_some();
        let bound = match (is_moved, is_toggled) {
            (true, _) => Some(bind(server.listen)?),
            (false, true) => Some(here.try_clone()?),
            (false, false) => None,
        };
        let tcp = match bound {
            Some(bound) => {
                let certificates = if is_toggled { &tls } else { &self.tls };
                let listener = self.thread.listen(&bound, certificates.clone())?;
                Some((bound, listener))
            }
            None => None,
        };
        let socket = match bound_socket {
            Some(socket) => {
                let (path, listener) = self.thread.listen_on_socket(socket)?;
                SocketChange::Open(path, listener)
            }
            None => match &server.socket {
                path if path.as_deref() == self.socket() => SocketChange::None,
                None => SocketChange::Close,
                Some(path) => {
                    let error = io::Error::other("it was not bound when the configuration was read");
                    return Err(BindError::Socket { path: path.clone(), error });
                }
            },
        };
        Ok(PreparedListeners { tcp, tls, socket, access: server.access.clone() })
    }

    /// Serves what was prepared and closes what it replaces; open requests there
    /// end within the drain bound, in the background.
    pub fn replace(&mut self, prepared: PreparedListeners) {
        let PreparedListeners { tcp, tls, socket, access } = prepared;
        self.access.replace(&access);
        match (&self.tls, &tls) {
            (Some(held), Some(new)) => held.replace(new),
            _ => self.tls = tls,
        }
        if let Some((bound, listener)) = tcp {
            let address = bound.address;
            tracing::info!(%address, tls = self.tls.is_some(), "listening anew");
            self.addresses.send_replace(vec![address]);
            let running = self.thread.serve(
                bound,
                listener,
                self.routes.router(address, &self.access),
                (&self.access, &self.audit),
            );
            std::mem::replace(&mut self.tcp, running).stop.cancel();
        }
        let running = match socket {
            SocketChange::None => return,
            SocketChange::Close => None,
            SocketChange::Open(path, listener) => {
                let router = self.routes.router(self.tcp.place.address, &self.access);
                Some(self.thread.serve(path, listener, router, (&self.access, &self.audit)))
            }
        };
        if let Some(old) = std::mem::replace(&mut self.socket, running) {
            old.stop.cancel();
            // Nobody waits for it.
            drop(remove_socket(old.place));
        }
    }

    /// The path of the Unix socket that is served.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(|socket| &*socket.place)
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
        let socket = self.socket.map(|RunningListener { place, stop, task }| {
            stop.cancel();
            (remove_socket(place), task)
        });
        // A panic in the server was reported by the panic hook.
        let _ = task.await;
        if let Some((removing, task)) = socket {
            let _ = task.await;
            // A file that is left there keeps no later daemon from its path.
            let _ = timeout(REMOVED_WITHIN, removing).await;
        }
        self.audit.tell_left_out();
    }
}

impl HttpThread {
    fn listen_on_socket(&self, bound: BoundSocket) -> Result<(PathBuf, Listener), BindError> {
        // The listener belongs to this thread's event queue.
        let _entered = self.handle.enter();
        let BoundSocket { path, listener } = bound;
        match UnixListener::from_std(listener) {
            Ok(listener) => Ok((path, Listener::Unix(listener))),
            Err(error) => Err(BindError::Socket { path, error }),
        }
    }

    /// A listener on what is bound; the bound one stays, to be served anew some day.
    fn listen(&self, bound: &BoundListener, tls: Option<Tls>) -> Result<Listener, BindError> {
        let _entered = self.handle.enter();
        let listener = TcpListener::from_std(bound.try_clone()?.listener);
        let error = |error| BindError::Address { address: bound.asked, error };
        Ok(Listener::Tcp(listener.map_err(error)?, tls))
    }

    fn serve<P>(
        &self,
        place: P,
        listener: Listener,
        router: axum::Router,
        (access, audit): (&Access, &Audit),
    ) -> RunningListener<P> {
        let stop = CancellationToken::new();
        let (limits, access, audit) = (Limits::default(), access.clone(), audit.clone());
        let task = self.handle.spawn(serve::run(listener, router, stop.clone(), limits, access, audit));
        RunningListener { place, stop, task }
    }
}

/// Removes the file of a socket that is not served any more, on a thread of its own. It may
/// be gone already.
fn remove_socket(path: PathBuf) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || drop(std::fs::remove_file(path)))
}

/// Binds a Unix socket that owner and group may open (mode 0660). A socket file
/// that a dead process left is replaced; one that a process serves is not, nor
/// is any other kind of file.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
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
    let temporary = temporary_path(path);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&temporary)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    std::fs::rename(&temporary, path)?;
    Ok(listener)
}

/// One byte longer than the path: the configuration leaves room for it.
fn temporary_path(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push("~");
    PathBuf::from(temporary)
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
