//! The machines that QEMU makes of our firmware: one command line each.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Vectors that the server of such a board must have: three doorbells, and
/// one that asks for a reboot.
pub(crate) const VECTORS: u16 = 4;

/// A board whose firmware runs in QEMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Machine {
    /// AArch64: QEMU's virt, a Cortex-A53, MSI-X by GICv2m.
    QemuAarch64,
    /// RISC-V, 64 bits: QEMU's virt.
    QemuRiscv64,
    /// PowerPC e500, big-endian: QEMU's mpc8544ds.
    QemuPowerpc,
}

impl Machine {
    /// What the firmware's package and files are called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::QemuAarch64 => "qemu-aarch64",
            Self::QemuRiscv64 => "qemu-riscv64",
            Self::QemuPowerpc => "qemu-powerpc",
        }
    }

    /// QEMU's program, and Debian's package of it.
    pub(crate) const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::QemuAarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
            Self::QemuRiscv64 => ("qemu-system-riscv64", "qemu-system-misc"),
            Self::QemuPowerpc => ("qemu-system-ppc", "qemu-system-ppc"),
        }
    }

    /// Where the firmware looks for its parameters: its linker script's `__parameters`.
    const fn parameters(self) -> u64 {
        match self {
            Self::QemuAarch64 => 0x4010_0000,
            Self::QemuRiscv64 => 0x8010_0000,
            Self::QemuPowerpc => 0x0210_0000,
        }
    }

    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::QemuAarch64 => &[
                "-M",
                "virt,highmem=off,gic-version=2",
                "-cpu",
                "cortex-a53",
                "-semihosting-config",
                "enable=on,target=native",
            ],
            Self::QemuRiscv64 => &["-M", "virt,aia=aplic-imsic", "-bios", "none"],
            Self::QemuPowerpc => &["-M", "mpc8544ds"],
        }
    }
}

/// How one of them is to run.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) machine: Machine,
    /// The firmware, as an ELF file.
    pub(crate) firmware: PathBuf,
    /// The ivshmem server's socket.
    pub(crate) socket: PathBuf,
    /// Where what it prints goes; `None`: nowhere.
    pub(crate) serial: Option<PathBuf>,
    /// Where QEMU listens for its monitor protocol.
    pub(crate) monitor: Option<PathBuf>,
    /// A file that tells this board what others of its kind are not told
    /// (`qemu_common::parameters`).
    pub(crate) parameters: Option<PathBuf>,
}

impl Launch {
    /// QEMU's command. It ends when it is killed; nothing of it writes to the
    /// terminal but what is wrong.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.machine.program().0);
        command.args(self.machine.arguments());
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-m", "128"]);
        command.arg("-chardev").arg(joined("socket,id=ivshmem,path=", &self.socket));
        let device = format!("ivshmem-doorbell,chardev=ivshmem,vectors={VECTORS}");
        command.arg("-device").arg(device);
        match &self.serial {
            Some(file) => command.arg("-serial").arg(joined("file:", file)),
            None => command.args(["-serial", "null"]),
        };
        if let Some(monitor) = &self.monitor {
            let mut socket = joined("unix:", monitor);
            socket.push(",server=on,wait=off");
            command.arg("-qmp").arg(socket);
        }
        if let Some(file) = &self.parameters {
            let mut loader = joined("loader,file=", file);
            loader.push(format!(",addr={:#x},force-raw=on", self.machine.parameters()));
            command.arg("-device").arg(loader);
        }
        command.arg("-kernel").arg(&self.firmware);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

fn joined(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}
