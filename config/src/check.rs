//! From what is written to what is true: one walk that reports every mistake and builds the model.
//!
//! With `on_error = "refuse"` there is a snapshot only when nothing is wrong. With `"contain"` a
//! refused object keeps its previous version, else fails closed (see `contain`).

mod action;
mod contain;
mod egress;
mod filter;
mod listener;
mod matching;
mod process;
mod references;
mod route;
mod telemetry;
mod tls;
mod upstream;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Objects, Problem, Snapshot, Sources,
    decode::{decode, nearest, report_unknown},
    findings::{Finding, Findings},
    lint::lint,
    model::{self, Process},
    names::{CertificateName, IssuerName, ListenerName, RouteName, RuleName, UpstreamName},
    parse::{self, Document, KINDS},
    places::Places,
    raw,
    sources::Form,
    substitute,
    tree::{Aim, At, Node, Value},
};

pub use tls::coverage::uncovered;

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report {
    /// What is true, when it may run: nothing is wrong, or what is wrong could be contained.
    pub snapshot: Option<Arc<Snapshot>>,
    /// What holds for the life of the process; defaults where it is wrong.
    pub process: Process,
    /// Every mistake, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// What is allowed but looks wrong, in the same order.
    pub warnings: Vec<Problem>,
}

/// The objects that could be built, and whether each is clean.
#[derive(Debug, Default)]
struct Drafts {
    listeners: BTreeMap<ListenerName, Draft<model::Listener>>,
    routes: BTreeMap<RouteName, Draft<model::Route>>,
    certificates: BTreeMap<CertificateName, Draft<model::Certificate>>,
    acme: BTreeMap<IssuerName, Draft<model::Acme>>,
    storage: Draft<model::Storage>,
    egress: Draft<Option<model::Egress>>,
    upstreams: BTreeMap<UpstreamName, Draft<model::Upstream>>,
    access_log: Draft<model::AccessLog>,
    dns: Draft<model::Dns>,
    tracing: Draft<model::Tracing>,
}

/// An object as far as it could be built.
#[derive(Debug)]
struct Draft<T> {
    /// None: so little of it can be read that nothing stands in its place.
    object: Option<T>,
    /// Nothing is wrong with it.
    clean: bool,
}

impl<T> Draft<T> {
    /// The object when nothing is wrong with it, else as much as stands in its place.
    fn into_clean(self) -> Result<T, Option<T>> {
        match self.object {
            Some(object) if self.clean => Ok(object),
            rest => Err(rest),
        }
    }
}

impl<T: Default> Default for Draft<T> {
    fn default() -> Self {
        Self {
            object: Some(T::default()),
            clean: true,
        }
    }
}

/// Checks `sources`. `previous` is what runs now: with `on_error = "contain"` a refused object keeps
/// the version it has there.
pub fn check(sources: &Sources, previous: Option<&Snapshot>) -> Report {
    let mut document = parse::parse(sources);
    let unset = if sources.files.iter().any(|file| file.form == Form::Toml) {
        substitute::substitute(&mut document.root, &sources.environment)
    } else {
        Vec::new()
    };
    let mut findings = Findings::new(&document.root, &sources.files);
    findings.texts(&unset);
    report_strangers(&document.root, &mut findings);

    let on_error = on_error(&document.root, &mut findings);
    let process = process::check(&document.root, &mut findings);
    let drafts = objects(&document, &mut findings);

    let fatal =
        findings.is_fatal() || !document.problems.is_empty() || !sources.problems.is_empty();
    let found = findings.into_problems();
    let wrong = fatal || !found.is_empty();
    let objects = match on_error {
        _ if !wrong => drafts.into_objects(),
        raw::OnError::Contain if !fatal => contain::contain(drafts, previous),
        raw::OnError::Contain | raw::OnError::Refuse => None,
    };
    let snapshot = objects.map(|objects| Arc::new(Snapshot::seal(objects)));
    // Where something is wrong, what follows from it would be warned about as well.
    let warnings = snapshot
        .as_ref()
        .filter(|_| !wrong)
        .map_or_else(Vec::new, |snapshot| warnings(snapshot, &document, sources));

    let mut problems = sources.problems.clone();
    problems.extend(believable(found, &document, sources));
    problems.append(&mut document.problems);
    sort(&mut problems);
    Report {
        snapshot,
        process,
        problems,
        warnings,
    }
}

/// What is allowed but hardly meant, each with its place.
fn warnings(snapshot: &Snapshot, document: &Document, sources: &Sources) -> Vec<Problem> {
    let mut warnings = lint(snapshot);
    place(&mut warnings, document, sources);
    sort(&mut warnings);
    warnings
}

