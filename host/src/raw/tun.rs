//! The ioctls of /dev/net/tun.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc::{self, c_char, c_int, c_short, c_ulong};

/// Bytes of an interface name with its terminating zero.
const NAME_LEN: usize = libc::IFNAMSIZ;

/// Attaches the file to the interface `name`, or creates one; returns the name
/// that the kernel gave it. A name that does not fit is cut to 15 bytes.
///
/// # Errors
/// The kernel's.
pub(crate) fn attach(tun: BorrowedFd<'_>, name: &str, flags: c_short) -> io::Result<String> {
    // SAFETY: `ifreq` is plain old data of the kernel's layout; all zeroes is
    // an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = flags;
    // The kernel copies all of its `struct ifreq`. Behind the name lies a union
    // whose longest member is `struct ifmap`, or an address of 16 bytes.
    const REST: usize = if cfg!(target_pointer_width = "64") { 24 } else { 16 };
    const { assert!(size_of::<libc::ifreq>() == NAME_LEN + REST) };
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which lives for
    // the call and has the kernel's full size.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
    let given = request.ifr_name.iter().take_while(|c| **c != 0).map(|c| c.to_ne_bytes()[0]);
    String::from_utf8(given.collect()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Sets the bytes of the header in front of each frame.
///
/// # Errors
/// The kernel's.
pub(crate) fn set_header_len(tun: BorrowedFd<'_>, len: c_int) -> io::Result<()> {
    set(tun, libc::TUNSETVNETHDRSZ as _, len)
}

/// Makes the header little-endian whatever the CPU is.
///
/// # Errors
/// The kernel's.
pub(crate) fn set_little_endian(tun: BorrowedFd<'_>) -> io::Result<()> {
    set(tun, libc::TUNSETVNETLE as _, 1)
}

/// Turns the interface's carrier on or off.
///
/// # Errors
/// The kernel's.
pub(crate) fn set_carrier(tun: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set(tun, libc::TUNSETCARRIER as _, c_int::from(on))
}

/// Lets the interface stay when its last file is closed, or not.
///
/// # Errors
/// The kernel's.
pub(crate) fn set_persistent(tun: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes its argument by value.
    check(unsafe {
        libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST as _, c_ulong::from(u8::from(on)))
    })
}

/// Says which offloads the reader takes (TUN_F_*).
///
/// # Errors
/// The kernel's; EINVAL for one that it does not know.
pub(crate) fn set_offload(tun: BorrowedFd<'_>, bits: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD as _, c_ulong::from(bits)) })
}

/// An ioctl that reads one int.
fn set(tun: BorrowedFd<'_>, request: libc::Ioctl, value: c_int) -> io::Result<()> {
    // SAFETY: the requests that callers in this file pass read one int through
    // the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), request, &raw const value) })
}

fn check(returned: c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
