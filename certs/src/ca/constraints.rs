//! The DNS names that an authority may issue certificates for (RFC 5280, section 4.2.1.10).
//!
//! A constraint permits its own name and all below it; with a leading dot only those below it.
//! An authority without constraints may issue for every name. Whoever verifies a certificate
//! holds the authority to it; issuing checks it too, because a certificate that everyone refuses
//! is found out too late.

use rcgen::{GeneralSubtree, NameConstraints, SanType};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use crate::error::KeyError;

/// The names that are permitted; none: every name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Constraints(Vec<String>);

impl Constraints {
    /// Permits names and what is below them.
    pub(super) fn new(names: &[String]) -> Result<Self, KeyError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let label = |label: &str| !label.is_empty() && label.chars().all(allowed);
        for name in names {
            let bare = name.strip_prefix('.').unwrap_or(name);
            if !bare.split('.').all(label) {
                return Err(KeyError::Constraint { name: name.clone() });
            }
        }
        Ok(Self(names.to_vec()))
    }

    /// Permits every name.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads what an authority's certificate permits.
    pub(super) fn of(authority: &X509Certificate<'_>) -> Result<Self, KeyError> {
        let extension = authority.name_constraints();
        let extension = extension.map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let subtrees = extension.and_then(|extension| extension.value.permitted_subtrees.as_ref());
        let names = subtrees.into_iter().flatten().filter_map(|subtree| match subtree.base {
            GeneralName::DNSName(name) => Some(name.to_owned()),
            _ => None,
        });
        Ok(Self(names.collect()))
    }

    /// Returns the extension of an authority's certificate.
    pub(super) fn extension(&self) -> Option<NameConstraints> {
        let subtrees = self.0.iter().cloned().map(GeneralSubtree::DnsName);
        (!self.0.is_empty()).then(|| NameConstraints {
            permitted_subtrees: subtrees.collect(),
            excluded_subtrees: Vec::new(),
        })
    }

    /// Refuses names that are not permitted.
    pub(super) fn check(&self, names: &[SanType]) -> Result<(), KeyError> {
        for name in names {
            if let SanType::DnsName(name) = name
                && !self.permit(name.as_str())
            {
                let permitted = self.0.join(", ");
                return Err(KeyError::NotPermitted { name: name.to_string(), permitted });
            }
        }
        Ok(())
    }

    fn permit(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let below = |suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| !rest.is_empty());
        self.0.is_empty()
            || self.0.iter().map(|permitted| permitted.to_ascii_lowercase()).any(|permitted| {
                if permitted.starts_with('.') {
                    return below(&permitted);
                }
                name == permitted || below(&format!(".{permitted}"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Constraints {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        Constraints::new(&names).unwrap()
    }

    #[test]
    fn a_name_and_all_below_it_are_permitted() {
        let constraints = of(&["consul", "localhost", ".example.com"]);
        for name in ["consul", "server.dc1.Consul", "localhost", "www.example.com"] {
            assert!(constraints.permit(name), "{name}");
        }
        for name in ["notconsul", "consul.com", "example.com", ""] {
            assert!(!constraints.permit(name), "{name}");
        }
        assert!(of(&[]).permit("anything"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", ".", "a..b", "*.example.com", "a b", "é"] {
            let error = Constraints::new(&[name.to_owned()]).unwrap_err();
            assert!(matches!(error, KeyError::Constraint { .. }), "{name}: {error}");
        }
    }
}
