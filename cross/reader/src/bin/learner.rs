//! Learns on a microcontroller: sums features up as moments, takes a sample back to the bit, adds a class that came later, solves for a
//! head and predicts; without an operating system and without an allocator. Under emulation it also tells its peak stack.
#![no_std]
#![no_main]

#[path = "../machine.rs"]
mod machine;

use core::hint::black_box;
use edgetune::delta::Task;
use edgetune::moments::{Projection, Sample, Shape, Sums, Target, solve, work};
use machine::{exit, paint, painted_over, print};

const PAINT_BYTES: usize = 96 * 1024;
/// Numbers of a sample.
const COORDINATES: usize = 64;
const CLASSES: usize = 3;
/// Samples of each class.
const SAMPLES: u32 = 24;
const STEPS: [f32; COORDINATES] = [1.0 / 64.0; COORDINATES];

const SHAPE: Shape = match Shape::new(Task::Classification, COORDINATES, CLASSES) {
    Ok(shape) => shape,
    Err(_) => panic!("within the limits"),
};

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    paint::<PAINT_BYTES>();
    let right = learn();
    let used = painted_over::<PAINT_BYTES>();
    print(used);
    exit(if right == Some(true) { 0 } else { 1 })
}

/// Whether all that has to hold holds.
#[inline(never)]
fn learn() -> Option<bool> {
    let mut sums = Sums::zero(SHAPE, [0; SHAPE.cells()]).ok()?;
    for number in 0..SAMPLES {
        add(&mut sums, 0, number)?;
        add(&mut sums, 1, number)?;
    }
    // What was added by mistake is taken back.
    let before = sums.clone();
    let mistaken = features(2, 99);
    let (z, clipped) = coordinates(&mistaken)?;
    let sample = Sample { coordinates: &z, clipped, target: Target::Class(0) };
    sums.add(&sample).ok()?;
    sums.remove(&sample).ok()?;
    let exact = sums == before;
    let knows_two = right(&sums, 2)?;
    for number in 0..SAMPLES {
        add(&mut sums, 2, number)?;
    }
    Some(exact && knows_two && right(&sums, 3)?)
}

/// Solves, and tells whether samples that were not learned are known, of the first so many classes.
#[inline(never)]
fn right(sums: &Sums<[i64; SHAPE.cells()]>, classes: usize) -> Option<bool> {
    let mut lent = [0.0; work(COORDINATES)];
    let mut weights = [0.0; CLASSES * (COORDINATES + 1)];
    solve(sums, &STEPS, 0.1, &mut lent, &mut weights).ok()?;
    for (class, number) in (0..classes).flat_map(|class| (1000..1008).map(move |number| (class, number))) {
        let x = black_box(features(class, number));
        let score = |row: &[f64]| row[COORDINATES] + row.iter().zip(&x).map(|(w, x)| w * f64::from(*x)).sum::<f64>();
        let mut best = (0, f64::NEG_INFINITY);
        for (place, row) in weights.chunks_exact(COORDINATES + 1).enumerate() {
            let found = score(row);
            if found > best.1 {
                best = (place, found);
            }
        }
        if best.0 != class {
            return Some(false);
        }
    }
    Some(true)
}

fn add(sums: &mut Sums<[i64; SHAPE.cells()]>, class: usize, number: u32) -> Option<()> {
    let features = black_box(features(class, number));
    let (z, clipped) = coordinates(&features)?;
    sums.add(&Sample { coordinates: &z, clipped, target: Target::Class(class) }).ok()
}

fn coordinates(features: &[f32; COORDINATES]) -> Option<([i16; COORDINATES], u32)> {
    let projection = Projection { center: &[], directions: &[], steps: &STEPS, bits: 16 };
    let (mut lent, mut z) = ([0.0; COORDINATES], [0; COORDINATES]);
    let clipped = projection.apply(features, &mut lent, &mut z).ok()?;
    Some((z, clipped))
}

/// Features of a class: each class is large in some places of its own, and all are noise besides (a linear congruential generator).
fn features(class: usize, number: u32) -> [f32; COORDINATES] {
    let mut state = number.wrapping_mul(747_796_405).wrapping_add(class as u32 + 1);
    core::array::from_fn(|place| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 16) as f32 / 65_536.0 - 0.5;
        noise + if place % 4 == class { 0.75 } else { 0.0 }
    })
}
