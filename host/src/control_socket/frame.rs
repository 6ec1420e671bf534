//! Frames: a length as a little-endian u32, then so many bytes of JSON.
//!
//! Guarantee: whatever the other end sends, at most [`MAX_FRAME`] bytes and a
//! length are kept of it, and a frame that is not there whole by its deadline
//! is an error.

use std::fmt;

/// Longest content of a frame, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;

/// Longest time that a frame may take from end to end, in milliseconds.
pub const FRAME_TIME: u64 = 5_000;

/// Bytes of a frame's length.
const LENGTH: usize = 4;

/// A frame that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`]: what was announced, or was to be sent.
    TooLong(usize),
    /// Not there in time.
    Late,
    /// The other end hung up in the middle of it.
    CutOff,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => {
                write!(f, "a frame of {bytes} bytes: at most {MAX_FRAME} are allowed")
            }
            Self::Late => write!(f, "a frame took longer than {} s", FRAME_TIME / 1000),
            Self::CutOff => f.write_str("the other end hung up in the middle of a frame"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The frame with this content.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn frame(content: &[u8]) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong(content.len());
    let length = u32::try_from(content.len()).map_err(|_| too_long)?;
    if content.len() > MAX_FRAME {
        return Err(too_long);
    }
    let mut frame = Vec::with_capacity(LENGTH + content.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(content);
    Ok(frame)
}

/// Gathers one frame from what arrives.
#[derive(Clone, Debug, Default)]
pub struct Gathering {
    bytes: Vec<u8>,
}

impl Gathering {
    /// Bytes that are still lacking, as far as is known; 0: the frame is whole.
    /// Nobody should read more than that from the connection.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] as soon as the length is known.
    pub fn lacking(&self) -> Result<usize, FrameError> {
        let Some((length, content)) = self.bytes.split_first_chunk::<LENGTH>() else {
            return Ok(LENGTH - self.bytes.len());
        };
        let length = u32::from_le_bytes(*length);
        match usize::try_from(length) {
            Ok(length) if length <= MAX_FRAME => Ok(length.saturating_sub(content.len())),
            too_long => Err(FrameError::TooLong(too_long.unwrap_or(usize::MAX))),
        }
    }

    /// Takes what has arrived, at most as many bytes as are
    /// [lacking](Self::lacking): `true` once the frame is whole.
    ///
    /// # Errors
    /// [`FrameError::TooLong`].
    pub fn add(&mut self, arrived: &[u8]) -> Result<bool, FrameError> {
        self.bytes.extend_from_slice(arrived);
        // The length may have been completed by this: then there is more.
        Ok(self.bytes.len() >= LENGTH && self.lacking()? == 0)
    }

    /// Whether nothing has arrived yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The content, once it is whole.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        self.bytes.get(LENGTH..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` as pieces of these sizes.
    fn gather(mut bytes: &[u8], sizes: &[usize]) -> Result<Gathering, FrameError> {
        let mut gathering = Gathering::default();
        let mut sizes = sizes.iter().cycle();
        while !bytes.is_empty() {
            let most = gathering.lacking()?.min(bytes.len()).min(*sizes.next().unwrap());
            let (piece, rest) = bytes.split_at(most);
            if gathering.add(piece)? {
                assert!(rest.is_empty());
            }
            bytes = rest;
        }
        Ok(gathering)
    }

    #[test]
    fn the_longest_is_taken_and_one_more_is_not() {
        let whole = frame(&vec![7; MAX_FRAME]).unwrap();
        assert_eq!(gather(&whole, &[1000]).unwrap().content().len(), MAX_FRAME);
        let error = FrameError::TooLong(MAX_FRAME + 1);
        assert_eq!(frame(&vec![7; MAX_FRAME + 1]), Err(error));
        let announced = u32::try_from(MAX_FRAME + 1).unwrap().to_le_bytes();
        assert_eq!(gather(&announced, &[1]).unwrap_err(), error);
        assert_eq!(gather(&[0xFF; 4], &[4]).unwrap_err(), FrameError::TooLong(0xFFFF_FFFF));
    }

    #[test]
    fn an_empty_frame_is_whole() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.add(&[0; 3]), Ok(false));
        assert_eq!(gathering.add(&[0]), Ok(true));
        assert_eq!(gathering.content(), b"");
    }

    proptest! {
        #[test]
        fn pieces_make_the_frame(
            content in prop::collection::vec(any::<u8>(), 0..600),
            sizes in prop::collection::vec(1..200_usize, 1..8),
        ) {
            let whole = frame(&content).unwrap();
            let gathered = gather(&whole, &sizes).unwrap();
            prop_assert_eq!(gathered.lacking(), Ok(0));
            prop_assert_eq!(gathered.content(), content.as_slice());
        }
    }
}
