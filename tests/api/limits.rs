//! Large and greedy requests.

use std::io::Write;

use serde_json::json;
use vitald::testing::catalog::Quotas;

use crate::client::{Server, read_answer};
use crate::memory::Memory;
use crate::{create, path, server, small, text};

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let server = server();
    let mut stream = server.connect();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: test\r\nX-Auth-Token: t\r\nContent-Length: 13000000\r\n\r\n",
        path("/vpc-channels")
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let answer = read_answer(stream);
    assert_eq!((answer.status, text(&answer.json(), "error_code")), (413, "APIG.0201"));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn a_body_of_unknown_length_is_cut_off_too() {
    let server = server();
    let mut stream = server.connect();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: test\r\nX-Auth-Token: t\r\nTransfer-Encoding: chunked\r\n\r\n",
        path("/vpc-channels")
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
    for _ in 0..13 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(read_answer(stream).status, 413);
}

#[test]
fn a_channel_of_many_members_is_made_listed_and_shown() {
    const MEMBERS: usize = 20_000;
    let quotas = Quotas { members: MEMBERS, ..Quotas::default() };
    let server = Server::start(Memory::new(quotas, &[]));
    let members: Vec<_> = (0..MEMBERS)
        .map(|number| json!({"host": format!("10.{}.{}.1", number / 256, number % 256)}))
        .collect();
    let mut body = small("many");
    body["members"] = json!(members);
    let id = text(&create(&server, &body), "id").to_owned();
    let shown = server.send("GET", &path(&format!("/vpc-channels/{id}")), None).json();
    assert_eq!(shown["members"].as_array().map(Vec::len), Some(MEMBERS));
    let listed = server.send("GET", &path(&format!("/vpc-channels/{id}/members?limit=500")), None).json();
    assert_eq!((&listed["total"], &listed["size"]), (&json!(MEMBERS), &json!(500)));
    let more = json!({"members": [{"host": "192.0.2.1"}]});
    let refused = server.send("POST", &path(&format!("/vpc-channels/{id}/members")), Some(&more));
    assert_eq!((refused.status, text(&refused.json(), "error_code")), (403, "APIG.3110"));
}
