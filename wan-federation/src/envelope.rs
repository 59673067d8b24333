//! What crosses the WAN: an address, a deadline and a payload that nobody here looks into.
//!
//! ```text
//! caller's server                          a server of `dc`
//!   forward(Envelope) --- ENVELOPE stream --->  Inside::answer(Envelope)
//!                     <-- the answer's bytes --
//! ```
//!
//! On the wire an envelope is a named map ([`Envelope::encode`]). Datacenters are upgraded one
//! at a time, so a reader ignores fields that it doesn't know, and a writer says which version a
//! reader must know at least (`needs`): a newer version whose envelopes can still be read is no
//! error. The deadline is not part of the map: it travels in the link's header and shrinks there.
//!
//! Where there is no direct path an envelope takes a detour: another datacenter passes it on, once.
//! An envelope for the datacenter that it comes from takes a detour home, from a server that can't
//! reach its leader to one that can. Its path says where it has been, so that it never loops:
//!
//! ```text
//!   direct        dc1 ---------> dc2      path on arrival: dc1
//!   detour        dc1 --> dc3 --> dc2     path on arrival: dc1, dc3
//!   detour home   dc1 --> dc3 --> dc1     path on arrival: dc1, dc3
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use topology::Datacenter;
use uuid::Uuid;

/// The version of envelopes that this program writes.
pub const VERSION: u16 = 1;

/// Most datacenters that an envelope may have passed when it arrives: its origin and one more.
/// A detour needs one third datacenter; a longer way only hides that something is broken.
pub const HOPS_MAX: usize = 2;

/// Longest payload: a transaction of 128 values of 64 KiB fits, and the link's bound of 16 MiB
/// on a request leaves room for the rest of the envelope.
pub const PAYLOAD_LEN_MAX: usize = 15 * 1024 * 1024;

/// Which servers of the datacenter can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// The leader answers: other servers hand the request on to it.
    Leader,
    /// Any server answers from what it has.
    Any,
}

/// A request on its way to another datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where it is to be answered.
    pub dc: Datacenter,
    /// Datacenters that it passed so far, its origin first; empty where it starts.
    pub path: Vec<Datacenter>,
    /// When the asker stops listening.
    pub deadline: Instant,
    /// Makes a repeated write apply once: the same for every attempt.
    pub request: Uuid,
    /// Whether it changes nothing.
    pub read: bool,
    /// Whether its answer may be long in coming, because it waits for a change.
    pub waits: bool,
    /// Which servers can answer it.
    pub consistency: Consistency,
    /// Follows the request everywhere.
    pub trace: Uuid,
    /// The request itself, for the servers of `dc` alone.
    pub payload: Bytes,
}

/// Says why bytes are no envelope for this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are not the map that they should be.
    #[error("not an envelope: {0}")]
    Malformed(String),
    /// The writer says that a reader must be newer than this program.
    #[error("envelope needs version {needs}, this server knows {VERSION}: upgrade it")]
    TooNew {
        /// The version that a reader must know.
        needs: u16,
    },
    /// The payload is over its bound.
    #[error("payload of {len} bytes is over the bound of {PAYLOAD_LEN_MAX}")]
    TooLarge {
        /// The payload's length.
        len: usize,
    },
    /// It would go round in circles.
    #[error("envelope for {dc} has already been in {at}")]
    Loop {
        /// Where it is to be answered.
        dc: Datacenter,
        /// The datacenter that would see it twice.
        at: Datacenter,
    },
    /// It has passed as many datacenters as it may.
    #[error("envelope for {dc} has passed {hops} datacenters, {HOPS_MAX} at most are allowed")]
    TooFar {
        /// Where it is to be answered.
        dc: Datacenter,
        /// How many it has passed.
        hops: usize,
    },
}

