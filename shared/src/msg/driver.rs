//! The driver endpoint: requests with tokens and deadlines, and what came back.
//!
//! The rule for a late answer: its token stays in quarantine until the
//! endpoint ends, so the answer finds nobody and is counted.

use crate::fault::PeerFault;
use crate::window::Window;

use super::body::{Body, Event, Message, Request, Response};
use super::channel::Channel;
use super::codec::{Frame, Malformed};
use super::kind::{Kind, Side};

/// Requests that may be in flight at once, and tokens that may be in quarantine.
pub const MAX_IN_FLIGHT: usize = 16;

/// A request in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Waiting {
    token: u16,
    device: u16,
    kind: Kind,
    deadline_ms: u64,
}

/// What the endpoint gives its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// The answer to the request with this token.
    Answer {
        /// What [`DriverEndpoint::request`] returned.
        token: u16,
        /// Device number.
        device: u16,
        /// The answer.
        response: Response,
    },
    /// The request with this token had no answer in time.
    TimedOut {
        /// What [`DriverEndpoint::request`] returned.
        token: u16,
        /// What was asked.
        kind: Kind,
    },
    /// An event.
    Event {
        /// Device number; 0 for a bus event.
        device: u16,
        /// The event.
        event: Event,
    },
}

/// Why a request was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// The channel is full, or too many requests are in flight: later.
    Full,
    /// Too many tokens are in quarantine: the session has to end.
    TooManyLate,
    /// The peer broke a rule of the channel.
    Fault(PeerFault),
}

/// What the endpoint counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EndpointStats {
    /// Requests sent.
    pub requests: u64,
    /// Answers that nobody waited for, late ones included.
    pub unmatched: u64,
    /// Malformed messages.
    pub malformed: u64,
    /// Requests that had no answer in time.
    pub timed_out: u64,
}

/// The driver side's end of a channel.
#[derive(Debug)]
pub struct DriverEndpoint<W> {
    channel: Channel<W>,
    waiting: [Option<Waiting>; MAX_IN_FLIGHT],
    quarantine: [Option<u16>; MAX_IN_FLIGHT],
    /// Tokens of requests that were given up, newest first.
    given_up: [Option<u16>; MAX_IN_FLIGHT],
    last_token: u16,
    /// Messages taken since a deadline has passed.
    taken_late: u16,
    sent: u32,
    stats: EndpointStats,
}

impl<W: Window> DriverEndpoint<W> {
    /// An endpoint over `channel`.
    pub const fn new(channel: Channel<W>) -> Self {
        Self {
            channel,
            waiting: [None; MAX_IN_FLIGHT],
            quarantine: [None; MAX_IN_FLIGHT],
            given_up: [None; MAX_IN_FLIGHT],
            last_token: 0,
            taken_late: 0,
            sent: 0,
            stats: EndpointStats { requests: 0, unmatched: 0, malformed: 0, timed_out: 0 },
        }
    }

    /// The channel underneath, to start and to end it.
    pub const fn channel(&mut self) -> &mut Channel<W> {
        &mut self.channel
    }

    /// What was counted.
    pub const fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// Tokens that are taken: (in flight, in quarantine).
    pub fn tokens(&self) -> (usize, usize) {
        let quarantined = self.quarantine.iter().chain(&self.given_up).flatten().count();
        (self.waiting.iter().flatten().count(), quarantined)
    }

    /// Messages sent since the last call: ring doorbell 0 as often.
    pub const fn take_sent(&mut self) -> u32 {
        core::mem::replace(&mut self.sent, 0)
    }

    /// A token that is neither in flight nor in quarantine.
    fn fresh_token(&mut self) -> Option<u16> {
        // Each pass skips one taken token, and there are at most so many.
        for _ in 0..=3 * MAX_IN_FLIGHT + 1 {
            self.last_token = self.last_token.wrapping_add(1);
            let token = self.last_token;
            let taken = self.waiting.iter().flatten().any(|waiting| waiting.token == token)
                || self.quarantine.contains(&Some(token))
                || self.given_up.contains(&Some(token));
            if token != 0 && !taken {
                return Some(token);
            }
        }
        None
    }

