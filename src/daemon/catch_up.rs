//! When balancers rewrite their long pick orders: soon after verdicts, but not after each
//! of them; and when their slow starts go on.
//!
//! Called by control. A verdict is in effect at once, whatever the order contains
//! (`Balancer::advance`). When thousands of members fail together, an order that is
//! rewritten after each verdict would be rewritten thousands of times a second.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::catalog::ChannelBalancer;

/// The shortest time between two rewrites.
const PAUSE: Duration = Duration::from_millis(50);

/// The balancers that have had verdicts since their last rewrite, and those whose members
/// take more of their weight later.
#[derive(Debug, Default)]
pub struct CatchUp {
    /// By channel; few, however many verdicts.
    waiting: BTreeMap<String, ChannelBalancer>,
    last: Option<Instant>,
    /// By channel: when the next step of a slow start is due.
    steps: BTreeMap<String, (Instant, ChannelBalancer)>,
    /// The earliest of them.
    next_step: Option<Instant>,
}

impl CatchUp {
    /// A balancer has been told of a verdict.
    pub fn add(&mut self, channel: &str, balancer: &ChannelBalancer) {
        if !self.waiting.contains_key(channel) {
            self.waiting.insert(channel.to_owned(), balancer.clone());
        }
    }

    /// A slow start of a balancer goes on then; again, if it was told before.
    pub fn add_step(&mut self, channel: String, balancer: ChannelBalancer, due: Instant) {
        self.next_step = Some(self.next_step.map_or(due, |next| next.min(due)));
        self.steps.insert(channel, (due, balancer));
    }

    /// Waits until there is a balancer to rewrite, and a pause has passed since the last
    /// rewrite. Dropping it loses nothing.
    pub async fn due(&self) {
        let rest = self.last.map(|last| last + PAUSE);
        match (self.waiting.is_empty(), self.next_step) {
            (true, None) => std::future::pending().await,
            (true, Some(step)) => sleep_until(rest.map_or(step, |rest| rest.max(step))).await,
            (false, _) => {
                if let Some(rest) = rest {
                    sleep_until(rest).await;
                }
            }
        }
    }

    /// The balancers to rewrite now, with their channels; the next come after a pause.
    pub fn take(&mut self) -> BTreeMap<String, ChannelBalancer> {
        let now = Instant::now();
        self.last = Some(now);
        let mut due = std::mem::take(&mut self.waiting);
        if self.next_step.is_some_and(|next| next <= now) {
            for (channel, (_, balancer)) in self.steps.extract_if(.., |_, (step, _)| *step <= now) {
                due.entry(channel).or_insert(balancer);
            }
            self.next_step = self.steps.values().map(|(step, _)| *step).min();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::balance::Options;
    use crate::channel::Strategy;

    #[tokio::test(start_paused = true)]
    async fn the_first_comes_at_once_and_the_others_together_after_a_pause() {
        let balancer = ChannelBalancer::new(Strategy::WeightedRoundRobin, Options::default(), []).unwrap();
        let mut catch_up = CatchUp::default();
        assert!(timeout(10 * PAUSE, catch_up.due()).await.is_err(), "nobody waits");
        catch_up.add("shop", &balancer);
        let start = Instant::now();
        catch_up.due().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(catch_up.take().len(), 1);
        for channel in ["shop", "search", "shop"] {
            advance(Duration::from_millis(10)).await;
            catch_up.add(channel, &balancer);
        }
        catch_up.due().await;
        assert!(start.elapsed() >= PAUSE, "{:?}", start.elapsed());
        assert_eq!(catch_up.take().len(), 2);
        assert!(timeout(10 * PAUSE, catch_up.due()).await.is_err(), "nobody waits any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_a_slow_start_comes_at_its_time() {
        let balancer = ChannelBalancer::new(Strategy::WeightedRoundRobin, Options::default(), []).unwrap();
        let (mut catch_up, start) = (CatchUp::default(), Instant::now());
        catch_up.add_step("shop".to_owned(), balancer.clone(), start + 20 * PAUSE);
        catch_up.add_step("cart".to_owned(), balancer.clone(), start + 30 * PAUSE);
        catch_up.due().await;
        assert_eq!(start.elapsed(), 20 * PAUSE);
        assert_eq!(catch_up.take().into_keys().collect::<Vec<_>>(), ["shop"]);
        // A verdict does not wait for it.
        catch_up.add("web", &balancer);
        catch_up.due().await;
        assert_eq!(start.elapsed(), 21 * PAUSE);
        assert_eq!(catch_up.take().into_keys().collect::<Vec<_>>(), ["web"]);
        catch_up.due().await;
        assert_eq!(start.elapsed(), 30 * PAUSE);
        assert_eq!(catch_up.take().into_keys().collect::<Vec<_>>(), ["cart"]);
        assert!(timeout(10 * PAUSE, catch_up.due()).await.is_err(), "nobody waits any more");
    }
}
