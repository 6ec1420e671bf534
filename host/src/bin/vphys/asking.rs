//! Which daemon is asked.

use std::env;
use std::path::PathBuf;

use clap::Args;
use virtio_phys_host::config::DEFAULT_SOCKET;

/// Names the socket where --socket does not.
const VARIABLE: &str = "VIRTIO_PHYSD_SOCKET";

/// Options of every command that asks a daemon.
#[derive(Args, Clone, Debug)]
pub(crate) struct Daemon {
    /// The daemon's control socket [default: $VIRTIO_PHYSD_SOCKET, else
    /// /run/virtio-phys/control.sock].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Daemon {
    /// The socket to ask at.
    pub(crate) fn socket(&self) -> PathBuf {
        let named = self.socket.clone().or_else(|| env::var_os(VARIABLE).map(PathBuf::from));
        named.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| DEFAULT_SOCKET.into())
    }
}

/// A daemon's answer to another question than ours.
pub(crate) fn unexpected() -> anyhow::Error {
    anyhow::anyhow!("the daemon answers another question than this one. Is it virtio-physd?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_says_where_it_looks() {
        use clap::CommandFactory;
        let mut command = crate::Arguments::command();
        let help = command.find_subcommand_mut("status").unwrap().render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(&format!("${VARIABLE}, else {DEFAULT_SOCKET}")), "{help}");
    }
}
