//! A log that nobody reads: a pipe that is full.

use std::io::{Read as _, pipe};
use std::time::Duration;

use rustix::process::Signal;

use crate::sharp_check;
use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::metrics::Metrics;
use crate::support::{Answer, Backend, Daemon, channel, wait};

const MEMBERS: u16 = 80;

#[test]
fn a_full_pipe_for_the_log_stops_nothing() {
    let ip = own_address();
    // Every result is a verdict, and every verdict a line.
    let flapping: Vec<Answer> = (0..60_000).map(|turn| Answer::Status(200 + 300 * (turn % 2))).collect();
    let flapper = Backend::start(ip, 8000, flapping, Answer::Status(200));
    let steady = Backend::steady(ip, 8001, Answer::Status(200));
    let flappers: Vec<String> = (0..MEMBERS)
        .map(|number| format!("{}\nmember_group_name = \"group-{number}\"", member(ip, 8000)))
        .collect();
    let groups: String = (0..MEMBERS)
        .map(|number| format!("[[channels.member_groups]]\nmember_group_name = \"group-{number}\"\n"))
        .collect();
    let channels = channel("flap", &format!("{}\n{groups}", sharp_check("100ms", "100ms")), &flappers)
        + &channel("web", &sharp_check("200ms", "200ms"), &[member(ip, 8001)]);
    let (mut reader, writer) = pipe().expect("a pipe");
    let mut daemon = Daemon::start_with(&channels, |command| {
        command.stderr(writer);
    });
    let lost = |daemon: &Daemon| {
        let answer = daemon.get("/metrics");
        let figure = (answer.status == 200).then(|| Metrics::parse(answer.text()))?;
        figure.value("vitald_log_lines_lost_total", &[])
    };
    // The flapper's script is long enough for any machine; after it nothing flaps.
    flapper.answer_with(Answer::Status(500));
    wait::until_within(Duration::from_secs(240), "lines to be lost", || {
        lost(&daemon).filter(|lines| *lines > 0.0)
    });

    // The loop that logs is also the one that reloads and publishes verdicts.
    assert_eq!(daemon.reload().status, 200);
    steady.answer_with(Answer::Status(500));
    daemon.wait_for_health("web", &steady.address.to_string(), "unhealthy");
    assert_eq!(daemon.get("/livez").status, 200);

    // Somebody reads again: the log goes on and says what is missing.
    let text = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = reader.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    daemon.write_config(&channel("web", &sharp_check("200ms", "200ms"), &[member(ip, 8001)]));
    assert_eq!(daemon.reload().status, 200);
    steady.answer_with(Answer::Status(200));
    daemon.wait_for_health("web", &steady.address.to_string(), "healthy");
    // The control loop looks every five seconds.
    std::thread::sleep(Duration::from_secs(6));
    daemon.signal(Signal::TERM);
    daemon.process.wait(Duration::from_secs(20), "the daemon to end");
    let text = text.join().expect("the reader ends with the pipe");
    assert!(text.contains("log lines were dropped because nobody read them"), "{} bytes of log", text.len());
    assert!(text.contains("is healthy"), "lines after the gap are there");
}

#[test]
fn a_full_pipe_for_the_log_does_not_hold_up_the_end() {
    let ip = own_address();
    let backend = Backend::steady(ip, 8000, Answer::Status(200));
    let (reader, writer) = pipe().expect("a pipe");
    fill(&writer);
    let mut daemon =
        Daemon::start_with(&channel("web", &sharp_check("200ms", "200ms"), &[member(ip, 8000)]), |command| {
            command.stderr(writer);
        });
    daemon.wait_for_health("web", &backend.address.to_string(), "healthy");
    daemon.signal(Signal::TERM);
    let status = daemon.process.wait(Duration::from_secs(20), "the daemon to end");
    assert_eq!(status.code(), Some(0));
    drop(reader);
}

/// Writes until the pipe takes no more. The flag is the pipe's, so it is taken back.
fn fill(pipe: &std::io::PipeWriter) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(pipe).expect("the flags of a pipe");
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK).expect("a pipe can be non-blocking");
    while rustix::io::write(pipe, &[b'\n'; 4096]).is_ok() {}
    fcntl_setfl(pipe, flags).expect("a pipe can be blocking");
}
