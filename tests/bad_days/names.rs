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
}

const MOODS: [Mood; 6] = [Mood::Good, Mood::Dead, Mood::Failing, Mood::Unknown, Mood::Lying, Mood::Noise];

const TRUE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const FALSE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A DNS server (RFC 1035) that knows one address.
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

    fn turn(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
        // The questions of the mood before are answered.
        let asked = self.asked.load(Ordering::SeqCst);
        wait::until("two questions", || (self.asked.load(Ordering::SeqCst) >= asked + 2).then_some(()));
    }
}

/// The answer to a question: the same header and question, and one record of type
/// A where that was asked for.
fn answer(question: &[u8], mood: Mood) -> Option<Vec<u8>> {
    let name_end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)?;
    let asks_for_a = question.get(name_end + 1..name_end + 3)? == [0, 1];
    let code = match mood {
        Mood::Dead => return None,
        Mood::Noise => return Some(b"nonsense".to_vec()),
        Mood::Failing => 2,
        Mood::Unknown => 3,
        Mood::Good | Mood::Lying => 0,
    };
    let address = match mood {
        Mood::Good if asks_for_a => Some(TRUE),
        Mood::Lying if asks_for_a => Some(FALSE),
        _ => None,
    };
    let mut answer = question.get(..2)?.to_vec();
    answer.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    answer.extend_from_slice(question.get(12..name_end + 5)?);
    if let Some(address) = address {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    Some(answer)
}

#[test]
fn a_broken_resolver_moves_no_verdict_of_a_known_name() {
    if can_unshare() {
        let setup = "ip link set lo up
            folder=$(mktemp -d)
            trap 'rm -r $folder' EXIT
            printf 'nameserver 127.0.0.1\\noptions timeout:1 attempts:1\\n' > $folder/resolv.conf
            printf 'hosts: dns\\n' > $folder/nsswitch.conf
            mount --bind $folder/resolv.conf /etc/resolv.conf
            mount --bind $folder/nsswitch.conf /etc/nsswitch.conf";
        inside(
            &["unshare", "-rnm"],
            setup,
            "names::a_broken_resolver_moves_no_verdict_of_a_known_name",
            broken_resolver,
        );
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
    // Flapping between two answers, of which one is true: the one in use stays
    // as long as it is among them; another single one is believed.
    resolver.turn(Mood::Lying);
    let down = daemon.wait_for_health("web", address, "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("refused"));
    resolver.turn(Mood::Good);
    daemon.wait_for_health("web", address, "healthy");

    // A name that was never answered has no address: that is its verdict, until it has.
    resolver.mood.store(Mood::Dead as u8, Ordering::SeqCst);
    let two = [member("app.internal", 8000), member("new.internal", 8000)];
    daemon.write_config(&config.replace(
        &format!("[[channels.members]]\n{}", member("app.internal", 8000)),
        &two.map(|member| format!("[[channels.members]]\n{member}")).join("\n"),
    ));
    assert_eq!(daemon.reload().status, 200);
    let down = daemon.wait_for_health("web", "new.internal:8000", "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("resolve"));
    assert!(daemon.member("web", address).is("healthy"), "its neighbour is not held up");
    resolver.mood.store(Mood::Good as u8, Ordering::SeqCst);
    wait::until_within(Duration::from_secs(60), "the new name", || {
        daemon.member("web", "new.internal:8000").is("healthy").then_some(())
    });
}
