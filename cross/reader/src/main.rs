//! Verifies a signed delta, and applies its tensors one by one, without an operating system: the whole of what a
//! microcontroller does with a delta. Under emulation it also tells its peak stack, by painting.
//!
//! Linked without a C library for `thumbv7em-none-eabihf`; `svc 0` reaches the emulator, which plays Linux.
#![no_std]
#![no_main]

use core::arch::asm;
use core::hint::black_box;
use edgetune::delta::{Head, PREAMBLE_BYTES, apply, head_length};

/// A signed delta of the format's goldens, as it would lie in flash.
static DELTA: &[u8] = include_bytes!("../../../tests/goldens/delta/v1-signed.edelta");
/// Who is trusted: the key of the golden.
static KEY: &[u8; 32] = include_bytes!("../key.bin");

const PAINT_BYTES: usize = 32 * 1024;
const PAINT: u8 = 0xa5;

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    paint();
    let applied = read_and_apply();
    let used = painted_over();
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

/// Fills the stack below this frame.
#[inline(never)]
fn paint() {
    let mut below = [PAINT; PAINT_BYTES];
    black_box(&mut below);
}

/// How deep the paint was written over since [`paint`], whose frame lay where this one's does.
#[inline(never)]
fn painted_over() -> usize {
    let below = core::mem::MaybeUninit::<[u8; PAINT_BYTES]>::uninit();
    let start = black_box(below.as_ptr()).cast::<u8>();
    // SAFETY: the bytes are on this function's frame; they hold what was there before, which is what is asked for.
    let intact = (0..PAINT_BYTES).take_while(|place| unsafe { start.add(*place).read_volatile() } == PAINT).count();
    PAINT_BYTES - intact
}

fn print(number: usize) {
    let mut digits = *b"peak stack       bytes\n";
    let (mut left, mut place) = (number, 16);
    while left > 0 && place > 10 {
        place -= 1;
        digits[place] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    // write(1, digits, length)
    system_call(4, 1, digits.as_ptr() as usize, digits.len());
}

fn exit(code: usize) -> ! {
    system_call(1, code, 0, 0);
    loop {}
}

/// A call of the emulated system, which takes its number in r7: a register that the compiler keeps for itself.
fn system_call(number: usize, first: usize, second: usize, third: usize) {
    // SAFETY: of the two calls above one reads memory that is borrowed meanwhile, the other ends the program.
    unsafe {
        asm!(
            "push {{r7}}", "mov r7, {number}", "svc 0", "pop {{r7}}",
            number = in(reg) number, inout("r0") first => _, in("r1") second, in("r2") third,
        )
    };
}

#[panic_handler]
fn panicked(_: &core::panic::PanicInfo) -> ! {
    exit(2)
}
