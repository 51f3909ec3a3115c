//! What reading a configuration of many members takes, counted by the allocator.
//!
//! A service with a memory limit must survive a reload. A binary of its own, as it
//! replaces the global allocator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use allocation_counter::measure;

const MEMBERS: usize = 50_000;

/// Bytes for each member at the worst moment: its tree, what it becomes, and that
/// nobody had its address before.
const EACH: usize = 450;

/// Bytes beside: one piece of the text in the parser's own form, the lists as they grow.
const ONCE: usize = 4 << 20;

const CHANNEL: &str = "port = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n";

fn host(number: usize) -> String {
    format!("10.{}.{}.{}", number / 62_500, number / 250 % 250, 1 + number % 250)
}

fn under_headers(members: usize) -> String {
    let mut text = format!("[[channels]]\nname = \"web\"\n{CHANNEL}");
    for number in 0..members {
        writeln!(text, "[[channels.members]]\nhost = \"{}\"", host(number)).unwrap();
    }
    text
}

fn in_a_list(members: usize) -> String {
    let mut text = format!("[[channels]]\nname = \"web\"\n{CHANNEL}members = [\n");
    for number in 0..members {
        writeln!(text, "  {{ host = \"{}\" }},", host(number)).unwrap();
    }
    text + "]\n"
}

fn in_many_channels(members: usize) -> String {
    let mut text = String::new();
    for channel in 0..members / 100 {
        write!(text, "[[channels]]\nname = \"web-{channel}\"\n{CHANNEL}members = [\n").unwrap();
        for number in 0..100 {
            writeln!(text, "  {{ host = \"{}\" }},", host(number)).unwrap();
        }
        text.push_str("]\n");
    }
    text
}

#[test]
fn reading_takes_a_few_hundred_bytes_for_each_member() {
    let layouts: [fn(usize) -> String; 3] = [under_headers, in_a_list, in_many_channels];
    for (number, layout) in layouts.into_iter().enumerate() {
        let text = layout(MEMBERS);
        let mut found = 0;
        let measured = measure(|| {
            let config = vitald::testing::config::parse("vitald.toml", &text, Path::new("/")).unwrap();
            found = config.channels.iter().map(|file| file.channel.members().len()).sum();
        });
        assert_eq!(found, MEMBERS);
        let limit = ONCE + MEMBERS * EACH;
        let taken = usize::try_from(measured.bytes_max).unwrap();
        println!("layout {number}: {} bytes a member", taken / MEMBERS);
        assert!(taken < limit, "layout {number}: {taken} bytes, {limit} allowed");
    }
}
