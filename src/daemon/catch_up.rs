//! When balancers rewrite their long pick orders: soon after verdicts, but not after each
//! of them.
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

/// The balancers that have had verdicts since their last rewrite.
#[derive(Debug, Default)]
pub struct CatchUp {
    /// By channel; few, however many verdicts.
    waiting: BTreeMap<String, ChannelBalancer>,
    last: Option<Instant>,
}

impl CatchUp {
    /// A balancer has been told of a verdict.
    pub fn add(&mut self, channel: &str, balancer: &ChannelBalancer) {
        if !self.waiting.contains_key(channel) {
            self.waiting.insert(channel.to_owned(), balancer.clone());
        }
    }

    /// Waits until there is a balancer to rewrite, and a pause has passed since the last
    /// rewrite. Dropping it loses nothing.
    pub async fn due(&self) {
        if self.waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        if let Some(last) = self.last {
            sleep_until(last + PAUSE).await;
        }
    }

    /// The balancers to rewrite now; the next come after a pause.
    pub fn take(&mut self) -> impl Iterator<Item = ChannelBalancer> + use<> {
        self.last = Some(Instant::now());
        std::mem::take(&mut self.waiting).into_values()
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
        assert_eq!(catch_up.take().count(), 1);
        for channel in ["shop", "search", "shop"] {
            advance(Duration::from_millis(10)).await;
            catch_up.add(channel, &balancer);
        }
        catch_up.due().await;
        assert!(start.elapsed() >= PAUSE, "{:?}", start.elapsed());
        assert_eq!(catch_up.take().count(), 2);
        assert!(timeout(10 * PAUSE, catch_up.due()).await.is_err(), "nobody waits any more");
    }
}
