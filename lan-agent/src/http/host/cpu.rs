//! The processors of a machine, as `/proc/cpuinfo` has them, under Consul's names.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a processor says that a hypervisor lends.
const VIRTUAL: &str = "hypervisor";

/// Shows the processors that a text of `/proc/cpuinfo` tells of, one block each.
pub(super) fn shown(cpuinfo: &str) -> Vec<Value> {
    blocks(cpuinfo).map(|block| one(&block)).collect()
}

/// Tells whether the machine is a guest of another one.
pub(super) fn is_virtual(cpuinfo: &str) -> bool {
    blocks(cpuinfo).any(|block| flags(&block).contains(&VIRTUAL))
}

type Block<'a> = BTreeMap<&'a str, &'a str>;

fn blocks(cpuinfo: &str) -> impl Iterator<Item = Block<'_>> {
    let of_one = cpuinfo.split("\n\n").filter(|block| block.starts_with("processor"));
    of_one.map(|block| {
        let lines = block.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.trim(), value.trim())).collect()
    })
}

fn flags<'a>(block: &Block<'a>) -> Vec<&'a str> {
    block.get("flags").copied().unwrap_or_default().split_whitespace().collect()
}

fn one(block: &Block<'_>) -> Value {
    let text = |name: &str| block.get(name).copied().unwrap_or_default();
    let number = |name: &str| {
        let digits = text(name).split_whitespace().next().unwrap_or_default();
        digits.parse::<u64>().unwrap_or(0)
    };
    json!({
        "cpu": number("processor"),
        "vendorId": text("vendor_id"),
        "family": text("cpu family"),
        "model": text("model"),
        "stepping": number("stepping"),
        "physicalId": text("physical id"),
        "coreId": text("core id"),
        // A block is one processor of the system.
        "cores": 1,
        "modelName": text("model name"),
        "mhz": text("cpu MHz").parse::<f64>().unwrap_or(0.0),
        "cacheSize": number("cache size"),
        "flags": flags(block),
        "microcode": text("microcode"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "processor\t: 0\nvendor_id\t: V\nmodel name\t: X\nstepping\t: 3\n\
        cpu MHz\t\t: 2000.5\ncache size\t: 1024 KB\nphysical id\t: 0\ncore id\t\t: 1\n\
        flags\t\t: a hypervisor\nmicrocode\t: 0x1\n\nprocessor\t: 1\n\nx";

    #[test]
    fn each_block_is_a_processor() {
        let shown = shown(TWO);
        assert_eq!(shown.len(), 2);
        expect_test::expect![[r#"{"cpu":0,"vendorId":"V","family":"","model":"","stepping":3,"physicalId":"0","coreId":"1","cores":1,"modelName":"X","mhz":2000.5,"cacheSize":1024,"flags":["a","hypervisor"],"microcode":"0x1"}"#]]
        .assert_eq(&shown[0].to_string());
        assert_eq!(shown[1]["cpu"], 1);
    }

    #[test]
    fn a_lent_processor_makes_a_guest() {
        assert!(is_virtual(TWO));
        assert!(!is_virtual("processor : 0\nflags : fpu\n"));
    }

    #[test]
    fn garbage_is_nothing() {
        assert!(shown("").is_empty() && shown("x\n\ny: z").is_empty());
    }
}
