//! A network device that runs: what the points of the data path stand on.

use std::time::Duration;

use shared::msg::Event;
use shared::window::Window;
use shared::wire::features::{Features, IN_ORDER, REQUIRED};
use shared::wire::net::{DEVICE_ID, HEADER_BYTES, HEADER_LEN, NetConfig, feature};
use shared::wire::virtq::DESC_WRITE;

use super::device::{DRIVER_OK, Device, FEATURES_OK, NEEDS_RESET};
use super::frames::{SHORTEST, Stations};
use super::kit::Kit;
use super::point::{Checked, Stop, must, seen, skip};
use super::queue::{Queue, SIZE};
use super::session::Lent;
use super::{Answers, COMMON_ADDRESS};

/// virtio-net's queues (VirtIO 1.3 §5.1.2).
pub(super) const RECEIVEQ: u32 = 0;
pub(super) const TRANSMITQ: u32 = 1;
pub(super) const CONTROLQ: u32 = 2;

/// Where buffers lie in `far` (to the host) and `near` (to the board).
pub(super) const BUFFERS: u64 = 0x8000;
/// Bytes of each.
pub(super) const BUFFER: u32 = 2048;

/// The features that the kit accepts wherever they are offered.
const USUAL: u64 = feature::MAC | feature::MTU | feature::STATUS;

/// A network device, set up.
pub(super) struct Net {
    pub(super) device: Device,
    pub(super) features: u64,
    pub(super) config: NetConfig,
    pub(super) receive: Queue,
    pub(super) transmit: Queue,
    /// With VIRTIO_NET_F_CTRL_VQ.
    pub(super) control: Option<Queue>,
    pub(super) lent: Lent,
    pub(super) stations: Stations,
    /// The number of the last question.
    question: u16,
}

impl Net {
    /// Where buffer `head` towards the host lies.
    pub(super) fn to_host(&self, head: u16) -> u64 {
        self.lent.far.at(BUFFERS + u64::from(head) * u64::from(BUFFER))
    }

    /// Where buffer `head` towards the board lies.
    pub(super) fn to_board(&self, head: u16) -> u64 {
        self.lent.near.at(BUFFERS + u64::from(head) * u64::from(BUFFER))
    }

    /// Offers buffer `head` for a frame to the host.
    pub(super) fn post(&mut self, head: u16) {
        let address = self.to_host(head);
        self.receive.chain(head, &[(address, BUFFER, DESC_WRITE)]);
        self.receive.offer(head);
    }

    /// The head that the next frame to the board takes.
    pub(super) const fn next_head(&self) -> u16 {
        self.transmit.next() % self.transmit.size
    }

    /// Puts a frame, with a header of zeros, into buffer `head` towards the
    /// board: its address and length.
    pub(super) fn put(&self, head: u16, frame: &[u8]) -> (u64, u32) {
        let mut bytes = vec![0; HEADER_LEN];
        bytes.extend(frame);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.lent.near.window.write(BUFFERS + u64::from(head) * u64::from(BUFFER), &bytes);
        (self.to_board(head), HEADER_BYTES + u32::try_from(frame.len()).unwrap_or(0))
    }

    /// Offers a frame to the board; [`Queue::announce`] tells of it.
    pub(super) fn offer(&mut self, frame: &[u8]) {
        let head = self.next_head();
        let (address, len) = self.put(head, frame);
        self.transmit.chain(head, &[(address, len, 0)]);
        self.transmit.offer(head);
    }

    /// Offers what tells the board who asks, behind a reset.
    pub(super) fn introduce(&mut self, answers: Answers) {
        if let Answers::Address(address) = answers {
            let frame = self.stations.arp(address);
            self.offer(&frame);
        }
    }

    /// The next question, of `len` bytes or as long as the MTU allows.
    pub(super) fn ask(&mut self, answers: Answers, len: usize) -> (u16, usize, Vec<u8>) {
        self.question = self.question.wrapping_add(1);
        let len = len.min(usize::from(self.config.mtu) + 14).max(SHORTEST);
        (self.question, len, self.stations.question(answers, self.question, len))
    }
}

