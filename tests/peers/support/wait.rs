//! Waiting for something to happen: by asking until it has, never for a time
//! that is hoped to be long enough.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Far above what anything here takes, for machines that do much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const BETWEEN_QUESTIONS: Duration = Duration::from_millis(10);

#[expect(clippy::disallowed_methods, reason = "the tests run in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "compared with the time stamps of other programs")]
pub(crate) fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs_f64()
}

/// Asks until there is an answer. Panics with `what` after [`PATIENCE`].
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

/// As [`until`], with a bound of its own.
pub(crate) fn until_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} for {what}");
        thread::sleep(BETWEEN_QUESTIONS);
    }
}
