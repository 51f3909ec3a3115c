//! A way to a member that takes its time: relays a connection and holds back
//! whatever the member says first.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Listens and relays to `member`, whose first word waits for `delay`.
pub(crate) fn slow_relay(ip: Ipv4Addr, port: u16, member: SocketAddr, delay: Duration) {
    let listener = TcpListener::bind((ip, port)).expect("the test's own address is free");
    // Ends with the test's process.
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(member) else { continue };
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
            thread::spawn(move || pump(near, far));
            thread::spawn(move || {
                // The delay is what this member is.
                thread::sleep(delay);
                pump(far_too, near_too);
            });
        }
    });
}

/// Copies until one side ends. Either may have left: that is its right.
fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
