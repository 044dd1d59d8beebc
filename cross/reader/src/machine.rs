//! What both programs need of the emulated machine: paint on the stack, a line of text, an end.

use core::arch::asm;
use core::hint::black_box;

const PAINT: u8 = 0xa5;

/// Fills the stack below this frame.
#[inline(never)]
pub fn paint<const BYTES: usize>() {
    let mut below = [PAINT; BYTES];
    black_box(&mut below);
}

/// How deep the paint was written over since [`paint`], whose frame lay where this one's does.
#[inline(never)]
pub fn painted_over<const BYTES: usize>() -> usize {
    let below = core::mem::MaybeUninit::<[u8; BYTES]>::uninit();
    let start = black_box(below.as_ptr()).cast::<u8>();
    // SAFETY: the bytes are on this function's frame; they hold what was there before, which is what is asked for.
    let intact = (0..BYTES).take_while(|place| unsafe { start.add(*place).read_volatile() } == PAINT).count();
    BYTES - intact
}

/// Writes how deep the stack was.
pub fn print(number: usize) {
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

/// Ends the program.
pub fn exit(code: usize) -> ! {
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
