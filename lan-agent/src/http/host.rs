//! `/v1/agent/host`: the machine, as Linux shows it in `/proc`, `/sys` and `/etc`.
//!
//! The fields are those of Consul, in its order. What can't be read is empty or 0; of what every
//! machine should have a sentence in `Errors` says why. Nothing here fails a request.

mod cpu;
mod memory;

use std::fs;

use serde_json::{Value, json};

/// Whose disk is shown.
const DISK: &str = "/";

/// Where a machine has its number, the best first; the last one changes with each start of it.
const IDS: [&str; 3] =
    ["/sys/class/dmi/id/product_uuid", "/etc/machine-id", "/proc/sys/kernel/random/boot_id"];

/// Reads files, and remembers those that should have been there.
#[derive(Default)]
struct Reader {
    errors: Vec<String>,
}

impl Reader {
    fn read(&mut self, path: &str) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| {
            self.errors.push(format!("{path}: {error}"));
            String::new()
        })
    }
}

/// Describes the machine. Reads files: call it where blocking is allowed.
pub(super) fn describe(now_ms: u64) -> Value {
    let mut reader = Reader::default();
    let memory = memory::shown(&reader.read("/proc/meminfo"));
    let cpuinfo = reader.read("/proc/cpuinfo");
    let host = host(&mut reader, &cpuinfo, now_ms);
    let disk = disk(&mut reader);
    json!({
        "Memory": memory,
        "CPU": cpu::shown(&cpuinfo),
        "Host": host,
        "Disk": disk,
        "CollectionTime": now_ms.saturating_mul(1_000_000),
        "Errors": match reader.errors {
            none if none.is_empty() => Value::Null,
            errors => Value::from(errors),
        },
    })
}

fn host(reader: &mut Reader, cpuinfo: &str, now_ms: u64) -> Value {
    let uptime = reader.read("/proc/uptime");
    let uptime = uptime.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0u64);
    let hostname = reader.read("/proc/sys/kernel/hostname");
    let kernel = reader.read("/proc/sys/kernel/osrelease");
    // Small systems have no file for their name.
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let [platform, like, version] =
        ["ID", "ID_LIKE", "VERSION_ID"].map(|name| release_field(&release, name));
    let family = like.split_whitespace().next().unwrap_or(platform);
    let guest = if cpu::is_virtual(cpuinfo) { "guest" } else { "" };
    json!({
        "hostname": hostname.trim(),
        "uptime": uptime,
        "bootTime": (now_ms / 1000).saturating_sub(uptime),
        "procs": processes(),
        "os": std::env::consts::OS,
        "platform": platform,
        "platformFamily": family,
        "platformVersion": version,
        "kernelVersion": kernel.trim(),
        "kernelArch": std::env::consts::ARCH,
        "virtualizationSystem": "",
        "virtualizationRole": guest,
        "hostid": host_id(),
    })
}

/// Returns a field of `os-release(5)`, without its quotes.
fn release_field<'a>(release: &'a str, name: &str) -> &'a str {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches(['"', '\''])
}

/// Counts the processes: each has a directory that is named for its number.
fn processes() -> usize {
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_number)).count()
}

fn host_id() -> String {
    let id = IDS.iter().find_map(|path| fs::read_to_string(path).ok());
    with_dashes(id.unwrap_or_default().trim())
}

/// Writes 32 hexadecimal digits as a UUID, as the other places of an id do.
fn with_dashes(id: &str) -> String {
    match uuid::Uuid::try_parse(id) {
        Ok(id) => id.to_string(),
        Err(_) => id.to_owned(),
    }
}

fn disk(reader: &mut Reader) -> Value {
    let stat = match rustix::fs::statvfs(DISK) {
        Ok(stat) => stat,
        Err(error) => {
            reader.errors.push(format!("{DISK}: {error}"));
            return Value::Null;
        }
    };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let (free, used) = (bytes(stat.f_bavail), bytes(stat.f_blocks.saturating_sub(stat.f_bfree)));
    let inodes_used = stat.f_files.saturating_sub(stat.f_ffree);
    let mounts = reader.read("/proc/self/mounts");
    json!({
        "path": DISK,
        "fstype": filesystem(&mounts, DISK),
        "total": bytes(stat.f_blocks),
        "free": free,
        "used": used,
        "usedPercent": percent(used, used.saturating_add(free)),
        "inodesTotal": stat.f_files,
        "inodesUsed": inodes_used,
        "inodesFree": stat.f_ffree,
        "inodesUsedPercent": percent(inodes_used, stat.f_files),
    })
}

/// Returns the kind of the filesystem that is mounted at a path: the last one covers the others.
fn filesystem<'a>(mounts: &'a str, path: &str) -> &'a str {
    let fields = |line: &'a str| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    };
    let found = mounts.lines().rev().filter_map(fields).find(|(at, _)| *at == path);
    found.map_or("", |(_, kind)| kind)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_fields_are_those_of_consul() {
        let shown = describe(1_800_000_000_000);
        let all = ["Memory", "CPU", "Host", "Disk", "CollectionTime", "Errors"];
        assert_eq!(fields(&shown), all);
        let host = "hostname uptime bootTime procs os platform platformFamily platformVersion \
                    kernelVersion kernelArch virtualizationSystem virtualizationRole hostid";
        assert_eq!(fields(&shown["Host"]).join(" "), host);
        let disk = "path fstype total free used usedPercent inodesTotal inodesUsed inodesFree \
                    inodesUsedPercent";
        assert_eq!(fields(&shown["Disk"]).join(" "), disk);
        assert_eq!(shown["Errors"], Value::Null);
    }

    #[test]
    fn a_disk_has_room_and_takes_some() {
        let disk = disk(&mut Reader::default());
        let number = |name: &str| disk[name].as_u64().unwrap();
        assert!(number("total") > 0 && number("used") <= number("total"), "{disk}");
        let percent = disk["usedPercent"].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&percent), "{disk}");
        assert!(!disk["fstype"].as_str().unwrap().is_empty(), "{disk}");
    }

    #[test]
    fn the_last_mount_covers_the_others() {
        let mounts = "rootfs / rootfs rw 0 0\n/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw 0 0\nx";
        assert_eq!(filesystem(mounts, "/"), "ext4");
        assert_eq!(filesystem(mounts, "/none"), "");
    }

    #[test]
    fn names_of_systems_lose_their_quotes() {
        let release = "NAME=\"X\"\nID=ubuntu\nID_LIKE=\"debian gnu\"\nVERSION_ID='22.04'\n";
        let [id, like, version] =
            ["ID", "ID_LIKE", "VERSION_ID"].map(|name| release_field(release, name));
        assert_eq!((id, like, version), ("ubuntu", "debian gnu", "22.04"));
        assert_eq!(release_field(release, "HOME_URL"), "");
    }

    #[test]
    fn ids_are_uuids_where_they_can_be() {
        let uuid = "3d1219c7-c4c5-404a-aa1f-6d2a48adfda4";
        assert_eq!(with_dashes("3d1219c7c4c5404aaa1f6d2a48adfda4"), uuid);
        assert_eq!(with_dashes("3D1219C7-C4C5-404A-AA1F-6D2A48ADFDA4"), uuid);
        assert_eq!(with_dashes("none"), "none");
    }
}
