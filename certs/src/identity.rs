//! Who a certificate's holder is: datacenter, role and, if it says so, node.
//!
//! Two ways to say it are understood, both in the subject alternative names:
//!
//! ```text
//! URI  causeway://<dc>/<role>/<node>            our own; the node is always named
//! DNS  <role>.<dc>.<domain>                     Consul's; holds for any node of that role
//! DNS  <node>.server.<dc>.<domain>              Consul's; names a server
//! ```
//!
//! All names of a certificate must agree: one that speaks for two datacenters or two roles is
//! refused. DNS names count only below the domains of [`Domains`], because an authority may also
//! issue certificates for other purposes. Names that say nothing (`localhost`) are passed over.

use std::fmt;

use topology::{Datacenter, NameError, NodeName, Role};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The scheme of our own names in certificates.
const SCHEME: &str = "causeway://";

/// The domain of Consul's certificates unless configured otherwise.
pub const CONSUL_DOMAIN: &str = "consul";

/// The domain of our own certificates.
pub const CAUSEWAY_DOMAIN: &str = "causeway";

/// The holder of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Datacenter.
    pub dc: Datacenter,
    /// What it may act as there.
    pub role: Role,
    /// Which node it is; `None` for a certificate that any node of the role may hold.
    pub node: Option<NodeName>,
}

/// Domains below which a DNS name says who a certificate's holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains(Vec<String>);

/// Why a certificate does not say who its holder is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate could not be parsed.
    #[error("it is not an X.509 certificate")]
    Encoding,
    /// No name of it says a role and a datacenter.
    #[error(
        "it names no role and datacenter: it needs a name such as server.dc1.{domain} or causeway://dc1/server/node"
    )]
    Nothing {
        /// The first domain that would have been accepted.
        domain: String,
    },
    /// Its names contradict each other.
    #[error("it speaks for {first} and for {second}: a certificate speaks for one")]
    Contradiction {
        /// What one name says.
        first: String,
        /// What another says.
        second: String,
    },
    /// A name in it can't be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Our own kind of name, but not of its form.
    #[error("{0:?} is not of the form causeway://dc/role/node")]
    Uri(String),
}

impl Domains {
    /// Accepts Consul's usual domain, our own, and the configured one.
    pub fn new(configured: Option<&str>) -> Self {
        let mut domains = vec![CONSUL_DOMAIN.to_owned(), CAUSEWAY_DOMAIN.to_owned()];
        if let Some(domain) = configured {
            let domain = domain.trim_matches('.').to_ascii_lowercase();
            domains.retain(|known| *known != domain);
            domains.insert(0, domain);
        }
        Self(domains)
    }

    fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        self.0.iter().find_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'))
    }
}

impl Default for Domains {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Identity {
    /// Names a holder.
    pub fn new(dc: Datacenter, role: Role, node: Option<NodeName>) -> Self {
        Self { dc, role, node }
    }

    /// Reads the holder from a certificate in DER form. Says nothing about whether to trust it.
    pub fn from_certificate(der: &[u8], domains: &Domains) -> Result<Self, IdentityError> {
        let (_, certificate) = parse_x509_certificate(der).map_err(|_| IdentityError::Encoding)?;
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Encoding)?;
        let mut found: Option<Identity> = None;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            let said = match name {
                GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(Self::from_uri(uri)?),
                GeneralName::DNSName(name) => Self::from_dns(name, domains)?,
                _ => None,
            };
            found = match (found, said) {
                (Some(first), Some(second)) => Some(first.merged(second)?),
                (first, second) => first.or(second),
            };
        }
        found.ok_or_else(|| IdentityError::Nothing {
            domain: domains.0.first().cloned().unwrap_or_default(),
        })
    }

    /// Reads `causeway://<dc>/<role>/<node>`.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let bad = || IdentityError::Uri(uri.to_owned());
        let mut parts = uri.strip_prefix(SCHEME).ok_or_else(bad)?.split('/');
        let (Some(dc), Some(role), Some(node), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let role = role_named(role).ok_or_else(bad)?;
        Ok(Self::new(Datacenter::new(dc)?, role, Some(NodeName::new(node)?)))
    }

    /// Reads `[<node>.]<role>.<dc>.<domain>`; a name of another form says nothing.
    fn from_dns(name: &str, domains: &Domains) -> Result<Option<Self>, IdentityError> {
        let name = name.to_ascii_lowercase();
        let Some(rest) = domains.strip(&name) else { return Ok(None) };
        let Some((rest, dc)) = rest.rsplit_once('.') else { return Ok(None) };
        let (node, role) = match rest.rsplit_once('.') {
            Some((node, role)) => (Some(node), role),
            None => (None, rest),
        };
        let Some(role) = role_named(role) else { return Ok(None) };
        let node = node.map(NodeName::new).transpose()?;
        Ok(Some(Self::new(Datacenter::new(dc)?, role, node)))
    }

    /// Returns the name in our own form; `None` without a node.
    pub fn uri(&self) -> Option<String> {
        let node = self.node.as_ref()?;
        Some(format!("{SCHEME}{}/{}/{node}", self.dc, self.role))
    }

    /// Returns Consul's name for the role in the datacenter: `server.dc1.consul`.
    pub fn dns(&self, domain: &str) -> String {
        format!("{}.{}.{domain}", self.role, self.dc)
    }

    /// Tells whether both may be one holder: one of them may leave the node open.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let same_node = match (&self.node, &other.node) {
            // DNS names have no capitals, node names may.
            (Some(one), Some(two)) => one.as_str().eq_ignore_ascii_case(two.as_str()),
            _ => true,
        };
        self.dc == other.dc && self.role == other.role && same_node
    }

    fn merged(self, other: Self) -> Result<Self, IdentityError> {
        if !self.agrees(&other) {
            return Err(IdentityError::Contradiction {
                first: self.to_string(),
                second: other.to_string(),
            });
        }
        // Our own URI keeps capitals, a DNS name does not: the one with capitals is the name.
        let capitals = |node: &NodeName| node.as_str().chars().any(|c| c.is_ascii_uppercase());
        let node = match (self.node, other.node) {
            (Some(one), Some(two)) => Some(if capitals(&two) { two } else { one }),
            (one, two) => one.or(two),
        };
        Ok(Self { dc: other.dc, role: other.role, node })
    }
}

