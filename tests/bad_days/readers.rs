//! Clients of the HTTP surface that do it harm: they never read, or never finish
//! to ask. Probing goes on as before.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::{Answer, Backend, Daemon, channel, wait};
use crate::{sharp_check, unhealthy};

const MEMBERS: u16 = 10;

/// Seconds that all members need for so many probes each.
fn time_for(backends: &[Backend], probes: usize) -> f64 {
    let from: Vec<usize> = backends.iter().map(Backend::requests).collect();
    let began = wait::now();
    wait::until("the probes", || {
        let done = |(backend, from): (&Backend, &usize)| backend.requests() >= from + probes;
        backends.iter().zip(&from).all(done).then_some(())
    });
    began.elapsed().as_secs_f64()
}

#[test]
fn clients_that_hang_do_not_touch_probing() {
    let ip = own_address();
    let backends: Vec<Backend> =
        (0..MEMBERS).map(|index| Backend::steady(ip, 8000 + index, Answer::Status(200))).collect();
    let members: Vec<String> = (0..MEMBERS).map(|index| member(ip, 8000 + index)).collect();
    let daemon = Daemon::start(&channel("web", &sharp_check("1s", "1s"), &members));
    wait::until("every member to be healthy", || {
        daemon.members("web").iter().all(|member| member.is("healthy")).then_some(())
    });
    let before = unhealthy(&daemon);

    let alone = time_for(&backends, 4);
    // Ten that ask for everything, over and over, and read nothing.
    let deaf: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut client = TcpStream::connect(daemon.address).expect("it listens");
            client.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
            let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500);
            // It stops to read requests when nobody takes the answers.
            let _ = client.write_all(&request);
            client
        })
        .collect();
    let answered = daemon.get("/livez").status;
    assert_eq!(answered, 200, "others are heard");
    let with_deaf = time_for(&backends, 4);

    // Two hundred that send one byte of a request now and then.
    let mut slow: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(daemon.address).expect("the kernel's queue takes it")).collect();
    for _ in 0..5 {
        for client in &mut slow {
            let _ = client.write_all(b"G");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let with_slow = time_for(&backends, 4);
    // Four seconds by the schedule; a machine that does much else takes longer.
    let most = 3.0 * alone + 10.0;
    assert!(with_deaf < most && with_slow < most, "{alone} s alone, then {with_deaf} s and {with_slow} s");
    drop((deaf, slow));
    wait::until("the surface to answer again", || {
        crate::support::http::get(daemon.address, "/livez").ok().filter(|answer| answer.status == 200)
    });
    assert_eq!(unhealthy(&daemon), before, "no member was blamed");
}
