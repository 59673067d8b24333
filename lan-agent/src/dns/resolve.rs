//! From a question to its answer: what is asked, the catalog's word on it, the bytes.
//!
//! Everything that is decided is decided in [`super::name`], [`super::answer`] and
//! [`super::message`]; this is the thread between them.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{DNSClass, RecordType},
};
use rand::{SeedableRng, rngs::SmallRng};
use topology::Datacenter;

use super::{
    answer::{Reply, Scene},
    message::{self, Transport},
    name::{self, Asked, Service, What},
    records::{Found, Instances},
    recursor::Recursor,
    request::Request,
    settings::Settings,
    source::Source,
};
use crate::{
    agent::Agent,
    ask::AskError,
    catalog::{Form, Lookup, Run, SERVERS, Selection, Subject, Text},
};

/// Most other names that are followed from one to the next, as in Consul.
const OTHER_NAMES_MAX: usize = 3;

/// Answers questions.
pub(super) struct Resolver {
    agent: Arc<Agent>,
    source: Source,
    recursor: Recursor,
    settings: ArcSwap<Settings>,
    /// What services stand for the servers.
    servers: Text,
    die: AtomicU64,
}

impl Resolver {
    pub(super) fn new(agent: Arc<Agent>, settings: Settings) -> Self {
        Self {
            source: Source::new(agent.clone()),
            recursor: Recursor::default(),
            settings: ArcSwap::from_pointee(settings),
            servers: SERVERS.into(),
            die: AtomicU64::new(agent.config.seed),
            agent,
        }
    }

    pub(super) fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Replaces what the operator decided.
    pub(super) fn replace(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Answers a question with bytes to be sent.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Box<Request>,
        transport: Transport,
    ) -> (ResponseCode, Vec<u8>) {
        let settings = self.settings.load_full();
        let reply = self.reply(&request, &settings, transport).await;
        (reply.code, message::encode(&request, &reply, &settings, transport))
    }

