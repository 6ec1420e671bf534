//! A board whose firmware runs in QEMU, with the ivshmem server between.

mod command;

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::mkdtemp;
use virtio_phys_host::bus::ivshmem::{RunningServer, Server, ServerOptions};
use virtio_phys_host::signals::ends_with_us;

pub(crate) use command::Machine;
use command::{Launch, VECTORS};

/// Shared memory of the board, in bytes.
const MEMORY: u64 = 64 << 20;

/// A board in QEMU, which ends with this, or with this process if that is killed.
/// Nothing is left behind either way.
pub(crate) struct QemuBoard {
    process: Child,
    _server: RunningServer,
    socket: OwnedFd,
}

/// A folder of our own, gone with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let template = std::env::temp_dir().join("vphys-XXXXXX");
        let path = mkdtemp(&template)
            .with_context(|| format!("cannot make a folder {}", template.display()))?;
        Ok(Self(path))
    }
}

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
        let (server, socket) = serve()?;
        let launch = Launch {
            machine,
            firmware,
            // As its standard input.
            socket: "/proc/self/fd/0".into(),
            serial: None,
            monitor: None,
            parameters: None,
        };
        let mut command = launch.command();
        command.stdin(socket.try_clone().context("cannot pass on the board's socket")?);
        // The end signals stay blocked in it: Ctrl-C goes to the terminal's whole
        // foreground group, and the board has to live until it is let go of.
        ends_with_us(&mut command);
        let process = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let (program, package) = machine.program();
                anyhow!(
                    "{program} is not installed: on Debian, apt-get install {package} (or ./check \
                     env, which installs all that this project needs)"
                )
            }
            _ => anyhow!(error).context("cannot start QEMU"),
        })?;
        Ok(Self { process, _server: server, socket })
    }

    /// The server's socket, for this process as long as this lives.
    pub(crate) fn socket(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.socket.as_raw_fd()).into()
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
    }
}

/// Serves shared memory. The socket has a name only until it is opened here:
/// the kernel connects through what is open as well, and whatever ends this
/// process leaves no file behind.
fn serve() -> Result<(RunningServer, OwnedFd)> {
    let folder = Folder::new()?;
    let path = folder.0.join("ivshmem");
    let options = ServerOptions { memory: MEMORY, vectors: VECTORS, ..Default::default() };
    let server = Server::bind(&path, options)?.start()?;
    let socket = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .context("cannot open the board's socket")?;
    Ok((server, socket))
}

/// Where `./check firmware` puts it, seen from this program.
fn built(machine: Machine) -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let target = program.parent().and_then(Path::parent).context("this program has no folder")?;
    Ok(target.join("firmware").join(machine.name()).with_extension("elf"))
}
