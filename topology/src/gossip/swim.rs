//! foca, held in one hand: what goes in, and the effects that come out of it.
//!
//! Errors of foca are about the packet at hand (not decodable, from ourselves, too long); it goes
//! on afterwards. Its assertions were read: none can be reached from bytes, because packets are
//! decoded whole before they are applied.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use foca::{AccumulatingRuntime, BroadcastHandler, Foca, OwnedNotification, PostcardCodec, State};
use rand::rngs::SmallRng;

use super::{config::Config, identity::Identity};

/// What SWIM holds an identity for.
pub(crate) type Standing = foca::Member<Identity>;

/// A timer of SWIM.
pub(crate) type Alarm = foca::Timer<Identity>;

/// What SWIM wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send a message.
    Send(SocketAddr, Bytes),
    /// Call back later.
    Alarm(Duration, Alarm),
    /// Take note.
    Notice(OwnedNotification<Identity>),
}

/// Profiles travel beside SWIM's messages, not in them.
#[derive(Debug)]
struct NoBroadcasts;

impl BroadcastHandler<Identity> for NoBroadcasts {
    type Key = &'static [u8];
    type Error = std::convert::Infallible;

    fn receive_item(
        &mut self,
        _: &[u8],
        _: Option<&Identity>,
    ) -> Result<Option<Self::Key>, Self::Error> {
        Ok(None)
    }
}

/// One member's part in SWIM.
pub(crate) struct Swim {
    foca: Foca<Identity, PostcardCodec, SmallRng, NoBroadcasts>,
    effects: AccumulatingRuntime<Identity>,
    members: usize,
}

impl Swim {
    /// Begins alone.
    pub(crate) fn new(config: &Config, me: Identity, rng: SmallRng) -> Self {
        let foca =
            Foca::with_custom_broadcast(me, config.swim(1), rng, PostcardCodec, NoBroadcasts);
        Self { foca, effects: AccumulatingRuntime::new(), members: 1 }
    }

    /// Returns who this member is now.
    pub(crate) fn me(&self) -> Identity {
        *self.foca.identity()
    }

    /// Tells whether nobody else answers.
    pub(crate) fn is_alone(&self) -> bool {
        self.foca.num_members() == 0
    }

    /// Returns what everybody else is held for.
    pub(crate) fn standings(&self) -> BTreeMap<SocketAddr, Standing> {
        self.foca.iter_membership_state().map(|member| (member.id().addr, member.clone())).collect()
    }

    /// Returns what an address is held for.
    pub(crate) fn standing(&self, addr: SocketAddr) -> Option<&Standing> {
        self.foca.iter_membership_state().find(|member| member.id().addr == addr)
    }

    /// Asks an address to be let in.
    pub(crate) fn announce(&mut self, to: SocketAddr) -> Result<(), foca::Error> {
        // Announcements reach whichever start is there.
        self.foca.announce(Identity { addr: to, boot: 0 }, &mut self.effects)
    }

    /// Takes a message. `reached` makes an announcement valid that was sent to
    /// another address of this member than the one it goes by.
    pub(crate) fn handle(&mut self, message: &[u8], reached: bool) -> Result<(), foca::Error> {
        let result = match self.readdressed(message).filter(|_| reached) {
            Some(message) => self.foca.handle_data(&message, &mut self.effects),
            None => self.foca.handle_data(message, &mut self.effects),
        };
        self.steady();
        result
    }

    /// Writes this member's address over that of an announcement.
    fn readdressed(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut header: foca::Header<Identity> = postcard::from_bytes(message).ok()?;
        if header.message != foca::Message::Announce {
            return None;
        }
        header.dst = self.me();
        postcard::to_stdvec(&header).ok()
    }

    /// Fires a timer.
    pub(crate) fn fire(&mut self, alarm: Alarm) -> Result<(), foca::Error> {
        let result = self.foca.handle_timer(alarm, &mut self.effects);
        self.steady();
        result
    }

    /// Takes what was learned elsewhere, and sends it on if asked.
    pub(crate) fn learn(
        &mut self,
        standings: impl IntoIterator<Item = Standing>,
        send_on: bool,
    ) -> Result<(), foca::Error> {
        let result = self.foca.apply_many(standings.into_iter(), send_on, &mut self.effects);
        self.steady();
        result
    }

    /// Goes on as a later start.
    pub(crate) fn become_later(&mut self, boot: u64) -> Result<(), foca::Error> {
        let me = Identity { boot, ..self.me() };
        let result = self.foca.change_identity(me, &mut self.effects);
        self.steady();
        result
    }

    /// Forgets a member that is down.
    pub(crate) fn forget(&mut self, identity: Identity) {
        // Fails for no identity: one that isn't down is kept.
        let _kept = self.foca.handle_timer(Alarm::RemoveDown(identity), &mut self.effects);
    }

    /// Makes SWIM go on probing after it changed its identity: it waits for the next message
    /// otherwise, which may never come.
    fn steady(&mut self) {
        // Nothing is applied, so nothing can fail.
        let _nothing = self.foca.apply_many(std::iter::empty(), false, &mut self.effects);
    }

    /// Fits the number of copies to the size of the pool.
    pub(crate) fn retune(&mut self, config: &Config, members: usize) {
        if members.checked_ilog10() != self.members.checked_ilog10() {
            // Refused only for changes of the periods, which are the same.
            let _same_periods = self.foca.set_config(config.swim(members));
        }
        self.members = members;
    }

    /// Takes the next thing to do.
    pub(crate) fn effect(&mut self) -> Option<Effect> {
        let sent = self.effects.to_send().map(|(to, message)| Effect::Send(to.addr, message));
        sent.or_else(|| {
            self.effects.to_schedule().map(|(after, alarm)| Effect::Alarm(after, alarm))
        })
        .or_else(|| self.effects.to_notify().map(Effect::Notice))
    }
}

/// Returns who sent a message.
pub(crate) fn sender(message: &[u8]) -> Option<Identity> {
    let (header, _rest) = postcard::take_from_bytes::<foca::Header<Identity>>(message).ok()?;
    Some(header.src)
}

/// Makes a standing of its parts.
pub(crate) fn standing(addr: SocketAddr, boot: u64, incarnation: u16, state: State) -> Standing {
    foca::Member::new(Identity { addr, boot }, incarnation, state)
}
