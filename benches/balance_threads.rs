//! What a pick costs a thread when a second one picks too:
//! `cargo bench --no-default-features --bench balance_threads`.
//!
//! Wall-clock time says little on a shared machine, so this counts the CPU time
//! of each thread, alternates one thread and two, and prints medians. The
//! control shares nothing: its ratio is what the machine itself adds.

#![expect(clippy::print_stdout, reason = "a bench prints its small numbers")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;

use rustix::time::{ClockId, clock_gettime};
use vitald::balance::{Balancer, Member, Options, Request};
use vitald::channel::{Health, Strategy};

/// How long to measure: `cargo bench` says `--bench`, `cargo test` only tries the bench.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    picks: u32,
}

impl Effort {
    fn asked() -> Self {
        let measures = std::env::args().any(|argument| argument == "--bench");
        if measures { Self { rounds: 15, picks: 1_000_000 } } else { Self { rounds: 1, picks: 1000 } }
    }
}

/// CPU time of this thread so far, in nanoseconds.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// CPU nanoseconds per step of so many threads at once, each with its own worker.
fn cost<W: FnMut(u32)>(picks: u32, threads: usize, make: impl Fn(usize) -> W + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let total: f64 = std::thread::scope(|scope| {
        let run = |thread| {
            let (barrier, make) = (&barrier, &make);
            scope.spawn(move || {
                let mut work = make(thread);
                (0..picks / 10).for_each(&mut work);
                barrier.wait();
                let start = cpu_time();
                (0..picks).for_each(&mut work);
                cpu_time() - start
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("picks do not panic")).sum()
    });
    total / threads as f64 / f64::from(picks)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn compare<W: FnMut(u32)>(effort: Effort, name: &str, make: impl Fn(usize) -> W + Sync) {
    let (mut alone, mut together, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let (one, two) = (cost(effort.picks, 1, &make), cost(effort.picks, 2, &make));
        alone.push(one);
        together.push(two);
        ratios.push(two / one);
    }
    let (one, two, ratio) = (median(alone), median(together), median(ratios));
    println!("{name:<28} one thread {one:7.2} ns, two {two:7.2} ns, ratio {ratio:.2}");
}

fn main() {
    let effort = Effort::asked();
    compare(effort, "control", |thread| {
        let mut state = thread as u64;
        move |step| {
            state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(step);
            black_box(state);
        }
    });
    for strategy in Strategy::ALL {
        let members = (0..10_000_u32)
            .map(|member| Member::new(member).weight(1 + (member % 10) as u16).health(Health::Healthy));
        let balancer = Balancer::new(strategy, Options::default(), members).expect("members differ");
        let uris: Vec<String> = (0..1024).map(|key| format!("/static/img/{key:027}")).collect();
        let pick = |uri: &str, step: u32, with: &dyn Fn(&Request<'_>) -> u32| {
            let source = IpAddr::V4(Ipv4Addr::from(step.wrapping_mul(0x9E37_79B9)));
            black_box(with(&Request::new().uri(uri.as_bytes()).source(source)));
        };
        let uri = |step: u32| uris.get(step as usize % uris.len()).map_or("", String::as_str);
        compare(effort, &format!("{strategy:?}"), |_| {
            let picker = balancer.picker();
            move |step| pick(uri(step), step, &|request| *picker.pick(request).expect("all are up").address())
        });
        compare(effort, &format!("{strategy:?}, shared"), |_| {
            |step| pick(uri(step), step, &|request| *balancer.pick(request).expect("all are up").address())
        });
    }
}
