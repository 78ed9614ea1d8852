//! One line per request, through a bounded writer that never holds a worker up.
//!
//! A worker serialises its line into its own lane, a buffer that it shares with nobody but the writer
//! thread, which takes whole lanes at a time and writes them at once. When `queue` lines wait, further
//! ones are dropped and counted. A writer lives as long as its settings: another configuration has
//! another one, and the old one writes what it has taken when its last request is over.

mod digits;
mod json;
mod line;
mod shape;
mod sink;
mod switch;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use parking_lot::Mutex;
use sluice_config::model::{AccessLog, AccessLogOutput};

use super::metrics::{Counter, Shard};

use shape::Shape;

pub use line::{EgressFacts, EgressNote, Line};
pub use sink::{LogFile, Memory, Sink};
pub use switch::{Choice, NoChoice, Switch};

/// How long lines gather before they are written: each time the writer is woken it takes a processor
/// from a worker.
const GATHER: Duration = Duration::from_millis(100);

/// So many bytes of one worker are written without waiting for more.
const ENOUGH: usize = 64 << 10;

/// A lane that grew beyond this in a burst is freed again.
const KEEP: usize = 256 << 10;

/// Takes lines. Clones write to the same sink; the default one writes nowhere.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    handle: Option<Arc<Handle>>,
    switch: Switch,
}

/// Ends the writer thread with its last [`Writer`].
#[derive(Debug)]
struct Handle(Arc<Shared>);

/// Lines of one worker that wait.
#[derive(Debug, Default)]
struct Lane {
    text: Vec<u8>,
    lines: usize,
}

#[derive(Debug)]
struct Shared {
    /// One per worker; a worker is the only one who appends to its own.
    lanes: Box<[Mutex<Lane>]>,
    sink: Mutex<Sink>,
    shape: Shape,
    /// The sink is memory: lines go there at once.
    at_once: bool,
    /// Lines in lanes.
    waiting: AtomicUsize,
    queue: usize,
    /// The writer thread waits to be woken.
    asleep: AtomicBool,
    closed: AtomicBool,
    thread: OnceLock<Thread>,
    counters: Shard,
}

/// Opens the sink that `model` names. A failure is a problem of the configuration.
pub fn open(model: &AccessLog) -> std::io::Result<Sink> {
    match &model.output {
        AccessLogOutput::Off => Ok(Sink::Nowhere),
        AccessLogOutput::Stdout => Ok(Sink::Stdout),
        AccessLogOutput::File(path) => Ok(Sink::File(LogFile::open(path)?)),
    }
}

impl Writer {
    /// Starts writing to `sink` from `workers` lanes, in the form that `model` asks for and at most
    /// its `queue` lines behind. A sink in memory has no thread: its lines are there at once.
    pub fn start(
        sink: Sink,
        model: &AccessLog,
        workers: usize,
        counters: Shard,
    ) -> std::io::Result<Self> {
        if matches!(sink, Sink::Nowhere) {
            return Ok(Self::default());
        }
        let at_once = matches!(sink, Sink::Memory(_));
        let shared = Arc::new(Shared {
            lanes: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            sink: Mutex::new(sink),
            shape: Shape::new(model),
            at_once,
            waiting: AtomicUsize::new(0),
            queue: model.queue,
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            thread: OnceLock::new(),
            counters,
        });
        if !at_once {
            let own = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || own.run())?;
        }
        Ok(Self {
            handle: Some(Arc::new(Handle(shared))),
            switch: Switch::default(),
        })
    }

    /// The same, as far as `switch` lets it.
    #[must_use]
    pub fn switched_by(self, switch: Switch) -> Self {
        Self { switch, ..self }
    }

    /// Whether lines go anywhere; when not, nobody need make them.
    pub fn is_on(&self) -> bool {
        self.handle.is_some() && !self.switch.is_off()
    }

    /// Takes a line from `worker`, if the filter admits it, the operator's before the configured
    /// one. Never waits: a full queue drops it.
    pub fn write(&self, worker: usize, line: &Line<'_>) {
        let Some(Handle(shared)) = self.handle.as_deref() else {
            return;
        };
        let own = self.switch.admits(line);
        if own.unwrap_or_else(|| shared.shape.admits(line)) {
            shared.write(worker, line);
        }
    }

    /// Opens the file anew by its name, after what waits has been written: whoever rotates logs
    /// has moved the old one away. When that fails, the old one stays.
    pub fn reopen(&self) -> std::io::Result<()> {
        let Some(Handle(shared)) = self.handle.as_deref() else {
            return Ok(());
        };
        shared.drain(&mut Vec::new());
        shared.sink.lock().reopen()
    }

    /// Writes what waits, on this thread. For shutdown.
    pub fn flush(&self) {
        if let Some(Handle(shared)) = self.handle.as_deref() {
            shared.drain(&mut Vec::new());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.drain(&mut Vec::new());
        if let Some(thread) = self.0.thread.get() {
            thread.unpark();
        }
    }
}

impl Shared {
    fn write(&self, worker: usize, line: &Line<'_>) {
        let place = worker.checked_rem(self.lanes.len());
        let Some(own) = place.and_then(|place| self.lanes.get(place)) else {
            return;
        };
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= self.queue {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            self.counters.count(Counter::AccessLogDropped);
            return;
        }
        let enough = {
            let mut own = own.lock();
            let before = own.text.len();
            self.shape.append(line, &mut own.text);
            own.lines = own.lines.saturating_add(1);
            before < ENOUGH && own.text.len() >= ENOUGH
        };
        if (self.asleep.swap(false, Ordering::SeqCst) || enough)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        if self.at_once {
            self.drain(&mut Vec::new());
        }
    }

    /// The writer thread.
    fn run(&self) {
        // Only this thread sets its own handle.
        let _first = self.thread.set(std::thread::current());
        let mut spare = Vec::new();
        while !self.closed.load(Ordering::SeqCst) {
            self.asleep.store(true, Ordering::SeqCst);
            if self.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::park();
            }
            self.asleep.store(false, Ordering::SeqCst);
            std::thread::park_timeout(GATHER);
            self.drain(&mut spare);
        }
    }

    /// Writes every lane. `spare` takes the place of the buffer that is being written.
    fn drain(&self, spare: &mut Vec<u8>) {
        let mut sink = self.sink.lock();
        for lane in &self.lanes {
            let lines = {
                let mut lane = lane.lock();
                std::mem::swap(&mut lane.text, spare);
                std::mem::take(&mut lane.lines)
            };
            if lines == 0 {
                continue;
            }
            self.waiting.fetch_sub(lines, Ordering::SeqCst);
            if sink.write(spare).is_err() {
                let lost = u64::try_from(lines).unwrap_or(u64::MAX);
                self.counters.add(Counter::AccessLogDropped, lost);
            }
            spare.clear();
            spare.shrink_to(KEEP);
        }
    }
}
