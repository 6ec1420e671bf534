//! The rig's board in a thread of its own, for hosts that are not the rig's.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use board::device::net::Echo;
use host::bus::sim::SimBus;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::board::Board;
use super::options::RigOptions;

/// A board that runs until it is dropped, and boots anew when the host resets it.
#[derive(Debug)]
pub struct BoardThread {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl BoardThread {
    /// A board that sends every frame back, at the other end of a bus in
    /// counted mode.
    ///
    /// # Panics
    /// The system has no eventfd left.
    #[must_use]
    pub fn echo(bus: &SimBus) -> Self {
        let stop = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).expect("an eventfd");
        let stop = Arc::new(stop);
        let (bus, asked) = (bus.clone(), Arc::clone(&stop));
        let thread = Some(thread::spawn(move || run(&bus, &asked)));
        Self { stop, thread }
    }
}

impl Drop for BoardThread {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        // A panic of the board has been printed by the thread itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(bus: &SimBus, stop: &EventFd) {
    let (options, port, start) = (RigOptions::counted(), bus.board(), Instant::now());
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let boot = |epoch| Board::boot(bus, &options, Echo::verbatim(), epoch, now());
    let mut epoch = 1;
    let mut board = boot(epoch);
    loop {
        if port.take_reset() {
            epoch += 1;
            board = boot(epoch);
        }
        board.turn(now());
        let timeout = board.asleep().map_or(0, |until| until.saturating_sub(now()));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let doorbell = port.doorbell_fd().expect("a bus in counted mode");
        let mut fds = [readable(stop.as_fd()), readable(doorbell)];
        let _ = poll(&mut fds, timeout);
        if fds[0].any() == Some(true) {
            return;
        }
    }
}
