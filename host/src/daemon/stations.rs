//! Which board has which MAC address: no two of one daemon have the same.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A board's name and MAC address.
type Named = (String, [u8; 6]);

/// The MAC addresses of a daemon's boards.
#[derive(Clone, Debug, Default)]
pub struct Stations(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    /// Whose they are whoever is up, as the operator says.
    pinned: Vec<Named>,
    /// Of boards that are up.
    up: Vec<Named>,
}

impl Stations {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `mac` is for the board `name` alone, until what this returns is dropped.
    pub(super) fn pin(&self, name: &str, mac: [u8; 6]) -> Station {
        self.lock().pinned.push((name.to_owned(), mac));
        Station { all: self.clone(), name: name.to_owned(), pins: true }
    }

    /// The board `name` is up with `mac`, until what this returns is dropped.
    ///
    /// # Errors
    /// The name of the board that has it: what another one claims takes nothing
    /// from the one that it is pinned to.
    pub(super) fn enter(&self, name: &str, mac: [u8; 6]) -> Result<Station, String> {
        let mut taken = self.lock();
        let Taken { pinned, up } = &mut *taken;
        let others =
            |all: &[Named]| all.iter().find(|(other, had)| other != name && *had == mac).cloned();
        let own = pinned.iter().any(|(owner, had)| owner == name && *had == mac);
        let other = others(pinned).or_else(|| others(up).filter(|_| !own));
        if let Some((other, _)) = other {
            return Err(other);
        }
        up.push((name.to_owned(), mac));
        Ok(Station { all: self.clone(), name: name.to_owned(), pins: false })
    }
}

/// A board's place among the stations.
#[derive(Debug)]
pub(super) struct Station {
    all: Stations,
    name: String,
    pins: bool,
}

impl Drop for Station {
    fn drop(&mut self) {
        let mut taken = self.all.lock();
        let list = if self.pins { &mut taken.pinned } else { &mut taken.up };
        list.retain(|(name, _)| *name != self.name);
    }
}

/// A MAC address as people write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown(pub(super) [u8; 6]);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_boards_until_it_goes() {
        let (stations, mac) = (Stations::default(), [2, 0, 0, 0, 0, 1]);
        let first = stations.enter("b0", mac).unwrap();
        assert_eq!(stations.clone().enter("b1", mac).unwrap_err(), "b0");
        let _other = stations.enter("b2", [2, 0, 0, 0, 0, 2]).unwrap();
        drop(first);
        let _second = stations.enter("b1", mac).unwrap();
        assert_eq!(stations.enter("b0", mac).unwrap_err(), "b1");
    }

    /// A board that claims to be another one keeps nobody out who is known.
    #[test]
    fn an_address_that_is_pinned_is_nobody_elses() {
        let (stations, mac) = (Stations::default(), [2, 0, 0, 0, 0, 1]);
        let early = stations.enter("b1", mac).unwrap();
        let pin = stations.pin("b0", mac);
        let here = stations.enter("b0", mac).unwrap();
        drop((early, here));
        assert_eq!(stations.enter("b1", mac).unwrap_err(), "b0");
        drop(pin);
        let _late = stations.enter("b1", mac).unwrap();
    }
}
