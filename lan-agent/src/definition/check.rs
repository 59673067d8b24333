//! What is said of a check: what it is about, how it finds out, and how it judges.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{DefinitionError, fields::Fields};
use crate::catalog::{Check, Health, Text};

/// The shortest time between two runs, as Consul has it.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The shortest time after which a critical service is removed, as Consul has it.
pub const DEREGISTER_AFTER_MIN: Duration = Duration::from_secs(60);

/// How much of an output an agent keeps unless it is configured, as Consul has it.
pub const OUTPUT_LEN_MAX: usize = 4096;

/// Fields of Consul's that mean nothing here.
const MEANINGLESS: &[&str] = &[
    "createindex",
    "definition",
    "enterprisemeta",
    "exposedport",
    "modifyindex",
    "namespace",
    "node",
    "output",
    "partition",
    "peername",
    "proxygrpc",
    "proxyhttp",
    "servicename",
    "servicetags",
    "token",
    "type",
];

/// A check as its agent runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDefinition {
    /// Its id, unique on its node.
    pub id: Text,
    /// For people.
    pub name: Text,
    /// What its owner says of it.
    #[serde(default)]
    pub notes: Text,
    /// The service that it is about; empty for the node.
    #[serde(default)]
    pub service_id: Text,
    /// What it says until it has found out.
    #[serde(default)]
    pub status: Health,
    /// How it finds out.
    pub probe: Probe,
    /// The time between two runs, at least [`INTERVAL_MIN`]; zero for those that nobody runs.
    #[serde(default)]
    pub interval: Duration,
    /// How long a run may take; zero for the default of the probe.
    #[serde(default)]
    pub timeout: Duration,
    /// How many results in a row change what it says.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// After how long a critical check takes its service away; zero for never.
    #[serde(default)]
    pub deregister_after: Duration,
    /// How much of an output is kept, in bytes; zero for as much as its agent keeps.
    #[serde(default)]
    pub output_len_max: usize,
}

/// How many results in a row change what a check says; 0 and 1 both mean the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Thresholds {
    /// Good ones before it passes.
    pub passing: u16,
    /// Bad ones before it warns.
    pub warning: u16,
    /// Bad ones before it is critical.
    pub critical: u16,
}

/// How a check finds out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Somebody reports, at least so often.
    Ttl(Duration),
    /// A program's exit code.
    Script {
        /// The program and its arguments; at least one.
        args: Vec<Text>,
    },
    /// The status of an HTTP answer.
    Http {
        /// What is asked for.
        url: Text,
        /// `GET` when empty.
        method: Text,
        /// Headers of the request.
        headers: BTreeMap<Text, Vec<Text>>,
        /// Body of the request.
        body: Text,
        /// Whether redirects are answers of their own.
        disable_redirects: bool,
        /// How TLS is spoken.
        tls: Tls,
    },
    /// Whether a connection is accepted at `host:port`.
    Tcp {
        /// Where.
        target: Text,
        /// Whether TLS is spoken.
        use_tls: bool,
        /// How.
        tls: Tls,
    },
    /// Whether a datagram is taken at `host:port`.
    Udp(Text),
    /// gRPC's health protocol at `host:port` or `host:port/service`.
    Grpc {
        /// Where, and of which service.
        target: Text,
        /// Whether TLS is spoken.
        use_tls: bool,
        /// How.
        tls: Tls,
    },
    /// A ping of HTTP/2 at `host:port`.
    H2Ping {
        /// Where.
        target: Text,
        /// Whether TLS is spoken.
        use_tls: bool,
        /// How.
        tls: Tls,
    },
    /// A program in a container.
    Docker {
        /// The container.
        container: Text,
        /// Its shell.
        shell: Text,
        /// The program and its arguments.
        args: Vec<Text>,
    },
    /// What another service, or node, says.
    Alias {
        /// The node; empty for this one.
        node: Text,
        /// The service's id; empty for the node itself.
        service: Text,
    },
    /// What the operating system says of one of its services.
    OsService(Text),
}

/// How a check speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tls {
    /// The name that the certificate must have; empty for that of the target.
    pub server_name: Text,
    /// Whether any certificate will do.
    pub skip_verify: bool,
}

