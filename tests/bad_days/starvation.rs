//! Cores that others burn, and a stop of five seconds.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::address::own_address;
use crate::support::config::{member, pace};
use crate::support::process::Process;
use crate::support::{Answer, Backend, Daemon, channel, wait};
use crate::{sharp_check, unhealthy};

const MEMBERS: u16 = 40;

/// Programs that do nothing but compute, three for each core.
fn burn() -> Vec<Process> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let burner = || {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        Process::new(command.spawn().expect("a shell"))
    };
    (0..3 * cores).map(|_| burner()).collect()
}

#[test]
fn a_starved_prober_blames_nobody_and_finds_the_dead() {
    let ip = own_address();
    let backends: Vec<Backend> =
        (0..MEMBERS).map(|index| Backend::steady(ip, 8000 + index, Answer::Status(200))).collect();
    let members: Vec<String> = (0..MEMBERS).map(|index| member(ip, 8000 + index)).collect();
    // The members' kernel answers TCP checks whoever burns the cores; those over
    // HTTP have a timeout in which their program gets its turn.
    let tcp = format!("protocol = \"TCP\"\n{}", pace(1, 1, "200ms", "100ms"));
    let channels = channel("tcp", &tcp, &members) + &channel("web", &sharp_check("1s", "1s"), &members);
    // The least of all priorities: everybody else comes first.
    let daemon = Daemon::start(&channels);
    let id = daemon.process.id().to_string();
    let niced = Command::new("renice").args(["-n", "19", "-p", &id]).stdout(Stdio::null()).status();
    assert!(niced.is_ok_and(|status| status.success()));
    wait::until("every member to be healthy", || {
        let all = [daemon.members("tcp"), daemon.members("web")].concat();
        all.iter().all(|member| member.is("healthy")).then_some(())
    });
    let before = unhealthy(&daemon);
    let burning = burn();
    // The time under load is the test.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(unhealthy(&daemon), before, "a member was blamed");
    // Late as it is, it finds the member that says nothing, and only that one.
    let last = backends.last().expect("the channel has members");
    last.answer_with(Answer::Silence);
    wait::until("the silent member to be unhealthy", || {
        let members = daemon.members("web");
        let dead: Vec<_> = members.iter().filter(|member| member.is("unhealthy")).collect();
        assert!(dead.iter().all(|member| member.address == last.address.to_string()), "{dead:?}");
        (!dead.is_empty()).then_some(())
    });
    last.answer_with(Answer::Status(200));
    drop(burning);
    daemon.wait_for_health("web", &last.address.to_string(), "healthy");
    let answered: usize = backends.iter().map(Backend::requests).sum();
    wait::until("two rounds more", || {
        let now: usize = backends.iter().map(Backend::requests).sum();
        (now >= answered + 2 * usize::from(MEMBERS)).then_some(())
    });
    assert_eq!(unhealthy(&daemon), before + 1.0, "a member was blamed");
    assert!(daemon.members("tcp").iter().all(|member| member.is("healthy")));
}

#[test]
fn a_stop_of_five_seconds_makes_no_verdict_and_no_burst() {
    let ip = own_address();
    let slow = Answer::SlowStatus(Duration::from_millis(80), 200);
    let backends: Vec<Backend> =
        (0..MEMBERS).map(|index| Backend::steady(ip, 8000 + index, slow.clone())).collect();
    let members: Vec<String> = (0..MEMBERS).map(|index| member(ip, 8000 + index)).collect();
    let daemon = Daemon::start(&channel("web", &sharp_check("500ms", "400ms"), &members));
    wait::until("every member to be healthy", || {
        daemon.members("web").iter().all(|member| member.is("healthy")).then_some(())
    });
    let before = unhealthy(&daemon);
    daemon.signal(Signal::STOP);
    let seconds = std::env::var("VITALD_STOP_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    std::thread::sleep(Duration::from_secs(seconds));
    let resumed = wait::now();
    daemon.signal(Signal::CONT);
    wait::until("three rounds", || {
        let after = |backend: &Backend| backend.arrivals().iter().filter(|at| **at > resumed).count();
        backends.iter().all(|backend| after(backend) >= 3).then_some(())
    });
    assert_eq!(unhealthy(&daemon), before, "a member was blamed");
    // Nothing is made up for: in the first interval each member is probed once,
    // and once more where its slot falls on the edge.
    let first: usize = backends
        .iter()
        .map(|backend| {
            let within = |at: &&std::time::Instant| {
                **at > resumed && at.duration_since(resumed) < Duration::from_millis(450)
            };
            backend.arrivals().iter().filter(within).count()
        })
        .sum();
    assert!(first <= usize::from(MEMBERS) + 2, "{first} probes in the first interval");
    assert!(daemon.metrics().value("vitald_probes_skipped_total", &[]).is_some_and(|skipped| skipped > 0.0));
}