fn role_named(name: &str) -> Option<Role> {
    [Role::Server, Role::Client].into_iter().find(|role| role.as_str() == name)
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{} {node} of {}", self.role, self.dc),
            None => write!(f, "a {} of {}", self.role, self.dc),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    /// Makes a certificate with these names; one with `://` is a URI.
    fn certificate(names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        for name in names {
            let text = (*name).try_into().unwrap();
            let uri = name.contains("://");
            params.subject_alt_names.push(if uri {
                SanType::URI(text)
            } else {
                SanType::DnsName(text)
            });
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn read(names: &[&str]) -> Result<String, IdentityError> {
        Identity::from_certificate(&certificate(names), &Domains::new(Some("example.org")))
            .map(|identity| identity.to_string())
    }

    #[test]
    fn names_say_who_the_holder_is() {
        let cases: &[(&[&str], &str)] = &[
            (&["server.dc1.consul", "localhost"], "a server of dc1"),
            (&["client.dc2.consul"], "a client of dc2"),
            (&["S1.Server.DC1.consul", "server.dc1.consul"], "server s1 of dc1"),
            (&["server.dc1.example.org"], "a server of dc1"),
            (&["causeway://dc1/client/Web-1"], "client Web-1 of dc1"),
            (&["web-1.client.dc1.causeway", "causeway://dc1/client/Web-1"], "client Web-1 of dc1"),
            (&["causeway://dc1/server/a.b", "a.b.server.dc1.causeway"], "server a.b of dc1"),
            (&["www.dc3.consul", "server.dc1.consul"], "a server of dc1"),
        ];
        for (names, expected) in cases {
            assert_eq!(read(names).as_deref(), Ok(*expected), "{names:?}");
        }
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        let cases: &[&[&str]] = &[
            &["localhost"],
            &["server.dc1.evil.org"],
            &["server.consul"],
            &["cli.dc1.consul"],
            &["xserver.dc1.consul"],
            &["server.dc1.consul.evil.org"],
            &["spiffe://trust/ns/default/dc/dc1/svc/web"],
        ];
        for names in cases {
            let error = read(names).unwrap_err();
            assert!(matches!(error, IdentityError::Nothing { .. }), "{names:?}: {error}");
        }
    }

    #[test]
    fn names_that_contradict_each_other_are_refused() {
        let cases: &[&[&str]] = &[
            &["server.dc1.consul", "server.dc2.consul"],
            &["server.dc1.consul", "client.dc1.consul"],
            &["causeway://dc1/server/a", "causeway://dc1/server/b"],
            &["causeway://dc1/client/a", "server.dc1.consul"],
            &["a.server.dc1.consul", "causeway://dc1/server/b"],
        ];
        for names in cases {
            let error = read(names).unwrap_err();
            assert!(matches!(error, IdentityError::Contradiction { .. }), "{names:?}: {error}");
        }
    }

    #[test]
    fn uris_of_another_form_are_refused() {
        for uri in [
            "causeway://dc1/server",
            "causeway://dc1/leader/a",
            "causeway://dc1/server/a/b",
            "causeway:///server/a",
            "causeway://dc1/server/",
        ] {
            assert!(read(&[uri]).is_err(), "{uri}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let error = Identity::from_certificate(b"garbage", &Domains::default()).unwrap_err();
        assert_eq!(error, IdentityError::Encoding);
    }

    proptest::proptest! {
        #[test]
        fn any_identity_survives_its_uri(dc in "[a-z0-9_-]{1,63}", node in "[A-Za-z0-9_.-]{1,128}") {
            let dc = Datacenter::new(dc).unwrap();
            let me = Identity::new(dc, Role::Client, Some(NodeName::new(node).unwrap()));
            assert_eq!(Identity::from_uri(&me.uri().unwrap()), Ok(me));
        }

        #[test]
        fn no_text_breaks_the_reader(text in "(causeway://)?[a-z/.:]{0,40}", bytes: Vec<u8>) {
            let _ = Identity::from_uri(&text);
            let _ = Identity::from_dns(&text, &Domains::default());
            let _ = Identity::from_certificate(&bytes, &Domains::default());
        }
    }
}
