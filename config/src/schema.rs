//! The JSON Schema of the language and its reference manual, both made from the `raw` types and
//! their comments, so that neither can say what the code does not.
//!
//! Both are committed (`config/sluice.schema.json`, `docs/config.md`); a test fails when they are
//! stale, `cargo xtask schema` writes them.

mod manual;
#[cfg(test)]
mod tests;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::raw;

/// The JSON Schema, for editors that complete and check TOML: `#:schema ./sluice.schema.json`.
pub fn json() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// The reference manual: every key with its type, default, range and meaning.
pub fn markdown() -> String {
    manual::markdown(&schema())
}

fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = Value::from(generator.into_root_schema_for::<raw::Root>());
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), Value::from("Sluice configuration"));
    }
    tidy(&mut schema);
    schema
}

/// TOML has no null, and an absent key is written by leaving it out: what schemars says about both
/// goes. Line breaks of comments become blanks.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(object) => {
            if object.get("default").is_some_and(is_empty) {
                object.remove("default");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(variants)) = object.get_mut("enum") {
                variants.retain(|variant| !variant.is_null());
            }
            if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(only)] = branches.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(tidy);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}
