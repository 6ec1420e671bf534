//! TCP and UDP to the board's services, with every byte accounted for.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long a connection may stand still before the demo gives up.
const STALL: Duration = Duration::from_secs(5);

/// Bytes handed to the kernel, or taken from it, at a time.
const CHUNK: usize = 256 * 1024;

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

fn connect(board: IpAddr, port: u16) -> Result<TcpStream> {
    let to = SocketAddr::new(board, port);
    let stream = TcpStream::connect_timeout(&to, STALL)
        .with_context(|| format!("no TCP connection to {to} within {} s", STALL.as_secs()))?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(stream)
}

/// Sends a pattern through the echo service and compares what comes back.
pub(crate) fn echo_tcp(board: IpAddr, bytes: usize) -> Result<u64> {
    let mut stream = connect(board, ECHO)?;
    let sent: Vec<u8> = (0..=250).cycle().step_by(31).take(bytes).collect();
    let mut writer = stream.try_clone()?;
    let outgoing = sent.clone();
    let sender = std::thread::spawn(move || {
        let result = writer.write_all(&outgoing);
        let _ = writer.shutdown(Shutdown::Write);
        result
    });
    let mut back = Vec::with_capacity(bytes);
    let outcome = (&mut stream).take(bytes as u64).read_to_end(&mut back);
    let sent_ok = sender.join().map_err(|_| anyhow::anyhow!("the sending thread died"))?;
    outcome.context("TCP echo: the board stopped answering")?;
    sent_ok.context("TCP echo: the board stopped reading")?;
    ensure!(back == sent, "TCP echo: {} of {bytes} bytes came back, or they differ", back.len());
    Ok(back.len() as u64)
}

/// Sends datagrams to the echo service one by one: how many came back whole.
pub(crate) fn echo_udp(board: IpAddr, count: u32) -> Result<u32> {
    let local: SocketAddr =
        if board.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
    let socket = UdpSocket::bind(local)?;
    socket.connect(SocketAddr::new(board, ECHO))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut back = 0;
    let mut buffer = [0; 2048];
    for (i, len) in (0..count).zip((4..1400_usize).cycle().step_by(37)) {
        let number = i.to_be_bytes();
        let mut datagram = vec![number[3]; len];
        datagram[..4].copy_from_slice(&number);
        socket.send(&datagram).context("UDP echo: cannot send")?;
        match socket.recv(&mut buffer) {
            Ok(received) if buffer[..received] == datagram[..] => back += 1,
            Ok(_) => bail!("UDP echo: datagram {i} came back changed"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("UDP echo"),
        }
    }
    Ok(back)
}

/// Sends to the discard service for `time`; `tick` sees the share done.
pub(crate) fn send(board: IpAddr, time: Duration, mut tick: impl FnMut(Duration)) -> Result<Flow> {
    let mut stream = connect(board, DISCARD)?;
    let chunk = vec![0x5A; CHUNK];
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < time {
        bytes += stream.write(&chunk).context("TCP to the board stands still")? as u64;
        tick(start.elapsed());
    }
    // The board has read everything when it closes its side.
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 16];
    let left = stream.read(&mut rest).context("the board did not read to the end")?;
    ensure!(left == 0, "the discard service sent {left} bytes");
    Ok(Flow { bytes, elapsed: start.elapsed() })
}

/// Reads from the chargen service for `time` and checks every byte.
pub(crate) fn receive(
    board: IpAddr,
    time: Duration,
    mut tick: impl FnMut(Duration),
) -> Result<Flow> {
    let mut stream = connect(board, CHARGEN)?;
    let pattern = chargen_pattern();
    let mut buffer = vec![0; CHUNK];
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < time {
        let got = stream.read(&mut buffer).context("TCP from the board stands still")?;
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
pub(crate) fn status(board: IpAddr, name: &str) -> Result<u64> {
    let mut stream = connect(board, HTTP)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.take(64 * 1024).read_to_string(&mut page).context("the status page did not end")?;
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
