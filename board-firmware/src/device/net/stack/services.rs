//! The services on top of the stack: echo, discard, chargen, status page.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, State};
use smoltcp::socket::udp;

use super::IDLE_TIMEOUT;
use super::page::{self, Page};
use crate::device::Wake;
use crate::trace::NetCounters;

/// What a TCP socket does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    /// RFC 862.
    Echo,
    /// RFC 863.
    Discard,
    /// RFC 864.
    Chargen,
    /// The status page.
    Status,
}

/// The TCP sockets: one connection each.
const CONNECTIONS: [Service; 10] = [
    Service::Echo,
    Service::Echo,
    Service::Discard,
    Service::Discard,
    Service::Chargen,
    Service::Chargen,
    Service::Status,
    Service::Status,
    Service::Status,
    Service::Status,
];

impl Service {
    const fn port(self) -> u16 {
        match self {
            Self::Echo => ECHO_PORT,
            Self::Discard => 9,
            Self::Chargen => 19,
            Self::Status => 80,
        }
    }

    /// Receive and send buffer; `None`: a bulk buffer.
    const fn buffers(self) -> [Option<usize>; 2] {
        match self {
            Self::Echo => [None, None],
            Self::Discard => [None, Some(64)],
            Self::Chargen => [Some(1024), None],
            Self::Status => [Some(1024), Some(page::LONGEST)],
        }
    }
}

const ECHO_PORT: u16 = 7;

/// Ports whose services answer whatever comes (echo, daytime, quote, chargen,
/// time): a forged packet between two of these would go back and forth for ever.
const ANSWERING_PORTS: [u16; 5] = [ECHO_PORT, 13, 17, 19, 37];

/// UDP packets that wait in each direction.
pub const UDP_PACKETS: usize = 32;

/// Bytes of UDP payload that wait in each direction: two packets of 9000.
const UDP_BYTES: usize = 18 * 1024;

/// Sockets of a stack.
pub const SOCKETS: usize = CONNECTIONS.len() + 1;

/// (bulk buffers, bytes of all others)
const SUMS: (usize, usize) = {
    let (mut bulk, mut fixed, mut i) = (0, 2 * UDP_BYTES, 0);
    while i < CONNECTIONS.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        let buffers = CONNECTIONS[i].buffers();
        let mut j = 0;
        while j < buffers.len() {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
            match buffers[j] {
                Some(bytes) => fixed += bytes,
                None => bulk += 1,
            }
            j += 1;
        }
        i += 1;
    }
    (bulk, fixed)
};

/// Socket buffers that share out what the caller brought.
pub(super) const BULK_BUFFERS: usize = SUMS.0;

/// The least that does: 2 KiB a bulk buffer.
pub(super) const LEAST_BYTES: usize = SUMS.0 * 2048 + SUMS.1;

/// smoltcp panics above this.
const LARGEST_BUFFER: usize = 1 << 30;

/// RFC 864: 95 lines of 72 characters, each starting one character further,
/// then all over again.
const CHARGEN: [u8; 95 * 74] = {
    let mut pattern = [0; 95 * 74];
    let mut i = 0;
    while i < pattern.len() {
        let (line, column) = (i / 74, i % 74);
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        #[expect(clippy::cast_possible_truncation, reason = "below 127")]
        {
            pattern[i] = match column {
                72 => b'\r',
                73 => b'\n',
                _ => 32 + ((line + column) % 95) as u8,
            };
        }
        i += 1;
    }
    pattern
};

/// A connection that was closed from here stays in TIME-WAIT this long, in
/// milliseconds: the link loses nothing, and sockets are few.
const TIME_WAIT: u64 = 20;

/// Bytes that the echo service moves at once.
const CHUNK: usize = 2048;

/// Rounds over one connection in one call.
const ROUNDS: usize = 64;

/// One TCP socket.
#[derive(Clone, Copy, Debug)]
struct Connection {
    handle: SocketHandle,
    service: Service,
    /// Where in [`CHARGEN`] the next byte is.
    position: usize,
    /// The status page: the answer is out.
    answered: bool,
    /// When TIME-WAIT is over.
    over_at: Option<u64>,
}

