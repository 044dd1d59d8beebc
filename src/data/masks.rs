//! A class for each pixel of each sample, in little memory: runs of equal pixels, row by row.
//!
//! Takes masks of any size as bytes and brings them to the size that the model sees, with the cut of the picture that they are of.

/// The class of a pixel that does not count, as PASCAL VOC and Cityscapes write it.
pub const IGNORED_PIXEL: u8 = 255;

/// Masks of one size. A page of 608 × 800 pixels with filled boxes takes 1 to 10 kB instead of 486.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masks {
    height: u32,
    width: u32,
    rows: Vec<Box<[Run]>>,
}

/// A class, and how many pixels one behind the other have it.
type Run = (u8, u16);

impl Masks {
    /// No mask yet, of so many pixels down and across.
    pub fn new(height: u32, width: u32) -> Self {
        Self { height, width, rows: Vec::new() }
    }

    /// Appends a mask, row by row.
    ///
    /// # Panics
    /// A mask of another size.
    pub fn push(&mut self, pixels: &[u8]) {
        assert_eq!(pixels.len(), self.pixels_each(), "a mask has the size of all");
        let mut runs: Vec<Run> = Vec::new();
        for class in pixels {
            match runs.last_mut() {
                Some((last, length)) if last == class && *length < u16::MAX => *length += 1,
                _ => runs.push((*class, 1)),
            }
        }
        self.rows.push(runs.into());
    }

    /// The number of masks.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no mask.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Height and width in pixels.
    pub fn size(&self) -> [u64; 2] {
        [self.height.into(), self.width.into()]
    }

    fn pixels_each(&self) -> usize {
        self.height as usize * self.width as usize
    }

    /// A sample's pixels, row by row; [`IGNORED_PIXEL`] where none counts.
    pub fn pixels(&self, sample: usize) -> impl Iterator<Item = u8> {
        self.rows[sample].iter().flat_map(|(class, length)| std::iter::repeat_n(*class, usize::from(*length)))
    }

    /// The pixels of each class in a sample, of so many classes; those that do not count are left out.
    pub fn counts(&self, sample: usize, classes: usize) -> Vec<u64> {
        let mut counts = vec![0; classes];
        for (class, length) in &self.rows[sample] {
            if let Some(count) = counts.get_mut(usize::from(*class)) {
                *count += u64::from(*length);
            }
        }
        counts
    }

    /// Whether two samples have the same mask.
    pub fn same(&self, one: usize, other: usize) -> bool {
        self.rows[one] == self.rows[other]
    }

    /// The same masks with other class numbers; what does not count stays so.
    pub fn renumbered(mut self, places: &[usize]) -> Self {
        for (class, _) in self.rows.iter_mut().flatten() {
            if let Some(place) = places.get(usize::from(*class)) {
                *class = *place as u8;
            }
        }
        self
    }

    /// Gives all pixels of one class to another.
    pub(super) fn replace(&mut self, from: u8, to: u8) {
        self.rows.iter_mut().flatten().filter(|(class, _)| *class == from).for_each(|(class, _)| *class = to);
    }

    /// Which of all 256 numbers some pixel has.
    pub(super) fn used(&self) -> [bool; 256] {
        let mut used = [false; 256];
        self.rows.iter().flatten().for_each(|(class, _)| used[usize::from(*class)] = true);
        used
    }

    /// The first mask that has a pixel of such a class.
    pub(super) fn first_with(&self, wanted: impl Fn(u8) -> bool) -> Option<(usize, u8)> {
        let with = |runs: &[Run]| runs.iter().map(|(class, _)| *class).find(|class| wanted(*class));
        self.rows.iter().enumerate().find_map(|(sample, runs)| Some((sample, with(runs)?)))
    }

    /// These masks with others behind them; `None` where they have another size.
    pub fn followed_by(&self, others: &Self) -> Option<Self> {
        let same = (self.height, self.width) == (others.height, others.width);
        same.then(|| Self { rows: [&self.rows[..], &others.rows].concat(), ..*self })
    }
}

