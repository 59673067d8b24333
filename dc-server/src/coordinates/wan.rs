//! Where the servers of all datacenters are: a map of the round trips that the datacenters measure between each
//! other anyway (the matrix), made when somebody asks.
//!
//! Each datacenter is one place on it, with all its servers: its row says how far it is to the others, not from which
//! server. A pair is as far apart as either side measured; the shorter one counts where they differ. Each server makes the map of what it knows, so
//! that the coordinates of one answer go together, and those of two servers do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lan_agent::ask::Answer;
use serde::Serialize;
use topology::{Coordinate, Datacenter, Member, NodeName, Status, coordinate::embed::embed};
use wan_federation::{Federation, Matrix};

/// A datacenter as Consul shows it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Area {
    datacenter: Datacenter,
    #[serde(rename = "AreaID")]
    area_id: &'static str,
    coordinates: Vec<Server>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    node: NodeName,
    segment: &'static str,
    coord: Coordinate,
}

/// Shows the servers of the WAN pool where the matrix says that they are; nobody where there is no WAN.
pub fn answer(home: &Datacenter, federation: Option<&Federation>) -> Answer {
    let areas = federation.map(|it| areas(home, &it.members(), &it.matrix())).unwrap_or_default();
    // Text and numbers can always be written into memory.
    Answer::plain(serde_json::to_vec(&areas).unwrap_or_default())
}

fn areas(home: &Datacenter, members: &[Member], matrix: &Matrix) -> Vec<Area> {
    let places = embed(&round_trips(matrix));
    // A datacenter that is alone is where everyone begins; one that nobody measured yet is nowhere.
    let origin = Coordinate::ORIGIN;
    let place = |dc: &Datacenter| places.get(dc).or_else(|| (dc == home).then_some(&origin));
    let staying: Vec<&Member> =
        members.iter().filter(|member| member.status != Status::Left).collect();
    let dcs: BTreeSet<&Datacenter> =
        staying.iter().map(|member| &member.profile.dc).chain([home]).collect();
    let servers = |dc: &Datacenter, coord: Coordinate| {
        let of_it = staying.iter().filter(|member| member.profile.dc == *dc);
        let server = |member: &&Member| {
            let node = member.profile.name.clone();
            Server { node, segment: "", coord }
        };
        of_it.map(server).collect()
    };
    let area = |dc: &Datacenter| Area {
        datacenter: dc.clone(),
        area_id: "wan",
        coordinates: place(dc).map_or_else(Vec::new, |coord| servers(dc, *coord)),
    };
    dcs.into_iter().map(area).collect()
}

/// Returns how far apart datacenters are, each pair once.
fn round_trips(matrix: &Matrix) -> BTreeMap<(Datacenter, Datacenter), Duration> {
    let mut pairs = BTreeMap::new();
    for (from, told) in &matrix.rows {
        for (to, cell) in &told.row.0 {
            let Some(rtt) = cell.rtt.filter(|_| from != to) else { continue };
            let pair = if from < to { (from, to) } else { (to, from) };
            let known = pairs.entry((pair.0.clone(), pair.1.clone())).or_insert(rtt);
            *known = (*known).min(rtt);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use topology::{NodeId, Profile, Role};
    use wan_federation::matrix::{Cell, Row, Told};

    use super::*;

    fn dc(name: &str) -> Datacenter {
        name.parse().unwrap()
    }

    fn member(name: &str, of: &str, status: Status) -> Member {
        let profile = Profile {
            name: name.parse().unwrap(),
            id: NodeId(uuid::Uuid::from_u128(1)),
            dc: dc(of),
            role: Role::Server,
            addr: "10.0.0.1:8302".parse().unwrap(),
            link: None,
            wan: None,
            version: String::new(),
            tags: BTreeMap::new(),
        };
        Member { profile, status }
    }

    fn matrix(rtts: &[(&str, &str, u64)]) -> Matrix {
        let mut matrix = Matrix::default();
        for (from, to, millis) in rtts {
            let told = matrix.rows.entry(dc(from)).or_insert_with(|| Told {
                row: Row::default(),
                by: "s1".parse().unwrap(),
                at: Duration::ZERO,
                current: true,
            });
            let rtt = Some(Duration::from_millis(*millis));
            told.row.0.insert(dc(to), Cell { health: None, rtt });
        }
        matrix
    }

    #[test]
    fn servers_are_as_far_apart_as_their_datacenters() {
        let matrix = matrix(&[("dc1", "dc2", 40), ("dc2", "dc1", 44), ("dc1", "dc3", 100)]);
        let members = [
            member("a", "dc1", Status::Alive),
            member("b", "dc2", Status::Failed),
            member("c", "dc2", Status::Left),
            member("d", "dc3", Status::Alive),
        ];
        let areas = areas(&dc("dc1"), &members, &matrix);
        let shown: Vec<_> = areas.iter().map(|area| area.datacenter.as_str()).collect();
        assert_eq!(shown, ["dc1", "dc2", "dc3"]);
        let servers: Vec<_> =
            areas.iter().flat_map(|area| &area.coordinates).map(|it| it.node.as_str()).collect();
        assert_eq!(servers, ["a", "b", "d"]);
        let at = |place: usize| areas[place].coordinates[0].coord;
        for (place, millis) in [(1, 40.0), (2, 100.0)] {
            let estimate = at(0).distance(&at(place)).as_secs_f64() * 1000.0;
            assert!((estimate - millis).abs() < 0.15 * millis, "{estimate} instead of {millis}");
        }
    }

    #[test]
    fn a_datacenter_that_is_alone_is_where_everyone_begins() {
        let areas = areas(&dc("dc1"), &[member("a", "dc1", Status::Alive)], &Matrix::default());
        assert_eq!(areas.len(), 1);
        assert_eq!(areas[0].coordinates[0].coord, Coordinate::ORIGIN);
        let json: serde_json::Value = serde_json::to_value(&areas).unwrap();
        assert_eq!((&json[0]["AreaID"], &json[0]["Datacenter"]), (&"wan".into(), &"dc1".into()));
        assert_eq!(json[0]["Coordinates"][0]["Node"], "a");
    }

    #[test]
    fn a_datacenter_that_nobody_measured_shows_no_coordinates() {
        let members = [member("a", "dc1", Status::Alive), member("b", "dc2", Status::Alive)];
        let areas = areas(&dc("dc1"), &members, &Matrix::default());
        assert_eq!((areas[0].coordinates.len(), areas[1].coordinates.len()), (1, 0));
    }
}
