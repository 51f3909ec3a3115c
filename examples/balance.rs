//! Ten picks over three backends: `cargo run --example balance`.

use std::net::SocketAddr;

use vitald::balance::{Balancer, Member, Options, Request};
use vitald::channel::{Health, Strategy};

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backends: [SocketAddr; 3] = ["10.0.0.1:80".parse()?, "10.0.0.2:80".parse()?, "10.0.0.3:80".parse()?];
    let members = backends.into_iter().zip([5, 3, 2]).map(|(at, weight)| Member::new(at).weight(weight));
    let balancer = Balancer::new(Strategy::WeightedRoundRobin, Options::default(), members)?;
    let down = balancer.id_of("10.0.0.2:80").ok_or("no such member")?;
    balancer.set_health(down, Health::Unhealthy)?;
    let picker = balancer.picker();
    for _ in 0..10 {
        let pick = picker.pick(&Request::new())?;
        println!("{}", pick.address());
    }
    Ok(())
}
