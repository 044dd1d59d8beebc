//! ONNX Runtime's arena (`BFCArena`, best fit with coalescing), as far as it decides how much memory becomes resident.
//!
//! A request takes the smallest free piece that is large enough, and takes all of it unless the piece is twice as large; so
//! an arena holds up to twice the bytes that live. Regions double: 1 MiB, 2 MiB, …, or the next power of two that holds
//! the request. Only pages that were written are resident.

use std::collections::BTreeMap;

/// Sizes are multiples of this.
const BLOCK: u64 = 256;
/// The first region.
const FIRST_REGION_BYTES: u64 = 1 << 20;
/// A piece is divided when more than this would be left over, however large the request.
const LEFT_OVER_BYTES_MAX: u64 = 128 << 20;
/// What the kernel hands out.
const PAGE: u64 = 4096;

/// An arena without memory behind it.
#[derive(Debug, Clone)]
pub struct Arena {
    /// All pieces by address; regions do not touch.
    pieces: BTreeMap<u64, Piece>,
    next_region_bytes: u64,
    next_address: u64,
    /// Ends by starts of what was ever written, in pages.
    written: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    bytes: u64,
    free: bool,
}

impl Default for Arena {
    fn default() -> Self {
        let (pieces, written) = (BTreeMap::new(), BTreeMap::new());
        Self { pieces, next_region_bytes: FIRST_REGION_BYTES, next_address: 0, written }
    }
}

impl Arena {
    /// Takes room for that many bytes and writes to all of it; gives the address for [`Arena::free`].
    pub fn allocate(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.max(1).next_multiple_of(BLOCK);
        let address = self.best_fit(bytes).unwrap_or_else(|| {
            self.extend(bytes);
            self.best_fit(bytes).expect("the new region holds the request")
        });
        let piece = self.pieces[&address];
        let divided = piece.bytes >= bytes * 2 || piece.bytes - bytes >= LEFT_OVER_BYTES_MAX;
        let taken = if divided { bytes } else { piece.bytes };
        self.pieces.insert(address, Piece { bytes: taken, free: false });
        if divided {
            self.pieces.insert(address + bytes, Piece { bytes: piece.bytes - bytes, free: true });
        }
        self.write(address / PAGE, (address + bytes).div_ceil(PAGE));
        address
    }

    /// Gives a piece back; it grows together with its free neighbours.
    pub fn free(&mut self, address: u64) {
        let mut piece = self.pieces.remove(&address).expect("an address of this arena");
        let mut start = address;
        if let Some(next) = self.pieces.get(&(address + piece.bytes)).copied().filter(|next| next.free) {
            self.pieces.remove(&(address + piece.bytes));
            piece.bytes += next.bytes;
        }
        let before = self.pieces.range(..address).next_back().map(|(at, before)| (*at, *before));
        if let Some((at, before)) = before.filter(|(at, before)| before.free && at + before.bytes == address) {
            self.pieces.remove(&at);
            piece.bytes += before.bytes;
            start = at;
        }
        self.pieces.insert(start, Piece { bytes: piece.bytes, free: true });
    }

    /// Bytes of all pages that were ever written.
    pub fn resident_bytes(&self) -> u64 {
        self.written.iter().map(|(start, end)| (end - start) * PAGE).sum()
    }

    fn best_fit(&self, bytes: u64) -> Option<u64> {
        let fitting = self.pieces.iter().filter(|(_, piece)| piece.free && piece.bytes >= bytes);
        fitting.min_by_key(|(address, piece)| (piece.bytes, **address)).map(|(address, _)| *address)
    }

    fn extend(&mut self, bytes: u64) {
        let doubled = self.next_region_bytes < bytes;
        while self.next_region_bytes < bytes {
            self.next_region_bytes *= 2;
        }
        self.pieces.insert(self.next_address, Piece { bytes: self.next_region_bytes, free: true });
        // A page between two regions keeps their pieces apart.
        self.next_address += self.next_region_bytes.next_multiple_of(PAGE) + PAGE;
        if !doubled {
            self.next_region_bytes *= 2;
        }
    }

    fn write(&mut self, mut start: u64, mut end: u64) {
        let touching: Vec<u64> =
            self.written.range(..=end).rev().take_while(|(_, other)| **other >= start).map(|(at, _)| *at).collect();
        for at in touching {
            let other = self.written.remove(&at).expect("it was just listed");
            (start, end) = (start.min(at), end.max(other));
        }
        self.written.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_below_twice_the_request_is_taken_whole_and_a_larger_one_divided() {
        let mut arena = Arena::default();
        let first = arena.allocate(600 << 10);
        assert_eq!(
            arena.allocate(300 << 10),
            (1 << 20) + PAGE,
            "what was left of the first region went with the first"
        );
        arena.free(first);
        assert_eq!((arena.allocate(400 << 10), arena.allocate(400 << 10)), (0, 400 << 10));
    }

    #[test]
    fn freed_neighbours_are_one_piece_again_and_written_pages_count_once() {
        let mut arena = Arena::default();
        let pieces: Vec<u64> = (0..4).map(|_| arena.allocate(100 << 10)).collect();
        assert_eq!(arena.resident_bytes(), 400 << 10);
        for piece in [pieces[1], pieces[3], pieces[0], pieces[2]] {
            arena.free(piece);
        }
        assert_eq!(arena.allocate(1 << 20), 0);
        assert_eq!(arena.resident_bytes(), 1 << 20);
    }

    #[test]
    fn regions_double_or_hold_the_request() {
        let mut arena = Arena::default();
        arena.allocate(1);
        arena.allocate(5 << 20);
        assert_eq!(arena.next_region_bytes, 8 << 20);
        assert_eq!(arena.resident_bytes(), PAGE + (5 << 20));
    }
}
