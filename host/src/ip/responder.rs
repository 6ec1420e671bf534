//! What becomes of a frame from the board: a packet for the kernel, or a
//! question that is answered here. No I/O; answers wait until they are asked for.

use std::collections::VecDeque;

use super::ethernet::{ARP, ETHERNET, IPV4, IPV6, LinkAddresses};
use super::reply::Reply;
use super::{arp, neighbour};

/// Answers that wait at most. A board that asks more often than it takes
/// frames asks again.
pub const QUEUE_LEN: usize = 16;

/// What a [`Responder`] and its port count.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IpCounters {
    /// Answers to the board, and announcements.
    pub answered: u64,
    /// Those for which there was no room.
    pub answers_lost: u64,
    /// Questions and other words of ARP and neighbour discovery that want no
    /// answer: probes, announcements, answers.
    pub unanswered: u64,
    /// Frames that are neither IPv4 nor IPv6, from either side; a VLAN tag
    /// makes one such.
    pub not_ip: u64,
    /// Frames from the board to a station that is not this host.
    pub other_station: u64,
    /// Frames from the board that contradict themselves.
    pub malformed: u64,
}

/// What is said to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// This.
    Reply(Reply),
    /// Nothing.
    Silence,
    /// Nothing, and it was no proper question.
    Malformed,
    /// It was no question.
    NotAsked,
}

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is an IP packet for the host.
    Packet,
    /// It was for the responder.
    Taken,
    /// It is nothing that the host can use; counted.
    Dropped,
}

/// Answers ARP and neighbour discovery for every address but the board's own.
#[derive(Debug)]
pub struct Responder {
    link: LinkAddresses,
    queue: VecDeque<Reply>,
    counters: IpCounters,
}

impl Responder {
    /// For one session's link.
    #[must_use]
    pub fn new(link: LinkAddresses) -> Self {
        let queue = VecDeque::with_capacity(QUEUE_LEN);
        Self { link, queue, counters: IpCounters::default() }
    }

    /// The link's addresses.
    #[must_use]
    pub const fn link(&self) -> &LinkAddresses {
        &self.link
    }

    /// The board's end has another address from now on.
    pub(super) const fn set_board(&mut self, board: [u8; 6]) {
        self.link.board = board;
    }

    /// Judges a frame from the board by its first bytes, which are private
    /// memory and hold the whole of any question. `partial`: its checksum is
    /// left to the receiver.
    pub fn judge(&mut self, frame: &[u8], partial: bool) -> Verdict {
        let Some((ethernet, packet)) = frame.split_first_chunk::<ETHERNET>() else {
            return Self::drop(&mut self.counters.malformed);
        };
        let &[to @ .., _, _, _, _, _, _, kind_high, kind_low] = ethernet;
        let group = to.first().is_some_and(|first| first & 1 == 1);
        if to != self.link.host && !group {
            return Self::drop(&mut self.counters.other_station);
        }
        let version = packet.first().map(|first| first >> 4);
        let answer = match ([kind_high, kind_low], version) {
            (ARP, _) => arp::answer(packet, &self.link),
            (IPV4, Some(4)) => return Verdict::Packet,
            (IPV6, Some(6)) => neighbour::answer(packet, partial, &self.link),
            (IPV4 | IPV6, _) => Answer::Malformed,
            _ => return Self::drop(&mut self.counters.not_ip),
        };
        match answer {
            Answer::Reply(reply) => {
                self.enqueue(reply);
                Verdict::Taken
            }
            Answer::Silence => {
                self.counters.unanswered += 1;
                Verdict::Taken
            }
            Answer::Malformed => Self::drop(&mut self.counters.malformed),
            Answer::NotAsked => Verdict::Packet,
        }
    }

    const fn drop(counter: &mut u64) -> Verdict {
        *counter += 1;
        Verdict::Dropped
    }

    /// Puts a frame of ours into the queue for the board.
    pub fn enqueue(&mut self, reply: Reply) {
        if self.queue.len() < QUEUE_LEN {
            self.queue.push_back(reply);
            self.counters.answered += 1;
        } else {
            self.counters.answers_lost += 1;
        }
    }

    /// The next frame of ours for the board.
    pub fn next_reply(&mut self) -> Option<Reply> {
        self.queue.pop_front()
    }

    /// Counts a packet from the kernel that is none.
    pub(super) fn count_not_ip(&mut self) {
        self.counters.not_ip += 1;
    }

    /// Counts an answer that was taken from the queue and did not fit.
    pub(super) fn count_lost(&mut self) {
        self.counters.answers_lost += 1;
    }

    /// The counters so far.
    #[must_use]
    pub const fn counters(&self) -> IpCounters {
        self.counters
    }
}
