//! The wire of a real server: the server link of its datacenter.

use bytes::Bytes;
use certs::{
    error::CallError,
    link::{Endpoint, Kind, Request, Target},
};
use lan_agent::caller::Promise;
use tokio::time::Instant;
use topology::Datacenter;

use super::{Wire, WireError};
use crate::raft::protocol::Peer;

/// Sends Raft's messages over the server link. A peer has to show a certificate of a server of this
/// datacenter, for the name that the membership holds.
#[derive(Clone)]
pub struct Link {
    endpoint: Endpoint,
    dc: Datacenter,
}

impl Link {
    /// Uses an endpoint of a server in a datacenter.
    pub fn new(endpoint: Endpoint, dc: Datacenter) -> Self {
        Self { endpoint, dc }
    }
}

impl Wire for Link {
    fn call(
        &self,
        _: u64,
        peer: &Peer,
        kind: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, WireError>> {
        let target = Target::server(&self.dc, &peer.name, peer.addr);
        let endpoint = self.endpoint.clone();
        Box::pin(async move {
            let request = Request { kind: Kind(kind), deadline, body };
            match endpoint.call(&target, request).await {
                Ok(reply) => Ok(reply.body),
                Err(CallError::Refused { message, .. }) => Err(WireError::Refused(message)),
                Err(error) if error.had_no_effect() => {
                    Err(WireError::Unreachable(error.to_string()))
                }
                Err(error) => Err(WireError::Lost(error.to_string())),
            }
        })
    }
}
