//! Memory that content is received into, used again and again.
//!
//! Fresh memory costs as much as copying into it several times over, because the kernel maps it page by page. So pieces
//! of the one size that bulk is moved in are kept for the next who needs one; smaller ones are left to the allocator, which
//! keeps those by itself. What is kept unused is bounded, and let go when nobody reads.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

/// Bytes in a large piece: what the kernel reads at once of a file that is read from begin to end.
pub(super) const LARGE_BYTES: usize = 512 << 10;

/// Unused pieces kept: a few milliseconds' worth at the highest rate.
const KEPT: usize = 12;

/// The unused pieces.
#[derive(Default)]
pub(super) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

/// A piece of memory to be filled.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    home: Option<Arc<Buffers>>,
}

impl Buffers {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An empty piece for `len` bytes.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let is_large = len > LARGE_BYTES / 2 && len <= LARGE_BYTES;
        let kept = is_large.then(|| self.free.lock().unwrap().pop()).flatten();
        let capacity = if is_large { LARGE_BYTES } else { len };
        Buffer {
            bytes: kept.unwrap_or_else(|| Vec::with_capacity(capacity)),
            home: is_large.then(|| Arc::clone(self)),
        }
    }

    /// Lets go all that is unused.
    pub(super) fn clear(&self) {
        let unused = std::mem::take(&mut *self.free.lock().unwrap());
        drop(unused);
    }
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The first `len` bytes in memory of their own; what follows them moves to the beginning.
    pub(super) fn split_front(&mut self, len: usize) -> Bytes {
        let front = Bytes::copy_from_slice(&self.bytes[..len]);
        self.bytes.drain(..len);
        front
    }

    /// What it was filled with. The memory goes back once nobody uses the bytes any more; at once where it is mostly
    /// empty, so that little is held for what counts as little.
    pub(super) fn freeze(self) -> Bytes {
        match self.bytes.len() <= self.bytes.capacity() / 2 {
            true => Bytes::copy_from_slice(&self.bytes),
            false => Bytes::from_owner(self),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(home) = &self.home else {
            return;
        };
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut free = home.free.lock().unwrap();
        if free.len() < KEPT {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Arc<Buffers>, fill: u8, len: usize) -> Bytes {
        let mut buffer = buffers.take(len);
        buffer.push(&vec![fill; len]);
        buffer.freeze()
    }

    #[test]
    fn a_large_piece_is_used_again_once_nobody_has_its_bytes_any_more() {
        let buffers = Buffers::new();
        let first = filled(&buffers, 1, LARGE_BYTES);
        let (slice, memory) = (first.slice(10..20), first.as_ptr());
        drop(first);
        assert_ne!(filled(&buffers, 2, LARGE_BYTES).as_ptr(), memory);
        assert_eq!(&slice[..], [1; 10]);
        buffers.clear();
        drop(slice);
        assert_eq!(filled(&buffers, 3, LARGE_BYTES).as_ptr(), memory);
    }

    #[test]
    fn unused_memory_is_bounded_and_can_be_let_go() {
        let buffers = Buffers::new();
        let all: Vec<Bytes> = (0..100)
            .map(|fill| filled(&buffers, fill, LARGE_BYTES))
            .collect();
        drop(all);
        assert_eq!(buffers.free.lock().unwrap().len(), KEPT);
        buffers.clear();
        assert!(buffers.free.lock().unwrap().is_empty());
    }

    #[test]
    fn a_rest_that_is_little_does_not_hold_the_whole_piece() {
        let buffers = Buffers::new();
        let mut buffer = buffers.take(LARGE_BYTES);
        buffer.push(&vec![1; LARGE_BYTES]);
        drop(buffer.split_front(LARGE_BYTES - 100));
        let rest = buffer.freeze();
        assert_eq!(&rest[..], [1; 100]);
        let free = buffers.free.lock().unwrap().len();
        assert_eq!(free, 1);
    }

    #[test]
    fn the_front_leaves_and_the_rest_stays() {
        let mut buffer = Buffers::new().take(10);
        buffer.push(b"0123456789");
        assert_eq!(buffer.split_front(4), "0123");
        assert_eq!(buffer.freeze(), "456789");
    }
}
