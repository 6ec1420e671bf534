//! What a change of the device's configuration means for the host's interface.

use shared::wire::features::Features;
use shared::wire::net::{MTU_RANGE, NetConfig, STATUS_ANNOUNCE, STATUS_LINK_UP, feature};

/// What is different in a board's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NetConfigChange {
    /// The link came up or went down: what becomes of the carrier.
    pub link_up: Option<bool>,
    /// Another longest packet, in bytes. No board that keeps to VirtIO 1.3
    /// §5.1.4.1 changes it without a reset; the interface's own can follow, the
    /// buffers cannot grow.
    pub mtu: Option<u16>,
    /// The host is to announce itself to the network, and then to ask for
    /// [`AnnounceAck`](super::Request::AnnounceAck). Said until the board has that.
    pub announce: bool,
}

impl NetConfigChange {
    /// What changed from `old` to `new`, as far as `features` give the fields
    /// a meaning. An MTU that is none is not passed on.
    #[must_use]
    pub fn between(old: &NetConfig, new: &NetConfig, features: Features) -> Self {
        let with_status = features.has(feature::STATUS);
        let up = |config: &NetConfig| config.status & STATUS_LINK_UP != 0;
        let mtu_changed = features.has(feature::MTU) && old.mtu != new.mtu;
        Self {
            link_up: (with_status && up(old) != up(new)).then(|| up(new)),
            mtu: (mtu_changed && MTU_RANGE.contains(&new.mtu)).then_some(new.mtu),
            announce: with_status
                && features.has(feature::GUEST_ANNOUNCE)
                && new.status & STATUS_ANNOUNCE != 0,
        }
    }

    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: NetConfig =
        NetConfig { mac: [2; 6], status: STATUS_LINK_UP, max_virtqueue_pairs: 1, mtu: 1500 };
    const ALL: Features =
        Features::new(feature::STATUS | feature::MTU | feature::GUEST_ANNOUNCE | feature::CTRL_VQ);

    fn change(new: NetConfig, features: Features) -> NetConfigChange {
        NetConfigChange::between(&CONFIG, &new, features)
    }

    #[test]
    fn each_field_is_told_once() {
        let none = NetConfigChange::default();
        assert!(change(CONFIG, ALL).is_empty());
        let down = NetConfig { status: 0, ..CONFIG };
        assert_eq!(change(down, ALL), NetConfigChange { link_up: Some(false), ..none });
        assert_eq!(NetConfigChange::between(&down, &CONFIG, ALL).link_up, Some(true));
        let smaller = NetConfig { mtu: 1280, ..CONFIG };
        assert_eq!(change(smaller, ALL), NetConfigChange { mtu: Some(1280), ..none });
        let asked = NetConfig { status: STATUS_LINK_UP | STATUS_ANNOUNCE, ..CONFIG };
        assert_eq!(change(asked, ALL), NetConfigChange { announce: true, ..none });
        // Until it was acknowledged, whatever else changes.
        assert!(NetConfigChange::between(&asked, &asked, ALL).announce);
        assert!(!NetConfigChange::between(&asked, &CONFIG, ALL).announce);
    }

    #[test]
    fn fields_without_their_feature_mean_nothing() {
        let other = NetConfig { status: STATUS_ANNOUNCE, mtu: 1280, ..CONFIG };
        let without = |bit| change(other, ALL.without(Features::new(bit)));
        assert_eq!(without(feature::STATUS).link_up, None);
        assert!(!without(feature::STATUS).announce);
        assert!(!without(feature::GUEST_ANNOUNCE).announce);
        assert_eq!(without(feature::MTU).mtu, None);
    }

    #[test]
    fn an_impossible_mtu_is_not_passed_on() {
        for (mtu, passed) in
            [(0, None), (67, None), (68, Some(68)), (65_521, Some(65_521)), (65_522, None)]
        {
            assert_eq!(change(NetConfig { mtu, ..CONFIG }, ALL).mtu, passed);
        }
    }
}
