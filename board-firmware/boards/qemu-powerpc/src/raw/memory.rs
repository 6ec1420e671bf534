//! What compiled code calls to copy, fill and compare memory. On this target
//! the C library would bring it; the crate is `no_builtins`, or these loops
//! would be compiled to calls of themselves.

/// Bytes of a step.
const WORD: usize = size_of::<u32>();

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    let words = len - len % WORD;
    // SAFETY: the caller's: `len` bytes at `from` can be read and at `to`
    // written. The processor takes words at any address, in RAM.
    unsafe {
        for at in (0..words).step_by(WORD) {
            let word = from.add(at).cast::<u32>().read_unaligned();
            to.add(at).cast::<u32>().write_unaligned(word);
        }
        for at in words..len {
            to.add(at).write(from.add(at).read());
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: the caller's; going up, no byte is written before it is read.
        return unsafe { memcpy(to, from, len) };
    }
    for at in (0..len).rev() {
        // SAFETY: the caller's; going down, no byte is written before it is read.
        unsafe { to.add(at).write(from.add(at).read()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    let byte = value.to_le_bytes()[0];
    let words = len - len % WORD;
    // SAFETY: the caller's: `len` bytes at `to` can be written.
    unsafe {
        for at in (0..words).step_by(WORD) {
            to.add(at).cast::<u32>().write_unaligned(u32::from_ne_bytes([byte; WORD]));
        }
        for at in words..len {
            to.add(at).write(byte);
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: the caller's: `len` bytes at both can be read.
        let (one, other) = unsafe { (one.add(at).read(), other.add(at).read()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's, the same as here.
    unsafe { memcmp(one, other, len) }
}
