//! A process moves itself into a namespace: as root plainly, as nobody with a
//! user namespace around it. It has one thread, so this is a test without a
//! harness.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use nix::unistd::geteuid;
use virtio_phys_host::namespace::{NamespaceError, enter_namespace};
use virtio_phys_host::netlink::Netlink;
use virtio_phys_host::tap::{Tap, TapOptions};

/// The argument of a process that is to move.
const MOVE: &str = "--move";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    if arguments.iter().any(|argument| argument == MOVE) {
        return moved();
    }
    println!("\nrunning 1 test");
    let copy = env::temp_dir().join(format!("vphys-namespace-{}", std::process::id()));
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    let users: &[Option<u32>] = if geteuid().is_root() { &[None, Some(65534)] } else { &[None] };
    let good = users.iter().all(|user| runs(&copy, *user));
    fs::remove_file(&copy).unwrap();
    assert!(good);
    println!("test enter_namespace ... ok");
    println!("\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n");
}

fn runs(program: &Path, user: Option<u32>) -> bool {
    let mut command = Command::new(program);
    command.arg(MOVE);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.status().unwrap().success()
}

fn network() -> String {
    fs::read_link("/proc/self/ns/net").unwrap().display().to_string()
}

fn moved() {
    let (before, root) = (network(), geteuid().is_root());
    match enter_namespace() {
        Ok(()) => assert_ne!(network(), before),
        Err(error @ NamespaceError::NotAllowed { .. }) if !root => {
            println!("skipped for an ordinary user: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    }
    // Root of whatever namespace this is.
    assert!(geteuid().is_root());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    Netlink::open().unwrap().set_mtu("lo", 9000).unwrap();
    match Tap::open(&TapOptions::new("vphys0")) {
        Ok(tap) => assert_eq!(tap.name(), "vphys0"),
        // The device file may be root's alone.
        Err(error) => assert!(!root, "{error}"),
    }
}
