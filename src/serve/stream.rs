//! Long texts in chunks: a scrape of 100,000 members never stands in memory whole.
//!
//! A text is written by plain synchronous code on a thread of its own, which
//! hands full chunks to the response through a bounded queue. So neither the
//! other requests nor anything else on the server's thread waits for it, and a
//! slow client slows only its own writer. A chunk that was sent is written again,
//! so that a text takes the same few buffers however long it is. There are few writers,
//! and fewer for one source. A short text takes none: it is written at once, whole.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::http::PageError;
use super::peer::PeerNetwork;
use super::shares::{NoShare, Share, Shares};

#[cfg(test)]
mod tests;

/// A chunk is handed on once it has this many bytes.
const CHUNK: usize = 256 * 1024;
/// The same for compressed text, which comes more slowly.
const PACKED_CHUNK: usize = 32 * 1024;
/// Room beyond a chunk for the line that fills it.
const LINE: usize = 1024;
/// Chunks waiting for the client. When full, the writing thread sleeps until
/// the client has read one, or fails once the connection is gone.
const QUEUE: usize = 2;
/// Texts written at once, in all and for one source; each holds a snapshot and a thread.
/// Further requests wait for one to end.
const WRITERS: usize = 8;
const WRITERS_EACH: usize = 2;

/// The right to write long texts, shared by all requests of a server.
#[derive(Debug, Clone)]
pub(super) struct Writers(Shares);

/// How a text is written.
#[derive(Debug)]
pub(super) enum TextWriter {
    /// At once and whole, on the thread that asks.
    Short,
    /// On a thread of its own.
    Long(WritePermit),
}

impl Writers {
    pub(super) fn new() -> Self {
        Self(Shares::new(WRITERS, WRITERS_EACH))
    }

    /// A permit if there is one now.
    pub(super) fn try_permit(&self, network: PeerNetwork) -> Result<WritePermit, NoShare> {
        self.0.try_take(network).map(|share| WritePermit { _share: share })
    }

    /// Waits for a permit. Take the snapshot after it, so that it is fresh.
    ///
    /// # Errors
    /// The semaphore is closed, which no code does.
    pub(super) async fn permit(&self, network: PeerNetwork) -> Result<WritePermit, NoShare> {
        self.0.take(network).await.map(|share| WritePermit { _share: share })
    }
}

/// The right to write one text, until it is dropped.
#[derive(Debug)]
pub(super) struct WritePermit {
    _share: Share,
}

