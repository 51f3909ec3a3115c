//! Members that misbehave by a script of steps, all served by one thread.
//!
//! Each connection plays the whole script from its beginning. Connections are
//! counted when the application gets them, before the first step.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::ServerConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// One step of a member's behaviour on a connection.
#[derive(Clone)]
pub(crate) enum Step {
    /// Reads until a blank line has come.
    ReadRequest,
    /// Reads whatever comes first.
    ReadSome,
    /// Reads a request; goes on if it holds this text, answers 400 and ends if not.
    Demand(&'static str),
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends them one at a time, with this pause after each.
    Drip(Vec<u8>, Duration),
    /// Sends them again and again, each millisecond, until the prober leaves.
    Flood(Vec<u8>),
    /// Sends back what it gets.
    Echo,
    /// Waits.
    Pause(Duration),
    /// Says nothing more and waits until the prober leaves.
    Hold,
    /// Ends its own direction and waits until the prober leaves.
    HalfClose,
    /// Closes.
    Close,
    /// Resets the connection.
    Reset,
    /// Shakes hands as the server.
    Tls(Arc<ServerConfig>),
    /// Answers the first flight of a handshake with what the server would say,
    /// changed by the function.
    FirstFlight(Arc<ServerConfig>, fn(Vec<u8>) -> Vec<u8>),
    /// Sends bytes past the TLS session.
    SendRaw(Vec<u8>),
}

/// A running member.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Peer {
    /// Serves a script. Must be called inside the runtime of the members.
    pub(crate) fn serve(ip: Ipv4Addr, port: u16, script: Vec<Step>) -> Self {
        let script: Arc<[Step]> = script.into();
        Self::serve_each(ip, port, move |_| Arc::clone(&script))
    }

    /// Serves each connection, counted from 1, by a script of its own.
    pub(crate) fn serve_each(
        ip: Ipv4Addr,
        port: u16,
        script: impl Fn(usize) -> Arc<[Step]> + Send + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind((ip, port)).expect("the test's own address is free");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let listener = TcpListener::from_std(listener).expect("a runtime with I/O");
        let address = listener.local_addr().expect("a bound address");
        let seen = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let peer = Self { address, seen, open, most };
        let own = peer.clone();
        tokio::spawn(async move {
            loop {
                // A connection that was reset before it was accepted was one too.
                let accepted = listener.accept().await;
                let number = own.seen.fetch_add(1, Ordering::SeqCst) + 1;
                if let Ok((stream, _)) = accepted {
                    let (script, own) = (script(number), own.clone());
                    let now = own.open.fetch_add(1, Ordering::SeqCst) + 1;
                    own.most.fetch_max(now, Ordering::SeqCst);
                    tokio::spawn(async move {
                        // The prober leaves when it pleases: that is its right.
                        let _ = play(stream, &script).await;
                        own.open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        peer
    }

    /// Connections so far.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The most that were ever open at once.
    pub(crate) fn most_open(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// A connection, in the clear or inside TLS.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_mut().0,
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => send(stream, bytes).await,
            Self::Tls(stream) => send(stream.as_mut(), bytes).await,
        }
    }

    /// Ends the own direction: with close_notify inside TLS.
    async fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }

    async fn hold(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while self.read(&mut buffer).await? > 0 {}
        Ok(())
    }

    /// Reads up to the end of a request; the request.
    async fn request(&mut self) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        let mut buffer = [0; 2048];
        while !request.ends_with(b"\r\n\r\n") {
            let read = self.read(&mut buffer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            request.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
        Ok(request)
    }
}

async fn send(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn play(stream: TcpStream, script: &[Step]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::Plain(stream);
    for step in script {
        match step {
            Step::ReadRequest => drop(wire.request().await?),
            Step::ReadSome => drop(wire.read(&mut [0; 4096]).await?),
            Step::Demand(text) => {
                let request = wire.request().await?;
                // Names of headers have no case.
                let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
                if !request.contains(&text.to_ascii_lowercase()) {
                    wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
                    break;
                }
            }
            Step::Send(bytes) => wire.send(bytes).await?,
            Step::Drip(bytes, pause) => {
                for byte in bytes {
                    wire.send(&[*byte]).await?;
                    tokio::time::sleep(*pause).await;
                }
            }
            Step::Flood(bytes) => loop {
                wire.send(bytes).await?;
                // Some megabytes a second: the other members want to be heard.
                tokio::time::sleep(Duration::from_millis(1)).await;
            },
            Step::Echo => {
                let mut buffer = [0; 4096];
                loop {
                    let read = wire.read(&mut buffer).await?;
                    if read == 0 {
                        return Ok(());
                    }
                    wire.send(buffer.get(..read).unwrap_or_default()).await?;
                }
            }
            Step::Pause(pause) => tokio::time::sleep(*pause).await,
            Step::Hold => return wire.hold().await,
            Step::HalfClose => break,
            Step::Close => return Ok(()),
            Step::Reset => {
                let now = Some(Duration::ZERO);
                return Ok(rustix::net::sockopt::set_socket_linger(wire.tcp(), now)?);
            }
            Step::Tls(config) => {
                let Wire::Plain(stream) = wire else { return Err(io::ErrorKind::Unsupported.into()) };
                let session = TlsAcceptor::from(Arc::clone(config)).accept(stream).await?;
                wire = Wire::Tls(Box::new(session));
            }
            Step::FirstFlight(config, change) => {
                let flight = first_flight(&mut wire, config).await?;
                wire.send(&change(flight)).await?;
            }
            Step::SendRaw(bytes) => send(wire.tcp(), bytes).await?,
        }
    }
    wire.end().await?;
    wire.hold().await
}

/// What a server would answer to the first flight of a client.
async fn first_flight(wire: &mut Wire, config: &Arc<ServerConfig>) -> io::Result<Vec<u8>> {
    let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut flight = Vec::new();
    let mut buffer = [0; 4096];
    while flight.is_empty() {
        let read = wire.read(&mut buffer).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        session.read_tls(&mut buffer.get(..read).unwrap_or_default())?;
        session.process_new_packets().map_err(io::Error::other)?;
        while session.wants_write() {
            session.write_tls(&mut flight)?;
        }
    }
    Ok(flight)
}
