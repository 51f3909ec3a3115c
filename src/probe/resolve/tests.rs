//! Slow, failing and flapping resolvers, on paused time.

use std::collections::VecDeque;
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::sleep;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers from a script, each after a while; the last answer stays.
struct Scripted {
    answers: Mutex<VecDeque<Addresses>>,
    delay: Duration,
    asked: Arc<AtomicUsize>,
}

impl Lookup for Scripted {
    fn lookup(&self, _: Arc<str>) -> Pin<Box<dyn Future<Output = Addresses> + Send>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = lock(&self.answers);
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let delay = self.delay;
        Box::pin(async move {
            sleep(delay).await;
            match answer {
                Some(answer) => answer,
                None => pending().await,
            }
        })
    }
}

/// The addresses that a probe would get.
async fn known(cell: &NameCell, patience: Duration) -> Result<Vec<IpAddr>, String> {
    cell.addresses(patience).await.map(|set| set.to_vec())
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn fails(why: &str) -> Addresses {
    Err(why.to_owned())
}

/// A resolver under way, and how often it was asked.
fn scripted(delay: Duration, answers: impl Into<VecDeque<Addresses>>) -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let lookup = Scripted { answers: Mutex::new(answers.into()), delay, asked: Arc::clone(&asked) };
    let (resolver, refresher) = Resolver::new(lookup, INTERVAL);
    tokio::spawn(refresher.run());
    (resolver, asked)
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_once_for_all_who_hold_it_and_again_each_interval() {
    let (resolver, asked) = scripted(Duration::ZERO, [Ok(vec![ip(1)])]);
    let first = resolver.cell(&"app.internal".into());
    let second = resolver.cell(&"app.internal".into());
    assert_eq!(known(&first, PATIENCE).await, Ok(vec![ip(1)]));
    assert_eq!(known(&second, PATIENCE).await, Ok(vec![ip(1)]));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    sleep(10 * INTERVAL + Duration::from_secs(1)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 11);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_waited_for_no_longer_than_the_patience() {
    let (resolver, _) = scripted(Duration::from_secs(5), [Ok(vec![ip(1)])]);
    let cell = resolver.cell(&"slow.internal".into());
    let start = Instant::now();
    assert_eq!(
        known(&cell, PATIENCE).await,
        Err("no answer for slow.internal from the resolver within 2s".to_owned())
    );
    assert_eq!(start.elapsed(), PATIENCE);
    // The look-up went on, and its answer serves the next probe.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(known(&cell, Duration::ZERO).await, Ok(vec![ip(1)]));
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_address_says_why_and_is_tried_again_soon() {
    let answers = [fails("Name or service not known"), Ok(vec![]), Ok(vec![ip(1)])];
    let (resolver, asked) = scripted(Duration::ZERO, answers);
    let cell = resolver.cell(&"new.internal".into());
    let address = async || known(&cell, PATIENCE).await;
    assert_eq!(address().await, Err("no address for new.internal: Name or service not known".to_owned()));
    // Known to fail: no probe waits.
    let start = Instant::now();
    assert!(address().await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO);
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(address().await, Err("no address for new.internal: the answer holds no address".to_owned()));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(address().await, Ok(vec![ip(1)]));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn tries_for_a_name_without_an_address_become_rarer() {
    let (resolver, asked) = scripted(Duration::ZERO, [fails("no such name")]);
    let _cell = resolver.cell(&"never.internal".into());
    // At 0, 1, 3, 7, 15, 31, 61, 91 seconds: doubling up to the interval.
    sleep(Duration::from_secs(92)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 8);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_is_kept_while_the_resolver_fails() {
    let (resolver, _) = scripted(Duration::ZERO, [Ok(vec![ip(1)]), fails("server failure"), Ok(vec![])]);
    let cell = resolver.cell(&"app.internal".into());
    for _ in 0..4 {
        assert_eq!(known(&cell, PATIENCE).await, Ok(vec![ip(1)]));
        sleep(INTERVAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn other_addresses_are_counted_and_another_order_or_a_bad_answer_is_not() {
    let unspecified = IpAddr::from([0, 0, 0, 0]);
    let answers = [
        Ok(vec![ip(1), ip(2)]),
        Ok(vec![ip(2), ip(1), ip(1)]),
        Ok(vec![unspecified]),
        fails("server failure"),
        Ok(vec![ip(3), unspecified, ip(2)]),
        Ok(vec![ip(3)]),
    ];
    let (resolver, _) = scripted(Duration::ZERO, answers);
    let cell = resolver.cell(&"app.internal".into());
    assert_eq!(known(&cell, PATIENCE).await, Ok(vec![ip(1), ip(2)]));
    sleep(Duration::from_secs(1)).await;
    for (set, changes, what) in [
        (vec![ip(1), ip(2)], 0, "shuffled"),
        (vec![ip(1), ip(2)], 0, "no server is at the address of the answer"),
        (vec![ip(1), ip(2)], 0, "no answer"),
        (vec![ip(3), ip(2)], 1, "another one"),
        (vec![ip(3)], 2, "one less"),
        (vec![ip(3)], 2, "the same"),
    ] {
        sleep(INTERVAL).await;
        assert_eq!(known(&cell, PATIENCE).await, Ok(set), "{what}");
        assert_eq!(resolver.changes(), changes, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_addresses_that_no_server_has_is_refused() {
    let (resolver, _) = scripted(Duration::ZERO, [Ok(vec![IpAddr::from([0, 0, 0, 0])])]);
    let cell = resolver.cell(&"blocked.internal".into());
    let why = "no address for blocked.internal: the answer is 0.0.0.0, the unspecified address, which no server has";
    assert_eq!(known(&cell, PATIENCE).await, Err(why.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_holds_is_forgotten_and_no_longer_looked_up() {
    let (resolver, asked) = scripted(Duration::ZERO, [Ok(vec![ip(1)])]);
    let cell = resolver.cell(&"old.internal".into());
    assert_eq!(known(&cell, PATIENCE).await, Ok(vec![ip(1)]));
    drop(cell);
    assert_eq!(resolver.names(), 0);
    sleep(2 * INTERVAL).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(lock(&resolver.table.names).is_empty(), "its entry is gone too");
    // Held again, it is looked up again.
    let cell = resolver.cell(&"old.internal".into());
    assert_eq!(known(&cell, PATIENCE).await, Ok(vec![ip(1)]));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// Counts the look-ups that run, and never answers.
struct Silent(Arc<AtomicUsize>);

impl Lookup for Silent {
    fn lookup(&self, _: Arc<str>) -> Pin<Box<dyn Future<Output = Addresses> + Send>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_resolver_holds_a_bounded_number_of_look_ups() {
    let asked = Arc::<AtomicUsize>::default();
    let (resolver, refresher) = Resolver::new(Silent(Arc::clone(&asked)), INTERVAL);
    tokio::spawn(refresher.run());
    let cells: Vec<_> = (0..1000).map(|n| resolver.cell(&format!("m{n}.internal").into())).collect();
    sleep(10 * INTERVAL).await;
    assert_eq!(asked.load(Ordering::SeqCst), LOOKUPS_AT_MOST);
    assert_eq!(resolver.names(), cells.len());
}

#[test]
fn the_standard_librarys_preamble_is_left_out() {
    let message = "failed to lookup address information: Name or service not known";
    assert_eq!(without_preamble(message), "Name or service not known");
    assert_eq!(without_preamble("something else"), "something else");
}

/// Panics once, as the runtime does when the system gives no thread, and then answers.
struct PanicsFirst(AtomicUsize);

impl Lookup for PanicsFirst {
    fn lookup(&self, _: Arc<str>) -> Pin<Box<dyn Future<Output = Addresses> + Send>> {
        let turn = self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            assert!(turn > 0, "no thread");
            Ok(vec![ip(1)])
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_panics_is_made_again() {
    let (resolver, refresher) = Resolver::new(PanicsFirst(AtomicUsize::new(0)), INTERVAL);
    tokio::spawn(refresher.run());
    let cell = resolver.cell(&"app.internal".into());
    let failed = known(&cell, PATIENCE).await;
    assert_eq!(failed, Err("no address for app.internal: the look-up could not be made".to_owned()));
    sleep(FIRST_RETRY * 2).await;
    assert_eq!(known(&cell, PATIENCE).await, Ok(vec![ip(1)]));
}
