//! What becomes of nodes that come, die, come back, leave, and are forgotten.

use lan_agent::catalog::Text;
use proptest::prelude::*;
use topology::NodeId;
use uuid::Uuid;

use super::*;
use crate::state::Touched;

const LONG: Duration = Duration::from_secs(3600);

fn member(number: u128, role: Role, status: Status) -> Member {
    let profile = Profile {
        name: format!("n{number}").parse().unwrap(),
        id: NodeId(Uuid::from_u128(number)),
        dc: "dc1".parse().unwrap(),
        role,
        addr: format!("10.0.0.{number}:8301").parse().unwrap(),
        link: (role == Role::Server).then(|| format!("10.0.0.{number}:8300").parse().unwrap()),
        wan: None,
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    };
    Member { profile, status }
}

fn client(number: u128, status: Status) -> Member {
    member(number, Role::Client, status)
}

fn me() -> NodeName {
    "n1".parse().unwrap()
}

/// A catalog that does as it is told.
#[derive(Default)]
struct Rig {
    catalog: Catalog,
    index: u64,
}

impl Rig {
    fn apply(&mut self, op: Op) {
        self.index += 1;
        let mut touched = Touched::default();
        match op {
            Op::Register(it) => self.catalog.register(self.index, &it, &mut touched).unwrap(),
            Op::Deregister(it) => self.catalog.deregister(self.index, &it, &mut touched),
            other => panic!("{other:?}"),
        }
    }

    /// Carries out the plan, and shows that there is nothing left to do thereafter.
    fn reconcile(&mut self, members: &[Member], settled: Duration) -> usize {
        let mut count = 0;
        for _look in 0..2 {
            let changes = plan(members, &self.catalog, &me(), settled);
            count += changes.len();
            changes.into_iter().for_each(|op| self.apply(op));
        }
        assert_eq!(plan(members, &self.catalog, &me(), settled), []);
        count
    }

    fn health(&self, name: &str) -> Option<Health> {
        let host = self.catalog.host(&Text::from(name))?;
        host.check(SERF_HEALTH).map(|check| check.value.status)
    }
}

#[test]
fn a_node_comes_dies_comes_back_and_leaves() {
    let mut rig = Rig::default();
    for (status, health) in [
        (Status::Alive, Some(Health::Passing)),
        (Status::Failed, Some(Health::Critical)),
        (Status::Alive, Some(Health::Passing)),
        (Status::Leaving, Some(Health::Passing)),
        (Status::Left, None),
    ] {
        rig.reconcile(&[client(2, status)], Duration::ZERO);
        assert_eq!(rig.health("n2"), health, "{status:?}");
    }
}

#[test]
fn servers_are_found_by_their_own_service() {
    let mut rig = Rig::default();
    rig.reconcile(&[member(2, Role::Server, Status::Alive), client(3, Status::Alive)], LONG);
    let servers: Vec<_> = rig.catalog.instances(&SERVERS.into()).collect();
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0].1.service().value.port, 8300);
}

#[test]
fn a_machine_that_replaces_another_starts_afresh() {
    let mut rig = Rig::default();
    rig.reconcile(&[member(2, Role::Server, Status::Alive)], LONG);
    let mut other = client(2, Status::Alive);
    other.profile.id = NodeId(Uuid::from_u128(99));
    rig.reconcile(&[other], LONG);
    let host = rig.catalog.host(&"n2".into()).unwrap();
    assert_eq!(*host.node().value.id, *Uuid::from_u128(99).to_string());
    assert_eq!(host.instances().count(), 0);
    assert_eq!(rig.health("n2"), Some(Health::Passing));
}

#[test]
fn what_an_agent_said_of_its_node_stays() {
    let mut rig = Rig::default();
    let said = Node {
        name: "n2".into(),
        id: NodeId(Uuid::from_u128(2)).to_string().into(),
        address: "192.0.2.2".into(),
        meta: Texts::from([("rack".into(), "7".into())]),
        ..Node::default()
    };
    let registration = Registration { node: said.clone(), ..Registration::default() };
    rig.apply(Op::Register(Arc::new(registration)));
    rig.reconcile(&[client(2, Status::Failed)], LONG);
    assert_eq!(rig.health("n2"), Some(Health::Critical));
    assert_eq!(rig.catalog.host(&"n2".into()).unwrap().node().value, said);
}

#[test]
fn who_is_gone_from_the_pool_is_gone_once_the_leader_knows_everyone() {
    let mut rig = Rig::default();
    rig.reconcile(&[client(2, Status::Alive), client(3, Status::Alive)], LONG);
    assert_eq!(rig.reconcile(&[client(2, Status::Alive)], Duration::from_secs(59)), 0);
    assert_eq!(rig.reconcile(&[client(2, Status::Alive)], SETTLED_AFTER), 1);
    assert_eq!(rig.health("n3"), None);
}

#[test]
fn nodes_that_others_registered_are_left_alone() {
    let mut rig = Rig::default();
    let node = Node { name: "printer".into(), address: "printer.lan".into(), ..Node::default() };
    rig.apply(Op::Register(Arc::new(Registration { node, ..Registration::default() })));
    assert_eq!(rig.reconcile(&[], LONG), 0);
}

#[test]
fn the_leader_lives_whatever_others_say() {
    let mut rig = Rig::default();
    for status in [Status::Alive, Status::Failed, Status::Left] {
        rig.reconcile(&[client(1, status)], LONG);
        assert_eq!(rig.health("n1"), Some(Health::Passing));
    }
}

proptest! {
    #[test]
    fn the_catalog_ends_up_saying_what_the_pool_knows(
        history in prop::collection::vec(prop::collection::btree_map(2u128..6, 0usize..4, 0..4), 1..8)
    ) {
        let mut rig = Rig::default();
        let statuses = [Status::Alive, Status::Leaving, Status::Failed, Status::Left];
        for states in history {
            let members: Vec<Member> =
                states.iter().map(|(number, status)| client(*number, statuses[*status])).collect();
            rig.reconcile(&members, LONG);
            for number in 2..6 {
                let expected = match states.get(&number) {
                    Some(0 | 1) => Some(Health::Passing),
                    Some(2) => Some(Health::Critical),
                    _ => None,
                };
                prop_assert_eq!(rig.health(&format!("n{number}")), expected);
            }
        }
    }
}
