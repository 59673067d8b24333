//! Which service-resolvers make sense: what excludes what, and what has to be there.

use serde_json::{Map, Value};

use super::{
    Mistake,
    resolver::{ANY, ServiceResolver, Target},
};

/// Longest name of a subset: a label of DNS.
const SUBSET_LEN_MAX: usize = 63;

/// Most things of one list or one map: far above any use, so that no lookup walks for long.
const COUNT_MAX: usize = 128;

/// Refuses what makes no sense of the service `name`, for which `said` is what was written and `resolver` what was read.
pub(super) fn check(
    name: &str,
    said: &Map<String, Value>,
    resolver: &ServiceResolver,
) -> Result<(), Mistake> {
    if let Some(redirect) = &resolver.redirect {
        return check_redirect(name, said, redirect)
            .map_err(|mistake| mistake.in_field("Redirect"));
    }
    check_subsets(resolver)?;
    if resolver.failovers().count() > COUNT_MAX {
        return Err(too_many().in_field("Failover"));
    }
    let all = said.get("Failover").and_then(Value::as_object).into_iter().flatten();
    for (subset, said) in all {
        check_failover(name, subset, said, resolver)
            .map_err(|mistake| mistake.of_name(subset).in_field("Failover"))?;
    }
    Ok(())
}

fn check_redirect(name: &str, said: &Map<String, Value>, redirect: &Target) -> Result<(), Mistake> {
    for beside in ["DefaultSubset", "Subsets", "Failover"] {
        if said.contains_key(beside) {
            let why = format!("{beside} means nothing beside a redirect: leave one of them out");
            return Err(Mistake::here(why));
        }
    }
    if *redirect == Target::default() {
        let why = "it is empty: give it a Service, a Datacenter or both";
        return Err(Mistake::here(why));
    }
    if redirect.subset.is_some() && is_same(redirect, name) {
        let why = "a service that is redirected has no subsets: name the other one in Service";
        return Err(Mistake::here(why).in_field("ServiceSubset"));
    }
    if is_same(redirect, name) && redirect.datacenter.is_none() {
        return Err(Mistake::here("it leads back to the service itself").in_field("Service"));
    }
    Ok(())
}

fn check_subsets(resolver: &ServiceResolver) -> Result<(), Mistake> {
    if resolver.subsets.len() > COUNT_MAX {
        return Err(too_many().in_field("Subsets"));
    }
    for name in resolver.subsets.keys() {
        if !is_label(name) {
            let why = "the name of a subset has to be a label of DNS: \
                       at most 63 letters, digits and dashes, no dash at either end";
            return Err(Mistake::here(why).of_name(name).in_field("Subsets"));
        }
    }
    match &resolver.default_subset {
        Some(default) => {
            check_defined(default, resolver).map_err(|mistake| mistake.in_field("DefaultSubset"))
        }
        None => Ok(()),
    }
}

fn check_failover(
    name: &str,
    subset: &str,
    said: &Value,
    resolver: &ServiceResolver,
) -> Result<(), Mistake> {
    if subset != ANY {
        check_defined(subset, resolver)?;
    }
    let has = |field: &str| said.get(field).is_some();
    let sources = ["Service", "ServiceSubset", "Datacenters"];
    if has("Targets") {
        if let Some(beside) = sources.into_iter().find(|field| has(field)) {
            let why = format!("{beside} means nothing beside Targets: put it into them");
            return Err(Mistake::here(why).in_field(beside));
        }
    } else if !sources.into_iter().any(has) {
        let why = "it leads nowhere: give it Targets, or a Service, a ServiceSubset or Datacenters";
        return Err(Mistake::here(why));
    }
    let Some(failover) = resolver.failovers().find(|(of, _)| ***of == *subset) else {
        return Ok(());
    };
    let targets = &failover.1.targets;
    let place = |at: usize, field: &str, mistake: Mistake| match (has("Targets"), field) {
        (true, "") => mistake.in_item(at).in_field("Targets"),
        (true, field) => mistake.in_field(field).in_item(at).in_field("Targets"),
        (false, "") => mistake,
        (false, field) => mistake.in_field(field),
    };
    if targets.len() > COUNT_MAX {
        return Err(too_many());
    }
    for (at, target) in targets.iter().enumerate() {
        if let (true, Some(of)) = (is_same(target, name), &target.subset) {
            check_defined(of, resolver).map_err(|mistake| place(at, "ServiceSubset", mistake))?;
        }
        if target.datacenter.is_none() && is_itself(target, name, subset) {
            let why = "it leads back to what failed: name another service, subset or datacenter";
            return Err(place(at, "", Mistake::here(why)));
        }
        if let Some(first) = targets[..at].iter().position(|before| before == target) {
            let why = format!("it is the same as number {first}");
            let field = if has("Datacenters") { "Datacenters" } else { "Targets" };
            return Err(Mistake::here(why).in_item(at).in_field(field));
        }
    }
    Ok(())
}

/// Tells whether a target is the service that the entry is about.
fn is_same(target: &Target, name: &str) -> bool {
    target.service.as_ref().is_none_or(|service| service.to_lowercase() == name.to_lowercase())
}

/// Tells whether a target in the same datacenter is what it would stand in for.
fn is_itself(target: &Target, name: &str, subset: &str) -> bool {
    is_same(target, name) && target.subset.as_ref().is_none_or(|of| **of == *subset)
}

fn check_defined(subset: &str, resolver: &ServiceResolver) -> Result<(), Mistake> {
    if resolver.subsets.contains_key(subset) {
        return Ok(());
    }
    let names: Vec<_> = resolver.subsets.keys().map(|name| &**name).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let why = format!("subset {subset:?} is not in Subsets, where there is {there}");
    Err(Mistake::here(why))
}

fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let ends = !name.starts_with('-') && !name.ends_with('-');
    !name.is_empty() && name.len() <= SUBSET_LEN_MAX && ends && name.chars().all(plain)
}

fn too_many() -> Mistake {
    Mistake::here(format!("there are more than {COUNT_MAX}"))
}
