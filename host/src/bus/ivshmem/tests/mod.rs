mod hostile;
mod ports;
mod server;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{IvshmemOptions, RunningServer, Server, ServerOptions};

/// Nothing that is expected takes this long.
const LONG: Duration = Duration::from_secs(20);

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vphys-ivshmem-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const OPTIONS: ServerOptions =
    ServerOptions { memory: 4 << 20, huge_pages: false, vectors: 4, peers: 4 };

fn serve(folder: &Folder) -> RunningServer {
    Server::bind(folder.socket(), OPTIONS).unwrap().start().unwrap()
}

fn host_options(folder: &Folder) -> IvshmemOptions {
    IvshmemOptions { patience: LONG, ..IvshmemOptions::new(folder.socket()) }
}
