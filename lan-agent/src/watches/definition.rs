//! Reads watches from configurations and command lines, in the words of Consul.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{Handler, HttpHandler, View, Watch};
use crate::{catalog::Text, duration};

/// How long a request to a handler may take unless it is configured, as in Consul.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why something is no watch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// It is not an object of parameters.
    #[error("a watch is a block, such as {{ type = \"key\" key = \"a\" args = [\"program\"] }}")]
    NoObject,
    /// It has no type.
    #[error("Watch type must be specified")]
    NoType,
    /// There is no such type.
    #[error("Unsupported watch type: {0}")]
    UnknownType(String),
    /// There are no events.
    #[error("Unsupported watch type: event (Causeway has no user events)")]
    Events,
    /// A type lacks what it is about.
    #[error("Must specify a single {0} to watch")]
    Missing(&'static str),
    /// Checks are of a service or in a state.
    #[error("Cannot specify service and state")]
    ServiceAndState,
    /// A state that no check can have.
    #[error("Invalid state {0:?}: one of any, passing, warning and critical")]
    State(String),
    /// Parameters that the type does not have.
    #[error("Invalid parameters: [{}]", .0.join(" "))]
    Unknown(Vec<String>),
    /// A parameter that is something else than it has to be.
    #[error("{name} must be {expected}")]
    Kind {
        /// Its name.
        name: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// There is nobody to hear of changes.
    #[error("Must define a watch handler")]
    NoHandler,
    /// There are two.
    #[error("Only one watch handler allowed")]
    TwoHandlers,
    /// There is no such kind of handler.
    #[error("Handler type '{0}' not recognized")]
    UnknownHandler(String),
    /// A request without an address.
    #[error("Handler type 'http' requires 'http_handler_config' to be set, with a path")]
    NoUrl,
}

/// The parameters of a watch that were not read yet.
pub struct Parameters(Map<String, Value>);

impl Parameters {
    /// Takes the parameters.
    pub fn new(parameters: Map<String, Value>) -> Self {
        Self(parameters)
    }

    /// Reads what is watched.
    pub fn view(&mut self) -> Result<View, WatchError> {
        let kind = self.text("type")?;
        Ok(match kind.as_str() {
            "" => return Err(WatchError::NoType),
            "key" => View::Key(self.named("key")?),
            "keyprefix" => View::KeyPrefix(self.named("prefix")?),
            "services" => View::Services,
            "nodes" => View::Nodes,
            "service" => View::Service {
                name: self.named("service")?,
                tags: self.texts("tag")?,
                passing: self.bool("passingonly")?,
            },
            "checks" => match (self.text("service")?, self.text("state")?) {
                (service, state) if service.is_empty() && state.is_empty() => {
                    View::Checks("any".to_owned())
                }
                (service, state) if state.is_empty() => View::ServiceChecks(service),
                (service, state) if service.is_empty() => match state.as_str() {
                    "any" | "passing" | "warning" | "critical" => View::Checks(state),
                    _ => return Err(WatchError::State(state)),
                },
                _ => return Err(WatchError::ServiceAndState),
            },
            "event" => return Err(WatchError::Events),
            _ => return Err(WatchError::UnknownType(kind)),
        })
    }

    /// Fails when parameters are left that nobody read.
    pub fn end(self) -> Result<(), WatchError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(WatchError::Unknown(self.0.into_iter().map(|(name, _)| name).collect())),
        }
    }

    fn handler(&mut self) -> Result<Handler, WatchError> {
        let kind = self.text("handler_type")?;
        let line = self.text("handler")?;
        let args = self.texts("args")?;
        let http = self.block("http_handler_config")?;
        match kind.as_str() {
            "" | "script" => match (line.is_empty(), args.is_empty()) {
                (true, true) => Err(WatchError::NoHandler),
                (false, true) => Ok(Handler::Shell(line)),
                (true, false) => Ok(Handler::Program(args)),
                (false, false) => Err(WatchError::TwoHandlers),
            },
            "http" if !line.is_empty() || !args.is_empty() => Err(WatchError::TwoHandlers),
            "http" => http.ok_or(WatchError::NoUrl).and_then(http_handler).map(Handler::Http),
            _ => Err(WatchError::UnknownHandler(kind)),
        }
    }

    /// Reads a text that the type can't do without.
    fn named(&mut self, name: &'static str) -> Result<String, WatchError> {
        let text = self.text(name)?;
        if text.is_empty() { Err(WatchError::Missing(name)) } else { Ok(text) }
    }

    fn text(&mut self, name: &str) -> Result<String, WatchError> {
        match self.0.shift_remove(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(WatchError::Kind { name: name.to_owned(), expected: "a text" }),
        }
    }

    fn texts(&mut self, name: &str) -> Result<Vec<String>, WatchError> {
        let wrong = || WatchError::Kind { name: name.to_owned(), expected: "a list of texts" };
        match self.0.shift_remove(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(list)) => list
                .into_iter()
                .map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn bool(&mut self, name: &str) -> Result<bool, WatchError> {
        match self.0.shift_remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(_) => Err(WatchError::Kind { name: name.to_owned(), expected: "true or false" }),
        }
    }

    /// Reads a block; HCL makes a list of one of some.
    fn block(&mut self, name: &str) -> Result<Option<Parameters>, WatchError> {
        let mut value = self.0.shift_remove(name);
        if let Some(Value::Array(list)) = &mut value
            && list.len() == 1
        {
            value = list.pop();
        }
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(items)) => Ok(Some(Parameters(items))),
            Some(_) => Err(WatchError::Kind { name: name.to_owned(), expected: "a block" }),
        }
    }
}

