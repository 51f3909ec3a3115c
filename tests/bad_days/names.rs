//! A resolver that is slow, dead, flapping or lying: a small server of our own on
//! port 53 of a network namespace, named by a resolv.conf of our own.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use crate::inside::{can_unshare, inside};
use crate::support::config::{member, pace};
use crate::support::{Answer, Backend, Daemon, channel, wait};

/// What the resolver does with a question.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mood {
    /// The member's address.
    Good,
    /// No answer at all.
    Dead,
    /// SERVFAIL.
    Failing,
    /// There is no such name.
    Unknown,
    /// Another address.
    Lying,
    /// An answer that is no DNS.
    Noise,
    /// The member's address and another one.
    Both,
    /// The unspecified address, as resolvers answer for names that they block.
    Blocking,
}

const MOODS: [Mood; 8] = [
    Mood::Good,
    Mood::Dead,
    Mood::Failing,
    Mood::Unknown,
    Mood::Lying,
    Mood::Noise,
    Mood::Both,
    Mood::Blocking,
];

const TRUE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const FALSE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A DNS server (RFC 1035) that knows two addresses.
#[derive(Clone, Default)]
struct Resolver {
    mood: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Resolver {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the namespace's own port");
        let resolver = Self::default();
        let own = resolver.clone();
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                own.asked.fetch_add(1, Ordering::SeqCst);
                let mood = MOODS.get(usize::from(own.mood.load(Ordering::SeqCst))).copied();
                let answer = answer(question.get(..length).unwrap_or_default(), mood.unwrap_or(Mood::Good));
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        resolver
    }

    fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    fn turn(&self, mood: Mood) {
        self.set(mood);
        // The questions of the mood before are answered.
        let asked = self.asked.load(Ordering::SeqCst);
        wait::until("two questions", || (self.asked.load(Ordering::SeqCst) >= asked + 2).then_some(()));
    }
}

/// The answer to a question: the same header and question, and records of type A where
/// those were asked for.
fn answer(question: &[u8], mood: Mood) -> Option<Vec<u8>> {
    let name_end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)?;
    let asks_for_a = question.get(name_end + 1..name_end + 3)? == [0, 1];
    let code = match mood {
        Mood::Dead => return None,
        Mood::Noise => return Some(b"nonsense".to_vec()),
        Mood::Failing => 2,
        Mood::Unknown => 3,
        Mood::Good | Mood::Lying | Mood::Both | Mood::Blocking => 0,
    };
    let addresses: &[Ipv4Addr] = match mood {
        Mood::Good if asks_for_a => &[TRUE],
        Mood::Lying if asks_for_a => &[FALSE],
        Mood::Both if asks_for_a => &[FALSE, TRUE],
        Mood::Blocking if asks_for_a => &[Ipv4Addr::UNSPECIFIED],
        _ => &[],
    };
    let count = u8::try_from(addresses.len()).ok()?;
    let mut answer = question.get(..2)?.to_vec();
    answer.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend_from_slice(question.get(12..name_end + 5)?);
    for address in addresses {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    Some(answer)
}

#[test]
fn a_broken_resolver_moves_no_verdict_of_a_known_name() {
    with_own_resolver("names::a_broken_resolver_moves_no_verdict_of_a_known_name", broken_resolver);
}

/// Runs the test `name` once more where this process may be the resolver.
fn with_own_resolver(name: &str, work: impl FnOnce()) {
    if can_unshare() {
        let setup = "ip link set lo up
            folder=$(mktemp -d)
            trap 'rm -r $folder' EXIT
            printf 'nameserver 127.0.0.1\\noptions timeout:1 attempts:1\\n' > $folder/resolv.conf
            printf 'hosts: dns\\n' > $folder/nsswitch.conf
            mount --bind $folder/resolv.conf /etc/resolv.conf
            mount --bind $folder/nsswitch.conf /etc/nsswitch.conf";
        inside(&["unshare", "-rnm"], setup, name, work);
    }
}

