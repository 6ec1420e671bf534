//! What goes on between host and network device beside the frames: the control
//! queue, and changes of the device's configuration.

use std::net::IpAddr;

use shared::link::QueuePlacement;
use shared::wire::features::Features;
use shared::wire::net::{NetConfig, feature};
use shared::wire::net_control::Coalescing;

use super::attach::{Event, Session};
use super::error::SessionError;
use crate::bus::Bus;
use crate::net_control::{
    CONTROL_QUEUE, NetConfigChange, NetControl, Outcome, Receive, Request, Unable, groups,
};

/// The slow queue that is the control queue's.
const CONTROL_PLACE: usize = 0;

/// Answers that one step takes at most.
const ANSWERS: u32 = 8;

/// What the session knows of the network device beside its frames.
pub(super) struct Beside<B: Bus> {
    control: Option<NetControl<B::Window, B::Doorbell>>,
    config: Option<NetConfig>,
    features: Features,
    /// The configuration has changed, and is to be read.
    stale: bool,
}

impl<B: Bus> Default for Beside<B> {
    fn default() -> Self {
        Self { control: None, config: None, features: Features::NONE, stale: false }
    }
}

impl<B: Bus> Session<B> {
    /// Begins anew for a network device with this configuration: where its
    /// control queue lies, if it has one.
    pub(super) fn set_up_control(
        &mut self,
        config: &NetConfig,
        features: Features,
    ) -> Result<Option<QueuePlacement>, SessionError> {
        self.beside = Beside { config: Some(*config), features, ..Beside::default() };
        if !features.has(feature::CTRL_VQ) {
            self.wish_receive(Receive::default(), false);
            return Ok(None);
        }
        let number = u16::try_from(CONTROL_QUEUE).unwrap_or(u16::MAX);
        let (queue, at) = self.slow_queue(CONTROL_PLACE, number)?;
        self.beside.control = Some(NetControl::new(queue, features));
        if let Some(mac) = self.config.mac.filter(|mac| *mac != config.mac) {
            self.wish(Request::MacAddress(mac));
        }
        self.wish_coalescing(self.config.coalescing);
        self.wish_vlans();
        self.wish_receive(Receive::default(), false);
        Ok(Some(at))
    }

    /// A device is live: if it is the network device, what is wished of it goes out.
    pub(super) fn start_control(&mut self, device: u16) {
        if self.net_device == Some(device)
            && let Some(control) = &mut self.beside.control
        {
            control.start();
        }
    }

    /// Asks the network device for something; what became of it is logged.
    ///
    /// # Errors
    /// [`Unable`]: there is no network device that can be asked for this.
    pub fn ask(&mut self, request: Request) -> Result<(), Unable> {
        let missing = Features::new(feature::CTRL_VQ);
        self.beside.control.as_mut().ok_or(Unable::Features { missing })?.ask(request)
    }

    /// Asks for what the operator set; `false`: this board cannot do it.
    fn wish(&mut self, request: Request) -> bool {
        let Err(unable) = self.ask(request) else { return true };
        if let Some(untold) = self.lines.unable.admit(self.lines.now) {
            log::info!("not asked of the board: {unable}{untold}");
        }
        false
    }

    /// Names the VLANs; a board that does not filter them is not told.
    fn wish_vlans(&mut self) {
        let vlans = self.config.vlans;
        if self.beside.features.has(feature::CTRL_VLAN) {
            vlans.iter().all(|id| self.wish(Request::Vlan { id, wanted: true }));
        }
    }

    fn wish_coalescing(&mut self, coalescing: Option<Coalescing>) {
        if let Some(coalescing) = coalescing {
            self.wish(Request::CoalesceToHost(coalescing));
            self.wish(Request::CoalesceToBoard(coalescing));
        }
    }

    /// Has interrupts put off from now on, in later sessions too.
    pub fn set_coalescing(&mut self, coalescing: Option<Coalescing>) {
        if coalescing != std::mem::replace(&mut self.config.coalescing, coalescing) {
            self.wish_coalescing(Some(coalescing.unwrap_or_default()));
        }
    }

    /// Has the board send these frames from now on, to a host with these
    /// addresses, in later sessions too.
    pub fn set_receive(&mut self, receive: Receive, addresses: &[IpAddr]) {
        let before = std::mem::replace(&mut self.config.receive, receive);
        let regroup = self.addresses != addresses;
        self.addresses = addresses.to_vec();
        if self.beside.config.is_some() {
            self.wish_receive(before, regroup);
        }
    }

    /// Asks for what is received, of a board that does as `before` says. What it
    /// cannot do is said once.
    fn wish_receive(&mut self, before: Receive, regroup: bool) {
        let Some(config) = &self.beside.config else { return };
        let receive = self.config.receive;
        let mac = self.config.mac.unwrap_or(config.mac);
        let groups = groups(mac, self.addresses.iter().copied());
        let offloading = receive.offloading(&before, self.beside.features);
        for request in receive.filter(&before, &groups, regroup) {
            if !self.wish(request) {
                break;
            }
        }
        if let Some(request) = offloading {
            self.wish(request);
        }
    }

    /// Tells the board that the host has announced itself, as it had asked.
    pub(super) fn announced(&mut self) {
        self.wish(Request::AnnounceAck);
    }

    /// The device's configuration has changed.
    pub(super) const fn config_changed(&mut self) {
        self.beside.stale = true;
    }

    /// Reads what has changed, once nothing else is asked of the board.
    pub(super) fn refresh_config(&mut self) {
        let Some(device) = self.net_device else { return };
        if self.beside.stale && self.link.refresh_config(device).is_ok() {
            self.beside.stale = false;
        }
    }

    /// The configuration was read again: what it means.
    pub(super) fn config_read(&mut self) -> Option<Event<B>> {
        let new = NetConfig::decode(self.link.facts()?.config)?;
        let old = self.beside.config.replace(new)?;
        let change = NetConfigChange::between(&old, &new, self.beside.features);
        (!change.is_empty()).then_some(Event::Changed(change))
    }

    /// Goes on with the control queue at `now` (ms). Called behind the drain
    /// of the slow interrupt.
    pub(super) fn step_control(&mut self, now: u64) -> Result<(), SessionError> {
        let Some(control) = &mut self.beside.control else { return Ok(()) };
        for _ in 0..ANSWERS {
            match control.step(now)? {
                // It may have asked to be asked, and again as often as it likes.
                Some(Outcome { request, accepted: true }) => {
                    if let Some(untold) = self.lines.done.admit(now) {
                        log::debug!("the board does as asked: {request:?}{untold}");
                    }
                }
                Some(Outcome { request, accepted: false }) => {
                    if let Some(untold) = self.lines.refused.admit(now) {
                        log::warn!("the board refused what it was asked for: {request:?}{untold}");
                    }
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Gets the control queue ready for a sleep that begins at `now` (ms): when
    /// it has to end.
    pub(super) fn arm_control(&mut self, now: u64) -> Result<u64, SessionError> {
        let Some(control) = &mut self.beside.control else { return Ok(u64::MAX) };
        let Some(wake) = control.wake_at() else { return Ok(u64::MAX) };
        let quiet = control.arm()?;
        let look = self.slow_look(now);
        Ok(if quiet { wake.max(now).min(look) } else { now })
    }
}
