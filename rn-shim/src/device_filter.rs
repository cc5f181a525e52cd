//! Which devices a container may use, where cgroup v2 governs them.
//!
//! There it is a BPF program on the container's group, called for each open and mknod. v1 has a controller with lists for
//! the same, which libcontainer fills. The rule is Docker's: any device node may be made, but only harmless ones opened.

use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use nix::errno::Errno;

/// Character devices that may be used: major and minor, none = any minor (`Documentation/admin-guide/devices.txt`).
const ALLOWED: [(u32, Option<u32>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts/*
];

/// Filters the devices of a container's group. Does nothing where cgroup v1 has the devices.
pub fn attach(cgroup: &str) -> Result<()> {
    let hierarchies = shim_wire::cgroup::hierarchies();
    if hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == "devices")) {
        return Ok(());
    }
    match hierarchies.iter().find(|hierarchy| hierarchy.unified) {
        Some(unified) => {
            attach_to(&File::open(unified.group(cgroup)).context("open the container's cgroup")?)
        }
        None => Ok(()),
    }
}

fn attach_to(group: &File) -> Result<()> {
    let program = load(&assemble())?;
    let attributes = AttachAttributes {
        target: group.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attributes).context("attach the device filter").map(drop)
}

// linux/bpf.h
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_DEVCG_ACC_MKNOD: i32 = 1;
const BPF_DEVCG_DEV_CHAR: i32 = 2;

#[repr(C)]
struct LoadAttributes {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn bpf<A>(command: libc::c_int, attributes: &A) -> Result<i64, Errno> {
    // SAFETY: the attributes are a prefix of `union bpf_attr` of the size given; the kernel takes the rest as zero, and
    // pointers inside are to memory that outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    Errno::result(result)
}

fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let attributes = LoadAttributes {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        length: u32::try_from(program.len())?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes).context("load the device filter")?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Instruction codes, with the names of linux/filter.h.
const LDX_W: u8 = 0x61;
const MOV64_REG: u8 = 0xbf;
const MOV64_IMM: u8 = 0xb7;
const AND32_IMM: u8 = 0x54;
const RSH32_IMM: u8 = 0x74;
const JNE_IMM: u8 = 0x55;
const EXIT: u8 = 0x95;

const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | (from << 4), offset, immediate }
}

/// The program. It is given `struct bpf_cgroup_dev_ctx { u32 access_type /* access << 16 | kind */, major, minor }` in
/// register 1 and returns 1 to allow.
fn assemble() -> Vec<Instruction> {
    let mut program = vec![
        op(LDX_W, 2, 1, 0, 0),     // r2 = access_type
        op(MOV64_REG, 3, 2, 0, 0), // r3 = access
        op(RSH32_IMM, 3, 0, 0, 16),
        op(AND32_IMM, 2, 0, 0, 0xffff), // r2 = kind
        op(LDX_W, 4, 1, 4, 0),          // r4 = major
        op(LDX_W, 5, 1, 8, 0),          // r5 = minor
        op(MOV64_IMM, 0, 0, 0, 1),      // r0 = allow
        // Nothing but mknod is asked for: allow.
        op(JNE_IMM, 3, 0, 1, BPF_DEVCG_ACC_MKNOD),
        op(EXIT, 0, 0, 0, 0),
    ];
    // Block devices: refuse. The jump is patched below, when the end is known.
    let refuse_blocks = program.len();
    program.push(op(JNE_IMM, 2, 0, 0, BPF_DEVCG_DEV_CHAR));
    for (major, minor) in ALLOWED {
        let after = if minor.is_some() { 2 } else { 1 };
        program.push(op(JNE_IMM, 4, 0, after, i32::try_from(major).unwrap_or(-1)));
        if let Some(minor) = minor {
            program.push(op(JNE_IMM, 5, 0, 1, i32::try_from(minor).unwrap_or(-1)));
        }
        program.push(op(EXIT, 0, 0, 0, 0));
    }
    let refuse = program.len();
    if let Some(jump) = program.get_mut(refuse_blocks) {
        jump.offset = i16::try_from(refuse - refuse_blocks - 1).unwrap_or(0);
    }
    program.push(op(MOV64_IMM, 0, 0, 0, 0));
    program.push(op(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    /// What the program answers, by a small interpreter.
    fn allows(access: i32, kind: i32, major: i64, minor: i64) -> bool {
        let program = assemble();
        let context = [i64::from((access << 16) | kind), major, minor];
        let mut registers = [0i64; 10];
        let mut at = 0usize;
        loop {
            let Instruction { code, registers: which, offset, immediate } = program[at];
            let (to, immediate) = (usize::from(which & 15), i64::from(immediate));
            at += 1;
            let jump = match code {
                LDX_W => {
                    registers[to] = context[usize::try_from(offset / 4).unwrap()];
                    false
                }
                MOV64_REG => {
                    registers[to] = registers[usize::from(which >> 4)];
                    false
                }
                MOV64_IMM => {
                    registers[to] = immediate;
                    false
                }
                AND32_IMM => {
                    registers[to] &= immediate;
                    false
                }
                RSH32_IMM => {
                    registers[to] >>= immediate;
                    false
                }
                JNE_IMM => registers[to] != immediate,
                EXIT => return registers[0] == 1,
                _ => panic!("unknown code {code:#x}"),
            };
            if jump {
                at += usize::try_from(offset).unwrap();
            }
        }
    }

    #[test]
    fn only_harmless_devices_are_opened() {
        const READ_WRITE: i32 = 2 | 4;
        for minor in [3, 5, 7, 8, 9] {
            assert!(allows(READ_WRITE, 2, 1, minor));
        }
        assert!(allows(READ_WRITE, 2, 136, 77), "any terminal");
        assert!(!allows(READ_WRITE, 2, 1, 1), "/dev/mem");
        assert!(!allows(READ_WRITE, 1, 8, 0), "a disk");
        assert!(!allows(READ_WRITE, 1, 1, 3), "a ram disk with the numbers of /dev/null");
        assert!(allows(1, 1, 8, 0), "a disk's node may be made");
        assert!(!allows(1 | READ_WRITE, 1, 8, 0));
    }

    #[test]
    fn the_kernel_takes_the_program() {
        if skip::unless(&[skip::Need::Root, skip::Need::Bpf]) {
            return;
        }
        load(&assemble()).unwrap();
    }
}