/// The map on the wire. Fields may be added, never changed.
#[derive(Serialize, Deserialize)]
struct Wire {
    version: u16,
    needs: u16,
    dc: Datacenter,
    #[serde(default)]
    path: Vec<Datacenter>,
    request: Uuid,
    #[serde(default)]
    read: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    waits: bool,
    /// 0: any server; anything else: the leader, which is right for a value that is not known.
    #[serde(default = "leader")]
    consistency: u8,
    #[serde(default)]
    trace: Uuid,
    payload: Bytes,
}

const ANY: u8 = 0;
const LEADER: u8 = 1;

fn is_false(it: &bool) -> bool {
    !it
}

fn leader() -> u8 {
    LEADER
}

impl Envelope {
    /// Writes the envelope as it travels.
    pub fn encode(&self) -> Result<Bytes, EnvelopeError> {
        if self.payload.len() > PAYLOAD_LEN_MAX {
            return Err(EnvelopeError::TooLarge { len: self.payload.len() });
        }
        let wire = Wire {
            version: VERSION,
            needs: 1,
            dc: self.dc.clone(),
            path: self.path.clone(),
            request: self.request,
            read: self.read,
            waits: self.waits,
            consistency: match self.consistency {
                Consistency::Any => ANY,
                Consistency::Leader => LEADER,
            },
            trace: self.trace,
            payload: self.payload.clone(),
        };
        rmp_serde::to_vec_named(&wire)
            .map(Bytes::from)
            .map_err(|error| EnvelopeError::Malformed(error.to_string()))
    }

    /// Reads an envelope that arrived with this deadline.
    pub fn decode(bytes: &[u8], deadline: Instant) -> Result<Self, EnvelopeError> {
        let needs = rmp_serde::from_slice::<Needs>(bytes)
            .map_err(|error| EnvelopeError::Malformed(error.to_string()))?
            .needs;
        if needs > VERSION {
            return Err(EnvelopeError::TooNew { needs });
        }
        let wire: Wire = rmp_serde::from_slice(bytes)
            .map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
        if wire.payload.len() > PAYLOAD_LEN_MAX {
            return Err(EnvelopeError::TooLarge { len: wire.payload.len() });
        }
        Ok(Self {
            dc: wire.dc,
            path: wire.path,
            deadline,
            request: wire.request,
            read: wire.read,
            waits: wire.waits,
            consistency: if wire.consistency == ANY {
                Consistency::Any
            } else {
                Consistency::Leader
            },
            trace: wire.trace,
            payload: wire.payload,
        })
    }

    /// Tells whether it is to come back to the datacenter that it starts from.
    pub fn goes_home(&self) -> bool {
        self.path.first() == Some(&self.dc)
    }

    /// Returns the envelope as it leaves datacenter `from`, or why it must not: it was there
    /// before, it was where it is to go, or it has come far enough.
    pub fn leaving(mut self, from: &Datacenter) -> Result<Self, EnvelopeError> {
        self.check_path(from)?;
        self.path.push(from.clone());
        if self.path.len() > HOPS_MAX {
            return Err(EnvelopeError::TooFar { dc: self.dc, hops: self.path.len() });
        }
        Ok(self)
    }

    /// Checks that the envelope may be taken in at datacenter `at`: it has not been there, unless
    /// it comes home by way of another one, and it has not been where it is to be answered.
    pub fn check_path(&self, at: &Datacenter) -> Result<(), EnvelopeError> {
        if self.path.len() > HOPS_MAX {
            return Err(EnvelopeError::TooFar { dc: self.dc.clone(), hops: self.path.len() });
        }
        let passed = match self.goes_home() {
            // Its origin is where it is to go, which it may reach from another one alone.
            true if *at != self.dc || self.path.len() == HOPS_MAX => &self.path[1..],
            _ => &self.path[..],
        };
        match passed.iter().find(|seen| *seen == at || **seen == self.dc) {
            Some(seen) => Err(EnvelopeError::Loop { dc: self.dc.clone(), at: seen.clone() }),
            None => Ok(()),
        }
    }
}

/// The one field that is read before all others, so that a map that changed beyond
/// recognition is still refused with the right sentence.
#[derive(Deserialize)]
struct Needs {
    needs: u16,
}

#[cfg(test)]
mod tests;
