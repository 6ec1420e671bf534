//! TCP and UDP to the board's services, with every byte accounted for.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, socket};

use super::watch::Watch;

/// How long a connection may stand still before the demo gives up. Longer than
/// the board's heartbeat may, which says more.
const STALL: Duration = Duration::from_secs(5);

/// When a datagram's answer counts as lost.
const LATEST: Duration = Duration::from_secs(5);

/// Bytes of a datagram's number.
const NUMBER_LEN: usize = 4;

/// Bytes handed to the kernel, or taken from it, at a time.
const CHUNK: usize = 256 * 1024;

/// Bytes on their way to the echo service and back at most. With both windows
/// closed the board's stack drops acknowledgements that come with data, and
/// only its retransmission timer goes on.
const UNDERWAY: usize = 128 * 1024;

/// The board's services (RFC 862, 863, 864).
const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;
const HTTP: u16 = 80;

/// What one direction carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
}

impl Flow {
    pub(crate) fn gbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64().max(1e-9) / 1e9
    }
}

/// A TCP connection to a service of the board, which no wait holds for longer
/// than [`STALL`].
struct Connection<'a> {
    stream: TcpStream,
    watch: Watch<'a>,
}

impl<'a> Connection<'a> {
    fn open(watch: Watch<'a>, board: IpAddr, port: u16) -> Result<Self> {
        let to = SocketAddr::new(board, port);
        let family = if board.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, SockProtocol::Tcp)
            .context("cannot open a TCP socket")?;
        match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(nix::Error::EINPROGRESS) => {}
            Err(errno) => return Err(errno).with_context(|| format!("no TCP connection to {to}")),
        }
        let connection = Self { stream: socket.into(), watch };
        connection
            .ready(PollFlags::POLLOUT)
            .with_context(|| format!("no TCP connection to {to}"))?;
        match connection.stream.take_error()? {
            None => Ok(connection),
            Some(error) => Err(error).with_context(|| format!("no TCP connection to {to}")),
        }
    }

    fn ready(&self, what: PollFlags) -> Result<()> {
        let ready = self.watch.wait(self.stream.as_fd(), what, STALL)?;
        ensure!(ready, "nothing moved for {} s", STALL.as_secs());
        Ok(())
    }

    /// What is there now, `None` if nothing; 0 at the end.
    fn try_read(&mut self, into: &mut [u8]) -> Result<Option<usize>> {
        now(self.stream.read(into))
    }

    /// Writes what there is room for.
    fn try_write(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        now(self.stream.write(bytes))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        loop {
            if let Some(got) = self.try_read(into)? {
                return Ok(got);
            }
            self.ready(PollFlags::POLLIN)?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        loop {
            if let Some(put) = self.try_write(bytes)? {
                return Ok(put);
            }
            self.ready(PollFlags::POLLOUT)?;
        }
    }

    /// Says that nothing more will be written.
    fn finish(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }
}

fn now(outcome: std::io::Result<usize>) -> Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends a pattern through the echo service and compares what comes back.
pub(crate) fn echo_tcp(watch: Watch<'_>, board: IpAddr, bytes: usize) -> Result<u64> {
    let mut connection = Connection::open(watch, board, ECHO)?;
    let sent: Vec<u8> = (0..=250).cycle().step_by(31).take(bytes).collect();
    let mut buffer = vec![0; CHUNK];
    let (mut out, mut back) = (0, 0);
    loop {
        let room = out..bytes.min(back + UNDERWAY);
        let both = if room.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        connection
            .ready(PollFlags::POLLIN | both)
            .with_context(|| format!("TCP echo: {back} of {bytes} bytes came back"))?;
        if let Some(chunk) = sent.get(room).filter(|chunk| !chunk.is_empty())
            && let Some(put) = connection.try_write(chunk).context("TCP echo")?
        {
            out += put;
            if out == bytes {
                connection.finish()?;
            }
        }
        match connection.try_read(&mut buffer).context("TCP echo")? {
            None => {}
            Some(0) => break,
            Some(got) => {
                let same = sent.get(back..back + got) == buffer.get(..got);
                ensure!(same, "TCP echo: bytes {back} to {} came back changed", back + got);
                back += got;
            }
        }
    }
    ensure!(back == bytes, "TCP echo: {back} of {bytes} bytes came back");
    Ok(back as u64)
}

/// Sends datagrams of up to `longest` bytes to the echo service, one by one:
/// how many came back whole.
pub(crate) fn echo_udp(watch: Watch<'_>, board: IpAddr, count: u32, longest: usize) -> Result<u32> {
    let local: SocketAddr =
        if board.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
    let socket = UdpSocket::bind(local)?;
    socket.connect(SocketAddr::new(board, ECHO))?;
    socket.set_nonblocking(true)?;
    let mut buffer = vec![0; longest + 1];
    let mut back = 0;
    for number in 0..count {
        socket.send(&datagram(number, longest)).context("UDP echo: cannot send")?;
        let deadline = Instant::now() + LATEST;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !watch.wait(socket.as_fd(), PollFlags::POLLIN, left)? {
                break;
            }
            let Some(got) = now(socket.recv(&mut buffer)).context("UDP echo")? else { continue };
            let received = buffer.get(..got).unwrap_or(&[]);
            // It may be a late one; none comes twice on this link.
            let which =
                received.first_chunk().map_or(u32::MAX, |number| u32::from_be_bytes(*number));
            ensure!(
                which <= number && received == datagram(which, longest),
                "UDP echo: a datagram came back changed while {number} was awaited"
            );
            back += 1;
            if which == number {
                break;
            }
        }
    }
    Ok(back)
}

