//! What an engine makes of what it hears: packets, records, full states.
//!
//! SWIM's messages go to SWIM; records go to the roster, and what they say of somebody's life goes
//! to SWIM as well. What is news is told on, what is wrong about this node is overruled.

use std::{iter, net::SocketAddr, time::Duration};

use super::{
    Engine, Event, Output, Refusal,
    packet::{Note, Packet},
    record::{Record, RecordHead, Stamp, Word},
    roster::Accepted,
    state::{self, Line},
    swim,
};
use crate::member::{Profile, Role};

/// Most members that a newcomer is told about at once: two packets full.
const TOLD_MAX: usize = 12;

/// Most members learned from one full state that are sent on by gossip. More than that is a
/// join, and the others pull the same state themselves.
const LEARNED_SENT_ON_MAX: usize = 16;

impl Engine {
    pub(super) fn packet(&mut self, from: SocketAddr, data: &[u8], out: &mut Vec<Output>) {
        let Ok(packet) = Packet::decode(data) else {
            self.nonsense += 1;
            return;
        };
        if packet.pool != self.pool {
            return self.foreign(from, &packet, out);
        }
        if !packet.swim.is_empty() {
            let reached = matches!(packet.note, Note::Hello(_));
            if self.swim.handle(packet.swim, reached).is_err() {
                self.nonsense += 1;
            }
        }
        self.drain(Note::Plain, out);
        for record in &packet.records {
            self.read(record, out);
        }
        self.remind(from, packet.swim, out);
        match packet.note {
            Note::Plain => {}
            Note::Hello(reached) => self.welcome(from, reached, out),
            Note::Welcome(reached) => self.answered(reached, out),
            Note::Who => self.send_records(from, Note::Plain, [self.roster.me().record()], out),
        }
    }

    /// Tells a member that speaks as an earlier start than the one that is known at its address: its
    /// clock was set back, or it is held for failed as a life that it has forgotten. Nobody hears it
    /// before it goes on as a later start than that.
    fn remind(&self, from: SocketAddr, message: &[u8], out: &mut Vec<Output>) {
        let Some(sender) = swim::sender(message) else { return };
        let latest = self.roster.latest(sender.addr);
        if let Some(record) = latest.filter(|record| record.stamp.boot > sender.boot) {
            self.send_records(from, Note::Plain, [record], out);
        }
    }

    /// Takes a packet of another pool: says who was refused, and tells a newcomer why.
    fn foreign(&mut self, from: SocketAddr, packet: &Packet<'_>, out: &mut Vec<Output>) {
        self.nonsense += 1;
        for record in packet.records.iter().filter_map(|bytes| Record::decode(bytes)) {
            self.refuse(&record.profile, Refusal::ForeignDatacenter, out);
        }
        if matches!(packet.note, Note::Hello(_)) {
            self.send_records(from, Note::Plain, [self.roster.me().record()], out);
        }
    }

    /// Reads an encoded record, unless its beginning says that it is no news.
    fn read(&mut self, bytes: &[u8], out: &mut Vec<Output>) {
        if RecordHead::decode(bytes).is_some_and(|head| self.roster.knows(&head)) {
            return;
        }
        match Record::decode(bytes) {
            Some(record) => {
                if let Some(key) = self.accept(&record, out) {
                    self.tell(&key, out);
                }
            }
            None => self.nonsense += 1,
        }
    }

    /// Takes a record; returns its name if it was news.
    fn accept(&mut self, record: &Record, out: &mut Vec<Output>) -> Option<String> {
        let gone = self.roster.make_way(record, self.now);
        self.forgotten(gone, out);
        match self.roster.accept(record, self.now) {
            Accepted::Stale => None,
            Accepted::Mine => {
                self.refute(record.stamp, out);
                None
            }
            Accepted::Refused(reason) => {
                self.refuse(&record.profile, reason, out);
                None
            }
            Accepted::Rival(rival) => {
                if self.roster.keep_out(rival.clone(), record.stamp) {
                    out.push(Output::Event(Event::Rival(rival)));
                }
                None
            }
            Accepted::News { key, displaced } => {
                let let_in = self.roster.let_in(record.profile.addr);
                out.extend(let_in.map(|rival| Output::Event(Event::RivalGone(rival))));
                self.believe(record.profile.addr, record.stamp, out);
                self.judge(&key, out);
                if let Some(displaced) = displaced {
                    self.judge(&displaced, out);
                }
                Some(key)
            }
        }
    }

