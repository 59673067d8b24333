//! `/v1/coordinate`: where nodes are on the map of round trips, and what is said of that by hand.

use serde::Deserialize;
use topology::{Coordinate, Datacenter};

use super::{
    context::Context,
    error::Failure,
    lookup::name_after,
    reply::{Indexed, Reply},
};
use crate::{
    ask::{
        Question,
        coordinate::{Read, Update},
    },
    catalog::Text,
};

/// Longest body of an update: eleven numbers and a name, with room for how they are laid out.
const BODY_LEN_MAX: usize = 16 * 1024;

/// What 413 says of that bound.
const BODY_SETTING: &str = "The bound of a coordinate is fixed.";

/// The body of an update.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    #[serde(default, alias = "datacenter")]
    datacenter: String,
    #[serde(default, alias = "node")]
    node: Text,
    #[serde(default, alias = "segment")]
    segment: String,
    #[serde(alias = "coord")]
    coord: Coordinate,
}

/// `nodes`: all nodes of a datacenter; with blocking.
pub(super) async fn nodes(cx: Context) -> Result<Reply, Failure> {
    let answer = cx.read(Question::CoordinateRead(Read { node: None })).await?;
    Ok(Reply::answer(answer, Indexed::Yes))
}

/// `node/:node`: one node, 404 when it has none; with blocking.
pub(super) async fn node(cx: Context) -> Result<Reply, Failure> {
    let name = name_after(&cx, "/v1/coordinate/node/", "Missing node name")?;
    let answer = cx.read(Question::CoordinateRead(Read { node: Some(name) })).await?;
    Ok(Reply::answer(answer, Indexed::Yes))
}

/// `datacenters`: the servers of all datacenters.
pub(super) async fn datacenters(cx: Context) -> Result<Reply, Failure> {
    let answer = cx.read_here(Question::CoordinateDatacenters).await?;
    Ok(Reply::answer(answer, Indexed::No))
}

/// `update`: sets the coordinate of a node. As in Consul, a node that the catalog does not know is passed over.
pub(super) async fn update(mut cx: Context) -> Result<Reply, Failure> {
    let body = cx.take_body(BODY_LEN_MAX, BODY_SETTING).await?;
    if body.is_empty() {
        return Err(Failure::bad("Request decode failed: EOF"));
    }
    let said: Said = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad(format!("Request decode failed: {error}")))?;
    let Said { datacenter, node, segment, coord: coordinate } = said;
    if node.is_empty() {
        return Err(Failure::bad("Missing node name"));
    }
    if !segment.is_empty() {
        return Err(Failure::bad("Network segments belong to Consul Enterprise"));
    }
    coordinate.check().map_err(|error| Failure::bad(error.to_string()))?;
    let dc = (!datacenter.is_empty()).then(|| Datacenter::new(datacenter)).transpose();
    let dc = dc.map_err(|error| Failure::bad(error.to_string()))?;
    cx.ask_in(dc, Question::CoordinateUpdate(Update { node, coordinate })).await?;
    Ok(Reply::empty())
}
