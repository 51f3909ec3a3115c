//! How many refusals become lines of the log: so many of a source and in all within a
//! minute. Further ones are counted, and one line says how many at the end of the minute.
//!
//! Pure: time is an argument. [`super::Audit`] asks.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::serve::peer::PeerNetwork;

/// How long a window of the bound lasts.
pub(super) const WINDOW: Duration = Duration::from_mins(1);

/// Lines within a window, in all and of one source. At some 600 bytes a line, sources that
/// never end fill 50 MB of a log in a day.
const LINES: usize = 60;
const LINES_EACH: usize = 10;

/// One bound on lines.
#[derive(Debug, Default)]
pub(super) struct RefusalBound {
    window: Option<RateWindow>,
}

#[derive(Debug)]
struct RateWindow {
    ends: Instant,
    lines: usize,
    /// Sources that had a line: never more than there are lines.
    sources: HashMap<PeerNetwork, usize>,
    left_out: u64,
}

/// What becomes of one refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounded {
    /// It is a line of the log.
    Told,
    /// It is left out, as the first of the window that ends then: somebody has to say so.
    FirstLeftOut(Instant),
    /// It is left out.
    LeftOut,
}

impl RefusalBound {
    /// Judges a refusal; also gives how many a window left out that has ended unsaid.
    pub(super) fn judge(&mut self, source: PeerNetwork, now: Instant) -> (Bounded, u64) {
        let unsaid = match &self.window {
            Some(window) if now >= window.ends => self.close(),
            _ => 0,
        };
        let window = self.window.get_or_insert_with(|| RateWindow {
            ends: now + WINDOW,
            lines: 0,
            sources: HashMap::new(),
            left_out: 0,
        });
        // Of a proxy the clients are not known apart: one of them must not use up its lines.
        let of_source = if source.is_limited() { window.sources.get(&source).copied() } else { None };
        let of_source = of_source.unwrap_or(0);
        if window.lines >= LINES || of_source >= LINES_EACH {
            window.left_out += 1;
            let bounded = match window.left_out {
                1 => Bounded::FirstLeftOut(window.ends),
                _ => Bounded::LeftOut,
            };
            return (bounded, unsaid);
        }
        window.lines += 1;
        window.sources.insert(source, of_source + 1);
        (Bounded::Told, unsaid)
    }

    /// Ends the window if its time has come; gives how many it left out.
    pub(super) fn end_window(&mut self, now: Instant) -> u64 {
        match &self.window {
            Some(window) if now >= window.ends => self.close(),
            _ => 0,
        }
    }

    /// Ends the window; gives how many it left out.
    pub(super) fn close(&mut self) -> u64 {
        self.window.take().map_or(0, |window| window.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u32) -> PeerNetwork {
        PeerNetwork::of(number.to_be_bytes().into())
    }

    #[test]
    fn a_source_has_its_lines_and_all_sources_have_theirs() {
        let (mut bound, now) = (RefusalBound::default(), Instant::now());
        let told = |bound: &mut RefusalBound, source| bound.judge(source, now).0 == Bounded::Told;
        let greedy = (0..1000).filter(|_| told(&mut bound, host(1))).count();
        assert_eq!(greedy, LINES_EACH, "another source is told of still");
        let many = (2..100_000).filter(|number| told(&mut bound, host(*number))).count();
        assert_eq!(many, LINES - LINES_EACH);
        assert!(
            bound.window.as_ref().is_some_and(|window| window.sources.len() <= LINES),
            "memory is bounded"
        );
        let left_out = 1000 + 99_998 - u64::try_from(LINES).expect("small");
        assert_eq!(bound.end_window(now + WINDOW), left_out);
        assert!(told(&mut bound, host(1)), "a new window");
    }

    #[test]
    fn the_clients_of_a_proxy_share_no_small_bound() {
        let (mut bound, now) = (RefusalBound::default(), Instant::now());
        let proxy = PeerNetwork::Proxy([192, 0, 2, 1].into());
        let told = (0..1000).filter(|_| bound.judge(proxy, now).0 == Bounded::Told).count();
        assert_eq!(told, LINES);
    }

    #[test]
    fn what_a_window_left_out_is_said_once() {
        let (mut bound, now) = (RefusalBound::default(), Instant::now());
        let first: Vec<_> = (0..12).map(|_| bound.judge(host(1), now).0).collect();
        assert_eq!(first.get(10..), Some(&[Bounded::FirstLeftOut(now + WINDOW), Bounded::LeftOut][..]));
        assert_eq!(bound.end_window(now), 0, "not yet");
        // Whoever comes first after the end says it: a task that is late has nothing to say.
        assert_eq!(bound.judge(host(1), now + WINDOW), (Bounded::Told, 2));
        assert_eq!(bound.end_window(now + WINDOW), 0);
    }
}
