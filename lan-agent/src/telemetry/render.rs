//! All series as text: JSON with Consul's fields, and Prometheus' format.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::format_description};

use super::{Name, Tables, series::BOUNDS};

pub(super) fn json(tables: &Tables, now_ms: u64) -> Value {
    let gauges = tables.gauges.iter().map(|(name, number)| {
        json!({ "Name": name.name, "Value": number.real(), "Labels": labels(name) })
    });
    let counters = tables.counters.iter().map(|(name, number)| {
        let count = number.whole();
        json!({
            "Name": name.name, "Count": count, "Rate": 0.0, "Sum": count,
            "Min": 1, "Max": 1, "Mean": 1, "Stddev": 0, "Labels": labels(name),
        })
    });
    let samples = tables.spreads.iter().map(|(name, spread)| {
        let read = spread.read();
        json!({
            "Name": name.name, "Count": read.count(), "Rate": 0.0, "Sum": read.sum,
            "Min": read.min, "Max": read.max, "Mean": read.mean, "Stddev": read.stddev,
            "Labels": labels(name),
        })
    });
    json!({
        "Timestamp": timestamp(now_ms),
        "Gauges": gauges.collect::<Vec<_>>(),
        "Points": [],
        "Counters": counters.collect::<Vec<_>>(),
        "Samples": samples.collect::<Vec<_>>(),
    })
}

pub(super) fn prometheus(tables: &Tables) -> String {
    let mut out = String::new();
    let mut last = "";
    for (name, number) in &tables.counters {
        head(&mut out, tables, name, &mut last, "counter");
        sample(&mut out, name, "", None, &number.whole().to_string());
    }
    for (name, number) in &tables.gauges {
        head(&mut out, tables, name, &mut last, "gauge");
        sample(&mut out, name, "", None, &number.real().to_string());
    }
    for (name, spread) in &tables.spreads {
        head(&mut out, tables, name, &mut last, "histogram");
        let read = spread.read();
        for (bound, count) in BOUNDS.iter().zip(read.cumulative) {
            sample(&mut out, name, "_bucket", Some(&bound.to_string()), &count.to_string());
        }
        sample(&mut out, name, "_bucket", Some("+Inf"), &read.count().to_string());
        sample(&mut out, name, "_sum", None, &read.sum.to_string());
        sample(&mut out, name, "_count", None, &read.count().to_string());
    }
    out
}

fn labels(name: &Name) -> Map<String, Value> {
    name.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect()
}

/// Writes the lines before the first series of a name.
fn head<'a>(out: &mut String, tables: &Tables, name: &'a Name, last: &mut &'a str, kind: &str) {
    if *last == name.name {
        return;
    }
    *last = &name.name;
    let plain = plain_name(&name.name);
    if let Some(help) = tables.help.get(&name.name) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        line(out, format_args!("# HELP {plain} {help}"));
    }
    line(out, format_args!("# TYPE {plain} {kind}"));
}

fn sample(out: &mut String, name: &Name, suffix: &str, le: Option<&str>, value: &str) {
    let labels = name.labels.iter().map(|(key, value)| (plain_name(key), value.as_str()));
    let labels = labels.chain(le.map(|le| ("le".to_owned(), le)));
    let labels: Vec<_> =
        labels.map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
    let name = plain_name(&name.name);
    if labels.is_empty() {
        line(out, format_args!("{name}{suffix} {value}"));
    } else {
        line(out, format_args!("{name}{suffix}{{{}}} {value}", labels.join(",")));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = writeln!(out, "{text}");
    debug_assert!(written.is_ok(), "a String takes every line");
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Prometheus' names hold letters, digits and underscores.
fn plain_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A moment as Go prints it.
fn timestamp(now_ms: u64) -> String {
    let seconds = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC");
    moment.format(format).unwrap_or_default()
}
