//! Which services would have nowhere to go, and which too much to do.

use super::*;

fn dc(number: usize) -> Datacenter {
    format!("dc{number}").parse().unwrap()
}

/// Makes shares of `(datacenter, instances)`.
fn shares(service: &str, shares: &[(usize, usize)]) -> Vec<Share> {
    let share = |(at, instances): &(usize, usize)| Share {
        datacenter: dc(*at),
        service: service.into(),
        instances: *instances,
    };
    shares.iter().map(share).collect()
}

fn callers(at: usize, service: &str, now: &[(usize, usize)], then: &[(usize, usize)]) -> Callers {
    let registered = now.iter().filter(|(it, _)| *it == at).map(|(_, count)| count).sum();
    let (now, then) = (shares(service, now), shares(service, then));
    let fate = Fate { service: service.into(), policy: true, registered, now, then };
    Callers { datacenter: dc(at), services: vec![fate] }
}

fn held(service: &str, at: &[(usize, usize)]) -> Held {
    let at = at.iter().map(|(at, count)| (dc(*at), *count)).collect();
    Held::from([(service.into(), at)])
}

fn outcome(all: &[Callers], held: &Held) -> Option<(Outcome, Option<f64>)> {
    let report = report(&[dc(2)], 2.0, all, held, Vec::new());
    report.services.first().map(|service| (service.outcome, service.load))
}

#[test]
fn who_has_instances_of_its_own_stays_with_them() {
    let all = [callers(1, "web", &[(1, 2)], &[(1, 2)]), callers(2, "web", &[(2, 2)], &[])];
    let held = held("web", &[(1, 2), (2, 2)]);
    assert_eq!(outcome(&all, &held), Some((Outcome::Own, Some(1.0))));
}

#[test]
fn who_goes_elsewhere_may_be_too_much_for_those_there() {
    let held = held("web", &[(2, 2), (3, 1)]);
    let spared = [callers(1, "web", &[(2, 2)], &[(3, 1)])];
    assert_eq!(outcome(&spared, &held), Some((Outcome::Elsewhere, Some(2.0))));
    let much = [spared[0].clone(), callers(3, "web", &[(3, 1)], &[(3, 1)])];
    assert_eq!(outcome(&much, &held), Some((Outcome::Elsewhere, Some(2.0))));
    let more = [much[0].clone(), much[1].clone(), callers(4, "web", &[(2, 2)], &[(3, 1)])];
    assert_eq!(outcome(&more, &held), Some((Outcome::Overloaded, Some(3.0))));
}

#[test]
fn what_only_the_lost_ones_have_is_nowhere() {
    let report = |all: &[Callers], held: &Held| {
        report(&[dc(2)], 2.0, all, held, Vec::new())
            .nowhere
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(report(&[callers(2, "web", &[(2, 1)], &[])], &held("web", &[(2, 1)])), ["web"]);
    assert_eq!(report(&[], &held("web", &[(2, 1)])), ["web"]);
    assert_eq!(report(&[callers(1, "web", &[(2, 1)], &[])], &held("web", &[(2, 1)])), ["web"]);
    // Somebody who does not go there by a policy may still name the other datacenter.
    assert!(
        report(&[callers(2, "web", &[(2, 1)], &[])], &held("web", &[(2, 1), (3, 1)])).is_empty()
    );
}

#[test]
fn a_spill_divides_what_is_asked_by_the_instances() {
    let all = [
        callers(1, "web", &[(1, 1), (3, 1)], &[(1, 1), (3, 1)]),
        callers(3, "web", &[(3, 1)], &[(3, 1)]),
    ];
    let found = report(&[], 2.0, &all, &held("web", &[(1, 1), (3, 1)]), Vec::new());
    assert_eq!(found.services[0].load, Some(1.0));
    assert_eq!(busiest(all.iter().map(|it| &*it.services[0].now)), Some(1.5));
    assert_eq!(found.services[0].outcome, Outcome::Elsewhere);
}
