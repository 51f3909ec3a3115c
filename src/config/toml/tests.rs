//! Texts parsed in batches and as a whole: the same tree, or the batches have an error.

use proptest::prelude::*;

use super::*;

/// Parses a text both ways; without an error the batches must mean what the whole does.
/// Returns whether they had none.
fn compare(text: &str, batch: usize) -> bool {
    let (whole, errors) = parse(text, usize::MAX);
    let (table, refused) = parse(text, batch);
    if refused.is_empty() {
        assert!(errors.is_empty(), "batches of {batch} tokens hide an error of\n{text}\n{errors:?}");
        assert_eq!(table, whole, "batches of {batch} tokens of\n{text}");
    }
    refused.is_empty()
}

const LONG: &str = r#"[server]
listen = "127.0.0.1:1"

[[channels]]
name = "one"
probe = { close = "fin" }
[channels.vpc_health_config]
protocol = "TCP"
[[channels.members]]
host = "10.0.0.1" # [[channels]]
[[channels.members]]
host = "10.0.0.2"
[channels.members.more]
text = """
[[channels]]
name = "no\"ne"
"""
[[channels.members]]
host = "10.0.0.3"
[[channels.member_groups]]
member_group_name = "é"
[[channels]]
name = "two"
members = [
    { host = "10.0.0.4", port = 1 },
    # { host = "10.0.0.5" },
    { host = "10.0.0.6", nested = [[1], [2]] },

    { host = "10.0.0.7" }, # the last,
]
[channels.balance]
fail_open = true
[[channels]]
name = "three"
members = [
  { host = "10.0.0.8" }
]
[[other]]
key = 1
[[other]]
key = 2
"#;

#[test]
fn batches_of_every_size_say_what_the_whole_says() {
    assert!((1..LONG.len()).all(|batch| compare(LONG, batch)));
}

#[test]
fn batches_hide_no_error() {
    let cases = [
        "[[a]]\nx = 1\n[[a.b]]\ny = 1\n[a.b.c]\nz = 1\n[[a.b]]\ny = 2\n[[a.b.c]]\n",
        "[[a]]\nb = [{ y = 1 }]\n[[a.b]]\ny = 2\n",
        "[a]\nx = 1\n[[a.b]]\ny = 2\n[[a.b]]\ny = 3\n",
        "[[a.b]]\ny = 2\n[[a]]\ny = 3\n",
        "a = [{ x = 1 }]\nb = 1\n[[a]]\ny = 3\n",
        "[a.b]\nx = 1\n[[c]]\nx = 1\n[a]\nx = 1\n",
        "[[c]]\nx = 1\n[a]\nx = 1\n[[c]]\nx = 1\n[a]\ny = 1\n",
        "x = [\n[[1]],\n[[2]],\n[[3]]\n]\n",
        "x = [\n1,\n,\n2,\n]\n",
        "x = [\n{ a = 1 },\n{ a = 2 }\n{ a = 3 },\n]\n",
        "x = \"\"\"\nb = [\n1,\n2,\n]\n\"\"\"\n",
        "x = '''\n[[a]]\n'''\n[[a]]\nx = 1\n[[a]]\nx = 2\n",
        "[[a]]\nx = 1\n[[a]]\nx = 1\nx = 2\n[[a]]\nx = 1\n",
        "[[a]]\nx = 1\n[[a]\nx = 1\n[[a]]\nx = 1\n",
    ];
    for text in cases {
        for batch in 1..text.len() {
            compare(text, batch);
        }
    }
}

#[test]
fn a_long_list_is_read_in_batches() {
    let mut headers = "[[channels]]\nname = \"web\"\n".to_owned();
    let mut inline = "[[channels]]\nname = \"web\"\nmembers = [\n".to_owned();
    for number in 0..10_000 {
        headers.push_str(&format!("[[channels.members]]\nhost = \"member-{number}\"\n"));
        inline.push_str(&format!("  {{ host = \"member-{number}\", port = 80 }},\n"));
    }
    inline.push_str("]\n");
    assert!(compare(&headers, BATCH));
    assert!(compare(&inline, BATCH));
}

proptest! {
    #[test]
    fn batches_never_accept_or_mean_something_else(
        lines in prop::collection::vec(prop::sample::select(vec![
            "[[a]]", "[[a.b]]", "[a]", "[a.b]", "[[a.c]]", "[[b]]", "[[a.b.c]]", "[a.b.c]",
            "x = 1", "y = 2", "b = [", "c.d = 1", "{ x = 1 },", "1,", "]", "[[1]],", "\"\"\"",
            "x = \"\"\"", "# ,", "b = [] ", "'''", "a = 1", "", "é = 'ü'",
        ]), 0..40),
        batch in 1_usize..60,
    ) {
        let mut text = lines.join("\n");
        text.push('\n');
        compare(&text, batch);
    }
}
