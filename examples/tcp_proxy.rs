//! A TCP proxy over the balancer, with a retry:
//! `cargo run --example tcp_proxy 127.0.0.1:8080 127.0.0.1:9001 127.0.0.1:9002`.
//!
//! Least connections counts open picks, so each connection holds its pick until
//! it ends, however it ends. Health would come from vitald's probes; here a
//! refused connection only sends this one client elsewhere.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use vitald::balance::{Balancer, Member, Options, OwnedPick, Request};
use vitald::channel::Strategy;

/// Members that one client is sent to before it is turned away.
const ATTEMPTS: usize = 3;

#[expect(clippy::print_stderr, reason = "an example without a logger")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut addresses = std::env::args().skip(1).map(|argument| argument.parse::<SocketAddr>());
    let listen = addresses.next().ok_or("usage: tcp_proxy LISTEN BACKEND..")??;
    let members = addresses.map(|backend| backend.map(Member::new)).collect::<Result<Vec<_>, _>>()?;
    let balancer = Balancer::new(Strategy::WeightedLeastConnections, Options::default(), members)?;
    let listener = TcpListener::bind(listen).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    loop {
        let (client, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of file descriptors, or a client that left: go on.
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let balancer = balancer.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(&balancer, client, from).await {
                eprintln!("{from}: {error}");
            }
        });
    }
}

async fn serve(balancer: &Balancer<SocketAddr>, mut client: TcpStream, from: SocketAddr) -> io::Result<()> {
    // The pick is held until the connection ends, and then counts no more.
    let (mut server, _pick) = connect(balancer, from).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn connect(
    balancer: &Balancer<SocketAddr>,
    from: SocketAddr,
) -> io::Result<(TcpStream, OwnedPick<SocketAddr>)> {
    let mut tried = Vec::new();
    loop {
        let request = Request::new().source(from.ip()).tried(&tried);
        let pick = balancer.pick_owned(&request).map_err(io::Error::other)?;
        match TcpStream::connect(*pick.address()).await {
            Ok(server) => return Ok((server, pick)),
            Err(error) if tried.len() + 1 == ATTEMPTS => return Err(error),
            Err(_) => tried.push(pick.id()),
        }
    }
}
