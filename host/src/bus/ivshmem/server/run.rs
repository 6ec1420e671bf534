//! A server with a thread of its own.

use std::os::fd::AsFd;
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
    /// Serves from a thread of its own.
    ///
    /// # Errors
    /// No thread or descriptor is left.
    pub fn start(mut self) -> Result<RunningServer, IvshmemError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = EventFd::from_flags(flags).map_err(IvshmemError::system("make an eventfd"))?;
        let stop = Arc::new(stop);
        self.watch
            .add_vector(stop.as_fd(), STOP)
            .map_err(IvshmemError::system("wait for the stop"))?;
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
