//! Clock and chance: the simulation's own, for everything in this process.
//!
//! The standard library, tokio, openraft, ring and our own code read the clock and draw numbers through three functions of the C
//! library. This program brings its own. Until [`begin`] they do as the kernel does; from then on the time is what [`set_now`]
//! said, each host's wall clock is off by what [`set_skew`] said, and every number, hash seeds and keys among them, comes from
//! one seeded stream. So a seed is replayed exactly, with the product unchanged.

use std::{
    ffi::{c_int, c_long, c_uint, c_void},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// 2026-01-01, when every simulation begins.
const EPOCH: i64 = 1_767_225_600;
/// The monotonic clock's first second: early, so that no real wait on it is ever long.
const BOOT: i64 = 1;

static BEGUN: AtomicBool = AtomicBool::new(false);
static STREAM: AtomicU64 = AtomicU64::new(0);
static NOW_US: AtomicU64 = AtomicU64::new(0);
static SKEW_MS: AtomicI64 = AtomicI64::new(0);

/// From now on time stands still and chance is the seed's.
pub fn begin(seed: u64) {
    STREAM.store(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d, Relaxed);
    BEGUN.store(true, Relaxed);
}

/// The time, in microseconds since the beginning.
pub fn set_now(us: u64) {
    NOW_US.store(us, Relaxed);
}

/// How far the wall clock of the host that runs now is off, in milliseconds.
pub fn set_skew(ms: i64) {
    SKEW_MS.store(ms, Relaxed);
}

/// Splitmix64.
fn number() -> u64 {
    let mut z = STREAM.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// # Safety
/// `buffer` is good for `len` bytes.
unsafe fn fill(buffer: *mut c_void, len: usize) {
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&number().to_ne_bytes()[..chunk.len()]);
    }
}

/// The C library's `getrandom`.
///
/// # Safety
/// `buffer` is good for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: usize, flags: c_uint) -> isize {
    if BEGUN.load(Relaxed) {
        if len > 0 {
            // SAFETY: as the caller promises.
            unsafe { fill(buffer, len) };
        }
        return isize::try_from(len).unwrap_or(isize::MAX);
    }
    // SAFETY: the kernel's own call, with the caller's arguments.
    unsafe { result(kernel(libc::SYS_getrandom, [buffer as usize, len, flags as usize, 0, 0, 0])) as isize }
}

/// The C library's `clock_gettime`.
///
/// # Safety
/// `time` is good for a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut libc::timespec) -> c_int {
    if BEGUN.load(Relaxed) && !time.is_null() {
        let us = i64::try_from(NOW_US.load(Relaxed)).unwrap_or(i64::MAX);
        let us = match clock {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
                EPOCH * 1_000_000 + us + SKEW_MS.load(Relaxed) * 1000
            }
            _ => BOOT * 1_000_000 + us,
        };
        // SAFETY: as the caller promises.
        unsafe {
            (*time).tv_sec = us / 1_000_000;
            (*time).tv_nsec = us % 1_000_000 * 1000;
        }
        return 0;
    }
    // SAFETY: the kernel's own call, with the caller's arguments.
    unsafe { result(kernel(libc::SYS_clock_gettime, [clock as usize, time as usize, 0, 0, 0, 0])) as c_int }
}

/// The C library's `syscall`: an older `getrandom` crate, which openraft's election timeouts and ring's keys come from, asks
/// the kernel through it.
///
/// # Safety
/// That of the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    if number == libc::SYS_getrandom && BEGUN.load(Relaxed) {
        // SAFETY: as the caller promises.
        return unsafe { getrandom(a as *mut c_void, b, 0) } as c_long;
    }
    // SAFETY: the kernel's own call, with the caller's arguments.
    unsafe { result(kernel(number, [a, b, c, d, e, f])) }
}

/// As the C library tells of errors.
fn result(answer: isize) -> c_long {
    if (-4095..0).contains(&answer) {
        // SAFETY: it always returns this thread's own place.
        unsafe { *libc::__errno_location() = c_int::try_from(-answer).unwrap_or(libc::EIO) };
        return -1;
    }
    answer as c_long
}

/// A system call, past the C library.
///
/// # Safety
/// That of the system call.
#[cfg(target_arch = "x86_64")]
unsafe fn kernel(number: c_long, args: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's calling convention; what it does with the arguments is the caller's promise.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

/// A system call, past the C library.
///
/// # Safety
/// That of the system call.
#[cfg(target_arch = "aarch64")]
unsafe fn kernel(number: c_long, args: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's calling convention; what it does with the arguments is the caller's promise.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] as isize => answer,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack)
        );
    }
    answer
}
