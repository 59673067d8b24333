//! What the servers say of themselves: `/v1/status`, `/v1/catalog/datacenters`, `/v1/operator/raft`.

use super::{
    context::Context,
    error::Failure,
    lookup::missed,
    reply::{Indexed, Reply},
};
use crate::ask::Question;

/// `/v1/status/leader`.
pub(super) async fn leader(cx: Context) -> Result<Reply, Failure> {
    plain(cx, Question::StatusLeader).await
}

/// `/v1/status/peers`.
pub(super) async fn peers(cx: Context) -> Result<Reply, Failure> {
    plain(cx, Question::StatusPeers).await
}

/// `/v1/catalog/datacenters`.
pub(super) async fn datacenters(cx: Context) -> Result<Reply, Failure> {
    let answer = cx.ask_now(Question::Datacenters).await?;
    Ok(missed(Reply::answer(answer, Indexed::No), cx.query()))
}

/// `/v1/operator/raft/configuration`.
pub(super) async fn raft_configuration(cx: Context) -> Result<Reply, Failure> {
    plain(cx, Question::RaftConfiguration).await
}

async fn plain(cx: Context, question: Question) -> Result<Reply, Failure> {
    let answer = cx.ask_now(question).await?;
    Ok(Reply::answer(answer, Indexed::No))
}
