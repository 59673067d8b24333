//! The log as those hear it who listen to a running agent, each at a level of its own.
//!
//! There is a tap for text and one for JSON, each a layer beside the agent's own log. Its filter lets
//! through what the most talkative listener wants, and nothing when nobody listens: then an event
//! that the agent itself does not log costs what it always did.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lan_agent::log::{Lines, Log, Sink, Wanted, lines};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer, Registry,
    field::RecordFields,
    filter::Targets,
    fmt::{
        self as form, FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    reload,
};

use super::filter_of;

/// Most listeners of a form at once: people, not machines.
const LISTENERS_MAX: usize = 32;

/// Both taps. Clones are handles to the same.
#[derive(Clone)]
pub struct Taps {
    text: Arc<Tap>,
    json: Arc<Tap>,
}

/// The listeners of one form.
struct Tap {
    listeners: Mutex<Vec<Listener>>,
    filter: reload::Handle<Targets, Registry>,
    ids: AtomicU64,
}

struct Listener {
    id: u64,
    level: Level,
    filter: Targets,
    sink: Sink,
}

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

impl Taps {
    /// Makes both taps, and the layers that feed them.
    pub(super) fn new() -> (Self, Vec<Boxed>) {
        let (text_filter, handle) = reload::Layer::new(Targets::new());
        let text = Tap::new(handle);
        let (json_filter, handle) = reload::Layer::new(Targets::new());
        let json = Tap::new(handle);
        let of_text = form::layer().with_ansi(false).fmt_fields(Plain(DefaultFields::new()));
        let of_text = of_text.with_writer(Feed(text.clone())).with_filter(text_filter);
        let of_json = form::layer().json().with_writer(Feed(json.clone()));
        let layers: Vec<Boxed> =
            vec![Box::new(of_text), Box::new(of_json.with_filter(json_filter))];
        (Self { text, json }, layers)
    }
}

impl Log for Taps {
    fn listen(&self, wanted: Wanted) -> Option<Lines> {
        let tap = if wanted.json { &self.json } else { &self.text };
        tap.clone().listen(wanted.level)
    }
}

impl Tap {
    fn new(filter: reload::Handle<Targets, Registry>) -> Arc<Self> {
        Arc::new(Self { listeners: Mutex::default(), filter, ids: AtomicU64::new(0) })
    }

    fn listen(self: Arc<Self>, level: Level) -> Option<Lines> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let tap = self.clone();
        let mut listeners = self.lock();
        if listeners.len() >= LISTENERS_MAX {
            return None;
        }
        let (sink, lines) = lines(move || {
            let mut listeners = tap.lock();
            listeners.retain(|listener| listener.id != id);
            tap.open_for(&listeners);
        });
        listeners.push(Listener { id, level, filter: heard_at(level), sink });
        self.open_for(&listeners);
        Some(lines)
    }

    /// Lets through what one of them wants.
    fn open_for(&self, listeners: &[Listener]) {
        let most = listeners.iter().map(|listener| listener.level).max();
        let wanted = most.map_or_else(Targets::new, heard_at);
        // The layer is gone only when logging as a whole is.
        let _gone = self.filter.modify(|filter| *filter = wanted);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a listener of a level hears. Libraries are heard at `info` at most: below that they tell of
/// the bytes by which this very stream is sent, without end.
fn heard_at(level: Level) -> Targets {
    filter_of(level.min(Level::DEBUG)).with_targets(super::OURS.map(|target| (target, level)))
}

/// Brings lines to those who want them.
struct Feed(Arc<Tap>);

/// Who wants the line that is written now.
struct Hearers(Vec<Sink>);

impl<'a> MakeWriter<'a> for Feed {
    type Writer = Hearers;

    fn make_writer(&'a self) -> Hearers {
        Hearers(Vec::new())
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Hearers {
        let listeners = self.0.lock();
        let wants = |it: &&Listener| it.filter.would_enable(meta.target(), meta.level());
        Hearers(listeners.iter().filter(wants).map(|it| it.sink.clone()).collect())
    }
}

impl Write for Hearers {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.0.is_empty() {
            let bytes = Bytes::copy_from_slice(line);
            self.0.iter().for_each(|sink| sink.put(bytes.clone()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fields without colours. A type of its own: fields of a span are kept by the type of what wrote
/// them, and those of the agent's own log may have colours.
struct Plain(DefaultFields);

impl<'writer> FormatFields<'writer> for Plain {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        self.0.format_fields(writer, fields)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use lan_agent::log::Line;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Returns the lines that are there.
    fn heard(lines: &mut Lines) -> Vec<String> {
        let next = || lines.next().now_or_never().flatten();
        std::iter::from_fn(next)
            .map(|line| match line {
                Line::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                Line::Lost(lost) => panic!("{lost} lost"),
            })
            .collect()
    }

    #[test]
    fn each_hears_its_own_level_from_when_it_listens_until_it_goes() {
        let (taps, layers) = Taps::new();
        let _logging =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(layers));
        let off = || !tracing::enabled!(target: "dc_server", Level::ERROR);
        assert!(off(), "nobody listens");
        let mut loud = taps.listen(Wanted { level: Level::TRACE, json: false }).unwrap();
        tracing::trace!(target: "dc_server", "one");
        let mut quiet = taps.listen(Wanted { level: Level::WARN, json: true }).unwrap();
        tracing::debug!(target: "lan_agent::http", "two");
        tracing::warn!(target: "topology", number = 3, "three");
        tracing::debug!(target: "h2::codec", "a frame of this stream");
        let text = heard(&mut loud);
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(text[0].contains("TRACE") && text[0].ends_with("one\n"), "{text:?}");
        let json = heard(&mut quiet);
        assert_eq!(json.len(), 1, "{json:?}");
        let value: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!(value["fields"]["number"], 3);
        drop(loud);
        assert!(!tracing::enabled!(target: "dc_server", Level::DEBUG), "nobody wants it any more");
        assert!(!off());
        drop(quiet);
        assert!(off());
    }

    #[test]
    fn listeners_are_bounded() {
        let (taps, layers) = Taps::new();
        let _logging =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(layers));
        let wanted = Wanted { level: Level::INFO, json: false };
        let all: Vec<_> = (0..LISTENERS_MAX).map(|_| taps.listen(wanted).unwrap()).collect();
        assert!(taps.listen(wanted).is_none());
        drop(all);
        assert!(taps.listen(wanted).is_some());
    }
}
