//! The filter key `hsts`

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::raw::DurationText;

/// What browsers are told to reach by https only, and for how long (RFC 6797).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct HstsTerms {
    /// How long a browser remembers, after each answer anew; `0s` lets it forget. Range `0s` to `3650d`.
    /// Default `365d`.
    pub max_age: Option<DurationText>,
    /// Whether it holds for every host below this one too. Default `false`.
    pub include_subdomains: Option<bool>,
    /// Whether browsers may be delivered with it. Needs `include_subdomains` and `max_age` of `365d` at
    /// least, and is hard to take back. Default `false`.
    pub preload: Option<bool>,
}

/// `true`, `false`, a duration, or a table that says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hsts {
    /// With every default, or off.
    Bool(bool),
    /// For that long.
    MaxAge(String),
    /// On, and how.
    Table(HstsTerms),
}

impl<'de> Deserialize<'de> for Hsts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Hsts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a duration such as \"365d\", or a table")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Hsts::Bool(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Hsts::MaxAge(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                HstsTerms::deserialize(MapAccessDeserializer::new(map)).map(Hsts::Table)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for Hsts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Hsts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = DurationText::json_schema(generator);
        let table = generator.subschema_for::<HstsTerms>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, text, table] })
    }
}