/// The service that checks belong to.
pub(super) struct Owner {
    pub(super) id: Text,
    pub(super) name: Text,
}

impl Probe {
    /// Returns Consul's name for how it finds out.
    pub fn kind(&self) -> &'static str {
        match self {
            Probe::Ttl(_) => "ttl",
            Probe::Script { .. } => "script",
            Probe::Http { .. } => "http",
            Probe::Tcp { .. } => "tcp",
            Probe::Udp(_) => "udp",
            Probe::Grpc { .. } => "grpc",
            Probe::H2Ping { .. } => "h2ping",
            Probe::Docker { .. } => "docker",
            Probe::Alias { .. } => "alias",
            Probe::OsService(_) => "os_service",
        }
    }

    /// Tells whether it runs programs, which an operator has to allow.
    pub fn runs_programs(&self) -> bool {
        matches!(self, Probe::Script { .. } | Probe::Docker { .. })
    }
}

impl CheckDefinition {
    /// Returns how much of an output is kept by an agent that keeps so much at most.
    pub fn kept_output(&self, agent_len_max: usize) -> usize {
        match self.output_len_max {
            0 => agent_len_max,
            own => own.min(agent_len_max),
        }
    }

    /// Returns the check as the catalog is to hold it before anything was found out.
    pub fn check(&self) -> Check {
        Check {
            id: self.id.clone(),
            name: self.name.clone(),
            status: self.status,
            notes: self.notes.clone(),
            service_id: self.service_id.clone(),
            kind: self.probe.kind().into(),
            ..Check::default()
        }
    }
}

/// Reads a check that has a name of its own.
pub(super) fn read_alone(fields: Fields<'_>) -> Result<CheckDefinition, DefinitionError> {
    let Some(mut check) = read(fields)? else {
        return Err(invalid("Invalid check: TTL must be > 0 for TTL checks"));
    };
    if check.name.is_empty() {
        return Err(invalid("Missing check name"));
    }
    if check.id.is_empty() {
        check.id = check.name.clone();
    }
    Ok(check)
}

/// Reads the checks of a service; those that say nothing are none.
pub(super) fn read_of_service(
    owner: &Owner,
    list: Vec<Fields<'_>>,
) -> Result<Vec<CheckDefinition>, DefinitionError> {
    let read: Result<Vec<_>, _> = list.into_iter().map(read).collect();
    let mut checks: Vec<CheckDefinition> = read?.into_iter().flatten().collect();
    let several = checks.len() > 1;
    for (position, check) in checks.iter_mut().enumerate() {
        check.service_id = owner.id.clone();
        if check.id.is_empty() {
            check.id = match several {
                true => format!("service:{}:{}", owner.id, position + 1).into(),
                false => format!("service:{}", owner.id).into(),
            };
        }
        if check.name.is_empty() {
            check.name = format!("Service '{}' check", owner.name).into();
        }
    }
    Ok(checks)
}

/// Reads a check; `None` for one that says nothing at all.
fn read(mut fields: Fields<'_>) -> Result<Option<CheckDefinition>, DefinitionError> {
    let id = fields.text("checkid")?;
    let id = if id.is_empty() { fields.text("id")? } else { id };
    let (name, notes) = (fields.text("name")?, fields.text("notes")?);
    let service_id = fields.text("serviceid")?;
    let status = status(&mut fields)?;
    let (interval, ttl) = (fields.duration("interval")?, fields.duration("ttl")?);
    let timeout = fields.duration("timeout")?;
    let thresholds = thresholds(&mut fields)?;
    let deregister_after = fields.duration("deregistercriticalserviceafter")?;
    let output_len_max = fields.small("outputmaxsize")?.map_or(0, usize::from);
    let probe = probe(&mut fields)?;
    fields.finish(MEANINGLESS)?;
    let said = !(id.is_empty() && name.is_empty() && notes.is_empty());
    let Some(probe) = choose(probe, interval, ttl)? else {
        return match said {
            true => Err(invalid("Invalid check: TTL must be > 0 for TTL checks")),
            false => Ok(None),
        };
    };
    let run = !matches!(probe, Probe::Ttl(_) | Probe::Alias { .. });
    Ok(Some(CheckDefinition {
        id,
        name,
        notes,
        service_id,
        status: status.unwrap_or_default(),
        probe,
        interval: if run { interval.max(INTERVAL_MIN) } else { Duration::ZERO },
        timeout,
        thresholds,
        deregister_after: match deregister_after.is_zero() {
            true => Duration::ZERO,
            false => deregister_after.max(DEREGISTER_AFTER_MIN),
        },
        output_len_max,
    }))
}

