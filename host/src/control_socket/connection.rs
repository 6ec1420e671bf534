//! One client, without a clock and without waiting: the server says what time
//! it is and when its stream can be read or written.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use super::frame::{FRAME_TIME, FrameError, Gathering, MAX_FRAME, frame};
use super::message::{
    Answer, MessageError, Reason, Refusal, Request, VERSION, WATCH_MS, decode, encode,
};

/// Knows the answers. It must not wait for anything.
pub trait Answers: Send + Sync {
    /// The answer to `request`.
    fn answer(&self, request: &Request) -> Answer;
}

/// What a connection waits for, beside its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Awaits {
    /// Bytes, or the client's hanging up.
    Readable,
    /// Room for bytes.
    Writable,
}

/// Where a connection is.
#[derive(Debug)]
enum Stage {
    /// The request arrives.
    Asking(Gathering),
    /// An answer leaves, as far as `sent`.
    Answering { bytes: Vec<u8>, sent: usize },
    /// Until the next answer of the watch.
    Watching,
    /// Nothing more happens.
    Over,
}

/// One client.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    stage: Stage,
    /// When the frame must be through, or the watch's next answer is due (ms).
    due: u64,
    watch: Option<(Request, Duration)>,
    /// Whether it may become a watch.
    may_watch: bool,
}

impl<S: Read + Write> Connection<S> {
    /// A client that has just come, at `now` (ms).
    pub(super) fn new(stream: S, now: u64) -> Self {
        let stage = Stage::Asking(Gathering::default());
        let due = now.saturating_add(FRAME_TIME);
        Self { stream, stage, due, watch: None, may_watch: true }
    }

    /// The same for one too many: it is told so and let go.
    pub(super) fn busy(stream: S, now: u64) -> Self {
        let mut connection = Self::new(stream, now);
        connection.respond(&busy("clients"), now);
        connection
    }

    pub(super) const fn stream(&self) -> &S {
        &self.stream
    }

    #[cfg(test)]
    pub(super) const fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub(super) const fn is_watch(&self) -> bool {
        self.watch.is_some()
    }

    /// Whether a request for a watch is granted if it comes.
    pub(super) const fn allow_watch(&mut self, allowed: bool) {
        self.may_watch = allowed;
    }

    pub(super) const fn awaits(&self) -> Awaits {
        match self.stage {
            Stage::Answering { .. } => Awaits::Writable,
            Stage::Asking(_) | Stage::Watching | Stage::Over => Awaits::Readable,
        }
    }

    /// When [`Connection::time`] has something to do (ms).
    pub(super) const fn due(&self) -> u64 {
        self.due
    }

    /// What its time brings at `now` (ms).
    pub(super) fn time(&mut self, now: u64, answers: &dyn Answers) {
        if now < self.due {
            return;
        }
        match (&self.stage, &self.watch) {
            (Stage::Watching, Some((request, _))) => {
                let answer = answers.answer(request);
                self.respond(&answer, now);
            }
            // Too slow with its request, or with taking the answer.
            _ => self.stage = Stage::Over,
        }
    }

    /// The stream is ready for what is awaited, or broken.
    pub(super) fn ready(&mut self, now: u64, answers: &dyn Answers) {
        match &mut self.stage {
            Stage::Asking(gathering) => match gather(&mut self.stream, gathering) {
                Ok(false) => {}
                Ok(true) => {
                    let content = std::mem::take(gathering);
                    self.take(content.content(), now, answers);
                }
                Err(Some(error @ FrameError::TooLong(_))) => {
                    let refusal = Refusal::new(Reason::Malformed, error.to_string());
                    self.respond(&Answer::Refused(refusal), now);
                }
                Err(_) => self.stage = Stage::Over,
            },
            Stage::Answering { .. } => self.send(now),
            // Whatever it sends now is none of our protocol; mostly it hangs up.
            Stage::Watching | Stage::Over => self.stage = Stage::Over,
        }
    }

    /// A whole request is there.
    fn take(&mut self, content: &[u8], now: u64, answers: &dyn Answers) {
        let request: Request = match decode(content) {
            Ok(request) => request,
            Err(error) => return self.respond(&Answer::Refused(refusal(error)), now),
        };
        if let Some(interval) = request.interval() {
            if !self.may_watch {
                return self.respond(&busy("watches"), now);
            }
            let ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            if !WATCH_MS.contains(&ms) {
                let (least, most) = WATCH_MS.into_inner();
                let text = format!("watch every {least} to {most} ms, not {ms}");
                let refusal = Refusal::new(Reason::Malformed, text);
                return self.respond(&Answer::Refused(refusal), now);
            }
            self.watch = Some((request.clone(), interval));
        }
        let answer = answers.answer(&request);
        self.respond(&answer, now);
    }

    /// Begins to send `answer`.
    fn respond(&mut self, answer: &Answer, now: u64) {
        let bytes = frame(&encode(answer)).or_else(|_| {
            let text = format!(
                "the answer is longer than {MAX_FRAME} bytes (a bug of the daemon's): ask for less, \
                 such as one board's features"
            );
            frame(&encode(&Answer::Refused(Refusal::new(Reason::TooLong, text))))
        });
        self.due = now.saturating_add(FRAME_TIME);
        self.stage = match bytes {
            Ok(bytes) => Stage::Answering { bytes, sent: 0 },
            Err(_) => Stage::Over,
        };
        self.send(now);
    }

    /// Sends what there is room for.
    fn send(&mut self, now: u64) {
        let Stage::Answering { bytes, sent } = &mut self.stage else { return };
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return self.stage = Stage::Over,
                Ok(written) => *sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.stage = Stage::Over,
            }
        }
        match &self.watch {
            Some((_, interval)) => {
                let ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
                self.due = now.saturating_add(ms);
                self.stage = Stage::Watching;
            }
            None => self.stage = Stage::Over,
        }
    }
}

/// Reads what is there, up to one frame; `Err(None)`: the connection broke.
fn gather(stream: &mut impl Read, gathering: &mut Gathering) -> Result<bool, Option<FrameError>> {
    let mut buffer = [0; 4096];
    loop {
        let lacking = gathering.lacking().map_err(Some)?;
        let most = lacking.min(buffer.len());
        let room = buffer.get_mut(..most).unwrap_or_default();
        match stream.read(room) {
            Ok(0) => return Err(Some(FrameError::CutOff)),
            Ok(read) => {
                if gathering.add(room.get(..read).unwrap_or_default()).map_err(Some)? {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Err(None),
        }
    }
}

fn busy(what: &str) -> Answer {
    let text = format!("the daemon serves as many {what} as it can: try again later");
    Answer::Refused(Refusal::new(Reason::Busy, text))
}

fn refusal(error: MessageError) -> Refusal {
    match error {
        MessageError::Version(theirs) => Refusal::new(
            Reason::Version,
            format!(
                "the daemon speaks version {VERSION} of the control protocol, this request is of \
                 version {theirs}: use the vphys that came with the daemon"
            ),
        ),
        MessageError::Malformed(error) => {
            Refusal::new(Reason::Malformed, format!("the request cannot be read: {error}"))
        }
    }
}
