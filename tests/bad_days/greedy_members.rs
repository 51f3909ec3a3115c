//! Members that want to be read for ever: heads without end, bodies without end,
//! connections that never close. What the daemon keeps of them is bounded.

use std::time::Duration;

use crate::sharp_check;
use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::{Answer, Backend, Daemon, channel, wait};

const MEMBERS: u16 = 60;

fn memory(daemon: &Daemon) -> f64 {
    daemon.metrics().value("process_resident_memory_bytes", &[]).expect("a figure") / 1e6
}

#[test]
fn members_that_answer_megabytes_or_never_end_cost_bounded_memory() {
    let ip = own_address();
    let megabyte = {
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        for number in 0..100 {
            head.extend_from_slice(format!("X-{number}: {}\r\n", "x".repeat(10_240)).as_bytes());
        }
        head
    };
    static DRIP: [u8; 1024] = [b'x'; 1024];
    let answers = [
        // A head of a megabyte, whole at once.
        Answer::Bytes(megabyte),
        // A kilobyte each 50 ms: within the limit until the timeout ends it.
        Answer::Drip(&DRIP, Duration::from_millis(50)),
        Answer::Drip(b"HTTP/1.1 103 Early Hints\r\n\r\n", Duration::from_millis(50)),
        Answer::Silence,
        // A good head and a body that never ends, on a connection that never closes.
        Answer::Drip(b"HTTP/1.1 200 OK\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", Duration::from_millis(5)),
    ];
    let backends: Vec<Backend> = (0..MEMBERS)
        .zip(answers.iter().cycle())
        .map(|(index, answer)| Backend::steady(ip, 8000 + index, answer.clone()))
        .collect();
    let members: Vec<String> = (0..MEMBERS).map(|index| member(ip, 8000 + index)).collect();
    let daemon = Daemon::start(&channel("web", &sharp_check("1s", "1s"), &members));
    let rounds = |wanted: usize| {
        wait::until_within(Duration::from_secs(90), "rounds", || {
            backends.iter().all(|backend| backend.requests() >= wanted).then_some(())
        });
    };
    rounds(3);
    let early = memory(&daemon);
    let files = daemon.metrics().value("process_open_fds", &[]).expect("a figure");
    rounds(12);
    let late = memory(&daemon);
    let files_late = daemon.metrics().value("process_open_fds", &[]).expect("a figure");
    // Sixty probes may hold 64 KiB each: four megabytes.
    assert!(late < early + 8.0, "{early} MB after 3 rounds, {late} MB after 12");
    assert!(late < 100.0, "{late} MB");
    assert!(files_late < files + f64::from(MEMBERS), "{files} files, then {files_late}");
}
