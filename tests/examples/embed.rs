//! Somebody else's launcher: exchanges frames with a board through a port of its own, no tun.

use std::{collections::VecDeque, error::Error, thread, time::Duration, time::Instant};

use host::bus::sim::{SimBus, SimOptions, SimWindow};
use host::net::{FramePort, PortError, Sent};
use host::session::{Ended, Event, SessionConfig, Supervised, Supervisor};
use shared::{region::Located, window::Window};
use virtio_phys_tests::rig::{BOARD_MAC, BoardThread, HOST_MAC};

/// Frames to the board, each behind its virtio-net header, and how many came.
struct Frames(VecDeque<Vec<u8>>, usize);

impl FramePort<SimWindow> for Frames {
    fn receive(&mut self, into: &SimWindow, at: u64, room: u32) -> Result<Option<u32>, PortError> {
        let frame = self.0.pop_front().filter(|frame| frame.len() <= room as usize);
        frame.iter().for_each(|frame| into.write(at, frame));
        Ok(frame.and_then(|frame| u32::try_from(frame.len()).ok()))
    }

    fn receive_private(&mut self, _: &mut [u8]) -> Result<Option<u32>, PortError> {
        Ok(None) // Asked for layout bar-only alone.
    }

    fn send(&mut self, head: &[u8], _: &[Located<'_, SimWindow>]) -> Result<Sent, PortError> {
        self.1 += 1;
        println!("a frame came back; it begins with {:x?}", &head[..head.len().min(26)]);
        Ok(Sent::Whole)
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let bus = SimBus::new(SimOptions::counted())?;
    let _board = BoardThread::echo(&bus); // It sends every frame back.
    // From here on all is the same on any bus.
    let frame = [&[0; 12][..], &HOST_MAC, &BOARD_MAC, &[0x88; 48]].concat();
    let (mut port, start, mut queues) = (Frames(vec![frame; 10].into(), 0), Instant::now(), None);
    let mut supervisor = Supervisor::new(bus.host(), SessionConfig::default(), std::process::id());
    loop {
        let now = u64::try_from(start.elapsed().as_millis())?;
        match supervisor.step(now).event {
            Some(Supervised::Event(Event::Up(link))) => queues.insert(link.pair).to_host.start(),
            Some(Supervised::Ended(_)) => {
                queues = None; // Before the supervisor takes their memory back; then it tries again.
                supervisor.released(now);
            }
            Some(Supervised::Stopped(outcome)) => return Ok(outcome?),
            _ => {}
        }
        if let Some(Err(error)) = queues.as_mut().map(|queues| queues.step(now, &mut port)) {
            queues = None;
            supervisor.fail(Ended::Bridge(error));
        }
        if port.1 == 10 {
            queues = None;
            supervisor.stop(now);
        }
        thread::sleep(Duration::from_millis(1)); // Or poll its file descriptors.
    }
}
