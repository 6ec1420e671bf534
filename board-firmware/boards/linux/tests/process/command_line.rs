//! What is refused, and with which words.

use std::fs;

use host::bus::ivshmem::{Server, ServerOptions};

use crate::stage::{Folder, program};

fn refused(arguments: &[&str], folder: &Folder) -> (Option<i32>, String) {
    let output = program(&folder.socket(), arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn refusals_say_what_to_do() {
    let folder = Folder::new();
    let long = format!("tap:{}", "x".repeat(16));
    for (arguments, status, text) in [
        (&["--behind", "nothing"][..], 2, "choose stack, echo, tap:NAME or tun:NAME"),
        (&["--behind", "tap"], 2, "choose stack, echo, tap:NAME or tun:NAME"),
        (&["--behind", "tap:"], 2, "an interface needs a name, such as tap:board0"),
        (&["--behind", "veth:b0"], 2, "choose stack, echo, tap:NAME or tun:NAME"),
        (&["--behind", &long], 1, "15"),
        (&["--name", ""], 2, "1 to 32 printable ASCII"),
        (&["--name", "\u{7}"], 2, "1 to 32 printable ASCII"),
        (&["--address", "10.0.0.2"], 2, "a prefix length is missing"),
        (&["--address", "10.0.0.2/33"], 2, "0 to 32"),
        (&["--address", "10.0.0.2/8", "--address", "10.0.0.3/8"], 1, "the second of its kind"),
        (&["--number", "256"], 2, "256"),
        (&["--vectors", "1"], 2, "1 is not in 2..=32"),
        (&["--vectors", "33"], 2, "33 is not in 2..=32"),
        (&["--memory", "64"], 2, "--serve"),
        (&["--serve", "--memory", "3"], 1, "a power of two from 1 MiB"),
        (&["--serve", "--memory", "18446744073709551615"], 1, "more than there can be"),
        (&[], 1, "no ivshmem server answers at"),
    ] {
        let (code, said) = refused(arguments, &folder);
        assert!(said.contains(text), "{arguments:?}: {said}");
        assert_eq!(code, Some(status), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    fs::write(folder.socket(), "").unwrap();
    let (code, said) = refused(&["--serve"], &folder);
    assert!(code == Some(1) && said.contains("is no socket: choose another name"), "{said}");
}

#[test]
fn a_server_with_fewer_vectors_is_refused() {
    let folder = Folder::new();
    let options = ServerOptions { memory: 1 << 20, vectors: 4, ..ServerOptions::default() };
    let _server = Server::bind(folder.socket(), options).unwrap().start().unwrap();
    let (code, said) = refused(&["--vectors", "5"], &folder);
    assert!(code == Some(1) && said.contains("has fewer vectors than --vectors 5"), "{said}");
}
