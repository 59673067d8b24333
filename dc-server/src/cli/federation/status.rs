//! `federation status`: verdicts, servers, breakers and who reaches whom, as tables.

use serde_json::Value;

use super::{list, text};
use crate::cli::{
    Api, Call, Command, FORMAT, Run,
    flags::Flag,
    table::{columns, row},
};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "federation status",
    about: "Shows how the datacenters are",
    usage: "[options]",
    help: "Shows what the agent's servers hold of the other datacenters and why, where\n\
           requests are turned away, and what each datacenter holds of each other one:\n\
           as it said last, in brackets when it can't be asked now; and the servers\n\
           that are refused because another cluster has their datacenter's name.\n\n    \
           $ % federation status\n    \
           $ % federation status -servers\n\nAs another datacenter sees it:\n\n    \
           $ % federation status -datacenter=dc2",
    flags: || vec![Flag::bool("servers", "Show each server as well, and who watches it."), FORMAT],
    api: Api::Datacenter,
    run: Run::Call(run),
};

/// What stands for a number or name that is not known.
const NOTHING: &str = "-";

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let status: Value = call
        .client()?
        .get("/v1/federation/status", &[])
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error retrieving the status: {error:#}"))?;
    if call.wants_json()? {
        call.say_json(&status)?;
        return Ok(0);
    }
    let seen_by =
        format!("As {} of {} sees it", text(&status, "Server"), text(&status, "Datacenter"));
    call.say(format!("{seen_by}:\n\n{}", datacenters(&status)))?;
    if call.line.is_set("servers") {
        call.say(format!("\n{}", servers(&status)))?;
    }
    call.say(format!("\n{}", matrix(&status)))?;
    let removed: Vec<&str> = list(&status, "Removed").iter().map(|it| text(it, "Name")).collect();
    if !removed.is_empty() {
        call.say(format!("\nRemoved from the federation: {}", removed.join(", ")))?;
    }
    let refused = list(&status, "Refused");
    if !refused.is_empty() {
        call.say(format!("\nRefused:\n\n{}", rivals(refused)))?;
    }
    Ok(0)
}

fn datacenters(status: &Value) -> String {
    let title = [
        "Datacenter",
        "Health",
        "For",
        "RTT",
        "Leader",
        "Up",
        "Mirror",
        "Breaker",
        "Requests",
        "Evidence",
    ];
    let mut rows = vec![row(title)];
    for dc in list(status, "Datacenters") {
        let servers = list(dc, "Servers");
        let present = servers.iter().filter(|it| !matches!(text(it, "Status"), "left" | "leaving"));
        let up = servers.iter().filter(|server| text(server, "Path") == "up").count();
        rows.push(row([
            text(dc, "Name"),
            text(dc, "Health"),
            &dc["HeldSeconds"].as_f64().map_or(NOTHING.to_owned(), duration),
            &millis(&dc["RTTMillis"]),
            dc["Leader"].as_str().unwrap_or(NOTHING),
            &format!("{up}/{}", present.count()),
            &dc["MirrorAgeSeconds"].as_f64().map_or(NOTHING.to_owned(), duration),
            &breaker(&dc["Requests"]),
            &under_way(&dc["Requests"]),
            text(dc, "Evidence"),
        ]));
    }
    columns(&rows)
}

/// Names the ways into a datacenter whose breakers are open.
fn breaker(requests: &Value) -> String {
    if requests.is_null() {
        return NOTHING.to_owned();
    }
    let open = ["Direct", "Detours", "Relays"].into_iter();
    let open: Vec<_> =
        open.filter(|way| requests[way]["Breaker"] == "open").map(str::to_lowercase).collect();
    if open.is_empty() { "closed".to_owned() } else { format!("open ({})", open.join(", ")) }
}

/// Counts the requests that this server has under way, by whichever way.
fn under_way(requests: &Value) -> String {
    if requests.is_null() {
        return NOTHING.to_owned();
    }
    let count = |way: &str| requests[way]["UnderWay"].as_u64().unwrap_or(0);
    ["Direct", "Detours", "Relays"].into_iter().map(count).sum::<u64>().to_string()
}

