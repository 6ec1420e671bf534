//! One thread that serves all clients.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::connection::{Answers, Awaits, Connection};
use super::listener::ControlListener;

/// Most clients at a time.
pub const MAX_CONNECTIONS: usize = 16;

/// Most of them that watch: the others are for questions.
pub const MAX_WATCHES: usize = 8;

/// Most clients that are taken between two looks at those that are there.
const ACCEPTED_AT_ONCE: usize = 64;

/// How long nobody is taken when the system has no file descriptor left, in
/// milliseconds.
const PAUSE: u64 = 100;

/// The control socket, served. It ends when this is dropped.
#[derive(Debug)]
pub struct ControlServer {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Starts to serve.
    ///
    /// # Errors
    /// No thread or file descriptor left.
    pub fn start(listener: ControlListener, answers: Arc<dyn Answers>) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let asked = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("control-socket".to_owned())
            .spawn(move || serve(&listener, &*answers, &asked))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // The counter cannot overflow: nobody writes 2^64 times.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the control socket's thread died (a bug; its message is above)");
        }
    }
}

fn serve(listener: &ControlListener, answers: &dyn Answers, stop: &EventFd) {
    let start = Instant::now();
    let clock = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut clients: Vec<Connection<UnixStream>> = Vec::with_capacity(MAX_CONNECTIONS);
    // Nobody is taken before this time.
    let mut accept_from = 0;
    loop {
        let now = clock();
        let mut fds = Vec::with_capacity(2 + clients.len());
        fds.push(PollFd::new(stop.as_fd(), PollFlags::POLLIN));
        let accepts = if now >= accept_from { PollFlags::POLLIN } else { PollFlags::empty() };
        fds.push(PollFd::new(listener.as_fd(), accepts));
        for client in &clients {
            let awaited = match client.awaits() {
                Awaits::Readable => PollFlags::POLLIN,
                Awaits::Writable => PollFlags::POLLOUT,
            };
            fds.push(PollFd::new(client.stream().as_fd(), awaited));
        }
        let due = clients.iter().map(Connection::due).min();
        let due = due.into_iter().chain((now < accept_from).then_some(accept_from)).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            PollTimeout::try_from(due.saturating_sub(now)).unwrap_or(PollTimeout::MAX)
        });
        let ready = match poll(&mut fds, timeout) {
            Ok(_) => fds.iter().map(|fd| fd.any().unwrap_or(true)).collect(),
            Err(_) => vec![false; fds.len()],
        };
        let [stopped, arrived, ready @ ..] = ready.as_slice() else { return };
        if *stopped {
            return;
        }
        let now = clock();
        let mut watches = clients.iter().filter(|client| client.is_watch()).count();
        for (client, ready) in clients.iter_mut().zip(ready) {
            let watched = client.is_watch();
            client.allow_watch(watches < MAX_WATCHES);
            if *ready {
                client.ready(now, answers);
            }
            client.time(now, answers);
            watches += usize::from(client.is_watch() && !watched);
        }
        clients.retain(|client| !client.is_over());
        if *arrived && !accept(listener, &mut clients, now) {
            accept_from = now + PAUSE;
        }
    }
}

/// Takes those that wait; `false` if the system is short of something.
fn accept(listener: &ControlListener, clients: &mut Vec<Connection<UnixStream>>, now: u64) -> bool {
    for _ in 0..ACCEPTED_AT_ONCE {
        match listener.accept() {
            Ok(stream) => {
                if clients.len() >= MAX_CONNECTIONS {
                    // A few words, if there is room for them; then it is closed.
                    drop(Connection::busy(stream, now));
                    continue;
                }
                if let Ok(peer) = getsockopt(&stream, PeerCredentials) {
                    log::debug!("control socket: process {} of user {}", peer.pid(), peer.uid());
                }
                clients.push(Connection::new(stream, now));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            // It hung up before it was taken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}
