//! Whether a datacenter may be removed from the federation, or let in again.
//!
//! Removing one drops its servers from the WAN pool of all datacenters and keeps them out, until that is
//! lifted ([`topology::gossip::Removal`]). Whoever can still be reached is not removed by mistake.

use topology::Datacenter;

use crate::verdict::Health;

/// What is wanted for a datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To be removed, if it is lost or left.
    Remove,
    /// To be removed, whatever it is held for, known or not.
    RemoveAnyway,
    /// To be let in again.
    Restore,
}

/// Why it is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemovalError {
    /// Only others can remove a datacenter.
    #[error("{dc} is the datacenter of this server: have it removed by another datacenter")]
    OwnDatacenter {
        /// As asked for.
        dc: Datacenter,
    },
    /// Nobody of it was ever heard of, or it is forgotten.
    #[error("no datacenter {dc} is known")]
    Unknown {
        /// As asked for.
        dc: Datacenter,
    },
    /// It can be reached, or may be.
    #[error("{dc} is {health}: only a datacenter that is lost or left is removed without force")]
    Reachable {
        /// As asked for.
        dc: Datacenter,
        /// What it is held for.
        health: Health,
    },
    /// There is nothing to undo.
    #[error("{dc} is not removed")]
    NotRemoved {
        /// As asked for.
        dc: Datacenter,
    },
    /// The federation's task has ended.
    #[error("this server is stopping")]
    Stopped,
}

/// Decides on a wish; `held` is what the datacenter is held for, if it is known.
pub(crate) fn check(
    wish: Wish,
    home: &Datacenter,
    dc: &Datacenter,
    held: Option<Health>,
    is_removed: bool,
) -> Result<(), RemovalError> {
    let dc = dc.clone();
    match (wish, held) {
        (Wish::Restore, _) if is_removed => Ok(()),
        (Wish::Restore, _) => Err(RemovalError::NotRemoved { dc }),
        (Wish::Remove | Wish::RemoveAnyway, _) if dc == *home => {
            Err(RemovalError::OwnDatacenter { dc })
        }
        (Wish::RemoveAnyway, _) | (Wish::Remove, Some(Health::Lost | Health::Left)) => Ok(()),
        (Wish::Remove, _) if is_removed => Ok(()),
        (Wish::Remove, None) => Err(RemovalError::Unknown { dc }),
        (Wish::Remove, Some(health)) => Err(RemovalError::Reachable { dc, health }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Degradation;

    fn checked(
        wish: Wish,
        dc: &str,
        held: Option<Health>,
        removed: bool,
    ) -> Result<(), RemovalError> {
        check(wish, &"dc1".parse().unwrap(), &dc.parse().unwrap(), held, removed)
    }

    #[test]
    fn one_that_is_lost_or_left_is_removed() {
        for health in [Health::Lost, Health::Left] {
            assert_eq!(checked(Wish::Remove, "dc2", Some(health), false), Ok(()));
        }
    }

    #[test]
    fn one_that_may_be_reached_needs_force() {
        for health in [Health::Healthy, Health::Degraded(Degradation::OneWay)] {
            let refused = checked(Wish::Remove, "dc2", Some(health), false).unwrap_err();
            assert!(refused.to_string().starts_with(&format!("dc2 is {health}: ")), "{refused}");
            assert_eq!(checked(Wish::RemoveAnyway, "dc2", Some(health), false), Ok(()));
        }
    }

    #[test]
    fn one_that_nobody_knows_needs_force_unless_it_is_removed_already() {
        let dc = "dc2".parse().unwrap();
        assert_eq!(checked(Wish::Remove, "dc2", None, false), Err(RemovalError::Unknown { dc }));
        assert_eq!(checked(Wish::RemoveAnyway, "dc2", None, false), Ok(()));
        assert_eq!(checked(Wish::Remove, "dc2", None, true), Ok(()));
    }

    #[test]
    fn nobody_removes_its_own_datacenter() {
        for wish in [Wish::Remove, Wish::RemoveAnyway] {
            let refused = checked(wish, "dc1", Some(Health::Lost), false);
            assert!(matches!(refused, Err(RemovalError::OwnDatacenter { .. })), "{refused:?}");
        }
    }

    #[test]
    fn only_what_is_removed_is_let_in_again() {
        let dc = "dc2".parse().unwrap();
        assert_eq!(checked(Wish::Restore, "dc2", None, true), Ok(()));
        assert_eq!(checked(Wish::Restore, "dc1", None, true), Ok(()), "it was removed by others");
        assert_eq!(
            checked(Wish::Restore, "dc2", None, false),
            Err(RemovalError::NotRemoved { dc })
        );
    }
}
