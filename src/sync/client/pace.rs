//! How fast bodies go over a line that others need, too.

use std::io::{self, Read};
use std::time::Duration;

/// Reads in a second: so many pieces that the line carries something else in between.
const PIECES_PER_S: u64 = 8;
/// Bytes of a piece.
const PIECE_BYTES: (u64, u64) = (1 << 10, 64 << 10);

/// The pace.
#[derive(Clone, Copy)]
pub(super) struct Pace<'a> {
    /// Bytes in a second, at most; none is any number.
    pub bytes_per_s: Option<u64>,
    /// Waits.
    pub sleep: &'a dyn Fn(Duration),
}

impl<'a> Pace<'a> {
    /// A reader that keeps it: what it has read takes its time.
    pub fn keep<R: Read>(self, inner: R) -> Paced<'a, R> {
        Paced { inner, pace: self }
    }
}

/// A reader that keeps a pace.
pub(super) struct Paced<'a, R> {
    inner: R,
    pace: Pace<'a>,
}

impl<R: Read> Read for Paced<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(bytes_per_s) = self.pace.bytes_per_s.map(|rate| rate.max(1)) else { return self.inner.read(buffer) };
        let piece = (bytes_per_s / PIECES_PER_S).clamp(PIECE_BYTES.0, PIECE_BYTES.1) as usize;
        let length = buffer.len().min(piece);
        let count = self.inner.read(&mut buffer[..length])?;
        (self.pace.sleep)(Duration::from_secs_f64(count as f64 / bytes_per_s as f64));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_read_takes_its_time() {
        let bytes = vec![7; 100_000];
        for (bytes_per_s, seconds) in [(None, 0.0), (Some(50_000), 2.0), (Some(10), 10_000.0), (Some(u64::MAX), 0.0)] {
            let (slept, reads) = (Cell::new(0.0), Cell::new(0));
            let sleep = |wait: Duration| {
                slept.set(slept.get() + wait.as_secs_f64());
                reads.set(reads.get() + 1);
            };
            let mut read = Vec::new();
            Pace { bytes_per_s, sleep: &sleep }.keep(bytes.as_slice()).read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes);
            assert!((slept.get() - seconds).abs() < 1e-6 * seconds + 1e-6, "{bytes_per_s:?}: {} s", slept.get());
            assert!(bytes_per_s.is_none() || reads.get() > 1, "{bytes_per_s:?}: in one piece");
        }
    }
}
