//! Where connections come from: TCP, TLS over TCP, or a Unix socket.
//!
//! `daemon` binds and passes a [`Listener`] to [`super::run`]; several listeners
//! are several runs. Every request carries its [`ConnectionInfo`] as an extension.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use axum::http::Extensions;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::tls::Tls;
use crate::config::api::Transport;

/// The owner and the group may connect, which takes write permission.
const SOCKET_MODE: u32 = 0o660;

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// HTTP over TCP.
    Tcp(TcpListener),
    /// HTTPS over TCP.
    Tls(TcpListener, Tls),
    /// HTTP over a Unix socket; see [`bind_unix`].
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// A connection that was accepted, its handshake still to come.
#[derive(Debug)]
pub(super) enum Incoming {
    Tcp(TcpStream),
    Tls(TcpStream, Tls),
    Unix(UnixStream),
}

impl Listener {
    /// Waits for a connection. Cancel-safe, as the listeners' own `accept` is.
    pub(super) async fn accept(&self) -> io::Result<(Incoming, ConnectionInfo)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let local = stream.local_addr().ok();
                Ok((Incoming::Tcp(stream), ConnectionInfo::network(peer, local, Transport::Plain)))
            }
            Self::Tls(listener, tls) => {
                let (stream, peer) = listener.accept().await?;
                let local = stream.local_addr().ok();
                Ok((Incoming::Tls(stream, tls.clone()), ConnectionInfo::network(peer, local, Transport::Tls)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let (peer, machine) = (PeerAddress::UnixSocket, Machine::This);
                let origin = ConnectionInfo { peer, machine, transport: Transport::Plain };
                Ok((Incoming::Unix(stream), origin))
            }
        }
    }
}

/// Where a request came from: an extension that the server puts on every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The other end of the connection.
    pub peer: PeerAddress,
    /// Whether it is on this machine.
    pub machine: Machine,
    /// What the connection speaks.
    pub transport: Transport,
}

/// Where the other end of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// Here: a loopback address, or the very address that was connected to.
    This,
    /// On another machine, as far as can be told.
    Other,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// A host.
    Network(IpAddr),
    /// A process of this machine that the socket's permissions let in.
    UnixSocket,
}

impl ConnectionInfo {
    pub(super) fn network(peer: SocketAddr, local: Option<SocketAddr>, transport: Transport) -> Self {
        let address = peer.ip().to_canonical();
        let is_here =
            address.is_loopback() || local.is_some_and(|local| local.ip().to_canonical() == address);
        let machine = if is_here { Machine::This } else { Machine::Other };
        Self { peer: PeerAddress::Network(peer.ip()), machine, transport }
    }

    /// What the server noted; if it noted nothing, a stranger over plain HTTP.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        let stranger = Self::network((Ipv4Addr::UNSPECIFIED, 0).into(), None, Transport::Plain);
        extensions.get().copied().unwrap_or(stranger)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(formatter),
            Self::UnixSocket => formatter.write_str("the local socket"),
        }
    }
}

/// Binds a Unix socket that owner and group may open (mode 0660). A socket file
/// that a dead process left is replaced; one that somebody serves is not, nor
/// is any other kind of file. Must run inside a runtime.
///
/// # Errors
/// The path is taken, or the directory cannot be written.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
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
