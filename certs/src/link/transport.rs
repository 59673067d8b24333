//! QUIC's and TLS's settings for the two kinds of network.
//!
//! TLS 1.3 only, both sides authenticated, no resumption: a handshake costs a millisecond, and a
//! resumed session would keep a chain that was verified before the authorities changed.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use quinn::{
    EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    congestion::BbrConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rand::{Rng, rngs::SmallRng};
use rustls::{client::Resumption, server::NoServerSessionStorage, version::TLS13};
use topology::gateway;

use crate::{
    identity::Identity,
    link::{Config, Expect, Profile, ids::Ids},
    store::{Keys, TlsClock},
    verify::{Dialled, Dialler},
};

/// Streams that a peer may have open at first; raised with its need, because each costs memory.
pub(super) const STREAMS_START: u32 = 128;

/// Bytes of one stream that may be under way: 16 MiB is 160 MB/s at 100 ms.
const STREAM_WINDOW_LEN: u32 = 16 << 20;

/// Bytes of one connection that may be under way and unread.
const CONNECTION_WINDOW_LEN: u32 = 32 << 20;

/// Datagrams that wait to be read or sent, in bytes; older ones are dropped.
const DATAGRAM_BUFFER_LEN: usize = 1 << 20;

/// Handshakes that quinn itself holds until they are looked at, and the bytes that come with one:
/// our largest first flight is 2 packets.
const INCOMING_MAX: usize = 1024;
const INCOMING_BUFFER_LEN: u64 = 16 << 10;

/// Between two stateless resets: thousands of peers of a restarted server learn of it in seconds,
/// and garbage is answered with fewer bytes than it has.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// What depends on the kind of network.
pub(super) struct Timing {
    /// QUIC's idle timeout, a second line behind the heartbeats.
    pub(super) idle: Duration,
    /// What a round trip is taken for before it is measured.
    pub(super) first_rtt: Duration,
    /// How long a handshake may take, the first heartbeat included.
    pub(super) handshake: Duration,
    /// How long the header of a request may take once its stream is open.
    pub(super) header: Duration,
}

impl Timing {
    pub(super) fn new(profile: Profile) -> Self {
        match profile {
            Profile::Lan => Self {
                idle: Duration::from_secs(5),
                first_rtt: Duration::from_millis(50),
                handshake: Duration::from_secs(2),
                header: Duration::from_secs(2),
            },
            Profile::Wan => Self {
                // Servers that nobody watches gossip with each other; making their connections
                // anew each time would cost more than to remember them for a while.
                idle: Duration::from_secs(30),
                first_rtt: Duration::from_millis(200),
                handshake: Duration::from_secs(4),
                header: Duration::from_secs(5),
            },
        }
    }
}

/// The name of the protocol and its version on the wire (ALPN).
fn protocols(profile: Profile) -> Vec<Vec<u8>> {
    match profile {
        Profile::Lan => vec![b"causeway-lan/1".to_vec()],
        Profile::Wan => vec![b"causeway-wan/1".to_vec()],
    }
}

fn transport(profile: Profile) -> Arc<TransportConfig> {
    let timing = Timing::new(profile);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS_START.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_WINDOW_LEN.into())
        .receive_window(CONNECTION_WINDOW_LEN.into())
        .send_window(CONNECTION_WINDOW_LEN.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_LEN))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_LEN)
        .initial_rtt(timing.first_rtt)
        .max_idle_timeout(IdleTimeout::try_from(timing.idle).ok());
    if profile == Profile::Wan {
        // Cubic falls to 0.6 MiB/s at 0.1 % loss and 110 ms; BBR keeps 17.
        transport.congestion_controller_factory(Arc::new(BbrConfig::default()));
    }
    Arc::new(transport)
}

/// Makes the settings of the side that is dialled.
pub(super) fn server(config: &Config) -> Result<ServerConfig, rustls::Error> {
    let keys = &config.keys;
    let verifier = Dialler { keys: keys.clone(), accept: config.accept.clone() };
    let mut tls = rustls::ServerConfig::builder_with_details(
        Arc::clone(keys.provider()),
        Arc::new(TlsClock(keys.clock())),
    )
    .with_protocol_versions(&[&TLS13])?
    .with_client_cert_verifier(Arc::new(verifier))
    .with_cert_resolver(Arc::new(keys.clone()));
    tls.alpn_protocols = protocols(config.profile);
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(no_suite)?;
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(transport(config.profile))
        // Whoever comes by a gateway may come by another one, or through a NAT that gives it a new port.
        .migration(config.profile == Profile::Wan)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_LEN)
        .incoming_buffer_size_total(INCOMING_BUFFER_LEN * INCOMING_MAX as u64);
    Ok(server)
}

/// Makes the settings of the side that dials and expects a certain peer.
pub(super) fn client(
    keys: &Keys,
    profile: Profile,
    expect: &Expect,
) -> Result<quinn::ClientConfig, rustls::Error> {
    let verifier = Dialled { keys: keys.clone(), expect: expect.clone() };
    let mut tls = rustls::ClientConfig::builder_with_details(
        Arc::clone(keys.provider()),
        Arc::new(TlsClock(keys.clock())),
    )
    .with_protocol_versions(&[&TLS13])?
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(verifier))
    .with_client_cert_resolver(Arc::new(keys.clone()));
    tls.alpn_protocols = protocols(profile);
    tls.resumption = Resumption::disabled();
    let tls = QuicClientConfig::try_from(tls).map_err(no_suite)?;
    let mut client = quinn::ClientConfig::new(Arc::new(tls));
    client.transport_config(transport(profile));
    Ok(client)
}

/// Makes the settings of the endpoint. The key of stateless resets is derived from the node's
/// private key, so that a restarted node can tell its peers at once that their connections are
/// gone.
pub(super) fn endpoint(me: &Identity, keys: &Keys, random: &mut SmallRng) -> EndpointConfig {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &keys.current().secret);
    let (mut seed, mut id_seed) = ([0; 32], [0; 32]);
    random.fill_bytes(&mut seed);
    random.fill_bytes(&mut id_seed);
    // Nobody finds the way to a node without a name through a gateway.
    let tag = me.node.as_ref().map(|node| gateway::tag(&me.dc, node)).unwrap_or_default();
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
    endpoint
        .cid_generator(move || Box::new(Ids::new(tag, id_seed)))
        .min_reset_interval(RESET_INTERVAL)
        .rng_seed(Some(seed));
    endpoint
}

fn no_suite(error: quinn::crypto::rustls::NoInitialCipherSuite) -> rustls::Error {
    rustls::Error::General(error.to_string())
}
