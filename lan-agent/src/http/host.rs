//! `/v1/agent/host`: the machine, as Linux' `/proc` shows it.
//!
//! What can't be read is left out or 0, with a sentence in `Errors`; nothing here fails a request.

use serde_json::{Map, Value, json};

/// Describes the machine. Reads files: call it where blocking is allowed.
pub(super) fn describe(now_ms: u64) -> Value {
    let mut errors = Vec::new();
    let mut read = |path: &str| match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            errors.push(format!("{path}: {error}"));
            String::new()
        }
    };
    let memory = memory(&read("/proc/meminfo"));
    let cpus = cpus(&read("/proc/cpuinfo"));
    let uptime = read("/proc/uptime");
    let uptime = uptime.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0u64);
    let hostname = read("/proc/sys/kernel/hostname").trim().to_owned();
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    json!({
        "Memory": memory,
        "CPU": cpus,
        "Host": {
            "hostname": hostname,
            "uptime": uptime,
            "bootTime": (now_ms / 1000).saturating_sub(uptime),
            "os": std::env::consts::OS,
            "kernelVersion": kernel,
            "kernelArch": std::env::consts::ARCH,
        },
        "Disk": null,
        "CollectionTime": now_ms.saturating_mul(1_000_000),
        "Errors": if errors.is_empty() { Value::Null } else { Value::from(errors) },
    })
}

fn memory(meminfo: &str) -> Value {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let (free, buffers, cached) = (bytes("MemFree"), bytes("Buffers"), bytes("Cached"));
    let used = total.saturating_sub(available);
    let percent = if total == 0 { 0.0 } else { used as f64 * 100.0 / total as f64 };
    json!({
        "total": total,
        "available": available,
        "used": used,
        "usedPercent": percent,
        "free": free,
        "buffers": buffers,
        "cached": cached,
    })
}

fn cpus(cpuinfo: &str) -> Vec<Value> {
    let one = |block: &str| {
        let fields: Map<String, Value> = block
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), Value::from(value.trim())))
            .collect();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        json!({
            "cpu": text("processor").parse::<u64>().unwrap_or(0),
            "vendorId": text("vendor_id"),
            "family": text("cpu family"),
            "model": text("model"),
            "modelName": text("model name"),
            "mhz": text("cpu MHz").parse::<f64>().unwrap_or(0.0),
            "flags": text("flags").split_whitespace().collect::<Vec<_>>(),
        })
    };
    cpuinfo.split("\n\n").filter(|block| block.starts_with("processor")).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_proc_are_read() {
        let read = memory("MemTotal:  1000 kB\nMemAvailable:  250 kB\n");
        assert_eq!(read["total"], 1_024_000);
        assert_eq!(read["usedPercent"], 75.0);
        let read = cpus("processor\t: 0\nmodel name\t: X\ncpu MHz\t: 2000.5\nflags\t: a b\n\nx");
        assert_eq!(read.len(), 1);
        assert_eq!(read[0]["modelName"], "X");
        assert_eq!(read[0]["flags"], json!(["a", "b"]));
    }

    #[test]
    fn garbage_is_nothing() {
        assert_eq!(memory("MemTotal: x")["total"], 0);
        assert!(cpus("").is_empty());
    }
}