    /// Lets SWIM know what a record says of its member's life: a new start is worth a probe, and
    /// one that said farewell is gone.
    fn believe(&mut self, addr: SocketAddr, stamp: Stamp, out: &mut Vec<Output>) {
        let peer = self.roster.peer(addr);
        let later = peer.is_none_or(|peer| peer.boot < stamp.boot);
        let current = peer.is_some_and(|peer| peer.active && peer.boot <= stamp.boot);
        // A farewell is sent on as a record only: SWIM's word that somebody is down would overtake
        // it, and be taken for a failure.
        let (state, send_on) = match stamp.word {
            Word::Stays if later => (foca::State::Alive, true),
            Word::Left if current => (foca::State::Down, false),
            Word::Stays | Word::Left | Word::Forced | Word::Pruned => return,
        };
        if addr != self.swim.me().addr {
            // An identity always encodes, so nothing can fail.
            let _applied = self.swim.learn([swim::standing(addr, stamp.boot, 0, state)], send_on);
            self.drain(Note::Plain, out);
        }
    }

    /// Says, once for each address, that somebody is not let in.
    fn refuse(&mut self, profile: &Profile, reason: Refusal, out: &mut Vec<Output>) {
        if self.roster.refuse(profile.addr) {
            let profile = profile.clone();
            out.push(Output::Event(Event::Refused { profile, reason }));
        }
    }

    /// Overrules what was said of this node, by somebody else or by a former life of its own.
    fn refute(&mut self, said: Stamp, out: &mut Vec<Output>) {
        let mine = self.roster.me().stamp;
        if said.boot > mine.boot {
            // Fails only for the same identity, and this is a later one.
            let _later = self.swim.become_later(said.boot.saturating_add(1));
            self.rewrite(Stamp::first(self.swim.me().boot), out);
            self.drain(Note::Plain, out);
        } else {
            self.rewrite(said.next(Word::Stays), out);
        }
    }

    /// Tells a newcomer who this node and the servers are, and what is said of its own address.
    fn welcome(&mut self, to: SocketAddr, reached: SocketAddr, out: &mut Vec<Output>) {
        let me = self.roster.me().record();
        let servers = self
            .roster
            .entries()
            .filter(|(key, entry)| {
                let profile = &entry.member.profile;
                let answers = entry.member.is_alive() && profile.role == Role::Server;
                // What is said of a newcomer's former life, it has to overrule.
                (answers || profile.addr == to) && key.as_str() != self.roster.my_key()
            })
            .map(|(_, entry)| entry.record());
        let records: Vec<Record> = iter::once(me).chain(servers).take(TOLD_MAX).collect();
        self.send_records(to, Note::Welcome(reached), records, out);
    }

    /// Notes that an address that was asked for answered.
    fn answered(&mut self, reached: SocketAddr, out: &mut Vec<Output>) {
        if self.seeds.remove(&reached).is_some() {
            out.push(Output::Event(Event::Answered(reached)));
        }
    }

    /// Merges the full state of another member.
    pub(super) fn sync(&mut self, state: &[u8], out: &mut Vec<Output>) {
        let Ok(state::Read { lines, removals, unreadable, why }) = state::decode(state) else {
            self.nonsense += 1;
            return;
        };
        self.pulls.arrived();
        if unreadable > 0 {
            out.push(Output::Event(Event::Unreadable { records: unreadable, why }));
        }
        self.hear_removals(removals, out);
        // Farewells first, so that nobody who left is held for failed in between.
        let (staying, gone): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.record.stamp.word == Word::Stays);
        let me = self.swim.me();
        let known = self.swim.standings();
        let news: Vec<_> = staying
            .iter()
            .chain(&gone)
            .filter_map(|line| line.life.as_ref()?.standing(line.record.profile.addr))
            // Of this node's lives only the present one matters: it is refuted when it is doubted.
            .filter(|standing| standing.id().addr != me.addr || *standing.id() == me)
            .filter(|standing| known.get(&standing.id().addr) != Some(standing))
            .collect();
        let send_on = news.len() <= LEARNED_SENT_ON_MAX;
        for line in gone {
            self.merge(line, send_on, out);
        }
        // An identity always encodes, so nothing can fail.
        let _applied = self.swim.learn(news, send_on);
        self.drain(Note::Plain, out);
        for line in staying {
            self.merge(line, send_on, out);
        }
    }

    /// Takes one line of another member's full state.
    fn merge(&mut self, line: Line, send_on: bool, out: &mut Vec<Output>) {
        let silent = line.silent_secs.map(Duration::from_secs);
        if silent.is_some_and(|silent| silent >= self.config.reap_after) {
            return;
        }
        let news = self.accept(&line.record, out);
        if let Some(key) = news.filter(|_| send_on) {
            self.tell(&key, out);
        }
        if let Some(silent) = silent {
            let key = self.config.scope.key(&line.record.profile);
            let reap_at = self.now + self.config.reap_after.saturating_sub(silent);
            self.roster.reap_no_later(&key, reap_at);
        }
    }
}
