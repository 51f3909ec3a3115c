//! Runs of results against thresholds: each answer carries the number of its
//! probe in its reason phrase, so a transition names the probe that moved it.

use std::time::Duration;

use crate::address::own_address;
use crate::arena::{Daemon, members_runtime};
use crate::peer::{Peer, Step};
use crate::wait;

/// A member that answers by letters: `s` 200, `f` 500, `c` closes, `r` resets,
/// `t` says nothing. After the last one it repeats it.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) normal: usize,
    pub(crate) abnormal: usize,
    pub(crate) initial: &'static str,
    pub(crate) answers: &'static str,
    /// The transitions: to which health, and the detail of the probe that moved it.
    pub(crate) moves: &'static [(&'static str, &'static str)],
}

const SILENCE: &str = "connected, but no whole response head within 1s";
const CLOSED: &str = "closed by the member before it answered";
const RESET: &str = "connection reset by the member";

#[rustfmt::skip]
pub(crate) const RUNS: &[Run] = &[
    Run { name: "run-up-at-once", about: "threshold 1: the first success", normal: 1, abnormal: 2, initial: "unknown", answers: "s", moves: &[("healthy", "200 probe 1")] },
    Run { name: "run-up-at-second", about: "threshold 2: the second success", normal: 2, abnormal: 2, initial: "unknown", answers: "ss", moves: &[("healthy", "200 probe 2")] },
    Run { name: "run-down-at-third", about: "threshold 3: the third failure", normal: 2, abnormal: 3, initial: "unknown", answers: "fff", moves: &[("unhealthy", "500 probe 3")] },
    Run { name: "run-ten", about: "threshold 10: the tenth success", normal: 10, abnormal: 10, initial: "unknown", answers: "ssssssssss", moves: &[("healthy", "200 probe 10")] },
    Run { name: "run-nine-of-ten", about: "nine failures of ten, then a success", normal: 1, abnormal: 10, initial: "unknown", answers: "fffffffffs", moves: &[("healthy", "200 probe 10")] },
    Run { name: "run-down-and-up", about: "down and up again", normal: 2, abnormal: 3, initial: "unknown", answers: "ssfffss", moves: &[("healthy", "200 probe 2"), ("unhealthy", "500 probe 5"), ("healthy", "200 probe 7")] },
    Run { name: "run-interleaved", about: "failures and successes in turn: nothing trips", normal: 2, abnormal: 3, initial: "unknown", answers: "ssfsfsfsfs", moves: &[("healthy", "200 probe 2")] },
    Run { name: "run-never-settles", about: "success and failure in turn: unknown until two alike come", normal: 2, abnormal: 2, initial: "unknown", answers: "sfsfsfsfs", moves: &[("healthy", "200 probe 10")] },
    Run { name: "run-one-short", about: "one failure short of the threshold, twice", normal: 2, abnormal: 3, initial: "unknown", answers: "ssffsffs", moves: &[("healthy", "200 probe 2")] },
    Run { name: "run-pfff", about: "one success, three failures", normal: 1, abnormal: 3, initial: "unknown", answers: "sfff", moves: &[("healthy", "200 probe 1"), ("unhealthy", "500 probe 4")] },
    Run { name: "run-climb-interrupted", about: "a failure while climbing back starts the climb anew", normal: 3, abnormal: 2, initial: "unknown", answers: "ffssfsss", moves: &[("unhealthy", "500 probe 2"), ("healthy", "200 probe 8")] },
    Run { name: "run-each-result", about: "thresholds of 1 follow each result", normal: 1, abnormal: 1, initial: "unknown", answers: "sfsf", moves: &[("healthy", "200 probe 1"), ("unhealthy", "500 probe 2"), ("healthy", "200 probe 3"), ("unhealthy", "500 probe 4")] },
    Run { name: "run-starts-unhealthy-up", about: "starts unhealthy: the first success is no short cut", normal: 2, abnormal: 2, initial: "unhealthy", answers: "ss", moves: &[("healthy", "200 probe 2")] },
    Run { name: "run-starts-unhealthy-fails", about: "starts unhealthy, fails, then succeeds", normal: 2, abnormal: 2, initial: "unhealthy", answers: "fsss", moves: &[("healthy", "200 probe 3")] },
    Run { name: "run-starts-unhealthy-stays", about: "starts unhealthy and fails", normal: 2, abnormal: 2, initial: "unhealthy", answers: "ffff", moves: &[] },
    Run { name: "run-starts-healthy-down", about: "starts healthy and fails", normal: 2, abnormal: 2, initial: "healthy", answers: "ff", moves: &[("unhealthy", "500 probe 2")] },
    Run { name: "run-starts-healthy-stays", about: "starts healthy and succeeds", normal: 2, abnormal: 2, initial: "healthy", answers: "ssss", moves: &[] },
    Run { name: "run-no-short-cut-for-5xx", about: "a 5xx counts as one failure, no more", normal: 1, abnormal: 2, initial: "unknown", answers: "sfsff", moves: &[("healthy", "200 probe 1"), ("unhealthy", "500 probe 5")] },
    Run { name: "run-close-twice", about: "closes twice", normal: 1, abnormal: 2, initial: "unknown", answers: "scc", moves: &[("healthy", "200 probe 1"), ("unhealthy", CLOSED)] },
    Run { name: "run-silent-then-close", about: "the reason is that of the last failure: silence, then a close", normal: 1, abnormal: 2, initial: "unknown", answers: "stc", moves: &[("healthy", "200 probe 1"), ("unhealthy", CLOSED)] },
    Run { name: "run-close-then-silent", about: "the reason is that of the last failure: a close, then silence", normal: 1, abnormal: 2, initial: "unknown", answers: "sct", moves: &[("healthy", "200 probe 1"), ("unhealthy", SILENCE)] },
    Run { name: "run-mixed-failures", about: "500, close, reset: three failures of three kinds", normal: 1, abnormal: 3, initial: "unknown", answers: "sfcr", moves: &[("healthy", "200 probe 1"), ("unhealthy", RESET)] },
];