    /// Sends a request to `device` (0 for bus messages) and returns its token.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was sent.
    pub fn request(
        &mut self,
        device: u16,
        request: Request,
        deadline_ms: u64,
    ) -> Result<u16, RequestError> {
        if self.quarantine.iter().all(Option::is_some) {
            return Err(RequestError::TooManyLate);
        }
        let slot = self.waiting.iter().position(Option::is_none).ok_or(RequestError::Full)?;
        let token = self.fresh_token().ok_or(RequestError::TooManyLate)?;
        let message = Message { device, token, body: Body::Request(request) };
        match self.channel.send(&message.encode()) {
            Ok(true) => {}
            Ok(false) => return Err(RequestError::Full),
            Err(fault) => return Err(RequestError::Fault(fault)),
        }
        let waiting = Waiting { token, device, kind: request.kind(), deadline_ms };
        if let Some(slot) = self.waiting.get_mut(slot) {
            *slot = Some(waiting);
        }
        self.sent = self.sent.saturating_add(1);
        self.stats.requests += 1;
        Ok(token)
    }

    /// Gives up the request with this token: its device is gone, and may have
    /// answered or not. The token goes into quarantine; of those that were
    /// given up the newest are kept, so that devices that come and go do not
    /// end a session. As tokens count up, an older one is not used again
    /// before 65,000 others.
    pub fn give_up(&mut self, token: u16) {
        let slot =
            self.waiting.iter_mut().find(|slot| slot.is_some_and(|waiting| waiting.token == token));
        if let Some(slot) = slot {
            *slot = None;
            self.given_up.rotate_right(1);
            if let Some(first) = self.given_up.first_mut() {
                *first = Some(token);
            }
        }
    }

    /// When the next request runs out of time.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.waiting.iter().flatten().map(|waiting| waiting.deadline_ms).min()
    }

    /// Whether a request is in flight.
    pub fn is_waiting(&self) -> bool {
        self.waiting.iter().any(Option::is_some)
    }

    /// Handles one message, or else one deadline. `budget` counts the messages
    /// that this wake-up may still take.
    ///
    /// # Errors
    /// The peer broke a rule of the channel.
    pub fn poll(&mut self, now_ms: u64, budget: &mut u32) -> Result<Option<Incoming>, PeerFault> {
        let late = self.next_deadline_ms().is_some_and(|deadline| now_ms >= deadline);
        if !late {
            self.taken_late = 0;
        } else if self.taken_late >= self.channel.elements() {
            // All that was there at the deadline has been taken: what comes
            // in the meantime is not to hold it up for ever.
            self.taken_late = 0;
            return Ok(self.expire(now_ms));
        }
        let mut frame: Frame = [0; _];
        while *budget > 0 && self.channel.receive(&mut frame)? {
            *budget -= 1;
            self.taken_late = self.taken_late.saturating_add(late.into());
            match Message::decode(&frame, Side::Device) {
                Ok(message) => {
                    if let Some(incoming) = self.accept(&message)? {
                        return Ok(Some(incoming));
                    }
                }
                Err(
                    Malformed::Unknown
                    | Malformed::Size
                    | Malformed::Token
                    | Malformed::Device
                    | Malformed::Direction
                    | Malformed::Body,
                ) => self.stats.malformed += 1,
            }
        }
        Ok(self.expire(now_ms))
    }

    fn accept(&mut self, message: &Message) -> Result<Option<Incoming>, PeerFault> {
        let (device, token) = (message.device, message.token);
        match message.body {
            Body::Event(event) => Ok(Some(Incoming::Event { device, event })),
            Body::Request(Request::Ping { data }) => {
                let body = Body::Response(Response::Pong { data });
                // A full channel drops the answer: the board has a timer too.
                if self.channel.send(&Message { device, token, body }.encode())? {
                    self.sent = self.sent.saturating_add(1);
                }
                Ok(None)
            }
            Body::Request(_) => {
                self.stats.malformed += 1;
                Ok(None)
            }
            Body::Response(response) => {
                let found = self.waiting.iter_mut().find(|slot| {
                    slot.is_some_and(|waiting| {
                        (waiting.token, waiting.device, waiting.kind)
                            == (token, device, response.kind())
                    })
                });
                match found {
                    Some(slot) => {
                        *slot = None;
                        Ok(Some(Incoming::Answer { token, device, response }))
                    }
                    None => {
                        self.stats.unmatched += 1;
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Gives up one request whose time is over.
    fn expire(&mut self, now_ms: u64) -> Option<Incoming> {
        let slot = self
            .waiting
            .iter_mut()
            .find(|slot| slot.is_some_and(|waiting| now_ms >= waiting.deadline_ms))?;
        let late = slot.take()?;
        self.stats.timed_out += 1;
        if let Some(free) = self.quarantine.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(late.token);
        }
        Some(Incoming::TimedOut { token: late.token, kind: late.kind })
    }
}
