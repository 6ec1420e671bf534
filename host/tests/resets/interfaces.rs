//! What the kernel says of interfaces.

use std::fs;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::process::Folder;

/// A view of this network namespace's interfaces, of this process's own.
pub(crate) struct Interfaces(Folder);

impl Interfaces {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let sys = folder.path("sys");
        fs::create_dir(&sys).unwrap();
        mount(Some("sysfs"), &sys, Some("sysfs"), MsFlags::empty(), none).unwrap();
        Self(folder)
    }

    /// What the kernel says of an interface; `None` without one.
    pub(crate) fn read(&self, interface: &str, what: &str) -> Option<u64> {
        let file = self.0.path("sys/class/net").join(interface).join(what);
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}