/// All sockets and what they do.
#[derive(Debug)]
pub(super) struct Services<'b> {
    connections: [Connection; CONNECTIONS.len()],
    udp_echo: SocketHandle,
    discarded: u64,
    name: &'b str,
}

impl<'b> Services<'b> {
    /// Adds the sockets to an empty set with [`SOCKETS`] places. `bytes` is
    /// at least [`LEAST_BYTES`] long.
    pub(super) fn new(
        sockets: &mut SocketSet<'b>,
        packets: &'b mut [udp::PacketMetadata; 2 * UDP_PACKETS],
        mut bytes: &'b mut [u8],
        name: &'b str,
    ) -> Self {
        let bulk = bytes.len().saturating_sub(SUMS.1) / SUMS.0;
        let mut take = |len: Option<usize>| {
            let len = len.unwrap_or(bulk).min(LARGEST_BUFFER);
            let (taken, left) = core::mem::take(&mut bytes).split_at_mut_checked(len)?;
            bytes = left;
            Some(taken)
        };
        let connections = CONNECTIONS.map(|service| {
            let [receive, send] = service.buffers();
            let receive = take(receive).unwrap_or(&mut []);
            let send = take(send).unwrap_or(&mut []);
            let mut socket =
                tcp::Socket::new(tcp::SocketBuffer::new(receive), tcp::SocketBuffer::new(send));
            socket.set_nagle_enabled(false);
            socket.set_timeout(Some(IDLE_TIMEOUT));
            socket.set_keep_alive(Some(IDLE_TIMEOUT / 4));
            let handle = sockets.add(socket);
            Connection { handle, service, position: 0, answered: false, over_at: None }
        });
        let (packets_in, packets_out) = packets.split_at_mut(UDP_PACKETS);
        let mut echo = udp::Socket::new(
            udp::PacketBuffer::new(packets_in, take(Some(UDP_BYTES)).unwrap_or(&mut [])),
            udp::PacketBuffer::new(packets_out, take(Some(UDP_BYTES)).unwrap_or(&mut [])),
        );
        // Fails on port 0 and on a socket that is open: neither is the case.
        let _ = echo.bind(ECHO_PORT);
        let udp_echo = sockets.add(echo);
        Self { connections, udp_echo, discarded: 0, name }
    }

    pub(super) const fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Forgets all connections: there is a new driver.
    pub(super) fn restart(&mut self, sockets: &mut SocketSet<'_>) {
        for connection in &mut self.connections {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
            socket.abort();
            connection.listen(socket);
        }
        let echo = sockets.get_mut::<udp::Socket<'_>>(self.udp_echo);
        echo.close();
        let _ = echo.bind(ECHO_PORT);
    }

    /// Moves data through every service. `true`: something moved.
    pub(super) fn serve(
        &mut self,
        now: u64,
        sockets: &mut SocketSet<'_>,
        counters: &NetCounters,
    ) -> bool {
        let mut moved = echo_packets(sockets.get_mut(self.udp_echo));
        for connection in &mut self.connections {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
            moved |= match connection.service {
                Service::Echo => echo_bytes(socket),
                Service::Discard => {
                    let taken = discard(socket);
                    self.discarded += taken;
                    taken != 0
                }
                Service::Chargen => connection.generate(socket),
                Service::Status => connection.answer(
                    socket,
                    |page| {
                        page.line("uptime_ms", now);
                        page.line("discard_bytes", self.discarded);
                        page.counters(counters);
                    },
                    self.name,
                ),
            };
            moved |= connection.follow(now, socket);
        }
        moved
    }

    /// When a connection's own timer ends.
    pub(super) fn wake(&self) -> Wake {
        let over = self.connections.iter().filter_map(|connection| connection.over_at).min();
        over.map_or(Wake::Idle, Wake::At)
    }
}

impl Connection {
    fn listen(&mut self, socket: &mut tcp::Socket<'_>) {
        self.position = 0;
        self.answered = false;
        self.over_at = None;
        // Fails on an open socket only; it is tried again when that closes.
        let _ = socket.listen(self.service.port());
    }

