//! Requests as HTTP checks make them, for others of the agent who have something to say.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    docker::Engine,
    http::{self, Http, Redirects},
    prober::Tools,
    tls::Credentials,
};
use crate::{
    catalog::{Health, Text},
    definition::Tls,
};

/// Sends requests. Over TLS it believes whom this system believes.
pub(crate) struct Calls(Arc<Tools>);

/// A request.
pub(crate) struct Request {
    /// Where, `http://` or `https://`.
    pub(crate) url: Text,
    pub(crate) method: Text,
    pub(crate) header: BTreeMap<Text, Vec<Text>>,
    pub(crate) body: Text,
    /// How long all of it may take.
    pub(crate) timeout: Duration,
    /// Whether any certificate will do.
    pub(crate) tls_skip_verify: bool,
}

impl Default for Calls {
    fn default() -> Self {
        Self(Tools::new(Credentials::default(), Engine::at("")))
    }
}

impl Calls {
    /// Sends a request; 2xx is success. Either way a line says what was asked and answered, with at
    /// most so many bytes of the answer.
    pub(crate) async fn send(
        &self,
        request: Request,
        output_len_max: usize,
    ) -> Result<String, String> {
        let Request { url, method, header, body, timeout, tls_skip_verify } = request;
        let tls = Tls { server_name: Text::default(), skip_verify: tls_skip_verify };
        let http = Http { url, method, header, body, redirects: Redirects::Follow, tls };
        let found = http::find(&http, &self.0, timeout, output_len_max).await;
        if found.health == Health::Passing { Ok(found.output) } else { Err(found.output) }
    }
}
