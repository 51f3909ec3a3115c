//! Two buffers per thread: for requests on their way out and bytes on their way in.
//!
//! A probe holds one only inside a turn of its machine, never while it waits:
//! ten thousand probes in flight share them. Only a head that arrives in
//! pieces keeps bytes of its own.

use std::cell::Cell;

/// Bytes of the input buffer: most response heads and the records of a whole
/// TLS handshake fit.
const INPUT: usize = 16 * 1024;

thread_local! {
    static IN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's input buffer, of unspecified content. A nested call gets
/// a new one.
pub(super) fn input<R>(fill: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = IN.take();
    buffer.resize(INPUT, 0);
    let result = fill(&mut buffer);
    IN.set(buffer);
    result
}

/// Lends the thread's output buffer, empty. A nested call gets a new one.
pub(super) fn output<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = OUT.take();
    buffer.clear();
    let result = write(&mut buffer);
    OUT.set(buffer);
    result
}