impl TextWriter {
    /// An answer whose body `write` writes, compressed if the client asks for it.
    pub(super) fn respond(
        self,
        content_type: &'static str,
        request: &HeaderMap,
        write: impl FnOnce(&mut Text<'_>) -> io::Result<()> + Send + 'static,
    ) -> Response {
        let is_gzip = prefers_gzip(request.get_all(header::ACCEPT_ENCODING));
        let body = match self {
            Self::Short => match whole(write, is_gzip) {
                Ok(text) => Body::from(text),
                // Memory takes everything, so it is `write` that failed.
                Err(error) => {
                    let text = error.to_string();
                    return PageError::new(StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
                }
            },
            Self::Long(permit) => {
                let (sender, receiver) = mpsc::channel(QUEUE);
                tokio::task::spawn_blocking(move || {
                    let sender = Sender(sender);
                    // An error means that the client is gone: there is no one to tell.
                    drop(if is_gzip { send_gzip(sender, write) } else { send(sender, write) });
                    drop(permit);
                });
                Body::new(ChunkBody { receiver })
            }
        };
        let mut response = body.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if is_gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Where full chunks go. Takes a chunk and returns an empty buffer to go on with.
pub(super) trait Sink {
    fn take(&mut self, chunk: Vec<u8>) -> io::Result<Vec<u8>>;
}

/// A text that grows at its end and is handed on a chunk at a time.
pub(super) struct Text<'s> {
    pub(super) buffer: Vec<u8>,
    sink: &'s mut dyn Sink,
}

impl<'s> Text<'s> {
    pub(super) fn new(sink: &'s mut dyn Sink) -> Self {
        Self { buffer: Vec::with_capacity(CHUNK + LINE), sink }
    }

    /// Appends text as it is.
    pub(super) fn push(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// A good place to hand on what there is, if it is enough.
    ///
    /// # Errors
    /// The reader is gone.
    pub(super) fn pause(&mut self) -> io::Result<()> {
        if self.buffer.len() < CHUNK { Ok(()) } else { self.finish() }
    }

    /// Hands on everything.
    ///
    /// # Errors
    /// The reader is gone.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.buffer = self.sink.take(std::mem::take(&mut self.buffer))?;
        Ok(())
    }
}

/// A short text in memory.
#[derive(Debug, Default)]
struct Whole(Vec<u8>);

impl Sink for Whole {
    fn take(&mut self, mut chunk: Vec<u8>) -> io::Result<Vec<u8>> {
        self.0.append(&mut chunk);
        Ok(chunk)
    }
}

fn whole(write: impl FnOnce(&mut Text<'_>) -> io::Result<()>, is_gzip: bool) -> io::Result<Vec<u8>> {
    let mut plain = Whole::default();
    let mut text = Text::new(&mut plain);
    write(&mut text)?;
    text.finish()?;
    if !is_gzip {
        return Ok(plain.0);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&plain.0)?;
    encoder.finish()
}

/// What travels from the writing thread to the response.
#[derive(Debug)]
enum StreamChunk {
    Chunk(Bytes),
    /// The text is whole. Without it the response is broken off, so that a
    /// client never takes a part for the whole.
    End,
}

struct Sender(mpsc::Sender<StreamChunk>);

impl Sender {
    fn send(&self, piece: StreamChunk) -> io::Result<()> {
        self.0.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Buffers whose chunk was sent. No more than the queue holds, and the one that
/// is being sent.
#[derive(Debug, Default)]
struct BufferPool(Mutex<Vec<Vec<u8>>>);

impl BufferPool {
    fn take(&self) -> Vec<u8> {
        // Nothing panics while the list is held.
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(CHUNK + LINE))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// A chunk on its way; its buffer comes back once it was sent.
struct Sent {
    buffer: Vec<u8>,
    spare: Arc<BufferPool>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.spare.give_back(std::mem::take(&mut self.buffer));
    }
}

struct Plain {
    sender: Sender,
    spare: Arc<BufferPool>,
}

impl Sink for Plain {
    fn take(&mut self, chunk: Vec<u8>) -> io::Result<Vec<u8>> {
        let sent = Sent { buffer: chunk, spare: Arc::clone(&self.spare) };
        self.sender.send(StreamChunk::Chunk(Bytes::from_owner(sent)))?;
        Ok(self.spare.take())
    }
}

fn send(sender: Sender, write: impl FnOnce(&mut Text<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut sink = Plain { sender, spare: Arc::default() };
    let mut text = Text::new(&mut sink);
    write(&mut text)?;
    text.finish()?;
    sink.sender.send(StreamChunk::End)
}

struct Gzip {
    encoder: GzEncoder<Vec<u8>>,
    sender: Sender,
}

impl Sink for Gzip {
    fn take(&mut self, mut chunk: Vec<u8>) -> io::Result<Vec<u8>> {
        self.encoder.write_all(&chunk)?;
        if self.encoder.get_ref().len() >= PACKED_CHUNK {
            let empty = Vec::with_capacity(2 * PACKED_CHUNK);
            let compressed = std::mem::replace(self.encoder.get_mut(), empty);
            self.sender.send(StreamChunk::Chunk(compressed.into()))?;
        }
        chunk.clear();
        Ok(chunk)
    }
}

fn send_gzip(sender: Sender, write: impl FnOnce(&mut Text<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut sink = Gzip { encoder: GzEncoder::new(Vec::new(), Compression::fast()), sender };
    let mut text = Text::new(&mut sink);
    write(&mut text)?;
    text.finish()?;
    let rest = sink.encoder.finish()?;
    sink.sender.send(StreamChunk::Chunk(rest.into()))?;
    sink.sender.send(StreamChunk::End)
}

/// The body on the response's side.
struct ChunkBody {
    receiver: mpsc::Receiver<StreamChunk>,
}

impl hyper::body::Body for ChunkBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match ready!(self.receiver.poll_recv(context)) {
            Some(StreamChunk::Chunk(chunk)) => Some(Ok(Frame::data(chunk))),
            Some(StreamChunk::End) => None,
            None => Some(Err(io::Error::other("the text was broken off"))),
        })
    }
}

/// Whether the client accepts gzip and does not prefer the plain text (RFC 9110, 12.5.3).
fn prefers_gzip<'a>(fields: impl IntoIterator<Item = &'a HeaderValue>) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for field in fields {
        // What is not text names no encoding.
        for item in field.to_str().unwrap_or_default().split(',') {
            let (name, weight) = item.split_once(';').unwrap_or((item, ""));
            let weight = thousandths(weight);
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "identity" => identity = Some(weight),
                "*" => any = Some(weight),
                _ => {}
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// `q=0.5` as 500; 1000 when absent, 0 when unreadable.
fn thousandths(parameter: &str) -> u16 {
    let parameter = parameter.trim();
    if parameter.is_empty() {
        return 1000;
    }
    let Some(value) = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")) else {
        return 0;
    };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.parse::<u16>()) {
        ("1", Ok(0)) => 1000,
        ("0", Ok(value)) if digits.len() == 3 => value,
        _ => 0,
    }
}
