//! What a child process does between fork and exec.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpid, getppid};

/// A file of the child's /proc/self and what to write there; zero-terminated.
type Line = (&'static std::ffi::CStr, Vec<u8>);

/// Makes `command` run in a network namespace of its own. `user_maps`: in a
/// user namespace as well, with these lines for `setgroups`, `uid_map` and
/// `gid_map` in /proc/self.
pub(crate) fn isolate(command: &mut Command, user_maps: Option<[Line; 3]>) {
    let flags = libc::CLONE_NEWNET | if user_maps.is_some() { libc::CLONE_NEWUSER } else { 0 };
    let run = move || {
        // SAFETY: plain system call without pointers; the child has one thread.
        check(unsafe { libc::unshare(flags) } as isize)?;
        for (path, line) in user_maps.iter().flatten() {
            write_line(path, line)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec `run` makes system calls only and reads
    // memory that was prepared before the fork: it neither allocates nor takes
    // a lock (`io::Error` from an errno holds no memory of its own).
    unsafe { command.pre_exec(run) };
}

/// Makes `command` run without these signals blocked. This process is as it was
/// meanwhile: unblocking them here would let one through that comes just then.
pub(crate) fn unblock(command: &mut Command, signals: SigSet) {
    // SAFETY: the closure makes one system call, on a copy of `signals`; it
    // neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || Ok(signals.thread_unblock()?)) };
}

/// Makes `command` run no longer than the thread that starts it, whatever ends
/// that one: the kernel kills it then. Start it from the main thread.
pub(crate) fn end_with_us(command: &mut Command) {
    let parent = getpid();
    let run = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // One that died before that call has told nobody.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: `run` makes two system calls and compares numbers; it neither
    // allocates nor takes a lock.
    unsafe { command.pre_exec(run) };
}

fn write_line(path: &std::ffi::CStr, line: &[u8]) -> io::Result<()> {
    // SAFETY: `path` is zero-terminated.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(file as isize)?;
    // SAFETY: `line` is borrowed for the call.
    let written = check(unsafe { libc::write(file, line.as_ptr().cast(), line.len()) });
    // SAFETY: the file was opened above and is not used again.
    unsafe { libc::close(file) };
    written
}

fn check(returned: isize) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
