//! A board whose firmware runs in QEMU, with the ivshmem server between.

mod command;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result, anyhow, bail, ensure};
use virtio_phys_host::bus::ivshmem::{RunningServer, Server, ServerOptions};

pub(crate) use command::Machine;
use command::{Launch, VECTORS};

/// Shared memory of the board, in bytes.
const MEMORY: u64 = 64 << 20;

/// A board in QEMU. Dropped, QEMU is killed and nothing is left behind.
pub(crate) struct QemuBoard {
    process: Child,
    server: Option<RunningServer>,
    folder: Folder,
}

/// A folder of our own, gone with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl QemuBoard {
    /// Serves shared memory and starts QEMU with the machine's firmware.
    pub(crate) fn start(machine: Machine, firmware: Option<&Path>) -> Result<Self> {
        let firmware = match firmware {
            Some(firmware) => firmware.to_owned(),
            None => built(machine)?,
        };
        ensure!(
            firmware.is_file(),
            "there is no firmware at {}: build it with ./check firmware, or name one with \
             --firmware",
            firmware.display()
        );
        let folder = std::env::temp_dir().join(format!("vphys-{}", std::process::id()));
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let folder = Folder(folder);
        let socket = folder.0.join("ivshmem");
        let options = ServerOptions { memory: MEMORY, vectors: VECTORS, ..Default::default() };
        let server = Server::bind(&socket, options)?.start()?;
        let launch =
            Launch { machine, firmware, socket, serial: None, monitor: None, parameters: None };
        let process = launch.command().spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let (program, package) = machine.program();
                anyhow!(
                    "{program} is not installed: on Debian, apt-get install {package} (or ./check \
                     env, which installs all that this project needs)"
                )
            }
            _ => anyhow!(error).context("cannot start QEMU"),
        })?;
        Ok(Self { process, server: Some(server), folder })
    }

    /// The server's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.0.join("ivshmem")
    }

    /// An error if QEMU has ended, which it only does when something is wrong.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait().context("cannot ask for QEMU's state")? {
            bail!("QEMU ended by itself ({status}); what it said is above");
        }
        Ok(())
    }
}

impl Drop for QemuBoard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Before the folder that its socket is in.
        self.server = None;
    }
}

/// Where `./check firmware` puts it, seen from this program.
fn built(machine: Machine) -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let target = program.parent().and_then(Path::parent).context("this program has no folder")?;
    Ok(target.join("firmware").join(machine.name()).with_extension("elf"))
}
