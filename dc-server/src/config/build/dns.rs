//! The DNS interface: its zones, times to live, limits.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lan_agent::{
    dns::settings::{Freshness, PLAIN_ANSWERS_TOP, Recursors, Settings, Zone},
    duration,
};

use super::Build;
use crate::config::agent::dns::{Dns, SoaTimes};

/// The port of recursors for which none is given.
const DNS_PORT: u16 = 53;

/// Longest time for a recursor: clients have given up by then.
const RECURSOR_TIMEOUT_MAX: Duration = Duration::from_secs(10);

impl Build<'_> {
    /// Reads the name of a zone, without a dot at its end.
    pub(super) fn zone(&mut self, path: &str) -> Option<String> {
        let text = self.settings.text(path).filter(|text| !text.is_empty())?.to_owned();
        match text.parse::<Zone>() {
            Ok(_) => Some(text.trim_end_matches('.').to_owned()),
            Err(error) => {
                self.bad(path, format!("a zone such as \"consul\" ({error})"), format!("{text:?}"));
                None
            }
        }
    }

    pub(super) fn dns(&mut self) -> Dns {
        let settings = self.settings;
        let flag = |path, default| settings.bool(path).unwrap_or(default);
        let time = |path| settings.duration(path);
        let defaults = Settings::default();
        let any = 0..=i64::from(u32::MAX);
        let mut number =
            |path: &str, default: u32| self.number(path, i64::from(default), any.clone()) as u32;
        let soa = SoaTimes {
            refresh: number("dns_config.soa.refresh", defaults.soa.refresh),
            retry: number("dns_config.soa.retry", defaults.soa.retry),
            expire: number("dns_config.soa.expire", defaults.soa.expire),
            min_ttl: number("dns_config.soa.min_ttl", defaults.soa.min_ttl),
        };
        let udp_answer_limit = number("dns_config.udp_answer_limit", 3) as usize;
        let a_record_limit = number("dns_config.a_record_limit", 0) as usize;
        Dns {
            alt_domain: self.zone("alt_domain"),
            node_ttl: time("dns_config.node_ttl").unwrap_or_default(),
            service_ttl: self.service_ttl(),
            allow_stale: flag("dns_config.allow_stale", true),
            max_stale: time("dns_config.max_stale").unwrap_or(Freshness::MAX_STALE),
            use_cache: flag("dns_config.use_cache", false),
            cache_max_age: time("dns_config.cache_max_age").unwrap_or_default(),
            only_passing: flag("dns_config.only_passing", false),
            udp_answer_limit: udp_answer_limit.min(PLAIN_ANSWERS_TOP),
            a_record_limit,
            enable_truncate: flag("dns_config.enable_truncate", false),
            disable_compression: flag("dns_config.disable_compression", false),
            enable_additional_node_meta_txt: flag(
                "dns_config.enable_additional_node_meta_txt",
                true,
            ),
            soa,
            recursors: self.recursors(),
            // Zero asks for the default.
            recursor_timeout: time("dns_config.recursor_timeout")
                .filter(|time| !time.is_zero())
                .map_or(Recursors::TIMEOUT, |time| time.min(RECURSOR_TIMEOUT_MAX)),
            recursors_at_random: self.recursors_at_random(),
        }
    }

    fn recursors(&mut self) -> Vec<SocketAddr> {
        const PATH: &str = "recursors";
        let mut recursors = Vec::new();
        for text in self.settings.texts(PATH) {
            let ip = |text: &str| text.parse::<IpAddr>().ok();
            let alone = || ip(text.trim_start_matches('[').trim_end_matches(']'));
            match text.parse().ok().or_else(|| Some((alone()?, DNS_PORT).into())) {
                Some(addr) if !recursors.contains(&addr) => recursors.push(addr),
                Some(_) => {}
                None => self.bad(PATH, "IP addresses, with or without a port", format!("{text:?}")),
            }
        }
        recursors
    }

    fn recursors_at_random(&mut self) -> bool {
        const PATH: &str = "dns_config.recursor_strategy";
        match self.settings.text(PATH).unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "sequential" => false,
            "random" => true,
            other => {
                self.bad(PATH, "\"sequential\" or \"random\"", format!("{other:?}"));
                false
            }
        }
    }

    fn service_ttl(&mut self) -> BTreeMap<String, Duration> {
        const PATH: &str = "dns_config.service_ttl";
        let mut times = BTreeMap::new();
        for (pattern, text) in self.settings.text_map(PATH) {
            match duration::parse(&text) {
                Ok(ttl) => {
                    times.insert(pattern, ttl);
                }
                Err(_) => {
                    let expected = "durations in quotes, such as { \"web*\" = \"10s\" }";
                    self.bad(PATH, expected, format!("{pattern:?} = {text:?}"));
                }
            }
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use lan_agent::cache::rules::Control;

    use super::*;
    use crate::config::{Host, Problems, agent::Agent, build, flags::Request, source};

    fn agent(body: &str) -> Result<Agent, Problems> {
        let text = source::Text {
            name: "a.hcl".to_owned(),
            format: source::Format::Hcl,
            body: body.to_owned(),
        };
        let host = Host { name: Some("n1".to_owned()), addresses: Vec::new() };
        let request = Request { dev: true, ..Request::default() };
        build(&request, &[text], &host).map(|loaded| loaded.agent)
    }

    #[test]
    fn what_nobody_sets_is_as_in_consul() {
        let agent = agent("").unwrap();
        assert_eq!(agent.dns.settings(&agent.domain), Settings::default());
    }

    #[test]
    fn every_key_gets_to_the_interface() {
        let agent = agent(
            r#"
            domain = "sd.Example.com."
            alt_domain = "other"
            dns_config {
                node_ttl = "1s" service_ttl { web = "2s" "*" = "3s" } max_stale = "4s"
                use_cache = true cache_max_age = "5s"
                only_passing = true udp_answer_limit = 50 a_record_limit = 5 enable_truncate = true
                disable_compression = true enable_additional_node_meta_txt = false
                soa { refresh = 6 retry = 7 expire = 8 min_ttl = 9 }
            }"#,
        )
        .unwrap();
        assert_eq!(agent.domain, "sd.Example.com");
        let settings = agent.dns.settings(&agent.domain);
        assert_eq!(
            format!("{:?} {:?}", settings.domain, settings.alt_domain),
            "sd.example.com. Some(other.)"
        );
        assert_eq!(settings.node_ttl, Duration::from_secs(1));
        assert_eq!((settings.service_ttl.of("web"), settings.service_ttl.of("db")), (2, 3));
        assert_eq!(settings.freshness, Freshness::Stale(Duration::from_secs(4)));
        assert_eq!((settings.udp_answer_limit, settings.a_record_limit), (PLAIN_ANSWERS_TOP, 5));
        let max_age = Some(Duration::from_secs(5));
        assert_eq!(settings.cache, Some(Control { max_age, ..Control::default() }));
        assert!(settings.only_passing && settings.truncate);
        assert!(!settings.compress && !settings.node_meta_txt);
        let soa = settings.soa;
        assert_eq!([soa.refresh, soa.retry, soa.expire, soa.min_ttl], [6, 7, 8, 9]);
    }

    #[test]
    fn stale_answers_can_be_forbidden() {
        let agent = agent("dns_config { allow_stale = false }").unwrap();
        assert_eq!(agent.dns.settings("consul").freshness, Freshness::Leader);
    }

    #[test]
    fn recursors_have_ports_and_a_strategy() {
        let agent = agent(
            r#"
            recursors = ["10.0.0.1", "10.0.0.2:5353", "fd00::1", "[fd00::1]:53"]
            dns_config { recursor_timeout = "500ms" recursor_strategy = "random" }"#,
        );
        let recursors = agent.unwrap().dns.settings("consul").recursors;
        let shown: Vec<String> = recursors.servers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:53", "10.0.0.2:5353", "[fd00::1]:53"]);
        assert_eq!(recursors.timeout, Duration::from_millis(500));
        assert_eq!(recursors.strategy, lan_agent::dns::settings::Strategy::Random);
    }

    #[test]
    fn what_is_no_recursor_is_named() {
        let problems =
            agent("recursors = [\"dns.example.com\"] dns_config { recursor_strategy = \"x\" }");
        let problems = problems.unwrap_err().to_string();
        assert!(
            problems.contains("dns.example.com") && problems.contains("sequential"),
            "{problems}"
        );
    }

    #[test]
    fn what_is_no_zone_or_no_time_is_named() {
        let body = r#"alt_domain = "a..b" dns_config { service_ttl { web = "soon" } }"#;
        let problems = agent(body).unwrap_err().to_string();
        assert!(problems.contains("alt_domain") && problems.contains("a..b"), "{problems}");
        assert!(problems.contains("service_ttl") && problems.contains("soon"), "{problems}");
    }
}
