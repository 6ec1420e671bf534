//! What one board of a kind is told that the others are not.
//!
//! QEMU's loader puts a text file into RAM before the processor starts, and
//! again at each reset, on every machine in the same way (docs/boards.md):
//!
//! ```text
//! -device loader,file=board.txt,addr=ADDRESS,force-raw=on
//! ```
//!
//! ADDRESS is the linker script's `__parameters`. The text
//! starts with the word `virtio-phys`, of which an untouched RAM has nothing;
//! behind it come words of the form `key=value`, up to a zero byte or 4 KiB:
//!
//! ```text
//! virtio-phys name=board-3 number=3 ipv4=10.77.3.2/24 ipv6=fd77:3::2/64
//! ```

mod address;

use core::net::{Ipv4Addr, Ipv6Addr};

/// What the text starts with.
const MAGIC: &str = "virtio-phys";

/// Which board of its kind it is, unless the parameters say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Its name, in the control block.
    pub name: &'static str,
    /// Tells the MAC addresses of several boards apart.
    pub number: u8,
}

/// What a board is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// `name`: what the control block says, printable ASCII.
    pub name: &'static str,
    /// `number`: 0 to 255, part of the MAC addresses.
    pub number: u8,
    /// `ipv4`: the board's address, and the bits of its network.
    pub v4: (Ipv4Addr, u8),
    /// `ipv6`: the same.
    pub v6: (Ipv6Addr, u8),
    /// `behind`: what lies behind the network device.
    pub behind: Behind,
    /// `outbound=no`: as if the board could not reach host memory.
    pub outbound: bool,
    /// `crash=exit`: a panic or an exception ends QEMU with status 1, instead
    /// of starting the board over.
    pub crash_exits: bool,
    /// `provoke`: what goes wrong as soon as the board has started, to see how
    /// it takes that.
    pub provoke: Option<Provoke>,
    /// How many words were not understood. They are left alone.
    pub ignored: usize,
}

/// What a board does wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provoke {
    /// `panic`: it panics.
    Panic,
    /// `stack`: it calls itself until the stack is used up.
    Stack,
    /// `alignment`: it loads a word from between two words.
    Alignment,
}

/// What lies behind the network device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// `stack`: an IP stack: ping, TCP and UDP echo, a status page.
    Stack,
    /// `echo`: each frame comes back, its MAC addresses exchanged.
    Echo,
    /// `talker:NUMBER`: frames go to the board of that number, which is to
    /// send them back; the console says how many did.
    Talker {
        /// That board's number.
        peer: u8,
    },
}

impl Parameters {
    /// What a board is that is told nothing.
    #[must_use]
    pub const fn of(identity: Identity) -> Self {
        Self {
            name: identity.name,
            number: identity.number,
            v4: (Ipv4Addr::new(10, 77, 0, 2), 24),
            v6: (Ipv6Addr::new(0xFD77, 0, 0, 0, 0, 0, 0, 2), 64),
            behind: Behind::Stack,
            outbound: true,
            crash_exits: false,
            provoke: None,
            ignored: 0,
        }
    }

    /// What `block` says; where it says nothing, what `identity` does.
    #[must_use]
    pub fn read(block: &'static [u8], identity: Identity) -> Self {
        let mut read = Self::of(identity);
        let len = block.iter().take_while(|byte| **byte != 0).count();
        let text = block.get(..len).and_then(|text| core::str::from_utf8(text).ok());
        let mut words = text.unwrap_or("").split_ascii_whitespace();
        if words.next() == Some(MAGIC) {
            for word in words {
                if read.take(word).is_none() {
                    read.ignored += 1;
                }
            }
        }
        read
    }

    fn take(&mut self, word: &'static str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match (key, value) {
            ("name", name) if !name.is_empty() => self.name = name,
            ("number", number) => self.number = number.parse().ok()?,
            ("ipv4", address) => self.v4 = network(address, address::v4, 32)?,
            ("ipv6", address) => self.v6 = network(address, address::v6, 128)?,
            ("behind", "stack") => self.behind = Behind::Stack,
            ("behind", "echo") => self.behind = Behind::Echo,
            ("behind", talker) => {
                let peer = talker.strip_prefix("talker:")?.parse().ok()?;
                self.behind = Behind::Talker { peer };
            }
            ("outbound", "yes") => self.outbound = true,
            ("outbound", "no") => self.outbound = false,
            ("crash", "reset") => self.crash_exits = false,
            ("crash", "exit") => self.crash_exits = true,
            ("provoke", "panic") => self.provoke = Some(Provoke::Panic),
            ("provoke", "stack") => self.provoke = Some(Provoke::Stack),
            ("provoke", "alignment") => self.provoke = Some(Provoke::Alignment),
            _ => return None,
        }
        Some(())
    }
}

/// An address, a slash, and how many of its `most` bits are its network's.
fn network<A>(text: &str, read: fn(&[u8]) -> Option<A>, most: u16) -> Option<(A, u8)> {
    let mut parts = text.as_bytes().split(|byte| *byte == b'/');
    let (address, bits) = (read(parts.next()?)?, address::number(parts.next()?, 10, most)?);
    parts.next().is_none().then_some((address, u8::try_from(bits).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity { name: "a-board", number: 7 };

    fn read(text: &'static str) -> Parameters {
        Parameters::read(text.as_bytes(), IDENTITY)
    }

    #[test]
    fn everything_can_be_said() {
        let all = "virtio-phys name=board-3 number=3 ipv4=10.1.2.3/8\nipv6=fd01::2/48 behind=echo \
                   outbound=no crash=exit provoke=stack\0 number=4";
        let expected = Parameters {
            name: "board-3",
            number: 3,
            v4: (Ipv4Addr::new(10, 1, 2, 3), 8),
            v6: ("fd01::2".parse().unwrap(), 48),
            behind: Behind::Echo,
            outbound: false,
            crash_exits: true,
            provoke: Some(Provoke::Stack),
            ignored: 0,
        };
        assert_eq!(read(all), expected);
    }

    #[test]
    fn a_talker_is_told_to_whom_it_talks() {
        assert_eq!(read("virtio-phys behind=talker:2").behind, Behind::Talker { peer: 2 });
    }

    #[test]
    fn untouched_memory_says_nothing() {
        let default = Parameters::of(IDENTITY);
        let blocks: [&[u8]; 4] = [&[0; 4096], &[0xFF; 4096], b"", b"number=3 virtio-phys number=3"];
        for block in blocks {
            assert_eq!(Parameters::read(block, IDENTITY), default);
        }
        assert_eq!(read("virtio-phys"), default);
    }

    #[test]
    fn what_is_not_understood_is_counted_and_left_alone() {
        let default = Parameters::of(IDENTITY);
        let words = [
            "name=",
            "number=256",
            "number=",
            "ipv4=10.0.0.1",
            "ipv4=10.0.0.1/33",
            "ipv4=10.0.0.1/8/8",
            "ipv6=::1/129",
            "behind=nothing",
            "behind=talker:256",
            "outbound=",
            "crash",
            "colour=red",
        ];
        for word in words {
            let text: &'static str = format!("virtio-phys {word} number=9").leak();
            assert_eq!(read(text), Parameters { number: 9, ignored: 1, ..default }, "{word}");
        }
    }
}