fn broken_resolver() {
    let resolver = Resolver::start();
    let member_there = Backend::steady(TRUE, 8000, Answer::Status(200));
    let check =
        format!("protocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n{}", pace(1, 2, "300ms", "300ms"));
    let config = format!(
        "[prober]\nresolve_interval = \"1s\"\n\n{}",
        channel("web", &check, &[member("app.internal", 8000)])
    );
    // `[server]` is written before: tables may stand in any order.
    let daemon = Daemon::start(&config);
    let address = "app.internal:8000";
    daemon.wait_for_health("web", address, "healthy");
    // Known once, known for good: whether somebody is there is for the probe to say.
    for mood in [Mood::Failing, Mood::Unknown, Mood::Noise, Mood::Dead] {
        resolver.turn(mood);
        let probes = member_there.requests();
        wait::until("five probes", || (member_there.requests() >= probes + 5).then_some(()));
        assert!(daemon.member("web", address).is("healthy"));
        resolver.turn(Mood::Good);
    }
    assert_eq!(daemon.transitions("web", address, "unhealthy"), 0.0);
    // Another answer is believed.
    resolver.turn(Mood::Lying);
    let down = daemon.wait_for_health("web", address, "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("refused"));
    resolver.turn(Mood::Good);
    daemon.wait_for_health("web", address, "healthy");

    // A name that was never answered has no address: that is its verdict, until it has.
    resolver.set(Mood::Dead);
    let two = [member("app.internal", 8000), member("new.internal", 8000)];
    daemon.write_config(&config.replace(
        &format!("[[channels.members]]\n{}", member("app.internal", 8000)),
        &two.map(|member| format!("[[channels.members]]\n{member}")).join("\n"),
    ));
    assert_eq!(daemon.reload().status, 200);
    let down = daemon.wait_for_health("web", "new.internal:8000", "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("resolve"));
    assert!(daemon.member("web", address).is("healthy"), "its neighbour is not held up");
    resolver.set(Mood::Good);
    wait::until_within(Duration::from_secs(60), "the new name", || {
        daemon.member("web", "new.internal:8000").is("healthy").then_some(())
    });
}

#[test]
fn a_member_with_several_addresses_is_as_healthy_as_one_of_them() {
    with_own_resolver("names::a_member_with_several_addresses_is_as_healthy_as_one_of_them", two_addresses);
}

fn two_addresses() {
    let resolver = Resolver::start();
    resolver.set(Mood::Both);
    // The system's resolver may order them as it likes: each is the dead one somewhere.
    let there = [(TRUE, 8000), (FALSE, 8001)];
    let _members = there.map(|(ip, port)| Backend::steady(ip, port, Answer::Status(200)));
    let check =
        format!("protocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n{}", pace(1, 1, "300ms", "300ms"));
    let all = [8000, 8001, 8002].map(|port| member("app.internal", port));
    let config = format!("[prober]\nresolve_interval = \"1s\"\n\n{}", channel("web", &check, &all));
    let daemon = Daemon::start(&config);
    for (ip, port) in there {
        let address = format!("app.internal:{port}");
        let up = daemon.wait_for_health("web", &address, "healthy");
        assert_eq!(up.json.pointer("/last_probe/peer"), Some(&format!("{ip}:{port}").into()), "{}", up.json);
        let probes = daemon.probes("web", &address);
        wait::until("three probes", || (daemon.probes("web", &address) >= probes + 3.0).then_some(()));
        let labels = [("channel", "web"), ("member", &*address), ("result", "failure")];
        assert_eq!(daemon.metrics().sum("vitald_probes_total", &labels), 0.0, "no probe has failed");
        let labels = [("channel", "web"), ("member", &*address), ("address", &*ip.to_string())];
        assert_eq!(daemon.metrics().value("vitald_member_address_info", &labels), Some(1.0));
        let status = daemon.command(&["status"]);
        let table = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(table.contains(&format!(" at {ip}:{port}")), "{table}");
        let moved = format!("{address} ({ip}) of web is healthy");
        assert!(daemon.log().contains(&moved), "{}", daemon.log());
    }
    let down = daemon.wait_for_health("web", "app.internal:8002", "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("refused"));
    let detail = down.detail.expect("what each has said");
    for ip in [TRUE, FALSE] {
        assert!(detail.contains(&format!("{ip}: connection refused")), "{detail}");
    }

    // Another set is counted and logged, once; a blocked name keeps the set that it had.
    let changes = || daemon.metrics().value("vitald_name_address_changes_total", &[]);
    assert_eq!(changes(), Some(0.0));
    resolver.turn(Mood::Good);
    resolver.turn(Mood::Blocking);
    resolver.turn(Mood::Good);
    assert_eq!(changes(), Some(1.0));
    let lines = daemon.log().matches("app.internal has other addresses: 127.0.0.1; before: ").count();
    assert_eq!(lines, 1, "{}", daemon.log());
    daemon.wait_for_health("web", "app.internal:8001", "unhealthy");
    daemon.wait_for_health("web", "app.internal:8000", "healthy");

    // Nobody is at such an address, though the kernel leads it to this machine.
    resolver.set(Mood::Blocking);
    let blocked = [member("blocked.internal", 8000), member("app.internal", 8000)];
    daemon.write_config(&channel("web", &check, &blocked));
    assert_eq!(daemon.reload().status, 200);
    let down = daemon.wait_for_health("web", "blocked.internal:8000", "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("resolve"));
}