fn answer(letter: char, number: usize) -> Vec<Step> {
    let with = |status: u16| Step::Send(format!("HTTP/1.1 {status} probe {number}\r\n\r\n").into_bytes());
    match letter {
        's' => vec![Step::ReadRequest, with(200)],
        'f' => vec![Step::ReadRequest, with(500)],
        'c' => vec![Step::ReadRequest, Step::HalfClose],
        'r' => vec![Step::ReadRequest, Step::Reset],
        _ => vec![Step::ReadRequest, Step::Hold],
    }
}

impl Run {
    fn serve(&self, ip: std::net::Ipv4Addr) -> Peer {
        let letters: Vec<char> = self.answers.chars().collect();
        Peer::serve_each(ip, 0, move |number| {
            let letter = letters.get(number - 1).or(letters.last()).copied().unwrap_or('s');
            answer(letter, number).into()
        })
    }

    fn channel(&self, peer: &Peer) -> String {
        format!(
            "[[channels]]\nname = \"{}\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\
             [[channels.members]]\nhost = \"{}\"\nport = {}\n\
             [channels.vpc_health_config]\nprotocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n\
             threshold_normal = {}\nthreshold_abnormal = {}\ntime_interval = \"1s\"\ntimeout = \"1s\"\n\
             [channels.probe]\ninitial_state = \"{}\"\n",
            self.name,
            peer.address.ip(),
            peer.address.port(),
            self.normal,
            self.abnormal,
            self.initial,
        )
    }
}

#[test]
fn runs_of_results_move_the_verdict_at_their_last_probe() {
    let ip = own_address();
    let runtime = members_runtime();
    let inside = runtime.enter();
    let peers: Vec<Peer> = RUNS.iter().map(|run| run.serve(ip)).collect();
    drop(inside);
    let channels: String = RUNS.iter().zip(&peers).map(|(run, peer)| run.channel(peer)).collect();
    let mut daemon = Daemon::start(crate::folder(), &channels);
    // One more than its letters: what the last one does is then known.
    let played = || RUNS.iter().zip(&peers).all(|(run, peer)| peer.seen() > run.answers.len());
    wait::until_within(Duration::from_secs(240), "all letters to be played", || played().then_some(()));
    let transitions = daemon.transitions();
    let mut wrong = Vec::new();
    for run in RUNS {
        let own = transitions.iter().filter(|event| event.channel == run.name);
        let moves: Vec<(&str, &str)> = own.map(|event| (event.to.word(), event.detail.as_ref())).collect();
        if moves != run.moves {
            wrong.push(format!("{}: found {moves:?}, wanted {:?}", run.name, run.moves));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
