//! Datagrams with a number, and every byte from it, that the board's stack
//! sends back: none comes twice, and none damaged, whoever dies in between.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::process::HANGS;

/// The board's echo.
const PORT: u16 = 7;

/// How long one is waited for before the next is sent.
const PATIENCE: Duration = Duration::from_millis(20);

/// Every datagram that was ever sent to a board.
pub(crate) struct Stream {
    socket: UdpSocket,
    sent: u64,
    came: BTreeSet<u64>,
}

impl Stream {
    /// To the board of the stage with this number, whose link is up.
    pub(crate) fn new(stage: u8) -> Self {
        let address = |host| Ipv4Addr::new(10, 77, stage, host);
        let mut socket = None;
        // The interface gets its address when the link is up.
        crate::process::until("the interface's address", || {
            socket = UdpSocket::bind((address(1), 0)).ok();
            socket.is_some()
        });
        let socket = socket.unwrap();
        socket.connect((address(2), PORT)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, sent: 0, came: BTreeSet::new() }
    }

    fn datagram(number: u64) -> Vec<u8> {
        let len = 8 + usize::try_from(number).unwrap() * 37 % 1400;
        let bytes = number.to_le_bytes();
        let mut state = number | 1;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        });
        bytes.into_iter().chain(noise).take(len).collect()
    }

    /// Sends one; with no carrier, address or neighbour it is lost.
    fn send(&mut self) -> bool {
        let sent = self.socket.send(&Self::datagram(self.sent)).is_ok();
        self.sent += 1;
        sent
    }

    /// Takes the next that is there or comes soon, and returns its number.
    fn take(&mut self) -> Option<u64> {
        let mut buffer = [0; 2048];
        let len = match self.socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::InvalidInput, "{error}");
                return None;
            }
        };
        let number = buffer.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).unwrap();
        assert!(len >= 8 && number < self.sent, "datagram {number} was never sent");
        assert!(buffer[..len] == Self::datagram(number), "datagram {number} is damaged");
        assert!(self.came.insert(number), "datagram {number} came twice");
        Some(number)
    }

    /// Sends so many, and waits for none.
    pub(crate) fn load(&mut self, count: u64) {
        for _ in 0..count {
            self.send();
        }
    }

    /// Sends until `count` that were sent from now on have come back.
    pub(crate) fn flows(&mut self, count: usize) {
        let (first, deadline) = (self.sent, Instant::now() + HANGS);
        let mut fresh = 0;
        while fresh < count {
            assert!(Instant::now() < deadline, "of datagrams from {first} on {fresh} came back");
            if !self.send() {
                std::thread::sleep(PATIENCE / 4);
            }
            while let Some(number) = self.take() {
                fresh += usize::from(number >= first);
                if number + 1 == self.sent {
                    break;
                }
            }
        }
    }
}
