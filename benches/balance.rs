//! The balancer against its floors: `cargo bench --bench balance`.

mod support;

criterion::criterion_group!(benches, support::all);
criterion::criterion_main!(benches);
