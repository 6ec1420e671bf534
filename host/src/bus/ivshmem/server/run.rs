//! A server that goes on by itself: in this thread, or in one of its own.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sys::epoll::EpollTimeout;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{STOP, Server};
use crate::bus::ivshmem::error::IvshmemError;

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct RunningServer {
    path: PathBuf,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves until `stop` becomes readable.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn serve(mut self, stop: BorrowedFd<'_>) -> Result<(), IvshmemError> {
        self.stop_by(stop)?;
        while self.turn(EpollTimeout::NONE) {}
        Ok(())
    }

    fn stop_by(&self, stop: BorrowedFd<'_>) -> Result<(), IvshmemError> {
        self.watch.add_socket(stop, STOP).map_err(IvshmemError::system("wait for the stop"))
    }

    /// Serves from a thread of its own.
    ///
    /// # Errors
    /// No thread or descriptor is left.
    pub fn start(mut self) -> Result<RunningServer, IvshmemError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = EventFd::from_flags(flags).map_err(IvshmemError::system("make an eventfd"))?;
        let stop = Arc::new(stop);
        self.stop_by(stop.as_fd())?;
        let path = self.path.clone();
        let keep = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("ivshmem-server".into())
            .spawn(move || {
                let _keep = keep;
                while self.turn(EpollTimeout::NONE) {}
            })
            .map_err(IvshmemError::system("start a thread"))?;
        Ok(RunningServer { path, stop, thread: Some(thread) })
    }
}

impl RunningServer {
    /// The socket's name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by the thread itself.
            let _ = thread.join();
        }
    }
}
