//! Datagrams that the board's stack sends back.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::process::HANGS;

/// The board of these tests, and its UDP echo.
pub(crate) const BOARD: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 2), 7);
/// The host's interface towards it.
pub(crate) const HOST: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 1), 24);

/// Sends datagrams of many lengths until `count` have come back, each byte as
/// it was. Where `patient`, what is lost is sent again until the time is over.
pub(crate) fn echo(count: usize, patient: bool) {
    let socket = UdpSocket::bind((HOST.0, 0)).unwrap();
    socket.connect(BOARD).unwrap();
    let deadline = Instant::now() + HANGS;
    let wait = if patient { Duration::from_millis(100) } else { HANGS };
    socket.set_read_timeout(Some(wait)).unwrap();
    let mut buffer = [0; 2048];
    for number in 0..count {
        let len = 8 + number * 37 % 1400;
        let mut sent: Vec<u8> = (0..=250).cycle().skip(number % 251).take(len).collect();
        sent[..8].copy_from_slice(&(number as u64).to_le_bytes());
        loop {
            assert!(Instant::now() < deadline, "datagram {number} never came back");
            match socket.send(&sent) {
                Ok(_) => {}
                // The interface has no carrier, or nobody answered before.
                Err(_) if patient => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("{error}"),
            }
            match socket.recv(&mut buffer) {
                // An answer to one that was sent twice.
                Ok(len) if patient && buffer[..8] != sent[..8] && len >= 8 => {}
                Ok(len) => {
                    assert_eq!(buffer[..len], sent, "datagram {number}");
                    break;
                }
                Err(error) if patient && error.kind() != ErrorKind::InvalidInput => {}
                Err(error) => panic!("datagram {number}: {error}"),
            }
        }
    }
}