fn servers(status: &Value) -> String {
    let title = [
        "Server",
        "Address",
        "Status",
        "Path",
        "RTT",
        "Loss",
        "Leader",
        "Term",
        "Applied",
        "Watched by",
    ];
    let mut rows = vec![row(title)];
    for dc in list(status, "Datacenters") {
        for server in list(dc, "Servers") {
            let number =
                |field: &str| server[field].as_u64().map_or(NOTHING.to_owned(), |n| n.to_string());
            let loss = server["LossPercent"].as_f64();
            let watchers: Vec<_> =
                list(server, "WatchedBy").iter().map(|it| text(it, "Server")).collect();
            rows.push(row([
                &format!("{}.{}", text(server, "Name"), text(dc, "Name")),
                text(server, "Address"),
                text(server, "Status"),
                text(server, "Path"),
                &millis(&server["RTTMillis"]),
                &loss.map_or(NOTHING.to_owned(), |loss| format!("{loss:.1}%")),
                if server["Leader"] == true { "yes" } else { "no" },
                &number("Term"),
                &number("Applied"),
                &watchers.join(", "),
            ]));
        }
    }
    columns(&rows)
}

/// Lists the servers that are refused for their cluster.
fn rivals(refused: &[Value]) -> String {
    let mut rows = vec![row(["Server", "Address", "Reason"])];
    rows.extend(
        refused.iter().map(|it| row([text(it, "Name"), text(it, "Address"), text(it, "Reason")])),
    );
    columns(&rows)
}

/// Draws who reaches whom: a row for each datacenter that says something, a column for each that is known.
fn matrix(status: &Value) -> String {
    let names: Vec<&str> = list(status, "Datacenters").iter().map(|dc| text(dc, "Name")).collect();
    let heading = std::iter::once("From \\ To").chain(names.iter().copied());
    let mut rows = vec![heading.map(str::to_owned).collect::<Vec<_>>()];
    for from in &names {
        let told = list(status, "Matrix").iter().find(|row| text(row, "From") == *from);
        let cell = |to: &&str| match told {
            _ if *to == *from => NOTHING.to_owned(),
            None => "?".to_owned(),
            Some(told) => cell(told, to),
        };
        rows.push(std::iter::once((*from).to_owned()).chain(names.iter().map(cell)).collect());
    }
    columns(&rows)
}

fn cell(row: &Value, to: &str) -> String {
    let found = list(row, "To").iter().find(|cell| text(cell, "Datacenter") == to);
    let Some(found) = found else { return "?".to_owned() };
    let health = text(found, "Health");
    let shown = match found["RTTMillis"].as_f64() {
        Some(rtt) if !matches!(health, "lost" | "left") => format!("{health} {rtt:.1}ms"),
        _ => health.to_owned(),
    };
    if row["Current"] == false { format!("({shown})") } else { shown }
}

fn millis(value: &Value) -> String {
    value.as_f64().map_or(NOTHING.to_owned(), |millis| format!("{millis:.1}ms"))
}

/// Shows seconds with the two largest units that they have.
fn duration(seconds: f64) -> String {
    // Ages are far below what a whole number holds.
    let whole = seconds as u64;
    match whole {
        0..=59 => format!("{seconds:.1}s"),
        60..=3599 => format!("{}m{}s", whole / 60, whole % 60),
        3600..=86_399 => format!("{}h{}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{}h", whole / 86_400, whole % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_refused_is_listed_with_the_reason() {
        let reason = "dc2 is the name of cluster A here, and b9 is of B";
        let refused = json!([
            { "Name": "b9.dc2", "Address": "10.0.1.9:8302", "Cluster": "B", "Reason": reason, "TimeMs": 8 },
            { "Name": "b10.dc2", "Address": "10.0.1.10:8302", "Cluster": "B", "Reason": "so", "TimeMs": 9 },
        ]);
        expect![[r#"
            Server   Address         Reason
            b9.dc2   10.0.1.9:8302   dc2 is the name of cluster A here, and b9 is of B
            b10.dc2  10.0.1.10:8302  so"#]]
        .assert_eq(&rivals(refused.as_array().unwrap()));
    }

    #[test]
    fn durations_are_as_exact_as_people_want_them() {
        for (seconds, shown) in
            [(0.0, "0.0s"), (59.94, "59.9s"), (61.0, "1m1s"), (7260.0, "2h1m"), (90_000.0, "1d1h")]
        {
            assert_eq!(duration(seconds), shown);
        }
    }
}