    async fn reply(&self, request: &Request, settings: &Settings, transport: Transport) -> Reply {
        let query = &request.query;
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Reply::code(ResponseCode::BADVERS);
        }
        if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
            return Reply::code(ResponseCode::Refused);
        }
        if matches!(query.query_type, RecordType::AXFR | RecordType::IXFR) {
            return Reply::code(ResponseCode::NotImp);
        }
        let room = message::room(request, transport);
        let mut reply = self.look_up(query, settings, room).await;
        for _ in 0..OTHER_NAMES_MAX {
            let Some(name) = reply.other_name(query.query_type) else { break };
            let further = Query::query(name.clone(), query.query_type);
            let Reply { answers, .. } = self.look_up(&further, settings, room).await;
            if answers.is_empty() {
                break;
            }
            reply.answers.extend(answers);
        }
        reply
    }

    /// Answers a question about one name.
    async fn look_up(&self, query: &Query, settings: &Settings, room: usize) -> Reply {
        let asked = name::parse(&query.name, query.query_type, settings);
        let zone = match &asked {
            Asked::Here(zone, _) => zone,
            Asked::Owner(_) => &settings.domain,
            Asked::Elsewhere => return self.ask_others(query, settings).await,
        };
        let dc = match &asked {
            Asked::Here(
                _,
                What::Node(_, dc) | What::Query(_, dc) | What::Service(Service { dc, .. }),
            ) => dc.as_ref(),
            _ => None,
        };
        let scene = Scene {
            query,
            zone,
            dc: dc.unwrap_or(&self.agent.config.me.dc),
            settings,
            room,
            now: u32::try_from(self.agent.now_ms() / 1000).unwrap_or(u32::MAX),
        };
        let found = match &asked {
            Asked::Here(_, what) => self.find(&scene, what).await,
            Asked::Owner(address) => self.owners(&scene, *address).await,
            Asked::Elsewhere => Ok(scene.missing()),
        };
        let reply = found.unwrap_or_else(|error| failed(&scene, &error));
        let recursors = !settings.recursors.servers.is_empty();
        match asked {
            // The catalog knows few addresses of all there are.
            Asked::Owner(_) if reply.answers.is_empty() && recursors => {
                self.ask_others(query, settings).await
            }
            _ => reply,
        }
    }

    async fn ask_others(&self, query: &Query, settings: &Settings) -> Reply {
        if settings.recursors.servers.is_empty() {
            return Reply::code(ResponseCode::Refused);
        }
        let reply = self.recursor.ask(query, &settings.recursors, self.die()).await;
        reply.unwrap_or_else(|| Reply::code(ResponseCode::ServFail))
    }

    async fn owners(&self, scene: &Scene<'_>, address: IpAddr) -> Result<Reply, AskError> {
        let subject = Subject::Address(address.to_string().into());
        let lookup = lookup(subject, Selection::default());
        match &*self.source.lookup(None, lookup, scene.settings).await? {
            Found::Residents(residents) => Ok(scene.owners(residents)),
            Found::Node(_) | Found::Instances(_) => Ok(scene.missing()),
        }
    }

    async fn find(&self, scene: &Scene<'_>, what: &What) -> Result<Reply, AskError> {
        if matches!(scene.query.query_type, RecordType::SOA | RecordType::NS) {
            let servers = self.instances(scene, self.servers.clone(), None, None).await?;
            return Ok(scene.zone(instances(&servers), &mut self.die()));
        }
        match what {
            What::Node(name, dc) => {
                let lookup = lookup(Subject::Node(name.clone()), Selection::default());
                match &*self.source.lookup(dc.as_ref(), lookup, scene.settings).await? {
                    Found::Node(node) => Ok(scene.node(node.as_ref())),
                    Found::Instances(_) | Found::Residents(_) => Ok(scene.missing()),
                }
            }
            What::Service(service) => {
                let (name, tag) = (service.name.clone(), service.tag.clone());
                let found = self.instances(scene, name, tag, service.dc.as_ref()).await?;
                Ok(scene.service(&service.name, instances(&found), &mut self.die()))
            }
            What::Query(name, dc) => {
                let agent = self.agent.config.me.name.to_string().into();
                let run = Run { name: name.clone(), limit: 0, agent };
                let lookup = lookup(Subject::Query(run), Selection::default());
                let found = self.source.lookup(dc.as_ref(), lookup, scene.settings).await?;
                Ok(scene.service(name, instances(&found), &mut self.die()))
            }
            What::Address(address) => Ok(scene.address(*address)),
            What::Nothing => Ok(scene.missing()),
        }
    }

    async fn instances(
        &self,
        scene: &Scene<'_>,
        service: Text,
        tag: Option<Text>,
        dc: Option<&Datacenter>,
    ) -> Result<Arc<Found>, AskError> {
        let passing = scene.settings.only_passing;
        let tags = tag.into_iter().collect();
        let selection = Selection { tags, ..Selection::default() };
        let lookup = lookup(Subject::Health { service, passing }, selection);
        self.source.lookup(dc, lookup, scene.settings).await
    }

    /// Returns a die of its own for each answer, so that none waits for another's.
    fn die(&self) -> SmallRng {
        SmallRng::seed_from_u64(self.die.fetch_add(1, Ordering::Relaxed))
    }
}

fn lookup(subject: Subject, selection: Selection) -> Lookup {
    Lookup { subject, selection, form: Form::Records }
}

fn instances(found: &Found) -> &Instances {
    static NONE: Instances = Instances { all: Vec::new(), even: true, distinct: true, ran: None };
    match found {
        Found::Instances(instances) => instances,
        Found::Node(_) | Found::Residents(_) => &NONE,
    }
}

/// Says why there is no answer: the one place that turns errors into codes.
fn failed(scene: &Scene<'_>, error: &AskError) -> Reply {
    tracing::debug!(name = %scene.query.name, %error, "no answer");
    match error {
        // A datacenter that nobody ever heard of is part of a name that does not exist.
        AskError::NoPath { .. } => scene.missing(),
        AskError::NoServer { .. }
        | AskError::NoLeader
        | AskError::Lost
        | AskError::CutOff(_)
        | AskError::Deadline(_)
        | AskError::Busy(_)
        | AskError::Bad(_)
        | AskError::TooLarge(_)
        | AskError::Failed(_) => Reply::code(ResponseCode::ServFail),
    }
}
