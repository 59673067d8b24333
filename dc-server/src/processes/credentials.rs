//! What the nodes of a run trust each other by, made at its start: a gossip key and, where
//! wanted, an authority with a certificate for each node. And the files that name them.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use certs::{
    ca::{Algorithm, Authority, San, Subject},
    identity::Identity,
};
use time::OffsetDateTime;

use crate::processes::{
    Security,
    config::{self, Credentials, TlsFiles},
    error::ProcessesError,
    layout::{Layout, Node},
};

/// Only the owner reads keys and the files that hold them.
const OWNER_ONLY_FILE: u32 = 0o600;
const OWNER_ONLY_DIR: u32 = 0o700;

/// How long certificates are valid: longer than anyone runs a plan.
const VALID_DAYS: u32 = 365;

/// Writes the directories, keys, certificates and configuration files of all nodes.
pub(super) fn write(
    layout: &Layout,
    dir: &Path,
    security: Security,
    now: OffsetDateTime,
) -> Result<(), ProcessesError> {
    let authority = match security {
        Security::Plain => None,
        Security::Certificates => Some(Issuer::create(dir, now)?),
    };
    let gossip_key = fresh_gossip_key();
    for node in &layout.nodes {
        create_dir(&node.dir)?;
        let tls = authority.as_ref().map(|authority| authority.issue(node)).transpose()?;
        let credentials = Credentials { gossip_key: gossip_key.clone(), tls };
        let text = format!("{:#}\n", config::render(node, layout, &credentials));
        write_file(&node.config(), text.as_bytes())?;
    }
    for gateway in &layout.gateways {
        create_dir(&gateway.dir)?;
        let text = format!("{:#}\n", config::render_gateway(gateway, layout));
        write_file(&gateway.config(), text.as_bytes())?;
    }
    Ok(())
}

/// Makes a key for the LAN pools, in base64.
pub(crate) fn fresh_gossip_key() -> String {
    STANDARD.encode(rand::random::<[u8; 32]>())
}

/// The federation's authority, and where its certificate is. Its key is nowhere but here: a run
/// issues all that it needs at its start.
pub(crate) struct Issuer {
    authority: Authority,
    certificate: PathBuf,
    now: OffsetDateTime,
}

impl Issuer {
    /// Makes an authority and writes its certificate.
    pub(crate) fn create(dir: &Path, now: OffsetDateTime) -> Result<Self, ProcessesError> {
        let authority =
            Authority::create("Causeway topology", Algorithm::EcdsaP256, now, VALID_DAYS)
                .map_err(|source| ProcessesError::Certificates { source })?;
        let certificate = dir.join("ca.pem");
        write_file(&certificate, authority.certificate_pem().as_bytes())?;
        Ok(Self { authority, certificate, now })
    }

    /// Issues a node's certificate into its directory.
    pub(crate) fn issue(&self, node: &Node) -> Result<TlsFiles, ProcessesError> {
        let identity = Identity::new(node.dc.clone(), node.role, Some(node.name.clone()));
        let mut subject = Subject::new(identity);
        subject.sans.push(San::Ip(node.ip.into()));
        let (cert, key) = (node.dir.join("cert.pem"), node.dir.join("key.pem"));
        self.authority
            .issue(&subject, self.now, VALID_DAYS)
            .and_then(|issued| issued.write(&cert, &key))
            .map_err(|source| ProcessesError::Certificates { source })?;
        Ok(TlsFiles { ca: self.certificate.clone(), cert, key })
    }
}

/// Makes a directory that only the owner reads.
pub(crate) fn create_dir(path: &Path) -> Result<(), ProcessesError> {
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY_DIR)
        .create(path)
        .map_err(|source| ProcessesError::File { path: path.to_owned(), source })
}

/// Writes a new file that only the owner reads.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ProcessesError> {
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY_FILE).open(path)?;
        file.write_all(bytes)
    };
    write().map_err(|source| ProcessesError::File { path: path.to_owned(), source })
}
