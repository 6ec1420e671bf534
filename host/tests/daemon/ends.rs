//! What keys of the configuration do, seen at the interface and through a live
//! board; and two boards under one daemon.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use virtio_phys_host::netlink::Netlink;

use crate::boards::{BoardProcess, b0, is_still_up, socket, until, up};
use crate::run::{FOLDER, Stage, Tun, staged};
use crate::setting::{asked, configure, running};

/// Nothing that is waited for takes this long: then it hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A board's state, and how many sessions it has had.
type State = (String, u64);

/// What is waited for.
type Holds = dyn Fn(&[State]) -> bool;

fn is_up((state, sessions): &State, number: u64) -> bool {
    state == "up" && *sessions >= number
}

/// The echo of a board at 10.N.0.2, for the host at 10.N.0.1.
struct Echo(UdpSocket);

impl Echo {
    fn of(net: u8) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::new(10, net, 0, 1), 0)).unwrap();
        socket.connect((Ipv4Addr::new(10, net, 0, 2), 7)).unwrap();
        Self(socket)
    }

    /// Datagrams there and back, none of them lost.
    #[track_caller]
    fn answers(&self, count: usize) {
        self.0.set_read_timeout(Some(HANGS)).unwrap();
        for number in 0..count {
            let sent = vec![number.to_le_bytes()[0]; 8 + number * 37 % 1300];
            self.0.send(&sent).unwrap();
            let mut buffer = [0; 2048];
            let len = self.0.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..len], sent);
        }
    }
}

/// A number that `vphys stats` has of the only board.
fn counter(stage: &Stage, path: &str) -> u64 {
    let stats: Value = serde_json::from_str(&asked(stage, "stats --json")).unwrap();
    stats["boards"][0].pointer(path).unwrap().as_u64().unwrap()
}

const ADDRESS: &str = "addresses = [\"10.77.0.1/24\"]\n";

#[test]
fn keys_show_at_a_live_board() {
    staged("ends::keys_show_at_a_live_board", Tun::Everybodys, |stage| {
        let keys = |more: &str| {
            format!(
                "log = \"debug\"\n{}",
                b0(&format!("{ADDRESS}mac = \"02:00:00:00:00:77\"\n{more}"))
            )
        };
        let small = "queue_size = { to_host = 16, to_board = 8 }\npush_limit = 0\n\
                     layout = \"all-host\"\npolling = { looks = 0 }\nmtu = 1400\n";
        let mut going = running(stage, &keys(small));
        let board = BoardProcess::start(stage, &socket());
        let first = up(stage, 1);
        let link = Netlink::open().unwrap().link("vphys0").unwrap();
        assert_eq!((link.mac, link.mtu), (Some([2, 0, 0, 0, 0, 0x77]), 1400));
        Echo::of(77).answers(100);
        // The board fetches every frame by itself.
        // The data thread tells its numbers before it sleeps.
        until(stage, "all datagrams", |_| counter(stage, "/to_board/pulled") >= 100);
        assert_eq!(counter(stage, "/to_board/pushed"), 0);
        // What changes live is asked of the board, and done.
        let live = "coalescing = { packets = 4, microseconds = 200 }\n\
                    receive = { promiscuous = false, offloads = false }\n";
        configure(&keys(&format!("{small}{live}")));
        going.signal(Signal::SIGHUP);
        for request in
            ["CoalesceToHost(", "CoalesceToBoard(", "Promiscuous, on: false", "Offloads(0)"]
        {
            going.says(request);
        }
        Echo::of(77).answers(100);
        is_still_up(stage, &first);
        going.signal(Signal::SIGTERM).says("b0: let go of");
        drop(board);
        going.end().went_well();
    });
}

#[test]
fn a_tun_interface_and_the_board_that_is_wanted() {
    let test = "ends::a_tun_interface_and_the_board_that_is_wanted";
    staged(test, Tun::Everybodys, |stage| {
        let keys = |mac: &str| b0(&format!("{ADDRESS}mode = \"tun\"\nboard_mac = \"{mac}\"\n"));
        let mut going = running(stage, &keys("02:00:00:00:00:99"));
        let board = BoardProcess::start(stage, &socket());
        let other = until(stage, "a refusal", |status| {
            status["last_failure"].as_str().is_some_and(|why| why.contains("another board"))
        });
        let why = other["last_failure"].as_str().unwrap();
        let (_, found) = why.split_once("its MAC address is ").unwrap();
        let found = found.split_once(',').unwrap().0.to_owned();
        going.signal(Signal::SIGTERM).says("b0: let go of");
        drop(board);
        going.end().went_well();
        let mut going = running(stage, &keys(&found));
        let board = BoardProcess::start(stage, &socket());
        up(stage, 1);
        Echo::of(77).answers(100);
        going.signal(Signal::SIGTERM).says("b0: let go of");
        drop(board);
        going.end().went_well();
    });
}

#[test]
fn one_of_two_boards_is_killed() {
    staged("ends::one_of_two_boards_is_killed", Tun::Everybodys, |stage| {
        let second: PathBuf = Path::new(FOLDER).join("b1.sock");
        let b1 = b0(ADDRESS)
            .replace("\"b0\"", "\"b1\"")
            .replace("vphys0", "vphys1")
            .replace("10.77.", "10.78.")
            .replace(socket().to_str().unwrap(), second.to_str().unwrap());
        let mut going = running(stage, &format!("{}{b1}", b0(ADDRESS)));
        let killed = BoardProcess::start(stage, &socket());
        let other = format!("{} --number 1 --address 10.78.0.2/24", second.display());
        let lives = BoardProcess::start(stage, Path::new(&other));
        let states = || -> Vec<State> {
            let status: Value = serde_json::from_str(&asked(stage, "status --json")).unwrap();
            let boards = status["boards"].as_array().unwrap().iter();
            let state = |board: &Value| {
                (board["state"].as_str().unwrap().to_owned(), board["sessions"].as_u64().unwrap())
            };
            boards.map(state).collect()
        };
        let wait = |what: &str, echo: Option<&Echo>, holds: &Holds| {
            let deadline = Instant::now() + HANGS;
            while !holds(&states()) {
                assert!(Instant::now() < deadline, "{what} does not come: {:?}", states());
                match echo {
                    Some(echo) => echo.answers(20),
                    None => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        };
        wait("both", None, &|all| all.iter().all(|board| is_up(board, 1)));
        let second = states()[1].clone();
        Echo::of(77).answers(20);
        let echo = Echo::of(78);
        echo.answers(20);
        drop(killed);
        wait("the loss", Some(&echo), &|all| all[0].0 != "up");
        let again = BoardProcess::start(stage, &socket());
        wait("the first again", Some(&echo), &|all| is_up(&all[0], 2));
        echo.answers(20);
        Echo::of(77).answers(20);
        // The second has noticed none of it.
        assert_eq!(states()[1], second);
        going.signal(Signal::SIGTERM).says("let go of").says("let go of");
        drop((again, lives));
        going.end().went_well();
    });
}