/// Gives problems without a place, which were found after the check while files were loaded or
/// sockets bound, their places in `sources`.
pub fn locate(problems: &mut [Problem], sources: &Sources) {
    place(problems, &parse::parse(sources), sources);
}

fn place(problems: &mut [Problem], document: &Document, sources: &Sources) {
    let places = Places::new(&document.root, &sources.files);
    for problem in problems {
        if problem.place.is_none() {
            let path = document.root.path_of(&problem.at);
            problem.place = places.of(&path, Aim::Value, None);
        }
    }
}

impl Drafts {
    /// What holds for every rule of the route is wrong, so every rule is refused.
    fn refuse_route(&mut self, name: &RouteName) {
        if let Some(draft) = self.routes.get_mut(name) {
            draft.clean = false;
            if let Some(route) = &mut draft.object {
                route.rules = vec![Arc::new(route::refused(RuleName::catch_all()))];
            }
        }
    }

    fn into_objects(self) -> Option<Objects> {
        fn all<K: Ord, T>(drafts: BTreeMap<K, Draft<T>>) -> Option<BTreeMap<K, Arc<T>>> {
            let objects = drafts.into_iter();
            objects
                .map(|(name, draft)| Some((name, Arc::new(draft.object?))))
                .collect()
        }

        Some(Objects {
            listeners: all(self.listeners)?,
            routes: all(self.routes)?,
            certificates: all(self.certificates)?,
            acme: all(self.acme)?,
            storage: Arc::new(self.storage.object?),
            upstreams: all(self.upstreams)?,
            egress: self.egress.object?.map(Arc::new),
            access_log: Arc::new(self.access_log.object?),
            dns: Arc::new(self.dns.object?),
            tracing: Arc::new(self.tracing.object?),
        })
    }
}

/// Reports what stands at the top and is no part of the language. Nobody knows what it was meant
/// to do, so it cannot be contained.
fn report_strangers(root: &Node, findings: &mut Findings<'_>) {
    const SINGLES: [&str; 7] = [
        "on_error",
        "process",
        "storage",
        "egress",
        "access_log",
        "dns",
        "tracing",
    ];

    let Value::Table(entries) = &root.value else {
        return;
    };
    for (key, node) in entries {
        let at = At::Root.key(key);
        if KINDS.contains(&key.as_str()) {
            if !matches!(node.value, Value::Table(_)) {
                findings.fatal(
                    &at,
                    Finding::new("wrong_type", format!("{key} is a table of named objects"))
                        .hint(format!("write [{key}.NAME]")),
                );
            }
        } else if !SINGLES.contains(&key.as_str()) {
            report_unknown(&at, findings);
            findings.set_fatal();
        }
    }
}

fn on_error(root: &Node, findings: &mut Findings<'_>) -> raw::OnError {
    let at = At::Root.key("on_error");
    let Some(node) = root.get("on_error") else {
        return raw::OnError::default();
    };
    let on_error: Option<raw::OnError> = decode(node, &at, findings);
    if !findings.is_clean(&at) {
        findings.set_fatal();
    }
    on_error.unwrap_or_default()
}

