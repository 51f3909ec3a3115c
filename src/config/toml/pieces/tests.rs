//! Texts read in pieces and as a whole: the same tree, or the pieces say nothing.

use proptest::prelude::*;

use super::super::read_whole;
use super::*;

/// Reads a text both ways; the pieces must say the same or nothing.
fn compare(text: &str, size: usize) -> bool {
    let (whole, errors) = read_whole(text);
    let Some(pieces) = read_by(text, size) else { return false };
    assert!(errors.is_empty(), "pieces of {size} bytes hide an error of\n{text}\n{errors:?}");
    assert_eq!(pieces, whole, "pieces of {size} bytes of\n{text}");
    true
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
fn pieces_of_every_size_say_what_the_whole_says() {
    let read = (1..LONG.len() / 2).filter(|size| compare(LONG, *size)).count();
    // Every size but those that cut the text within the string.
    assert!(read > 100, "{read} sizes were read in pieces");
    assert!(!compare(LONG, LONG.len()), "a short text needs no pieces");
}

#[test]
fn what_pieces_cannot_tell_is_left_to_the_whole() {
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
        for size in 1..text.len() / 2 {
            compare(text, size);
        }
    }
}

#[test]
fn a_long_list_is_read_in_pieces() {
    let mut headers = "[[channels]]\nname = \"web\"\n".to_owned();
    let mut inline = "[[channels]]\nname = \"web\"\nmembers = [\n".to_owned();
    for number in 0..10_000 {
        headers.push_str(&format!("[[channels.members]]\nhost = \"member-{number}\"\n"));
        inline.push_str(&format!("  {{ host = \"member-{number}\", port = 80 }},\n"));
    }
    inline.push_str("]\n");
    assert!(compare(&headers, PIECE));
    assert!(compare(&inline, PIECE));
}

proptest! {
    #[test]
    fn pieces_never_accept_or_mean_something_else(
        lines in prop::collection::vec(prop::sample::select(vec![
            "[[a]]", "[[a.b]]", "[a]", "[a.b]", "[[a.c]]", "[[b]]", "[[a.b.c]]", "[a.b.c]",
            "x = 1", "y = 2", "b = [", "c.d = 1", "{ x = 1 },", "1,", "]", "[[1]],", "\"\"\"",
            "x = \"\"\"", "# ,", "b = [] ", "'''", "a = 1", "", "é = 'ü'",
        ]), 0..40),
        size in 1_usize..60,
    ) {
        let mut text = lines.join("\n");
        text.push('\n');
        compare(&text, size);
    }
}
