//! What the watch shows of the other datacenters to those who look after them.

use std::{collections::BTreeMap, time::Duration};

use topology::{Datacenter, Member};

use super::{Tracked, Watch};
use crate::{
    gate::Gate,
    notice::leader,
    report::{Server, Site, Way},
    share::Key,
};

impl Watch {
    /// Returns what is known of each of the other datacenters.
    pub(crate) fn shown(&self, now: Duration, members: &[Member]) -> BTreeMap<Datacenter, Site> {
        let own = self.seen(now);
        let table = self.table();
        let mut sites = BTreeMap::new();
        for (dc, remote) in &table.remotes {
            let servers = members.iter().filter(|member| member.profile.dc == *dc);
            let server = |member: &Member| {
                let key = (dc.clone(), member.profile.name.clone());
                let tracked = self.servers.get(&key)?;
                let mut server = self.server(now, &key, tracked, member);
                let mine = own.get(&key).map(|seen| (self.me.1.clone(), seen.clone()));
                server.seen.extend(mine);
                Some((key.1, server))
            };
            let site = Site {
                held: now.saturating_sub(remote.verdict.since),
                verdict: remote.verdict.clone(),
                rtt: remote.rtt(),
                leader: leader(remote).map(|(name, _)| name.clone()),
                servers: servers.filter_map(server).collect(),
                direct: way(&remote.gates.direct),
                detours: way(&remote.gates.detours),
                relays: way(&remote.gates.relays),
            };
            sites.insert(dc.clone(), site);
        }
        sites
    }

    /// Returns what is known of one server, without what this one sees of it.
    fn server(&self, now: Duration, key: &Key, tracked: &Tracked, member: &Member) -> Server {
        let told = self.fellows.of(now, key);
        Server {
            addr: tracked.addr,
            status: member.status,
            rtt: tracked.rtt,
            word: tracked.word,
            seen: told.map(|(fellow, seen)| (fellow.clone(), seen)).collect(),
        }
    }
}

fn way(gate: &Gate) -> Way {
    Way { open: gate.is_open(), under_way: gate.under_way() }
}