/// Reads a watch of a configuration.
pub fn read(value: &Value) -> Result<Watch, WatchError> {
    let Value::Object(items) = value else { return Err(WatchError::NoObject) };
    let mut parameters = Parameters(items.clone());
    let handler = parameters.handler()?;
    let view = parameters.view()?;
    let watch = Watch {
        view,
        datacenter: parameters.text("datacenter")?,
        stale: parameters.bool("stale")?,
        token: parameters.text("token")?,
        handler,
    };
    parameters.end()?;
    Ok(watch)
}

fn http_handler(mut parameters: Parameters) -> Result<HttpHandler, WatchError> {
    let url = parameters.text("path")?;
    if url.is_empty() {
        return Err(WatchError::NoUrl);
    }
    let method = match parameters.text("method")? {
        none if none.is_empty() => "POST".to_owned(),
        method => method,
    };
    let timeout = match parameters.text("timeout")? {
        none if none.is_empty() => HTTP_TIMEOUT,
        text => duration::parse(&text).map_err(|_| WatchError::Kind {
            name: "timeout".to_owned(),
            expected: "a duration such as \"10s\"",
        })?,
    };
    let mut header = BTreeMap::new();
    if let Some(mut fields) = parameters.block("header")? {
        let names: Vec<String> = fields.0.keys().cloned().collect();
        for name in names {
            let values: Vec<Text> =
                fields.texts(&name)?.iter().map(|it| it.as_str().into()).collect();
            header.insert(name.as_str().into(), values);
        }
    }
    let tls_skip_verify = parameters.bool("tls_skip_verify")?;
    parameters.end()?;
    Ok(HttpHandler {
        url: url.as_str().into(),
        method: method.as_str().into(),
        header,
        timeout,
        tls_skip_verify,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_consul_takes_is_taken() {
        let key = |value: Value| {
            let mut watch = json!({ "type": "key", "key": "a" });
            watch.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            read(&watch)
        };
        let program =
            |args: &[&str]| Handler::Program(args.iter().map(|it| (*it).to_owned()).collect());
        let watch =
            key(json!({ "args": ["x", "y z"], "stale": true, "datacenter": "dc2", "token": "t" }));
        let expected = Watch {
            view: View::Key("a".to_owned()),
            datacenter: "dc2".to_owned(),
            stale: true,
            token: "t".to_owned(),
            handler: program(&["x", "y z"]),
        };
        assert_eq!(watch, Ok(expected));
        let watch = key(json!({ "handler": "x | y", "handler_type": "script" })).unwrap();
        assert_eq!(watch.handler, Handler::Shell("x | y".to_owned()));
        assert_eq!(key(json!({ "args": "x" })).unwrap().handler, program(&["x"]));
        let http =
            json!([{ "path": "http://a/b", "header": { "x-a": ["1", "2"] }, "timeout": "3s" }]);
        let watch = key(json!({ "handler_type": "http", "http_handler_config": http })).unwrap();
        let Handler::Http(http) = watch.handler else { panic!("{:?}", watch.handler) };
        assert_eq!((&*http.url, &*http.method), ("http://a/b", "POST"));
        assert_eq!((http.timeout, http.tls_skip_verify), (Duration::from_secs(3), false));
        assert_eq!(http.header["x-a"], ["1".into(), Text::from("2")]);
        let watch = json!({ "type": "service", "service": "web", "tag": "a", "passingonly": true, "args": ["x"] });
        let view =
            View::Service { name: "web".to_owned(), tags: vec!["a".to_owned()], passing: true };
        assert_eq!(read(&watch).unwrap().view, view);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_consul() {
        for (watch, sentence) in [
            (json!({ "args": ["x"] }), "Watch type must be specified"),
            (json!({ "type": "key", "args": ["x"] }), "Must specify a single key to watch"),
            (json!({ "type": "service", "args": ["x"] }), "Must specify a single service to watch"),
            (json!({ "type": "bogus", "args": ["x"] }), "Unsupported watch type: bogus"),
            (
                json!({ "type": "event", "args": ["x"] }),
                "Unsupported watch type: event (Causeway has no user events)",
            ),
            (json!({ "type": "nodes" }), "Must define a watch handler"),
            (
                json!({ "type": "nodes", "args": ["x"], "handler": "y" }),
                "Only one watch handler allowed",
            ),
            (json!({ "type": "nodes", "args": ["x"], "zzz": 1 }), "Invalid parameters: [zzz]"),
            (json!({ "type": "nodes", "args": ["x"], "key": "a" }), "Invalid parameters: [key]"),
            (
                json!({ "type": "nodes", "handler_type": "mail" }),
                "Handler type 'mail' not recognized",
            ),
            (
                json!({ "type": "nodes", "handler_type": "http" }),
                "Handler type 'http' requires 'http_handler_config' to be set, with a path",
            ),
            (
                json!({ "type": "nodes", "handler_type": "http",
                        "http_handler_config": { "path": "http://a", "timeout": "zz" } }),
                "timeout must be a duration such as \"10s\"",
            ),
            (
                json!({ "type": "checks", "service": "a", "state": "any", "args": ["x"] }),
                "Cannot specify service and state",
            ),
            (json!({ "type": "nodes", "args": [1] }), "args must be a list of texts"),
        ] {
            assert_eq!(read(&watch).unwrap_err().to_string(), sentence, "{watch}");
        }
    }
}
