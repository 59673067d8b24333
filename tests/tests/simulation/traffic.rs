//! What an idle federation says over the WAN.
//!
//! `DATACENTERS=100 SERVERS=1 cargo nextest run -p tests idle_federation --no-capture` measures one of
//! another size.

use std::time::Duration;

use tests::{
    fabric::{Link, simulate},
    globe::Globe,
};

/// The port of the WAN.
const WAN: u16 = 8302;

/// How long all may take to know all.
const KNOWN_MAX: Duration = Duration::from_secs(120);

/// How long until what was only needed for that has ended: connections that have nothing to say end after
/// half a minute.
const SETTLED: Duration = Duration::from_secs(45);

/// How long is measured: whole rounds of what happens now and then.
const MEASURED: Duration = Duration::from_secs(30);

/// Most packets and bytes that a server sends each second for each server that it watches.
const PACKETS_MAX: f64 = 3.0;
const BYTES_MAX: f64 = 300.0;

/// What a server sends each second.
#[derive(Debug, Clone, Copy)]
struct Rate {
    packets: f64,
    bytes: f64,
}

fn idle(dcs: u8, servers: u8) -> Rate {
    simulate(async {
        let mut globe = Globe::new(1, servers, Link::WAN);
        globe.start_all(dcs);
        globe.until(KNOWN_MAX, "all know all", Globe::is_well).await;
        tokio::time::sleep(SETTLED).await;
        let before = globe.fabric.traffic(WAN);
        tokio::time::sleep(MEASURED).await;
        let after = globe.fabric.traffic(WAN);
        assert!(globe.is_well(), "something is wrong, so that it is not idle");
        let each = MEASURED.as_secs_f64() * f64::from(dcs) * f64::from(servers);
        let rate = Rate {
            packets: (after.packets - before.packets) as f64 / each,
            bytes: (after.bytes - before.bytes) as f64 / each,
        };
        let Rate { packets, bytes } = rate;
        println!("{dcs} datacenters of {servers}: {packets:.1} packets/s, {bytes:.0} bytes/s");
        rate
    })
}

#[allow(clippy::disallowed_methods, reason = "whoever measures has no other way in")]
fn given(name: &str) -> Option<u8> {
    std::env::var(name).ok().map(|given| given.parse().expect("a number below 256"))
}

/// Each server watches two thirds of the servers of the others, with a ping a second that is answered.
#[test]
fn an_idle_federation_says_little() {
    if let Some(dcs) = given("DATACENTERS") {
        idle(dcs, given("SERVERS").unwrap_or(3));
        return;
    }
    for dcs in [2, 10] {
        let rate = idle(dcs, 3);
        let watched = f64::from(dcs - 1) * 2.0;
        assert!(rate.packets > watched, "each watched server is pinged: {rate:?}");
        assert!(rate.packets < PACKETS_MAX * watched, "{dcs} datacenters: {rate:?}");
        assert!(rate.bytes < BYTES_MAX * watched, "{dcs} datacenters: {rate:?}");
    }
}