impl Kit<'_> {
    /// A session, and its network device with features and queues as
    /// [`Self::net_up`] has them, short of DRIVER_OK. Without buffers.
    pub(super) fn net_set(&mut self, extra: u64) -> Result<Net, Stop> {
        self.net_shifted(extra, 0)
    }

    /// The same with used rings that lie `shift` bytes further on.
    pub(super) fn net_shifted(&mut self, extra: u64, shift: u64) -> Result<Net, Stop> {
        let lent = self.share()?;
        self.net_in(lent, extra, shift)
    }

    /// The same in the session that runs, behind a reset of the device.
    pub(super) fn net_set_again(&mut self, extra: u64) -> Result<Net, Stop> {
        let lent = self.session()?.lent.clone();
        self.net_in(lent.map_or_else(|| seen("no regions"), Ok)?, extra, 0)
    }

    fn net_in(&mut self, lent: Lent, extra: u64, shift: u64) -> Result<Net, Stop> {
        let device = self.find_device(DEVICE_ID, "network")?;
        let features = self.net_features(device, extra)?;
        let status = self.negotiate(device, features)?;
        must(status == FEATURES_OK, || format!("FEATURES_OK is refused: status {status:#x}"))?;
        let (_, bytes) = self.config(device, 0, 12)?;
        let config = NetConfig::decode(&bytes);
        let Some(mut config) = config else {
            return seen(format!("GET_CONFIG of 12 bytes gave {}", bytes.len()));
        };
        if features & feature::MTU == 0 {
            config.mtu = 1500;
        }
        let mac = self.board()?.description.mac;
        let mut queues = Vec::new();
        let last = if features & feature::CTRL_VQ == 0 { TRANSMITQ } else { CONTROLQ };
        for number in RECEIVEQ..=last {
            let (largest, _) = self.queue(device, number)?;
            let size = u16::try_from(largest).unwrap_or(SIZE).min(SIZE);
            must(size >= 2, || format!("queue {number} has at most {largest} entries"))?;
            let mut queue = Queue::new(&lent, number, size, shift);
            if features & IN_ORDER != 0 {
                queue.in_order();
            }
            self.route_well(device, number)?;
            self.set_queue(device, number, queue.setup())?;
            self.verify_queue(device, &queue)?;
            queues.push(queue);
        }
        let mut queues = queues.into_iter();
        let (Some(receive), Some(transmit)) = (queues.next(), queues.next()) else {
            return seen("the device has no pair of queues");
        };
        Ok(Net {
            device,
            features,
            stations: Stations { host: config.mac, board: mac },
            config,
            receive,
            transmit,
            control: queues.next(),
            lent,
            question: 0,
        })
    }

    /// What to accept: what is required, what is usual, and `extra`, all of
    /// which has to be offered.
    pub(super) fn net_features(&mut self, device: Device, extra: u64) -> Result<u64, Stop> {
        let offered = self.offered(device)?;
        if offered & extra != extra {
            let missing = Features::new(extra & !offered);
            return skip(format!("not offered: {missing:?}"));
        }
        Ok(REQUIRED.bits() | offered & USUAL | extra)
    }

    /// Whether GET_VQUEUE shows what was set (step 18).
    pub(super) fn verify_queue(&mut self, device: Device, queue: &Queue) -> Checked {
        let (_, shown) = self.queue(device, queue.number)?;
        must(shown == queue.setup(), || {
            format!("queue {}: set {:x?}, GET_VQUEUE shows {shown:x?}", queue.number, queue.setup())
        })
    }

    /// A network device that runs, with all its receive buffers.
    pub(super) fn net_up(&mut self, extra: u64) -> Result<Net, Stop> {
        let mut net = self.net_set(extra)?;
        self.net_start(&mut net)?;
        Ok(net)
    }

    /// Receive buffers, DRIVER_OK, and the doorbells.
    pub(super) fn net_start(&mut self, net: &mut Net) -> Checked {
        for head in 0..net.receive.size {
            net.post(head);
        }
        net.receive.announce();
        self.advance(net.device, DRIVER_OK)?;
        self.ring_queue(&net.receive)
    }

    /// Rings a queue's doorbell.
    pub(super) fn ring_queue(&mut self, queue: &Queue) -> Checked {
        let (doorbell, _) = self.notifications(queue.number)?;
        self.ring(doorbell);
        Ok(())
    }

    /// Announces what was offered to the board, and rings.
    pub(super) fn push(&mut self, net: &Net) -> Checked {
        net.transmit.announce();
        self.ring_queue(&net.transmit)
    }

    /// Waits until every frame to the board has come back.
    pub(super) fn settle(&mut self, net: &mut Net) -> Checked {
        let limit = self.patience();
        let settled = self.until(limit, |_| {
            for (head, len) in net.transmit.take()? {
                must(len == 0, || {
                    format!("frame {head} to the board came back with length {len}")
                })?;
            }
            Ok((net.transmit.taken() == net.transmit.next()).then_some(()))
        })?;
        must(settled.is_some(), || {
            format!(
                "{} of {} frames to the board came back in {} ms",
                net.transmit.taken(),
                net.transmit.next(),
                limit.as_millis()
            )
        })
    }

    /// The first frame to the host that `wanted` picks. Buffers are posted again.
    pub(super) fn receive<T>(
        &mut self,
        net: &mut Net,
        limit: Duration,
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Stop> {
        self.until(limit, |kit| {
            let mut found = None;
            let back = net.receive.take()?;
            let any = !back.is_empty();
            for (head, len) in back {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                let at = BUFFERS + u64::from(head) * u64::from(BUFFER);
                net.lent.far.window.read(at, &mut bytes);
                let Some((header, frame)) = bytes.split_at_checked(HEADER_LEN) else {
                    return seen(format!("a frame to the host of {len} bytes, with its header"));
                };
                must(header[10..12] == [1, 0], || {
                    format!("a frame in one buffer says num_buffers {:?}", &header[10..12])
                })?;
                if found.is_none() {
                    found = wanted(frame);
                }
                net.post(head);
            }
            if any {
                net.receive.announce();
                kit.ring_queue(&net.receive)?;
            }
            Ok(found)
        })
    }

    /// What answers at the board, found out if need be. Skips where nothing does.
    pub(super) fn need_answers(&mut self, net: &mut Net) -> Result<Answers, Stop> {
        let wanted = match self.answers {
            Answers::Echo => return Ok(Answers::Echo),
            Answers::Address(address) => address,
            Answers::FindOut if self.silent => {
                return skip("nothing answers frames behind the device");
            }
            Answers::FindOut => COMMON_ADDRESS,
        };
        let arp = net.stations.arp(wanted);
        net.offer(&arp);
        self.push(net)?;
        self.settle(net)?;
        let limit = self.patience();
        let answer = self.receive(net, limit, |frame| {
            if frame.get(12..) == arp.get(12..) {
                return Some(None);
            }
            Stations::arp_answer(wanted, frame).map(Some)
        })?;
        match (answer, self.answers) {
            (Some(Some(mac)), _) => {
                net.stations.board = mac;
                self.answers = Answers::Address(wanted);
            }
            (Some(None), Answers::FindOut) => self.answers = Answers::Echo,
            (_, Answers::FindOut) => {
                self.silent = true;
                return skip(format!(
                    "nothing answers behind the device, neither an echo nor {wanted}"
                ));
            }
            _ => {
                return seen(format!("ARP for {wanted} is not answered in {limit:?}"));
            }
        }
        Ok(self.answers)
    }

    /// Asks one question of `len` bytes, and waits for its answer and its buffer.
    pub(super) fn question(&mut self, net: &mut Net, answers: Answers, len: usize) -> Checked {
        let (number, len, frame) = net.ask(answers, len);
        net.offer(&frame);
        self.push(net)?;
        self.await_answer(net, answers, number, len)?;
        self.settle(net)
    }

    /// Waits for the answer to a question.
    pub(super) fn await_answer(
        &mut self,
        net: &mut Net,
        answers: Answers,
        number: u16,
        len: usize,
    ) -> Checked {
        let (limit, stations) = (self.patience(), net.stations);
        let came = self.receive(net, limit, |frame| {
            stations.is_answer(answers, number, len, frame).then_some(())
        })?;
        must(came.is_some(), || {
            format!("a frame of {len} bytes is not answered in {} ms", limit.as_millis())
        })
    }

    /// That the device works: a frame there and back, or at least there.
    pub(super) fn works(&mut self, net: &mut Net) -> Checked {
        match self.need_answers(net) {
            Ok(answers) => self.question(net, answers, SHORTEST),
            Err(Stop::Skip(_)) => {
                let (_, _, frame) = net.ask(Answers::Echo, SHORTEST);
                net.offer(&frame);
                self.push(net)?;
                self.settle(net)
            }
            Err(stop) => Err(stop),
        }
    }

    /// Waits until the device says that it needs a reset: in its status, by
    /// EVENT_CONFIG, and by EVENT_FAULT with one of `codes` for `queue`.
    pub(super) fn await_fault(&mut self, device: Device, queue: u32, codes: &[u32]) -> Checked {
        let limit = self.patience();
        let needs = self.until(limit, |kit| {
            let status = kit.status(device)?;
            Ok((status & NEEDS_RESET != 0).then_some(()))
        })?;
        must(needs.is_some(), || {
            format!("DEVICE_NEEDS_RESET is not set in {} ms", limit.as_millis())
        })?;
        let number = device.number;
        let told = self.event(|from, event| match event {
            Event::Config { status, .. } if from == number => Some(*status),
            _ => None,
        })?;
        let Some(status) = told else { return seen("EVENT_CONFIG does not come") };
        must(status & NEEDS_RESET != 0, || {
            format!("EVENT_CONFIG says status {status:#x}, without DEVICE_NEEDS_RESET")
        })?;
        let told = self.event(|_, event| match event {
            Event::Fault { code, device, queue, .. } => Some((*code, *device, *queue)),
            _ => None,
        })?;
        let Some((code, on, at)) = told else { return seen("EVENT_FAULT does not come") };
        must(codes.contains(&code) && (on, at) == (number.into(), queue), || {
            format!(
                "EVENT_FAULT says code {code} for queue {at} of device {on}, not {codes:?} for \
                 queue {queue} of device {number}"
            )
        })
    }
}
