//! The management API over a backend that only remembers: for trying clients
//! without probes, store or accounts. Any credential is accepted.
//!
//! ```text
//! cargo run --example api_in_memory [ADDRESS]
//! ```

#[expect(dead_code, reason = "verdicts and restarts are for the tests")]
#[path = "../tests/api/memory.rs"]
mod memory;

use std::sync::Arc;

use memory::{Memory, anybody_with_credentials};
use vitald::catalog::registry::Quotas;
use vitald::config;

const FILE: &str = r#"
[[channels]]
name = "from-file"
port = 8080
balance_strategy = 1
member_type = "ip"

[[channels.members]]
host = "192.0.2.50"
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9650".to_owned());
    let quotas = Quotas { channels: 20_000, members: 200_000, groups: 200 };
    let parsed = config::parse("vitald.toml", FILE, std::path::Path::new("."));
    let files = parsed.map_err(|errors| std::io::Error::other(errors.to_string()))?.channels;
    let files: Vec<_> = files.iter().map(|file| Arc::clone(&file.channel)).collect();
    let router = vitald::serve::api::router(Memory::new(quotas, &files))
        .layer(axum::middleware::from_fn(anybody_with_credentials))
        .merge(vitald::serve::api::description());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    axum::serve(listener, router).await
}