/// Checks every object.
fn objects(document: &Document, findings: &mut Findings<'_>) -> Drafts {
    let root = &document.root;
    let mut drafts = Drafts {
        access_log: telemetry::access_log::check(root, findings),
        dns: upstream::dns::check(root, findings),
        tracing: telemetry::tracing::check(root, findings),
        storage: tls::storage::check(root, findings),
        ..Drafts::default()
    };
    let mut known = references::Known::of(root);
    filter::check_sets(root, &mut known, findings);
    for (name, node) in entries(root, "acme") {
        let at = At::Root.key("acme");
        let at = at.key(name);
        if let Some(name) = name_of(name, &at, IssuerName::new, findings) {
            let draft = tls::acme::check(name.clone(), node, &at, &known, findings);
            drafts.acme.insert(name, draft);
        }
    }
    for (name, node) in entries(root, "certificates") {
        let at = At::Root.key("certificates");
        let at = at.key(name);
        if let Some(name) = name_of(name, &at, CertificateName::new, findings) {
            let draft = tls::certificate::check(name.clone(), node, &at, &known, findings);
            drafts.certificates.insert(name, draft);
        }
    }
    for (name, node) in entries(root, "listeners") {
        let at = At::Root.key("listeners");
        let at = at.key(name);
        if let Some(name) = name_of(name, &at, ListenerName::new, findings) {
            let draft = listener::check(name.clone(), node, &at, &known, findings);
            let readable = findings.is_clean(&at.key("protocol"));
            let protocol = draft.object.as_ref().map(|listener| listener.protocol);
            let protocol = protocol.filter(|_| readable);
            known
                .protocols
                .extend(protocol.map(|it| (name.clone(), it)));
            drafts.listeners.insert(name, draft);
        }
    }
    references::imply_listener(&mut drafts, &mut known);
    references::check_addresses(&drafts, &known, findings);
    for (name, node) in entries(root, "upstreams") {
        let at = At::Root.key("upstreams");
        let at = at.key(name);
        if let Some(name) = name_of(name, &at, UpstreamName::new, findings) {
            let draft = upstream::check(name.clone(), node, &at, findings);
            drafts.upstreams.insert(name, draft);
        }
    }
    for (name, node) in entries(root, "routes") {
        let at = At::Root.key("routes");
        let at = at.key(name);
        if let Some(name) = name_of(name, &at, RouteName::new, findings) {
            let draft = route::check(name.clone(), node, &at, &known, findings);
            drafts.routes.insert(name, draft);
        }
    }
    drafts.egress = egress::check(root, &known, findings);
    route::stream::check_upstreams(&mut drafts, findings);
    tls::listener::check_unarmed(&mut drafts, findings);
    tls::certificate::check_orders(&mut drafts, findings);
    tls::certificate::check_shared(&mut drafts, findings);
    tls::client::check_shared(&mut drafts, findings);
    tls::coverage::check(&mut drafts, findings);
    drafts
}

/// The named objects of a kind, in the order written.
fn entries<'n>(root: &'n Node, kind: &str) -> &'n [(String, Node)] {
    match root.get(kind).map(|node| &node.value) {
        Some(Value::Table(entries)) => entries,
        _ => &[],
    }
}

/// The name of an object. One without a name cannot be contained.
fn name_of<N>(
    name: &str,
    at: &At<'_>,
    new: impl Fn(&str) -> Result<N, crate::names::NameError>,
    findings: &mut Findings<'_>,
) -> Option<N> {
    let checked = new(name);
    if let Err(error) = &checked {
        let hint = "letters, digits, and . _ / - after the first character";
        findings.fatal(at, Finding::new("bad_name", error.to_string()).hint(hint));
    }
    checked.ok()
}

/// Leaves out what only follows from damage: everything on a damaged line, keys that may stand on
/// one, and names that may be defined on one.
fn believable(found: Vec<Problem>, document: &Document, sources: &Sources) -> Vec<Problem> {
    let text = |file: usize| {
        sources
            .files
            .get(file)
            .map_or("", |file| file.text.as_str())
    };
    let damaged: Vec<&str> = document
        .damage
        .iter()
        .filter_map(|damage| text(damage.file).get(damage.lines.clone()))
        .collect();
    let unread = sources
        .files
        .iter()
        .any(|file| file.form == Form::Unreadable);
    let believe = |problem: &Problem| {
        let place = problem.place.as_ref();
        let same_file = |damage: &&parse::Damage| place.is_some_and(|p| p.file == damage.file);
        let mut here = document.damage.iter().filter(same_file).peekable();
        if problem.code.starts_with("missing") && here.peek().is_some() {
            return false;
        }
        if problem.code.starts_with("unknown_") && problem.code != "unknown_key" {
            let quoted = |text: &str| {
                let name = problem.what.split('"').nth(1).unwrap_or_default();
                !name.is_empty() && text.contains(name)
            };
            if unread || damaged.iter().any(|text| quoted(text)) {
                return false;
            }
        }
        !here.any(|damage| {
            place.is_some_and(|p| {
                p.bytes.start <= damage.lines.end && damage.lines.start <= p.bytes.end
            })
        })
    };
    found.into_iter().filter(believe).collect()
}

/// By file and line, what has no place last.
pub(crate) fn sort(problems: &mut [Problem]) {
    problems.sort_by_cached_key(|problem| match &problem.place {
        Some(place) => (place.file, place.bytes.start, String::new()),
        None => (usize::MAX, 0, problem.at.clone()),
    });
}

/// The table at `key` of the top, decoded.
fn single<T>(root: &Node, key: &str, findings: &mut Findings<'_>) -> T
where
    T: serde::de::DeserializeOwned + Default,
{
    root.get(key).map_or_else(T::default, |node| {
        decode(node, &At::Root.key(key), findings)
    })
}
