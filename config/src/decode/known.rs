//! Which keys a table takes: read from the schema of the `raw` types, so that no list is kept twice.

use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::{raw, tree::Segment};

static SCHEMA: LazyLock<Json> = LazyLock::new(|| schemars::schema_for!(raw::Root).to_value());

/// The keys that the table at `path` takes; none where any name is a key.
pub(super) fn keys(path: &[Segment]) -> Vec<String> {
    let schemas = at(path);
    let properties = schemas
        .iter()
        .filter_map(|schema| schema.get("properties")?.as_object());
    properties
        .flat_map(|properties| properties.keys().cloned())
        .collect()
}

/// Where a key belongs that is not known at `path`: one level up, or at the top.
pub(super) fn home(path: &[Segment], key: &str) -> Option<String> {
    let takes = |path: &[Segment]| keys(path).iter().any(|known| known == key);
    let above = (1..path.len()).rev().filter_map(|depth| path.get(..depth));
    let above = above.filter(|path| !matches!(path.last(), Some(Segment::Key(k)) if k == "rules"));
    let home = above.clone().find(|path| takes(path))?;
    let text = Segment::text(home);
    // In TOML everything below the first `[[…rules]]` belongs to a rule.
    Some(match path.get(home.len()) {
        Some(Segment::Key(rules)) if rules == "rules" => {
            format!("{key} belongs to {text}: move it above the first [[{text}.rules]]")
        }
        _ => format!("{key} belongs to {text}"),
    })
}

fn at(path: &[Segment]) -> Vec<&'static Json> {
    let mut here = open(&SCHEMA);
    for segment in path {
        here = here
            .into_iter()
            .filter_map(|schema| match segment {
                Segment::Key(key) => schema
                    .get("properties")
                    .and_then(|properties| properties.get(key))
                    .or_else(|| schema.get("additionalProperties").filter(|s| s.is_object())),
                Segment::Index(_) => schema.get("items"),
            })
            .flat_map(open)
            .collect();
    }
    here
}

/// The alternatives that a schema stands for.
fn open(schema: &'static Json) -> Vec<&'static Json> {
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| SCHEMA.pointer(pointer));
        return target.map(open).unwrap_or_default();
    }
    let either = ["anyOf", "oneOf", "allOf"]
        .iter()
        .filter_map(|word| schema.get(word)?.as_array());
    let inner: Vec<&Json> = either.flatten().flat_map(open).collect();
    if inner.is_empty() {
        vec![schema]
    } else {
        inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Segment> {
        let step = |word: &str| match word.parse() {
            Ok(index) => Segment::Index(index),
            Err(_) => Segment::Key(word.to_owned()),
        };
        text.split(' ').map(step).collect()
    }

    #[test]
    fn every_table_knows_its_keys() {
        for (at, key) in [
            ("process", "workers"),
            ("routes app", "hosts"),
            ("routes app rules 0", "match"),
            ("routes app rules 0 match", "cookies"),
            ("routes app rules 0 match 1 path", "starts_with"),
            ("routes app to 2", "weight"),
            ("routes app to", "weight"),
            ("listeners web https_redirect", "port"),
            ("upstreams u endpoints 0", "address"),
        ] {
            assert!(
                keys(&path(at)).iter().any(|known| known == key),
                "{at} {key}"
            );
        }
    }

    #[test]
    fn a_key_of_the_route_in_a_rule_is_told_where_to_go() {
        assert_eq!(
            home(&path("routes app rules 1"), "hosts").unwrap(),
            "hosts belongs to routes.app: move it above the first [[routes.app.rules]]"
        );
        assert_eq!(home(&path("routes app rules 1"), "nonsense"), None);
    }
}
