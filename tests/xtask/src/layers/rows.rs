//! The rows of the gateway: a file imports from rows below its own, or sideways without a circle.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::source::{Source, paths, tokens};

/// From top to bottom, as drawn in `gateway/src/lib.rs`.
const ROWS: [&[&str]; 13] = [
    &["main", "args", "commands", "log"],
    &["engine", "worker", "source", "explain", "admin"],
    &["load", "listener"],
    &["connection"],
    &["http", "l4"],
    &["plan"],
    &["filter", "authn"],
    &["authz", "route", "egress", "limit"],
    &["upstream"],
    &["message", "stream", "frames"],
    &["telemetry"],
    &["downstream"],
    &["drain", "error", "pressure", "turns"],
];

/// A module of the gateway: `["upstream", "pool"]`.
type Module = Vec<String>;

/// What each module imports.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// Every import that goes up, every circle, every module without a row.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let files: BTreeMap<Module, &Source> = sources
        .iter()
        .filter_map(|source| Some((module(&source.path)?, source)))
        .collect();
    let mut violations = Vec::new();
    let mut graph = Graph::new();
    for (own, source) in &files {
        if row(own).is_none() {
            violations.push(format!(
                "{}: has no row in the layer table",
                source.path.display()
            ));
        }
        for path in imports(own, source) {
            match target(&path, &files) {
                Some(target) => {
                    violations.extend(upwards(own, &target, source));
                    // The words of the command line name its verbs, and these the words.
                    if !binary(own) {
                        graph.entry(own.clone()).or_default().insert(target);
                    }
                }
                None if binary(own) => {}
                None => violations.push(format!(
                    "{}: crate::{} names no module; import it from where it is defined",
                    source.path.display(),
                    path.join("::")
                )),
            }
        }
    }
    let roots = lift(&graph);
    violations.extend(circle(&roots).or_else(|| circle(&siblings(&graph))));
    violations
}

/// The module of a file of the gateway; none for others and for the root of the library.
fn module(path: &Path) -> Option<Module> {
    let below = path.strip_prefix("gateway/src").ok()?.with_extension("");
    let parts: Module = below
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    (parts != ["lib"]).then_some(parts)
}

fn row(module: &[String]) -> Option<usize> {
    let root = module.first()?;
    ROWS.iter().position(|row| row.contains(&root.as_str()))
}

fn binary(module: &[String]) -> bool {
    row(module) == Some(0)
}

/// The paths that a file imports, from the root of the crate.
fn imports(own: &[String], source: &Source) -> Vec<Vec<String>> {
    let tokens = tokens(&source.code);
    let owned = |path: Vec<&str>| path.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let mut found: Vec<Vec<String>> = paths(&tokens, "crate").into_iter().map(owned).collect();
    for path in paths(&tokens, "super") {
        let ups = path.iter().take_while(|word| **word == "super").count();
        let keep = own.len().saturating_sub(ups.saturating_add(1));
        let base = own.iter().take(keep).cloned();
        let absolute: Vec<String> = base.chain(owned(path).into_iter().skip(ups)).collect();
        // `super::super` inside a module of the file, or a glob of the root.
        if !absolute.is_empty() {
            found.push(absolute);
        }
    }
    found
}

/// The deepest module that `path` names.
fn target(path: &[String], files: &BTreeMap<Module, &Source>) -> Option<Module> {
    (1..=path.len())
        .rev()
        .filter_map(|length| path.get(..length))
        .find(|prefix| files.contains_key(*prefix))
        .map(<[String]>::to_vec)
}

fn upwards(own: &[String], target: &[String], source: &Source) -> Option<String> {
    let same = own.first() == target.first();
    let above = row(target)? < row(own)?;
    (!same && above).then(|| {
        format!(
            "{}: imports crate::{} from a row above its own",
            source.path.display(),
            target.join("::")
        )
    })
}

/// The graph of the modules at the root.
fn lift(graph: &Graph) -> Graph {
    let mut roots = Graph::new();
    for (own, targets) in graph {
        for target in targets
            .iter()
            .filter(|target| target.first() != own.first())
        {
            let own = own.iter().take(1).cloned().collect();
            let target = target.iter().take(1).cloned().collect();
            roots.entry(own).or_default().insert(target);
        }
    }
    roots
}

/// The graph without the edges between a module and what it holds: a part may know its whole, and
/// the whole its parts.
fn siblings(graph: &Graph) -> Graph {
    let related = |a: &Module, b: &Module| a.starts_with(b) || b.starts_with(a);
    graph
        .iter()
        .map(|(own, targets)| {
            let targets = targets.iter().filter(|target| !related(own, target));
            (own.clone(), targets.cloned().collect())
        })
        .collect()
}

/// One circle, if there is any.
fn circle(graph: &Graph) -> Option<String> {
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        let mut trail = Vec::new();
        if let Some(circle) = walk(graph, start, &mut trail, &mut done) {
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            return Some(format!(
                "gateway/src: a circle of imports: {}",
                names.join(" → ")
            ));
        }
    }
    None
}

fn walk(
    graph: &Graph,
    at: &Module,
    trail: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(begin) = trail.iter().position(|module| module == at) {
        let circle = trail.iter().skip(begin).chain([at]);
        return Some(circle.cloned().collect());
    }
    if done.contains(at) {
        return None;
    }
    trail.push(at.clone());
    let next = graph.get(at).into_iter().flatten();
    let found = next
        .into_iter()
        .find_map(|next| walk(graph, next, trail, done));
    trail.pop();
    done.insert(at.clone());
    found
}
