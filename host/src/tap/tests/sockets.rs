//! Ordinary sockets at the kernel's end, offloads on the way.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::thread;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_UDP_L4, NetHeader};

use super::peer::{Peer, read_tcp};
use crate::namespace::in_namespace;
use crate::net::Offloads;
use crate::net::tests::grammar::{L4, Recipe, fold};

const SYN: u8 = 2;
const ACK: u8 = 16;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
    socket.connect("10.0.0.2:9").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    socket
}

#[test]
fn datagrams_of_one_call_leave_as_one_frame() {
    in_namespace("tap::tests::sockets::datagrams_of_one_call_leave_as_one_frame", || {
        for reachable in [true, false] {
            let mut peer = Peer::new(Offloads::ALL, reachable);
            let socket = udp();
            setsockopt(&socket, UdpGsoSegment, &1000).unwrap();
            let data = pattern(10_500);
            socket.send(&data).unwrap();
            let (header, frame) = peer.receive();
            let expected = NetHeader {
                flags: FLAG_NEEDS_CSUM,
                gso_type: GSO_UDP_L4,
                hdr_len: 42,
                gso_size: 1000,
                csum_start: 34,
                csum_offset: 6,
                num_buffers: 0,
            };
            assert_eq!((header, &frame[42..]), (expected, data.as_slice()));
            assert_eq!(peer.tap.counters().bounced > 0, !reachable);
        }
    });
}

#[test]
fn without_offloads_the_kernel_does_the_work() {
    in_namespace("tap::tests::sockets::without_offloads_the_kernel_does_the_work", || {
        let mut peer = Peer::new(Offloads::NONE, true);
        let socket = udp();
        setsockopt(&socket, UdpGsoSegment, &1000).unwrap();
        let data = pattern(2_500);
        socket.send(&data).unwrap();
        for part in data.chunks(1000) {
            let (header, frame) = peer.receive();
            assert_eq!((header, &frame[42..]), (NetHeader::default(), part));
            // UDP's checksum is complete: with its pseudo-header it is all ones.
            let mut sum = frame[26..34].to_vec();
            sum.extend([0, 17]);
            sum.extend(&frame[38..40]);
            sum.extend(&frame[34..]);
            assert_eq!(fold(&sum), 0xFFFF);
        }
    });
}

#[test]
fn one_frame_from_the_board_arrives_as_datagrams() {
    in_namespace("tap::tests::sockets::one_frame_from_the_board_arrives_as_datagrams", || {
        for reachable in [true, false] {
            let mut peer = Peer::new(Offloads::ALL, reachable);
            let socket = udp();
            let port = socket.local_addr().unwrap().port();
            let recipe = Recipe::new(false, L4::Udp, 30_000);
            let mut frame = recipe.build();
            frame[34..36].copy_from_slice(&9u16.to_be_bytes());
            frame[36..38].copy_from_slice(&port.to_be_bytes());
            peer.send(recipe.header(Some(1400)), &frame);
            for part in frame[42..].chunks(1400) {
                let mut buffer = [0; 2000];
                let len = socket.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..len], part);
            }
        }
    });
}

#[test]
fn tcp_in_large_frames_both_ways() {
    in_namespace("tap::tests::sockets::tcp_in_large_frames_both_ways", || {
        let mut peer = Peer::new(Offloads::ALL, true);
        let (down, up) = (pattern(200_000), pattern(60_000));
        let (down_sent, up_expected) = (down.clone(), up.clone());
        let host = thread::spawn(move || {
            let mut stream = TcpStream::connect("10.0.0.2:9").unwrap();
            stream.write_all(&down_sent).unwrap();
            let mut received = vec![0; up_expected.len()];
            stream.read_exact(&mut received).unwrap();
            assert!(received == up_expected);
        });

        let syn = read_tcp(&peer.receive().1);
        assert_eq!(syn.flags & SYN, SYN);
        let first = syn.seq.wrapping_add(1);
        peer.send_tcp(syn.port, SYN | ACK, 1000, first, &[]);
        let (mut seen, mut large) = (Vec::<u8>::new(), 0);
        while seen.len() < down.len() {
            let (header, frame) = peer.receive();
            let segment = read_tcp(&frame);
            let at = segment.seq.wrapping_sub(first) as usize;
            // In order, but perhaps again.
            if at <= seen.len() {
                seen.truncate(at);
                seen.extend(&segment.payload);
            }
            if header.gso_type == GSO_TCPV4 {
                assert_eq!(
                    (header.gso_size, header.csum_start, header.csum_offset),
                    (1460, 34, 16)
                );
                assert_eq!(usize::from(header.hdr_len) + segment.payload.len(), frame.len());
                large += 1;
            }
            let ack = first.wrapping_add(seen.len() as u32);
            peer.send_tcp(segment.port, ACK, 1001, ack, &[]);
        }
        assert!(seen == down);
        assert!(large > 0, "no frame came unsegmented");

        let ack = first.wrapping_add(down.len() as u32);
        let mut seq = 1001u32;
        for part in up.chunks(30_000) {
            peer.send_tcp(syn.port, ACK, seq, ack, part);
            seq += part.len() as u32;
        }
        host.join().unwrap();
    });
}
