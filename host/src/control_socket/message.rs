//! What is asked and answered, as JSON. `version` comes with every message:
//! two ends of different versions tell each other so, and nothing else.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::wire::features::Features;

use crate::bridge::BridgeCounters;

/// Version of these messages.
pub const VERSION: u32 = 1;

/// Shortest and longest time between two answers of a watch, in milliseconds.
pub const WATCH_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;

/// What a client wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How each board is.
    Status,
    /// The counters of each board.
    Stats {
        /// Once more every so many milliseconds, until the client hangs up;
        /// within [`WATCH_MS`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        watch_ms: Option<u64>,
    },
    /// What was offered and negotiated with a board.
    Features {
        /// The board's name.
        board: String,
    },
    /// Reset a board; its link comes back by itself.
    Reset {
        /// The board's name.
        board: String,
    },
}

/// What the daemon answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status {
        /// Each board, in the order of the configuration.
        boards: Vec<BoardReport>,
    },
    /// To [`Request::Stats`].
    Stats {
        /// Each board, in the order of the configuration.
        boards: Vec<StatsReport>,
    },
    /// To [`Request::Features`].
    Features(FeatureReport),
    /// To [`Request::Reset`]: it was asked for.
    ResetAsked,
    /// None of these.
    Refused(Refusal),
}

/// How a board is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BoardReport {
    /// Its name in the configuration.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Its link.
    pub state: State,
    /// Milliseconds since the state was entered.
    pub since_ms: u64,
    /// What the board says about itself, once it was seen.
    pub board: Option<Identity>,
    /// Sessions that came up so far.
    pub sessions: u64,
    /// Attempts and sessions that failed so far.
    pub failures: u64,
    /// Why the last one failed.
    pub last_failure: Option<String>,
    /// Milliseconds until the next attempt, where one is waited for.
    pub retry_in_ms: Option<u64>,
}

/// What a board says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its firmware's version.
    pub firmware: String,
}

/// The state of a board's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The bring-up is under way.
    Attaching,
    /// Frames are carried.
    Up,
    /// The session is up; the board says that its network has no link.
    NoLink,
    /// The last attempt failed; the next one is waited for.
    Waiting,
    /// The board is being let go of.
    Stopping,
    /// A bug of the daemon: nothing will change until it is restarted.
    Failed,
}

impl State {
    /// Its name in messages and to people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Up => "up",
            Self::NoLink => "no-link",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// The counters of a board.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatsReport {
    /// Its name in the configuration.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// What was counted since the daemon began.
    #[serde(flatten)]
    pub counters: BridgeCounters,
}

/// Features of a board, by name; those without one as numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeatureReport {
    /// The board's name in the configuration.
    pub board: String,
    /// What the board offers.
    pub offered: Vec<String>,
    /// What of it the configuration takes away.
    pub masked: Vec<String>,
    /// What both use.
    pub negotiated: Vec<String>,
}

impl FeatureReport {
    /// The report of these sets.
    #[must_use]
    pub fn new(board: &str, offered: Features, masked: Features, negotiated: Features) -> Self {
        Self {
            board: board.to_owned(),
            offered: names(offered),
            masked: names(masked),
            negotiated: names(negotiated),
        }
    }
}

/// Each feature of a set.
fn names(set: Features) -> Vec<String> {
    if set.is_empty() {
        return Vec::new();
    }
    set.to_string().split(' ').map(str::to_owned).collect()
}

/// Why there is no other answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of reason it is.
    pub reason: Reason,
    /// For people: what is wrong and what to do.
    pub text: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The request is of another version.
    Version,
    /// The request cannot be read.
    Malformed,
    /// There is no board of this name.
    NoSuchBoard,
    /// The board has not been attached yet.
    NotAttached,
    /// Too many clients.
    Busy,
    /// The answer does not fit a frame.
    TooLong,
}

impl Refusal {
    /// A refusal with these words.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// There is no board `name`; these there are.
    #[must_use]
    pub fn no_such_board<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        let known = match known.as_slice() {
            [] => "the configuration has none".to_owned(),
            names => format!("choose one of {}", names.join(", ")),
        };
        let name: String = name.chars().take(40).flat_map(char::escape_debug).collect();
        Self::new(Reason::NoSuchBoard, format!("there is no board {name}: {known}"))
    }
}

#[derive(Serialize, Deserialize)]
struct Message<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// A message that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageError {
    /// It is of this other version.
    Version(u32),
    /// It is no message at all.
    Malformed(String),
}

impl Request {
    /// Its time between answers, if it is a watch.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        match self {
            Self::Stats { watch_ms } => watch_ms.map(Duration::from_millis),
            _ => None,
        }
    }
}

/// The content of a frame.
#[must_use]
pub fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    // Strings, numbers and lists: nothing here can fail to become JSON.
    serde_json::to_vec(&Message { version: VERSION, body }).unwrap_or_default()
}

