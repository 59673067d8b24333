//! Decides what becomes of a packet that wants to open a connection.
//!
//! A handshake costs about a millisecond of CPU and is asked for by somebody unproven. When many
//! are under way, addresses must first be proven (QUIC retry), so that forged ones cost nothing;
//! one address gets at most half of all, so that others still get in.

use std::{collections::BTreeMap, net::IpAddr};

use crate::link::Limits;

/// Handshakes under way, in all and by address.
#[derive(Debug, Default)]
pub(super) struct Admission {
    total: usize,
    by_addr: BTreeMap<IpAddr, usize>,
}

/// What to do with a packet that wants to open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Begin the handshake; [`Admission::done`] when it ended.
    Admit,
    /// Have the address proven first.
    Prove,
    /// Say that there is no room.
    Refuse,
}

impl Admission {
    /// Decides, and counts an admitted one in.
    pub(super) fn decide(
        &mut self,
        limits: &Limits,
        open: usize,
        from: IpAddr,
        proven: bool,
    ) -> Verdict {
        let from_there = self.by_addr.get(&from).copied().unwrap_or(0);
        if open >= limits.connections
            || self.total >= limits.handshakes
            || from_there >= limits.handshakes.div_ceil(2)
        {
            return Verdict::Refuse;
        }
        if !proven && self.total >= limits.handshakes / 8 {
            return Verdict::Prove;
        }
        self.total += 1;
        self.by_addr.insert(from, from_there + 1);
        Verdict::Admit
    }

    /// Counts an admitted one out.
    pub(super) fn done(&mut self, from: IpAddr) {
        self.total = self.total.saturating_sub(1);
        match self.by_addr.get_mut(&from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.by_addr.remove(&from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { connections: 100, handshakes: 16, streams: 1, large_bodies: 1 };

    fn addr(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn addresses_are_proven_under_load_and_half_is_kept_for_others() {
        let mut admission = Admission::default();
        for _ in 0..2 {
            assert_eq!(admission.decide(&LIMITS, 0, addr(1), false), Verdict::Admit);
        }
        assert_eq!(admission.decide(&LIMITS, 0, addr(1), false), Verdict::Prove);
        for _ in 2..8 {
            assert_eq!(admission.decide(&LIMITS, 0, addr(1), true), Verdict::Admit);
        }
        assert_eq!(admission.decide(&LIMITS, 0, addr(1), true), Verdict::Refuse);
        for _ in 8..16 {
            assert_eq!(admission.decide(&LIMITS, 0, addr(2), true), Verdict::Admit);
        }
        assert_eq!(admission.decide(&LIMITS, 0, addr(3), true), Verdict::Refuse);
        admission.done(addr(1));
        assert_eq!(admission.decide(&LIMITS, 0, addr(3), true), Verdict::Admit);
    }

    #[test]
    fn a_full_endpoint_refuses() {
        let mut admission = Admission::default();
        assert_eq!(admission.decide(&LIMITS, 100, addr(1), true), Verdict::Refuse);
        assert!(admission.by_addr.is_empty());
    }
}
