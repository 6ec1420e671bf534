//! The daemon on a stage, and `vphys` beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{FOLDER, Going, Stage, start, work};

/// The daemon with these keys and boards in its configuration.
pub(crate) fn daemon(stage: &Stage, configuration: &str) -> Command {
    configure(configuration);
    stage.program("virtio-physd", &format!("--config {}", configuration_file().display()))
}

/// Starts it, and waits until it has `boards` boards and answers.
#[track_caller]
pub(crate) fn running(stage: &Stage, configuration: &str) -> Going {
    let mut going = start(&mut daemon(stage, configuration), true);
    going.says("ready: ");
    going
}

/// Writes what the daemon reads, once more if it runs already.
pub(crate) fn configure(configuration: &str) {
    let daemon = format!("[daemon]\nsocket = \"{}\"\n", socket().display());
    fs::write(configuration_file(), daemon + configuration).unwrap();
}

/// The configuration, beside the working folder, which is to be empty.
pub(crate) fn configuration_file() -> PathBuf {
    Path::new(FOLDER).join("daemon.toml")
}

/// The control socket.
pub(crate) fn socket() -> PathBuf {
    work().join("control.sock")
}

/// A board of an empty slot, with these keys more.
pub(crate) fn empty_slot(name: &str, interface: &str, keys: &str) -> String {
    format!("[[board]]\nname = \"{name}\"\nbus = \"sim\"\ninterface = \"{interface}\"\n{keys}\n")
}

/// The usual one.
pub(crate) fn b0(keys: &str) -> String {
    empty_slot("b0", "vphys0", keys)
}

/// `vphys` with these words, for the daemon of this stage.
pub(crate) fn vphys(stage: &Stage, arguments: &str) -> Command {
    stage.program("vphys", &format!("{arguments} --socket {}", socket().display()))
}

/// What it prints, while the daemon runs.
#[track_caller]
pub(crate) fn asked(stage: &Stage, arguments: &str) -> String {
    let output = vphys(stage, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
    assert!(output.stderr.is_empty(), "{arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Why it fails, while the daemon runs.
#[track_caller]
pub(crate) fn refused(stage: &Stage, arguments: &str) -> String {
    let output = vphys(stage, arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {output:?}");
    assert!(output.stdout.is_empty(), "{arguments}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}
