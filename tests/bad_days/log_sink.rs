//! A log that nobody reads: a pipe that is full, a journal that is stopped.

use std::io::{Read as _, pipe};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::inside::{can_unshare, inside};
use crate::sharp_check;
use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::metrics::Metrics;
use crate::support::{Answer, Backend, Daemon, channel, wait};

const MEMBERS: u16 = 80;

/// A channel whose every result is a verdict, and every verdict a line; and one that
/// is as it should be.
struct Talkers {
    flapper: Backend,
    steady: Backend,
}

impl Talkers {
    fn new() -> (Self, String) {
        let ip = own_address();
        let flapping: Vec<Answer> = (0..60_000).map(|turn| Answer::Status(200 + 300 * (turn % 2))).collect();
        let flapper = Backend::start(ip, 8000, flapping, Answer::Status(200));
        let steady = Backend::steady(ip, 8001, Answer::Status(200));
        let flappers: Vec<String> = (0..MEMBERS)
            .map(|number| format!("{}\nmember_group_name = \"group-{number}\"", member(ip, 8000)))
            .collect();
        let groups: String = (0..MEMBERS)
            .map(|number| format!("[[channels.member_groups]]\nmember_group_name = \"group-{number}\"\n"))
            .collect();
        let talkers = Self { flapper, steady };
        let channels = channel("flap", &format!("{}\n{groups}", sharp_check("100ms", "100ms")), &flappers)
            + &talkers.quiet();
        (talkers, channels)
    }

    /// The second channel alone.
    fn quiet(&self) -> String {
        channel("web", &sharp_check("200ms", "200ms"), &[member(self.steady.address.ip(), 8001)])
    }

    /// Until lines are lost, and then: verdicts, a reload and readers go on.
    fn check_nothing_waits(&self, daemon: &Daemon) {
        // The flapper's script is long enough for any machine; after it nothing flaps.
        self.flapper.answer_with(Answer::Status(500));
        wait::until_within(Duration::from_secs(240), "lines to be lost", || {
            let answer = daemon.get("/metrics");
            let figures = (answer.status == 200).then(|| Metrics::parse(answer.text()))?;
            figures.value("vitald_log_lines_lost_total", &[]).filter(|lines| *lines > 0.0)
        });
        // The loop that logs is also the one that reloads and publishes verdicts.
        assert_eq!(daemon.reload().status, 200);
        self.steady.answer_with(Answer::Status(500));
        daemon.wait_for_health("web", &self.steady.address.to_string(), "unhealthy");
        assert_eq!(daemon.get("/livez").status, 200);
    }
}

/// A journal of our own that is stopped, and goes on: in a mount namespace, at the
/// place where systemd's listens.
#[test]
fn a_stopped_journal_stops_nothing() {
    if can_unshare() {
        let setup = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal";
        inside(&["unshare", "-rm"], setup, "log_sink::a_stopped_journal_stops_nothing", stopped_journal);
    }
}

fn stopped_journal() {
    let journal = UnixDatagram::bind("/run/systemd/journal/socket").expect("an own socket");
    let (talkers, channels) = Talkers::new();
    let daemon = Daemon::start_logging("journald", &channels, |_| {});
    talkers.check_nothing_waits(&daemon);

    // It goes on: what waited comes, and the log says what is missing.
    daemon.write_config(&talkers.quiet());
    let (entries, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut entry = vec![0; 1 << 16];
        while let Ok(length) = journal.recv(&mut entry) {
            let text = String::from_utf8_lossy(entry.get(..length).unwrap_or_default()).into_owned();
            if entries.send(text).is_err() {
                return;
            }
        }
    });
    assert_eq!(daemon.reload().status, 200);
    let mut verdicts = 0;
    let gap = loop {
        let entry = received.recv_timeout(Duration::from_secs(30)).expect("an entry");
        verdicts += usize::from(entry.contains("\nVITALD_CHANNEL\n") && entry.contains("is healthy"));
        if entry.contains("log lines were dropped") {
            break entry;
        }
    };
    assert!(gap.contains("SYSLOG_IDENTIFIER\n") && gap.contains("PRIORITY\n"), "{gap}");
    assert!(verdicts > 1000, "{verdicts} verdicts waited");
}

#[test]
fn a_full_pipe_for_the_log_stops_nothing() {
    let (talkers, channels) = Talkers::new();
    let steady = &talkers.steady;
    let (mut reader, writer) = pipe().expect("a pipe");
    let mut daemon = Daemon::start_with(&channels, |command| {
        command.stderr(writer);
    });
    talkers.check_nothing_waits(&daemon);

    // Somebody reads again: the log goes on and says what is missing.
    let text = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = reader.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    daemon.write_config(&talkers.quiet());
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
