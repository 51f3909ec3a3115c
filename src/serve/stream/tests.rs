//! Long answers: broken off, bounded, and compressed when asked.

use std::io::Read as _;

use http_body_util::BodyExt as _;

use super::*;

#[tokio::test]
async fn a_text_that_is_broken_off_never_looks_whole() {
    for accept in ["gzip", "identity"] {
        let mut request = HeaderMap::new();
        request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
        let answer = |result: fn() -> io::Result<()>| {
            let request = request.clone();
            async move {
                let writer = TextWriter::Long(Writers::new().permit(host(1)).await.expect("a permit"));
                let response = writer.respond("text/plain", &request, move |text| {
                    text.push("half");
                    result()
                });
                response.into_body().collect().await.is_ok()
            }
        };
        assert!(answer(|| Ok(())).await, "{accept}");
        assert!(!answer(|| Err(io::ErrorKind::Other.into())).await, "{accept}");
        assert!(!answer(|| panic!("a fault of ours, on purpose")).await, "{accept}");
    }
}

#[tokio::test]
async fn a_long_text_takes_a_few_buffers() {
    const CHUNKS: usize = 64;
    let (told, measured) = tokio::sync::oneshot::channel();
    let writer = TextWriter::Long(Writers::new().permit(host(1)).await.expect("a permit"));
    let response = writer.respond("text/plain", &HeaderMap::new(), move |text| {
        let mut result = Ok(());
        let taken = allocation_counter::measure(|| {
            for _ in 0..CHUNKS {
                text.buffer.resize(CHUNK, b'x');
                result = text.pause();
            }
        });
        // The test has failed already if nobody listens.
        let _ = told.send(taken.bytes_total);
        result
    });
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.expect("a whole text").into_data().expect("no trailers").len();
    }
    assert_eq!(length, CHUNKS * CHUNK);
    // Those in the queue, the one being sent and the one being written.
    let limit = (QUEUE + 2) * (CHUNK + 2 * LINE);
    let taken = measured.await.expect("it was measured");
    assert!(taken < limit as u64, "{taken} bytes for {CHUNKS} chunks");
}

fn host(last: u8) -> PeerNetwork {
    PeerNetwork::of([192, 0, 2, last].into())
}

/// Clients of one source that do not read keep that source waiting, and nobody else.
#[tokio::test]
async fn a_source_waits_for_its_own_writers() {
    let writers = Writers::new();
    let mut deaf = Vec::new();
    for _ in 0..WRITERS_EACH {
        deaf.push(writers.permit(host(1)).await.expect("a permit"));
    }
    let mut next = Box::pin(writers.permit(host(1)));
    assert!(poll_once(next.as_mut()).is_pending());
    assert_eq!(writers.try_permit(host(1)).err(), Some(NoShare::OfSource));
    assert!(writers.try_permit(host(2)).is_ok());
    deaf.pop();
    assert!(poll_once(next.as_mut()).is_ready());
}

#[tokio::test]
async fn a_short_text_is_the_same_as_a_long_one() {
    let permit = Writers::new().permit(host(1)).await.expect("a permit");
    let mut texts = Vec::new();
    for writer in [TextWriter::Short, TextWriter::Long(permit)] {
        let answer = writer.respond("text/plain", &HeaderMap::new(), |text| {
            text.push("some");
            text.finish()?;
            text.push(" text");
            Ok(())
        });
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/plain");
        texts.push(answer.into_body().collect().await.expect("a whole text").to_bytes());
    }
    assert_eq!(texts, ["some text", "some text"]);
    let mut request = HeaderMap::new();
    request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let packed = TextWriter::Short.respond("text/plain", &request, |text| {
        text.push("some text");
        Ok(())
    });
    assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
    let bytes = packed.into_body().collect().await.expect("a whole text").to_bytes();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, "some text");
    let broken =
        TextWriter::Short.respond("text/plain", &HeaderMap::new(), |_| Err(io::ErrorKind::Other.into()));
    assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn gzip_is_sent_when_it_is_accepted_and_not_outweighed() {
    const GZIP: bool = true;
    const IDENTITY: bool = false;
    let cases: [(&[&str], bool); 20] = [
        (&[], IDENTITY),
        (&[""], IDENTITY),
        (&["gzip"], GZIP),
        (&["GZIP"], GZIP),
        (&["x-gzip"], GZIP),
        (&["deflate, gzip;q=1.0, *;q=0.5"], GZIP),
        (&["deflate", "br, gzip"], GZIP),
        (&["gzip;q=0"], IDENTITY),
        (&["gzip;q=0.000"], IDENTITY),
        (&["gzip;q=0.001"], GZIP),
        (&["gzip ; q=0.5 , identity;q=0.4"], GZIP),
        (&["gzip;q=0.5, identity"], IDENTITY),
        (&["identity;q=0.5, gzip;q=0.5"], GZIP),
        (&["*"], GZIP),
        (&["*;q=0"], IDENTITY),
        (&["gzip;q=0, *"], IDENTITY),
        (&["br, zstd"], IDENTITY),
        (&["gzip;q=2"], IDENTITY),
        (&["gzip;level=9"], IDENTITY),
        (&["gzip;q=0.1234"], IDENTITY),
    ];
    for (fields, expected) in cases {
        let values: Vec<HeaderValue> = fields.iter().map(|field| HeaderValue::from_static(field)).collect();
        assert_eq!(prefers_gzip(&values), expected, "{fields:?}");
    }
}
