//! What a service manager sees: signals, notifications, log lines.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::fstat;

use crate::run::{FOLDER, Tun, staged, start};
use crate::setting::{b0, configure, daemon, empty_slot, running};

#[test]
fn who_asks_it_to_end() {
    staged("service::who_asks_it_to_end", Tun::Everybodys, |stage| {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut going = running(stage, &b0(""));
            going.signal(signal);
            let text = format!("INFO  ending, asked by {signal}\n");
            going.end().went_well().said(&[&text, "INFO  b0: let go of\n"]);
        }
    });
}

#[test]
fn an_empty_slot() {
    staged("service::an_empty_slot", Tun::Everybodys, |stage| {
        // It keeps looking until it is asked to end.
        let mut going = start(&mut daemon(stage, &b0("")), true);
        going.says("next attempt in").signal(Signal::SIGTERM);
        going.end().went_well().said(&[
            "b0: looking for the board of vphys0",
            "WARN  b0: ",
            "step 1 (find the control block): no control block",
            "check that the firmware runs",
        ]);
    });
}

#[test]
fn nobody_reads_the_log() {
    staged("service::nobody_reads_the_log", Tun::Everybodys, |stage| {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        // A panic would be 101.
        let status = daemon(stage, &b0("mtu = 0")).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(78));
        let listener = UnixDatagram::bind(Path::new(FOLDER).join("notify")).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut command = daemon(stage, &b0(""));
        command.env("NOTIFY_SOCKET", Path::new(FOLDER).join("notify"));
        let mut child = command.stderr(full()).stdout(Stdio::null()).spawn().unwrap();
        assert!(heard(&listener).starts_with("READY=1"));
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id().try_into().unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

fn heard(listener: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let len = listener.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

#[test]
fn systemd_is_told() {
    staged("service::systemd_is_told", Tun::Everybodys, |stage| {
        let path = Path::new(FOLDER).join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // Changes of a board's status come in between.
        let next = || loop {
            let text = heard(&listener);
            if !text.starts_with("STATUS=") {
                return text;
            }
        };
        let mut going = start(daemon(stage, &b0("")).env("NOTIFY_SOCKET", &path), true);
        assert_eq!(next(), "READY=1\nSTATUS=1 board, not up");
        configure(&format!("{}{}", b0(""), empty_slot("b1", "vphys1", "")));
        going.signal(Signal::SIGHUP);
        let reloading = next();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        assert_eq!(next(), "READY=1\nSTATUS=2 boards, 0 up");
        going.signal(Signal::SIGTERM);
        assert!(next().starts_with("STOPPING=1"));
        going.end().went_well();
    });
}

#[test]
fn the_journal_is_told_levels() {
    staged("service::the_journal_is_told_levels", Tun::Everybodys, |stage| {
        let path = Path::new(FOLDER).join("journal");
        let journal = File::create(&path).unwrap();
        let file = fstat(journal.as_fd()).unwrap();
        let stream = format!("{}:{}", file.st_dev, file.st_ino);
        let mut command = daemon(stage, &b0(""));
        let mut child = command.env("JOURNAL_STREAM", &stream).stderr(journal).spawn().unwrap();
        let log = || fs::read_to_string(&path).unwrap();
        while !log().contains("next attempt in") {
            assert!(child.try_wait().unwrap().is_none(), "{}", log());
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(crate::setting::socket()).unwrap();
        assert!(log().contains("<6>b0: looking for the board of vphys0\n"), "{}", log());
        assert!(log().contains("<4>b0: "), "{}", log());
        assert!(log().lines().all(|line| line.starts_with('<')), "{}", log());
        // Where standard error is another file, the variable is somebody else's.
        let mut going = start(daemon(stage, &b0("")).env("JOURNAL_STREAM", &stream), true);
        going.says("INFO  ready: 1 board, not up\n").signal(Signal::SIGTERM);
        going.end().went_well();
    });
}
