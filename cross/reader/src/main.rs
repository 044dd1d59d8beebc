//! Verifies a signed delta, and applies its tensors one by one, without an operating system: the whole of what a
//! microcontroller does with a delta. Under emulation it also tells its peak stack, by painting.
//!
//! Linked without a C library for `thumbv7em-none-eabihf`; `svc 0` reaches the emulator, which plays Linux.
#![no_std]
#![no_main]

mod machine;

use core::hint::black_box;
use edgetune::delta::{Head, PREAMBLE_BYTES, apply, head_length};
use machine::{exit, paint, painted_over, print};

/// A signed delta of the format's goldens, as it would lie in flash.
static DELTA: &[u8] = include_bytes!("../../../tests/goldens/delta/v1-signed.edelta");
/// Who is trusted: the key of the golden.
static KEY: &[u8; 32] = include_bytes!("../key.bin");

const PAINT_BYTES: usize = 32 * 1024;

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    paint::<PAINT_BYTES>();
    let applied = read_and_apply();
    let used = painted_over::<PAINT_BYTES>();
    // The sum of what was applied proves that it was; the exit code tells the emulator.
    let right = applied == Some(65504.25);
    print(used);
    exit(if right { 0 } else { 1 })
}

/// Head first, then tensor by tensor, as out of a stream.
#[inline(never)]
fn read_and_apply() -> Option<f32> {
    let delta = black_box(DELTA);
    let length = head_length(delta.first_chunk::<PREAMBLE_BYTES>()?).ok()?;
    let (head, payload) = delta.split_at_checked(length)?;
    let head = Head::parse(head).ok()?;
    head.verify(KEY).ok()?;
    let mut target = [0f32; 8];
    let mut sum = 0.0;
    for located in head.entries() {
        let tensor = located.open(payload.get(located.range())?).ok()?;
        let target = target.get_mut(..tensor.len())?;
        apply(&tensor, target).ok()?;
        sum += target.iter().sum::<f32>();
    }
    Some(sum)
}