/// One axis of the part of a picture that the model sees: where it begins, how long it is, and where the picture ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub start: f64,
    pub length: f64,
    pub end: u32,
}

/// What falls between two pixels is the second's, as where pictures are resized to the nearest.
const ROUNDING: f64 = 1e-7;

impl Seen {
    /// The source pixel that each of `count` pixels is nearest to.
    fn nearest(&self, count: u32) -> Vec<usize> {
        let scale = self.length / f64::from(count);
        let place = |target: u32| (self.start + (f64::from(target) + 0.5) * scale + ROUNDING) as usize;
        (0..count).map(|target| place(target).min(self.end as usize - 1)).collect()
    }

    /// For each source pixel, which of `count` pixels it is seen by; `None` where it was cut off.
    fn seen_by(&self, count: u32) -> Vec<Option<usize>> {
        let place = |source: u32| {
            let at = (f64::from(source) + 0.5 - self.start) / self.length * f64::from(count);
            (at >= 0.0 && at < f64::from(count)).then_some(at as usize)
        };
        (0..self.end).map(place).collect()
    }
}

/// What the model sees of a mask: each pixel the nearest, for between two classes lies no third.
pub(super) fn seen(pixels: &[u8], [across, down]: [Seen; 2], (width, height): (u32, u32)) -> Vec<u8> {
    let columns = across.nearest(width);
    let row = |row: usize| &pixels[row * across.end as usize..];
    down.nearest(height).into_iter().flat_map(|line| columns.iter().map(move |column| row(line)[*column])).collect()
}

/// A mask as large as the picture, from what the model has seen of it; what was cut off does not count.
pub(super) fn spread(mask: &[u8], [across, down]: [Seen; 2], (width, height): (u32, u32)) -> Vec<u8> {
    let columns = across.seen_by(width);
    let lines = down.seen_by(height);
    let pixel = |line: Option<usize>, column: Option<usize>| match line.zip(column) {
        Some((line, column)) => mask[line * width as usize + column],
        None => IGNORED_PIXEL,
    };
    lines.into_iter().flat_map(|line| columns.iter().map(move |column| pixel(line, *column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_give_back_what_was_put_in() {
        let mut masks = Masks::new(2, 40_000);
        let pixels: Vec<u8> = (0..80_000u32).map(|place| if place < 79_990 { 3 } else { (place % 3) as u8 }).collect();
        masks.push(&pixels);
        masks.push(&vec![IGNORED_PIXEL; 80_000]);
        assert!(masks.pixels(0).eq(pixels.iter().copied()));
        assert_eq!(masks.counts(0, 4), [3, 4, 3, 79_990]);
        assert_eq!(masks.counts(1, 4), [0; 4]);
        assert_eq!(masks.first_with(|class| class == 2), Some((0, 2)));
        let moved = masks.clone().renumbered(&[1, 0, 2, 5]);
        assert_eq!(moved.counts(0, 6), [4, 3, 3, 0, 0, 79_990]);
        assert!(moved.same(1, 1) && !moved.same(0, 1) && moved.pixels(1).all(|class| class == IGNORED_PIXEL));
        assert_eq!(masks.followed_by(&moved).unwrap().len(), 4);
        assert_eq!(masks.followed_by(&Masks::new(40_000, 2)), None);
    }

    #[test]
    fn what_the_model_sees_is_the_cut_and_goes_back_to_it() {
        // 4 × 2 pixels, of which the two in the middle are seen, at twice the size.
        let pixels = [0, 1, 2, 3, 4, 5, 6, 7];
        let axes = [Seen { start: 1.0, length: 2.0, end: 4 }, Seen { start: 0.0, length: 2.0, end: 2 }];
        let larger = seen(&pixels, axes, (4, 4));
        assert_eq!(larger, [1, 1, 2, 2, 1, 1, 2, 2, 5, 5, 6, 6, 5, 5, 6, 6]);
        assert_eq!(spread(&larger, axes, (4, 4)), [255, 1, 2, 255, 255, 5, 6, 255]);
    }
}
