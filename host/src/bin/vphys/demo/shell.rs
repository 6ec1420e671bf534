//! `--shell`: a shell in the namespace, beside the board.

use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use virtio_phys_host::daemon::Stop;
use virtio_phys_host::signals::EndSignals;

use super::watch::{Ended, Watch, poll_until, status_of};

/// Looks after the shell at least this often.
const LONG: Duration = Duration::from_secs(3600);

/// A shell that has been told to end has so long for it.
const TO_END: Duration = Duration::from_secs(2);

/// Runs `$SHELL` until it ends; its exit status.
pub(crate) fn run(signals: &EndSignals, watch: Watch<'_>) -> Result<ExitCode> {
    let shell = std::env::var_os("SHELL").filter(|name| !name.is_empty());
    let shell = shell.unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new(&shell);
    signals.let_through(&mut command);
    let mut child = command.spawn().with_context(|| {
        format!("cannot start the shell {} (set SHELL to another one)", shell.display())
    })?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let over = Arc::new(Stop::new()?);
    let tell = Arc::clone(&over);
    let waiter = std::thread::spawn(move || {
        let status = child.wait();
        tell.ask();
        status
    });
    let outcome = loop {
        match watch.wait(over.fd(), PollFlags::POLLIN, LONG) {
            Ok(true) => break Ok(()),
            Ok(false) => {}
            // Ctrl-C is the shell's affair.
            Err(error) if error.downcast_ref() == Some(&Ended::Signal(Signal::SIGINT)) => {}
            Err(error) => {
                // A shell takes the first as its terminal's end, if it heeds
                // that: under nohup it does not. It may be gone.
                let _ = kill(pid, Signal::SIGHUP);
                if !ends(over.fd())? {
                    let _ = kill(pid, Signal::SIGKILL);
                }
                break Err(error);
            }
        }
    };
    let status = waiter.join().map_err(|_| anyhow!("the thread that waits for the shell died"))?;
    outcome?;
    Ok(exit_code(status.context("cannot wait for the shell")?))
}

/// Whether the shell ends in time.
fn ends(over: BorrowedFd<'_>) -> Result<bool> {
    let deadline = Instant::now() + TO_END;
    let mut fds = [PollFd::new(over, PollFlags::POLLIN)];
    poll_until(&mut fds, deadline)?;
    Ok(fds[0].any().unwrap_or(false))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        (None, Some(signal)) => status_of(signal),
        (None, None) => ExitCode::FAILURE,
    }
}
