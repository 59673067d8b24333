//! The memory of a machine, as `/proc/meminfo` has it, under Consul's names.
//!
//! What counts as used is neither free nor a cache, as there. Names that only other systems have
//! are there with 0.

use serde_json::{Map, Value, json};

use super::percent;

/// Field, and its name in `/proc/meminfo`; empty where Linux has none.
const FIELDS: [(&str, &str); 29] = [
    ("active", "Active"),
    ("inactive", "Inactive"),
    ("wired", ""),
    ("laundry", ""),
    ("buffers", "Buffers"),
    ("cached", ""),
    ("writeback", "Writeback"),
    ("dirty", "Dirty"),
    ("writebacktmp", "WritebackTmp"),
    ("shared", "Shmem"),
    ("slab", "Slab"),
    ("sreclaimable", "SReclaimable"),
    ("sunreclaim", "SUnreclaim"),
    ("pagetables", "PageTables"),
    ("swapcached", "SwapCached"),
    ("commitlimit", "CommitLimit"),
    ("committedas", "Committed_AS"),
    ("hightotal", "HighTotal"),
    ("highfree", "HighFree"),
    ("lowtotal", "LowTotal"),
    ("lowfree", "LowFree"),
    ("swaptotal", "SwapTotal"),
    ("swapfree", "SwapFree"),
    ("mapped", "Mapped"),
    ("vmalloctotal", "VmallocTotal"),
    ("vmallocused", "VmallocUsed"),
    ("vmallocchunk", "VmallocChunk"),
    ("hugepagestotal", "HugePages_Total"),
    ("hugepagesfree", "HugePages_Free"),
];

/// Shows the memory that a text of `/proc/meminfo` tells of.
pub(super) fn shown(meminfo: &str) -> Value {
    let bytes = |name: &str| bytes(meminfo, name);
    let (total, free) = (bytes("MemTotal"), bytes("MemFree"));
    let cached = bytes("Cached").saturating_add(bytes("SReclaimable"));
    let idle = free.saturating_add(bytes("Buffers")).saturating_add(cached);
    let used = total.saturating_sub(idle);
    let mut shown = Map::new();
    for (name, value) in [
        ("total", json!(total)),
        ("available", json!(bytes("MemAvailable"))),
        ("used", json!(used)),
        ("usedPercent", json!(percent(used, total))),
        ("free", json!(free)),
    ] {
        shown.insert(name.to_owned(), value);
    }
    for (field, name) in FIELDS {
        let value = if field == "cached" { cached } else { bytes(name) };
        shown.insert(field.to_owned(), value.into());
    }
    shown.insert("hugepagesize".to_owned(), bytes("Hugepagesize").into());
    Value::Object(shown)
}

/// Returns a number in bytes; one that has no unit is a count.
fn bytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let mut words = line.unwrap_or_default().split_whitespace();
    let number = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    if words.next() == Some("kB") { number.saturating_mul(1024) } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cache_and_not_free_is_used() {
        let shown = shown(
            "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:  250 kB\nBuffers: 50 kB\n\
             Cached: 300 kB\nSReclaimable: 50 kB\nHugePages_Total:       7\n",
        );
        assert_eq!(shown["total"], 1_024_000);
        assert_eq!(shown["available"], 256_000);
        assert_eq!(shown["cached"], 358_400);
        assert_eq!((&shown["used"], &shown["usedPercent"]), (&json!(512_000), &json!(50.0)));
        assert_eq!(shown["hugepagestotal"], 7);
    }

    #[test]
    fn the_fields_are_those_of_consul() {
        let shown = shown("");
        let fields: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        let consul = "total available used usedPercent free active inactive wired laundry buffers \
                      cached writeback dirty writebacktmp shared slab sreclaimable sunreclaim \
                      pagetables swapcached commitlimit committedas hightotal highfree lowtotal \
                      lowfree swaptotal swapfree mapped vmalloctotal vmallocused vmallocchunk \
                      hugepagestotal hugepagesfree hugepagesize";
        assert_eq!(fields.join(" "), consul);
    }

    #[test]
    fn garbage_is_nothing() {
        assert_eq!(shown("MemTotal: x\nMemFree\n:")["total"], 0);
    }
}
