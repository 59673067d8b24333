//! Where all counts of a process come together, as JSON for Consul's users and as Prometheus text.
//!
//! [`Registry`] is a recorder of the `metrics` facade: atomics behind handles that are resolved
//! once. `main` installs it; a process that does not (a simulation) counts nothing.

mod render;
mod series;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use series::{Number, Spread};

/// Most series that are kept; names and labels come from the program, so that this is only a
/// guard against a label that grows with its input.
const SERIES_MAX: usize = 10_000;

/// All series of a process.
#[derive(Clone, Default)]
pub struct Registry {
    tables: Arc<Mutex<Tables>>,
}

#[derive(Default)]
struct Tables {
    help: BTreeMap<String, String>,
    counters: BTreeMap<Name, Arc<Number>>,
    gauges: BTreeMap<Name, Arc<Number>>,
    spreads: BTreeMap<Name, Arc<Spread>>,
}

/// A series: its name and its labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    name: String,
    labels: Vec<(String, String)>,
}

impl Registry {
    /// Makes this registry the recorder of the process. Only the first one of a process counts.
    ///
    /// Fails with a sentence when there is one already.
    pub fn install(&self) -> Result<(), String> {
        metrics::set_global_recorder(self.clone()).map_err(|error| error.to_string())
    }

    /// Returns everything as `/v1/agent/metrics` shows it; `now_ms` is since 1970.
    pub fn json(&self, now_ms: u64) -> serde_json::Value {
        render::json(&self.lock(), now_ms)
    }

    /// Returns everything in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        render::prometheus(&self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        // Tables are whole between any two statements, so a panic elsewhere can't have torn them.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, key: &KeyName, help: &SharedString) {
        self.lock().help.insert(key.as_str().to_owned(), help.to_string());
    }
}

/// Finds a series or makes it, as long as there are not too many.
fn resolve<T: Default>(table: &mut BTreeMap<Name, Arc<T>>, key: &Key) -> Option<Arc<T>> {
    let name = Name {
        name: key.name().to_owned(),
        labels: key.labels().map(|l| (l.key().to_owned(), l.value().to_owned())).collect(),
    };
    if table.len() >= SERIES_MAX && !table.contains_key(&name) {
        return None;
    }
    Some(table.entry(name).or_default().clone())
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn describe_gauge(&self, key: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn describe_histogram(&self, key: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        resolve(&mut self.lock().counters, key).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        resolve(&mut self.lock().gauges, key).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        resolve(&mut self.lock().spreads, key).map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Registry {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            metrics::describe_counter!("causeway.http.ok", "Answers.");
            metrics::counter!("causeway.http.ok").increment(3);
            metrics::gauge!("causeway.members", "status" => "a\"b").set(2.5);
            let seconds = metrics::histogram!("causeway.http.seconds");
            for value in [0.0001, 0.003, 700.0] {
                seconds.record(value);
            }
        });
        registry
    }

    #[test]
    fn prometheus_text_has_help_labels_and_cumulative_buckets() {
        let text = filled().prometheus();
        assert!(text.contains("# HELP causeway_http_ok Answers.\n"), "{text}");
        assert!(text.contains("# TYPE causeway_http_ok counter\ncauseway_http_ok 3\n"), "{text}");
        assert!(text.contains("causeway_members{status=\"a\\\"b\"} 2.5\n"), "{text}");
        assert!(text.contains("causeway_http_seconds_bucket{le=\"0.0001\"} 1\n"), "{text}");
        assert!(text.contains("causeway_http_seconds_bucket{le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.contains("causeway_http_seconds_count 3\n"), "{text}");
    }

    #[test]
    fn json_has_the_fields_of_consul() {
        let json = filled().json(1_795_221_870_000);
        assert_eq!(json["Timestamp"], "2026-11-21 00:44:30 +0000 UTC");
        assert_eq!(json["Counters"][0]["Name"], "causeway.http.ok");
        assert_eq!(json["Counters"][0]["Count"], 3);
        assert_eq!(json["Gauges"][0]["Labels"]["status"], "a\"b");
        assert_eq!(json["Samples"][0]["Max"], 700.0);
        assert_eq!(json["Points"], serde_json::json!([]));
    }
}