    /// Closes behind a peer that has closed, and listens again in the end.
    fn follow(&mut self, now: u64, socket: &mut tcp::Socket<'_>) -> bool {
        match socket.state() {
            State::Closed => {
                self.listen(socket);
                true
            }
            // The peer has closed. What it sent is read first, and what it is
            // owed is sent behind this.
            State::CloseWait if !socket.can_recv() => {
                socket.close();
                true
            }
            State::TimeWait => match self.over_at {
                None => {
                    self.over_at = Some(now.saturating_add(TIME_WAIT));
                    false
                }
                Some(over) if now >= over => {
                    socket.abort();
                    self.listen(socket);
                    true
                }
                Some(_) => false,
            },
            _ => false,
        }
    }

    fn generate(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let mut moved = discard(socket) != 0;
        // A peer that has closed its side wants no more (half-close is not for chargen).
        if socket.state() == State::CloseWait {
            return moved;
        }
        for _ in 0..ROUNDS {
            let position = self.position;
            let sent = socket.send(|room| {
                let mut at = position;
                let mut done = 0;
                while let Some(gap) = room.get_mut(done..).filter(|gap| !gap.is_empty()) {
                    let pattern = CHARGEN.get(at..).unwrap_or(&[]);
                    let len = gap.len().min(pattern.len());
                    let (Some(to), Some(from)) = (gap.get_mut(..len), pattern.get(..len)) else {
                        break;
                    };
                    to.copy_from_slice(from);
                    done += len;
                    at = (at + len) % CHARGEN.len();
                }
                (done, (done, at))
            });
            match sent {
                Ok((done, at)) if done != 0 => {
                    self.position = at;
                    moved = true;
                }
                _ => break,
            }
        }
        moved
    }

    fn answer(
        &mut self,
        socket: &mut tcp::Socket<'_>,
        fill: impl FnOnce(&mut Page),
        name: &str,
    ) -> bool {
        if self.answered || !socket.can_recv() {
            // What comes behind the request is not of interest.
            return self.answered && discard(socket) != 0;
        }
        let Ok(request) = socket.peek(1024) else { return false };
        let whole = request.windows(4).any(|end| end == b"\r\n\r\n")
            || request.windows(2).any(|end| end == b"\n\n");
        // A request that fills the buffer is answered as it is.
        if !whole && request.len() < 1024 {
            return false;
        }
        let get = request.starts_with(b"GET ") || request.starts_with(b"HEAD ");
        let mut page = Page::new(get, request.starts_with(b"HEAD "), name);
        fill(&mut page);
        discard(socket);
        let _ = page.send(socket);
        socket.close();
        self.answered = true;
        true
    }
}

/// Reads and forgets; returns the bytes.
fn discard(socket: &mut tcp::Socket<'_>) -> u64 {
    let mut taken = 0;
    for _ in 0..ROUNDS {
        match socket.recv(|bytes| (bytes.len(), bytes.len())) {
            Ok(len) if len != 0 => taken += len as u64,
            _ => break,
        }
    }
    taken
}

fn echo_bytes(socket: &mut tcp::Socket<'_>) -> bool {
    let mut moved = false;
    let mut chunk = [0; CHUNK];
    for _ in 0..ROUNDS {
        let room = socket.send_capacity().saturating_sub(socket.send_queue()).min(CHUNK);
        let Some(place) = chunk.get_mut(..room).filter(|place| !place.is_empty()) else { break };
        if !socket.may_send() {
            break;
        }
        match socket.recv_slice(place) {
            Ok(len) if len != 0 => {
                // There is room for it, and the socket may send.
                let _ = socket.send_slice(place.get(..len).unwrap_or(&[]));
                moved = true;
            }
            _ => break,
        }
    }
    moved
}

fn echo_packets(socket: &mut udp::Socket<'_>) -> bool {
    let mut moved = false;
    let mut packet = [0; 9216];
    for _ in 0..UDP_PACKETS {
        if !socket.can_send() {
            break;
        }
        let (len, from) = match socket.recv_slice(&mut packet) {
            Ok(received) => received,
            Err(udp::RecvError::Truncated) => continue,
            Err(udp::RecvError::Exhausted) => break,
        };
        moved = true;
        if ANSWERING_PORTS.contains(&from.endpoint.port) {
            continue;
        }
        // Full: the packet is lost, as UDP packets are.
        let _ = socket.send_slice(packet.get(..len).unwrap_or(&[]), from);
    }
    moved
}