/// Decides between what is run and what is waited for.
fn choose(
    probe: Option<Probe>,
    interval: Duration,
    ttl: Duration,
) -> Result<Option<Probe>, DefinitionError> {
    match probe {
        _ if !interval.is_zero() && !ttl.is_zero() => {
            Err(invalid("Invalid check: Interval and TTL cannot both be specified"))
        }
        Some(alias @ Probe::Alias { .. }) => Ok(Some(alias)),
        Some(_) if interval.is_zero() => {
            Err(invalid("Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks"))
        }
        Some(probe) => Ok(Some(probe)),
        None if !ttl.is_zero() => Ok(Some(Probe::Ttl(ttl))),
        None => Ok(None),
    }
}

fn status(fields: &mut Fields<'_>) -> Result<Option<Health>, DefinitionError> {
    let text = fields.text("status")?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || invalid("Status for checks must 'passing', 'warning', 'critical'");
    Health::from_name(&text).map(Some).ok_or_else(wrong)
}

fn thresholds(fields: &mut Fields<'_>) -> Result<Thresholds, DefinitionError> {
    let passing = fields.small("successbeforepassing")?.unwrap_or(0);
    let critical = fields.small("failuresbeforecritical")?.unwrap_or(0);
    // Consul warns when it is critical, unless something else is said.
    let warning = fields.small("failuresbeforewarning")?.unwrap_or(critical);
    if warning > critical {
        return Err(invalid(
            "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ));
    }
    Ok(Thresholds { passing, warning, critical })
}

/// Reads how the check finds out; `None` when nothing of the kind is said.
fn probe(fields: &mut Fields<'_>) -> Result<Option<Probe>, DefinitionError> {
    let tls = Tls {
        server_name: fields.text("tlsservername")?,
        skip_verify: fields.flag("tlsskipverify")?,
    };
    let mut args = fields.list("args")?;
    if args.is_empty() {
        args = fields.list("scriptargs")?;
    }
    let (container, shell) = (fields.text("dockercontainerid")?, fields.text("shell")?);
    let http = Probe::Http {
        url: fields.text("http")?,
        method: fields.text("method")?,
        headers: fields.lists("header")?,
        body: fields.text("body")?,
        disable_redirects: fields.flag("disableredirects")?,
        tls: tls.clone(),
    };
    let (grpc, grpc_tls) = (fields.text("grpc")?, fields.flag("grpcusetls")?);
    let (h2ping, h2ping_tls) = (fields.text("h2ping")?, fields.flag_or("h2pingusetls", true)?);
    let (tcp, tcp_tls) = (fields.text("tcp")?, fields.flag("tcpusetls")?);
    let udp = fields.text("udp")?;
    let os_service = fields.text("osservice")?;
    let (node, service) = (fields.text("aliasnode")?, fields.text("aliasservice")?);
    Ok(Some(if !container.is_empty() {
        Probe::Docker { container, shell, args }
    } else if !args.is_empty() {
        Probe::Script { args }
    } else if matches!(&http, Probe::Http { url, .. } if !url.is_empty()) {
        http
    } else if !grpc.is_empty() {
        Probe::Grpc { target: grpc, use_tls: grpc_tls, tls }
    } else if !h2ping.is_empty() {
        Probe::H2Ping { target: h2ping, use_tls: h2ping_tls, tls }
    } else if !tcp.is_empty() {
        Probe::Tcp { target: tcp, use_tls: tcp_tls, tls }
    } else if !udp.is_empty() {
        Probe::Udp(udp)
    } else if !os_service.is_empty() {
        Probe::OsService(os_service)
    } else if !node.is_empty() || !service.is_empty() {
        Probe::Alias { node, service }
    } else {
        return Ok(None);
    }))
}

fn invalid(sentence: &str) -> DefinitionError {
    DefinitionError::Invalid(sentence.to_owned())
}
