//! What a user reads when there is no interface to be had.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::namespace::in_namespace;
use crate::tap::{DEVICE, InterfaceName, Tap, TapError, TapOptions};

fn text(options: &TapOptions<'_>) -> String {
    Tap::open(options).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn no_driver() {
    let device = Path::new("/dev/net/no-such-tun");
    assert_eq!(
        text(&TapOptions { device, ..TapOptions::new("vphys0") }),
        "cannot open /dev/net/no-such-tun: No such file or directory (os error 2). The kernel's \
         tun driver is missing: load it with `modprobe tun`; in a container, pass the device in \
         (`--device /dev/net/tun`)"
    );
}

#[test]
fn name_taken() {
    in_namespace("tap::tests::errors::name_taken", || {
        let first = Tap::open(&TapOptions::new("vphys0")).unwrap();
        let expected = "a network interface named vphys0 exists: choose another name, or a \
                        pattern such as vphys%d, or delete it (`ip link delete vphys0`) if it is \
                        a leftover";
        assert_eq!(text(&TapOptions::new("vphys0")), expected);
        let multi = TapOptions { multi_queue: true, ..TapOptions::new("vphys0") };
        assert_eq!(text(&multi), expected);
        assert!(text(&TapOptions::new("lo")).starts_with("a network interface named lo exists"));
        // The system is left as it was: dropping the first frees the name.
        drop(first);
        Tap::open(&TapOptions::new("vphys0")).unwrap();
    });
}

#[test]
fn bad_names() {
    for (name, reason) in [
        ("", "it is empty"),
        ("abcdefghijklmnop", "it is longer than 15 characters"),
        (".", "the kernel uses it for something else"),
        ("all", "the kernel uses it for something else"),
        ("-x", "it starts with a minus, which tools take for an option"),
        ("a/b", "it may hold letters, digits, '.', '_', '-' and one '%d'"),
        ("a b", "it may hold letters, digits, '.', '_', '-' and one '%d'"),
        ("a\0b", "it may hold letters, digits, '.', '_', '-' and one '%d'"),
        ("a:0", "it may hold letters, digits, '.', '_', '-' and one '%d'"),
        ("a%d%d", "it may hold letters, digits, '.', '_', '-' and one '%d'"),
        ("a%s", "it may hold letters, digits, '.', '_', '-' and one '%d'"),
        ("naïve", "it may hold letters, digits, '.', '_', '-' and one '%d'"),
    ] {
        let expected = format!("{name:?} is no name for a network interface: {reason}");
        assert_eq!(text(&TapOptions::new(name)), expected);
    }
    for good in ["a", "vphys%d", "vphys0", "abcdefghijklmno", "eth0.1_x-y"] {
        assert_eq!(InterfaceName::new(good).unwrap().as_str(), good);
    }
}

/// Set in the process that [`no_capability`] starts.
const UNPRIVILEGED: &str = "VPHYS_TEST_UNPRIVILEGED";

/// Runs in the system's network namespace as a user without capabilities.
#[test]
fn no_capability() {
    if let Ok(device) = env::var(UNPRIVILEGED) {
        let device = Path::new(&device);
        match Tap::open(&TapOptions { device, ..TapOptions::new("vphys0") }) {
            Err(TapError::NotPermitted { name }) => assert_eq!(name, "vphys0"),
            // Where the temporary directory allows no device files.
            Err(TapError::NoAccess { path }) => assert_eq!(path, device),
            other => panic!("{other:?}"),
        }
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        // This process is what is wanted already, unless it has capabilities.
        return;
    }
    // A copy that any user may run, wherever this one lies.
    let copy = env::temp_dir().join(format!("vphys-test-{}", std::process::id()));
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    // A device file that any user may open: what is refused is the interface.
    let device = copy.with_extension("tun");
    let mode = Mode::from_bits_truncate(0o666);
    let made = mknod(&device, SFlag::S_IFCHR, mode, makedev(10, 200)).is_ok();
    let device = if made {
        fs::set_permissions(&device, Permissions::from_mode(0o666)).unwrap();
        device
    } else {
        Path::new(DEVICE).to_owned()
    };
    let output = Command::new(&copy)
        .args(["tap::tests::errors::no_capability", "--exact", "--nocapture"])
        .env(UNPRIVILEGED, &device)
        .uid(65534)
        .gid(65534)
        .output();
    fs::remove_file(&copy).unwrap();
    if made {
        fs::remove_file(&device).unwrap();
    }
    let output = output.unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("1 passed"), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_old_kernel() {
    assert_eq!(
        TapError::TooOld { what: "carrier control" }.to_string(),
        "the kernel's tun driver lacks carrier control: Linux 4.20 or later is needed"
    );
}

#[test]
fn rights_texts() {
    let path = Path::new("/dev/net/tun").to_owned();
    assert_eq!(
        TapError::NoAccess { path }.to_string(),
        "no permission to open /dev/net/tun: run as root or as a user that `ls -l` shows to have \
         access; in a container, pass the device in (`--device /dev/net/tun`)"
    );
    assert_eq!(
        TapError::NotPermitted { name: "vphys0".to_owned() }.to_string(),
        "no permission to create the network interface vphys0: this needs CAP_NET_ADMIN. Run as \
         root, or give the capability (systemd: AmbientCapabilities=CAP_NET_ADMIN), or try in \
         namespaces of your own (`unshare --user --map-root-user --net`)"
    );
}
