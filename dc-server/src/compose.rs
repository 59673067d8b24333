//! A plan as containers: the files that `docker-compose up` needs, and no image of any registry.
//!
//! ```text
//! DIR/docker-compose.yml    one network for each datacenter, one WAN that only servers and gateways are on
//! DIR/Dockerfile            nothing but the program
//! DIR/causeway              the program
//! DIR/dc1/server-1/         configuration, certificate and key: /config in its container
//! ```
//!
//! Addresses are given out like in the processes of `topology up`, from one subnet, so that the same plan is the same
//! federation.

pub mod elf;
pub mod project;
pub mod subnet;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use time::OffsetDateTime;
use topology::{Role, plan::Plan};

use self::subnet::Subnet;
use crate::processes::{
    config::{self, Credentials, TlsFiles},
    credentials::{Issuer, create_dir, fresh_gossip_key, write_file},
    error::ProcessesError,
    layout::{Layout, Node, WAN_PORT},
};

/// Where a container finds its configuration, and where its data are.
const CONFIG: &str = "/config";
const DATA: &str = "/data";

/// The files at the top.
const PROJECT_FILE: &str = "docker-compose.yml";
const DOCKERFILE: &str = "Dockerfile";
const PROGRAM: &str = "causeway";

/// Nothing but the program: it needs no other file. `BASE` puts it on an image that has a shell, for script checks.
const DOCKERFILE_TEXT: &str = "\
ARG BASE=scratch
FROM ${BASE}
COPY causeway /causeway
ENTRYPOINT [\"/causeway\"]
";

/// What is sent to the engine to build the image.
const DOCKERIGNORE_TEXT: &str = "*\n!causeway\n";

/// How a plan is to be rendered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The plan.
    pub plan: Plan,
    /// Where to write: a new or an empty directory.
    pub dir: PathBuf,
    /// The program for the containers.
    pub binary: PathBuf,
    /// Where their addresses come from.
    pub subnet: Subnet,
    /// When certificates begin to be valid.
    pub now: OffsetDateTime,
}

/// Says why a plan can't be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A file can't be written.
    #[error(transparent)]
    Files(#[from] ProcessesError),
    /// The program can't be read.
    #[error("can't read {path}")]
    Program {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program would not start in a container that holds nothing else.
    #[error(
        "{path} {reason}, and would not start in an image that holds nothing else: name a static one with -binary \
         (`make release` builds one)"
    )]
    NotAlone {
        /// Its path.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
}

/// Writes the files of a plan; returns where its nodes are.
pub fn render(settings: &Settings) -> Result<Layout, RenderError> {
    let Settings { plan, dir, binary, subnet, now } = settings;
    let program =
        fs::read(binary).map_err(|source| RenderError::Program { path: binary.clone(), source })?;
    if let Some(reason) = elf::needs_others(&program) {
        return Err(RenderError::NotAlone { path: binary.clone(), reason });
    }
    create_dir(dir)?;
    let is_empty = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if !is_empty {
        return Err(ProcessesError::NotEmpty { path: dir.clone() }.into());
    }
    let layout = Layout::new(plan, |dc, node| subnet.addresses(dc, node), dir);
    let issuer = Issuer::create(dir, *now)?;
    let gossip_key = fresh_gossip_key();
    for node in &layout.nodes {
        create_dir(&node.dir)?;
        issuer.issue(node)?;
        copy_certificate(dir, node)?;
        let text = format!("{:#}\n", configuration(node, &layout, &gossip_key));
        write_file(&node.config(), text.as_bytes())?;
    }
    for gateway in &layout.gateways {
        create_dir(&gateway.dir)?;
        let mut config = config::render_gateway(gateway, &layout);
        config["bind"] = json!(format!("0.0.0.0:{WAN_PORT}"));
        write_file(&gateway.config(), format!("{config:#}\n").as_bytes())?;
    }
    write_file(&dir.join(DOCKERFILE), DOCKERFILE_TEXT.as_bytes())?;
    write_file(&dir.join(".dockerignore"), DOCKERIGNORE_TEXT.as_bytes())?;
    write_file(&dir.join(PROJECT_FILE), project::text(&layout, *subnet).as_bytes())?;
    write_program(&dir.join(PROGRAM), &program)?;
    Ok(layout)
}

/// Returns the configuration of a node in its container.
fn configuration(node: &Node, layout: &Layout, gossip_key: &str) -> Value {
    let inside = |name: &str| Path::new(CONFIG).join(name);
    let tls = TlsFiles { ca: inside("ca.pem"), cert: inside("cert.pem"), key: inside("key.pem") };
    let credentials = Credentials { gossip_key: gossip_key.to_owned(), tls: Some(tls) };
    let mut config = config::render(node, layout, &credentials);
    config["bind_addr"] = json!("0.0.0.0");
    config["client_addr"] = json!("0.0.0.0");
    config["advertise_addr"] = json!(node.ip.to_string());
    config["data_dir"] = json!(DATA);
    if node.role == Role::Server {
        config["advertise_addr_wan"] = json!(node.wan.to_string());
    }
    config
}

/// Puts the authority's certificate beside the node's own: a container sees no other directory.
fn copy_certificate(dir: &Path, node: &Node) -> Result<(), ProcessesError> {
    let (from, to) = (dir.join("ca.pem"), node.dir.join("ca.pem"));
    fs::copy(from, &to).map(drop).map_err(|source| ProcessesError::File { path: to, source })
}

fn write_program(path: &Path, program: &[u8]) -> Result<(), ProcessesError> {
    let write = || {
        fs::write(path, program)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    write().map_err(|source| ProcessesError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
