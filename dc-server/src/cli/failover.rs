//! `failover explain`: where lookups of services go, and would go without a datacenter.

use serde_json::{Value, json};

use super::{
    Api, Call, Command, FORMAT, Run,
    client::Client,
    federation::{list, text},
    flags::Flag,
    table::{columns, row},
};

pub(super) const EXPLAIN: Command = Command {
    name: "failover explain",
    about: "Explains where lookups would go without a datacenter",
    usage: "[options]",
    help: "Says for each service and for the callers in each datacenter which instances\n\
           their lookups get now, and which they would get if a datacenter were lost,\n\
           by the same rules that answer lookups: resolvers, the servers' failover\n\
           settings, what is healthy now. Nothing is changed.\n\n    \
           $ % failover explain -lose=dc2\n    \
           $ % failover explain -lose=dc2 -service=web\n\nEach datacenter in turn, for a pipeline:\n\n    \
           $ % failover explain -lose='*' -format=json\n\nThe exit code is 2 when \
           something has nowhere to go. An instance counts as\noverloaded when it would get more than twice (-overload) as much as the busiest\n\
           instance of the service gets now, if all datacenters ask as much.",
    flags: || {
        vec![
            Flag::value(
                "lose",
                "names",
                "Datacenters to do without, separated by commas; * for each one in turn. Without it: where lookups go now.",
            ),
            Flag::value("service", "name", "Explain this service only."),
            Flag::value(
                "overload",
                "times",
                "From how many times the load of now is too much for an instance. The default is 2.",
            ),
            FORMAT,
        ]
    },
    api: Api::Agent,
    run: Run::Call(explain),
};

/// What stands for nobody.
const NOBODY: &str = "-";

/// The exit code when something has nowhere to go.
const NOWHERE: u8 = 2;

fn explain(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let mut client = call.client()?;
    let losses: Vec<String> = match call.line.value("lose") {
        Some("*") => client
            .get("/v1/catalog/datacenters", &[])
            .and_then(|answer| answer.json())
            .map_err(|error| anyhow::anyhow!("Error retrieving the datacenters: {error:#}"))?,
        lost => vec![lost.unwrap_or_default().to_owned()],
    };
    let reports: Vec<Value> =
        losses.iter().map(|lost| ask(call, &mut client, lost)).collect::<Result<_, _>>()?;
    if call.wants_json()? {
        let each = call.line.value("lose") == Some("*");
        let only = reports.first().filter(|_| !each).cloned();
        call.say_json(&only.unwrap_or_else(|| json!(reports)))?;
    } else {
        for (number, report) in reports.iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n" };
            call.say(format!("{gap}{}", shown(report)))?;
        }
    }
    for unknown in reports.first().map_or(&[][..], |report| list(report, "Unknown")) {
        let (dc, reason) = (text(unknown, "Datacenter"), text(unknown, "Reason"));
        writeln!(
            call.io.err,
            "No answer from {dc}, so that nothing is known of lookups there: {reason}"
        )?;
    }
    let nowhere = reports.iter().any(|report| !list(report, "Nowhere").is_empty());
    Ok(if nowhere { NOWHERE } else { 0 })
}

fn ask(call: &Call<'_>, client: &mut Client, lost: &str) -> anyhow::Result<Value> {
    let lost = Some(lost).filter(|lost| !lost.is_empty());
    let options = [
        ("lose", lost),
        ("service", call.line.value("service")),
        ("overload", call.line.value("overload")),
    ];
    let query: Vec<_> = options.into_iter().filter_map(|(name, it)| Some((name, it?))).collect();
    client
        .get("/v1/federation/failover", &query)
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error explaining the failover: {error:#}"))
}

fn shown(report: &Value) -> String {
    let lost: Vec<&str> = list(report, "Lost").iter().filter_map(Value::as_str).collect();
    let title = match &*lost {
        [] => "As things are:".to_owned(),
        lost => format!("Without {}:", lost.join(", ")),
    };
    let mut rows = vec![row(["Service", "Callers", "Now", "Then", "Outcome"])];
    for service in list(report, "Services") {
        rows.extend(service_rows(service));
    }
    let mut text = match rows.len() {
        1 => format!("{title}\n\nNobody looks up any service."),
        _ => format!("{title}\n\n{}", columns(&rows)),
    };
    for (field, words) in [("Nowhere", "Nowhere to go"), ("Overloaded", "Overloaded")] {
        let names: Vec<&str> = list(report, field).iter().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            text.push_str(&format!("\n\n{words}: {}", names.join(", ")));
        }
    }
    text
}

fn service_rows(service: &Value) -> Vec<Vec<String>> {
    let name = text(service, "Service");
    let callers = list(service, "Callers");
    if callers.is_empty() {
        return vec![row([name, NOBODY, NOBODY, NOBODY, "nowhere: only what is lost has it"])];
    }
    let overloaded = text(service, "Outcome") == "overloaded";
    let load = service["Load"].as_f64().filter(|_| overloaded);
    let load = load.map_or(String::new(), |load| format!(", overloaded ({load:.1} times)"));
    let rows = callers.iter().map(|caller| {
        let outcome = text(caller, "Outcome");
        let load = if matches!(outcome, "own" | "elsewhere") { &*load } else { "" };
        row([
            name,
            text(caller, "Datacenter"),
            &shares(caller, "Now"),
            &shares(caller, "Then"),
            &format!("{outcome}{load}"),
        ])
    });
    rows.collect()
}

/// Shows who answers: `3 in dc1, 1 in dc2`.
fn shares(caller: &Value, field: &str) -> String {
    let shares = list(caller, field)
        .iter()
        .map(|share| format!("{} in {}", share["Instances"], text(share, "Datacenter")));
    let shares: Vec<String> = shares.collect();
    if shares.is_empty() { NOBODY.to_owned() } else { shares.join(", ") }
}
