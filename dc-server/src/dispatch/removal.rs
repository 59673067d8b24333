//! Removes datacenters from the federation: acknowledged once this server has written it down.

use lan_agent::ask::{Answer, AskError, question::Removing};
use topology::Datacenter;
use wan_federation::removal::{RemovalError, Wish};

use super::Dispatch;

impl Dispatch {
    /// Removes a datacenter, or lets it in again.
    pub(super) async fn remove_datacenter(
        &self,
        dc: &Datacenter,
        removing: Removing,
    ) -> Result<Answer, AskError> {
        let federation = self.wan()?;
        let wish = match removing {
            Removing::IfGone => Wish::Remove,
            Removing::Anyway => Wish::RemoveAnyway,
            Removing::Undo => Wish::Restore,
        };
        federation.remove(dc.clone(), wish).await.map_err(refused)?;
        let kept = self.removals.keep(federation).await;
        kept.map_err(|error| {
            AskError::Failed(format!("it is done, but can't be kept over a restart: {error}"))
        })?;
        Ok(Answer::plain("true"))
    }
}

fn refused(error: RemovalError) -> AskError {
    let text = error.to_string();
    match error {
        RemovalError::OwnDatacenter { .. }
        | RemovalError::Unknown { .. }
        | RemovalError::Reachable { .. }
        | RemovalError::NotRemoved { .. } => AskError::Bad(text),
        RemovalError::Stopped => AskError::Failed(text),
    }
}