/// The datagram with this number: its length differs from its neighbours'.
fn datagram(number: u32, longest: usize) -> Vec<u8> {
    let lengths = longest.saturating_sub(NUMBER_LEN) + 1;
    let len = NUMBER_LEN + (number as usize).wrapping_mul(37) % lengths;
    let [.., low] = number.to_be_bytes();
    let mut datagram = vec![low; len];
    datagram[..NUMBER_LEN].copy_from_slice(&number.to_be_bytes());
    datagram
}

/// Sends to the discard service for `time`; `tick` sees the time passed.
pub(crate) fn send(
    watch: Watch<'_>,
    board: IpAddr,
    time: Duration,
    mut tick: impl FnMut(Duration),
) -> Result<Flow> {
    let mut connection = Connection::open(watch, board, DISCARD)?;
    let chunk = vec![0x5A; CHUNK];
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < time {
        watch.check()?;
        let sent = || format!("TCP to the board, after {bytes} bytes");
        bytes += connection.write(&chunk).with_context(sent)? as u64;
        tick(start.elapsed());
    }
    // The board has read everything when it closes its side.
    connection.finish()?;
    let mut rest = [0; 16];
    let left = connection.read(&mut rest).context("the board did not read to the end")?;
    ensure!(left == 0, "the discard service sent {left} bytes");
    Ok(Flow { bytes, elapsed: start.elapsed() })
}

/// Reads from the chargen service for `time` and checks every byte.
pub(crate) fn receive(
    watch: Watch<'_>,
    board: IpAddr,
    time: Duration,
    mut tick: impl FnMut(Duration),
) -> Result<Flow> {
    let mut connection = Connection::open(watch, board, CHARGEN)?;
    let pattern = chargen_pattern();
    let mut buffer = vec![0; CHUNK];
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < time {
        watch.check()?;
        let received = || format!("TCP from the board, after {bytes} bytes");
        let got = connection.read(&mut buffer).with_context(received)?;
        ensure!(got > 0, "the chargen service closed the connection after {bytes} bytes");
        check_pattern(&pattern, bytes, &buffer[..got])?;
        bytes += got as u64;
        tick(start.elapsed());
    }
    Ok(Flow { bytes, elapsed: start.elapsed() })
}

/// One period of the character generator: 95 lines of 72 characters.
fn chargen_pattern() -> Vec<u8> {
    let line = |first: usize| (b' '..=b'~').cycle().skip(first).take(72).chain(*b"\r\n");
    (0..95).flat_map(line).collect()
}

fn check_pattern(pattern: &[u8], at: u64, mut bytes: &[u8]) -> Result<()> {
    let mut offset = usize::try_from(at % pattern.len() as u64)?;
    while !bytes.is_empty() {
        let run = bytes.len().min(pattern.len() - offset);
        let (now, later) = bytes.split_at(run);
        ensure!(now == &pattern[offset..offset + run], "the stream differs near byte {at}");
        bytes = later;
        offset = 0;
    }
    Ok(())
}

/// Reads the board's status page and returns the number behind `name:`.
pub(crate) fn status(watch: Watch<'_>, board: IpAddr, name: &str) -> Result<u64> {
    const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
    let mut connection = Connection::open(watch, board, HTTP)?;
    // A new connection has room for so little.
    let put = connection.write(REQUEST).context("the status page")?;
    ensure!(put == REQUEST.len(), "the status page: the request did not fit a new connection");
    let mut page = vec![0; 64 * 1024];
    let mut len = 0;
    loop {
        let got = connection
            .read(page.get_mut(len..).unwrap_or(&mut []))
            .context("the status page did not end")?;
        if got == 0 {
            break;
        }
        len += got;
    }
    page.truncate(len);
    let page = String::from_utf8_lossy(&page);
    page.lines()
        .find_map(|line| {
            line.trim().strip_prefix(name)?.trim_start_matches([':', ' ']).parse().ok()
        })
        .with_context(|| format!("the board's status page has no number called {name}:\n{page}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_checked_across_its_end() {
        let pattern = chargen_pattern();
        assert_eq!(pattern.len(), 95 * 74);
        let stream: Vec<u8> = pattern.iter().cycle().take(20_000).copied().collect();
        for at in [0, 73, 7029, 7030, 9999] {
            check_pattern(&pattern, at as u64, &stream[at..]).unwrap();
            assert!(check_pattern(&pattern, at as u64 + 1, &stream[at..]).is_err());
        }
    }
}