/// What the content of a frame says.
///
/// # Errors
/// [`MessageError`].
pub fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, MessageError> {
    let malformed = |error: serde_json::Error| MessageError::Malformed(error.to_string());
    // The version first: of another one, nothing else is known.
    let Versioned { version } = serde_json::from_slice(content).map_err(malformed)?;
    if version != VERSION {
        return Err(MessageError::Version(version));
    }
    let message: Message<T> = serde_json::from_slice(content).map_err(malformed)?;
    Ok(message.body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::wire::features::{EVENT_IDX, VERSION_1};

    use super::super::frame::MAX_FRAME;
    use super::*;
    use crate::config::MAX_BOARDS;

    fn text(body: &impl Serialize) -> String {
        String::from_utf8(encode(body)).unwrap()
    }

    #[test]
    fn the_bytes_of_version_1() {
        for (request, json) in [
            (Request::Status, r#"{"version":1,"request":"status"}"#),
            (Request::Stats { watch_ms: None }, r#"{"version":1,"request":"stats"}"#),
            (
                Request::Stats { watch_ms: Some(500) },
                r#"{"version":1,"request":"stats","watch_ms":500}"#,
            ),
            (
                Request::Features { board: "b0".into() },
                r#"{"version":1,"request":"features","board":"b0"}"#,
            ),
            (
                Request::Reset { board: "b0".into() },
                r#"{"version":1,"request":"reset","board":"b0"}"#,
            ),
        ] {
            assert_eq!(text(&request), json);
            assert_eq!(decode(json.as_bytes()), Ok(request));
        }
        let refused = Answer::Refused(Refusal::no_such_board("x\n", ["b0", "b1"]));
        assert_eq!(
            text(&refused),
            r#"{"version":1,"answer":"refused","reason":"no-such-board","text":"there is no board x\\n: choose one of b0, b1"}"#
        );
        assert_eq!(decode(text(&refused).as_bytes()), Ok(refused));
        assert_eq!(text(&Answer::ResetAsked), r#"{"version":1,"answer":"reset-asked"}"#);
    }

    #[test]
    fn states_have_one_name() {
        use State::{Attaching, Failed, NoLink, Stopping, Up, Waiting};
        let manual = include_str!("../../../docs/daemon.md");
        for state in [Attaching, Up, NoLink, Waiting, Stopping, Failed] {
            assert!(manual.contains(&format!("| `{}` | ", state.name())), "{}", state.name());
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("{:?}", state.name()));
        }
    }

    #[test]
    fn another_version_is_told_apart_whatever_else_it_says() {
        let later = br#"{"version":2,"request":{"new":["things"]}}"#;
        assert_eq!(decode::<Request>(later), Err(MessageError::Version(2)));
        for malformed in [
            "",
            "{}",
            "[]",
            "1",
            "{\"version\":1}",
            "{\"version\":-1}",
            "{\"version\":1",
            "{\"version\":1,\"request\":\"delete\"}",
            "{\"version\":1,\"request\":\"reset\"}",
            "\u{0}",
            &"[".repeat(MAX_FRAME),
        ] {
            let decoded = decode::<Request>(malformed.as_bytes());
            assert!(matches!(decoded, Err(MessageError::Malformed(_))), "{malformed:.20}");
        }
    }

    /// The largest report that there can be.
    fn largest(name: String) -> BoardReport {
        BoardReport {
            interface: "x".repeat(15),
            state: State::Attaching,
            since_ms: u64::MAX,
            board: Some(Identity { name: "\"".repeat(32), firmware: "\"".repeat(32) }),
            sessions: u64::MAX,
            failures: u64::MAX,
            last_failure: Some("\u{fffd}".repeat(100)),
            retry_in_ms: Some(u64::MAX),
            name,
        }
    }

    #[test]
    fn the_longest_answers_fit_a_frame() {
        let name = |i: usize| format!("{i:032}");
        let boards = (0..MAX_BOARDS).map(|i| largest(name(i))).collect();
        assert!(encode(&Answer::Status { boards }).len() <= MAX_FRAME);
        let all = |value: serde_json::Value| -> BridgeCounters {
            let text = value.to_string().replace(":0", &format!(":{}", u64::MAX));
            serde_json::from_str(&text).unwrap()
        };
        let counters = all(serde_json::to_value(BridgeCounters::default()).unwrap());
        assert_eq!(counters.to_host.frames, u64::MAX);
        let stats = |i| StatsReport { name: name(i), interface: "x".repeat(15), counters };
        let boards = (0..MAX_BOARDS).map(stats).collect();
        let length = encode(&Answer::Stats { boards }).len();
        assert!(length <= MAX_FRAME, "{length}");
    }

    #[test]
    fn features_by_name() {
        let offered = Features::new(VERSION_1 | EVENT_IDX | 1 << 63);
        let report =
            FeatureReport::new("b0", offered, Features::new(EVENT_IDX), Features::new(VERSION_1));
        assert_eq!(report.offered, ["EVENT_IDX", "VERSION_1", "0x8000000000000000"]);
        assert_eq!(
            (report.masked, report.negotiated),
            (vec!["EVENT_IDX".to_owned()], vec!["VERSION_1".to_owned()])
        );
        let none = FeatureReport::new("b0", Features::NONE, Features::NONE, Features::NONE);
        assert!(none.offered.is_empty());
    }

    proptest! {
        #[test]
        fn no_content_is_too_strange(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Request>(&content);
            let _ = decode::<Answer>(&content);
        }
    }
}
