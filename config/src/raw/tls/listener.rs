//! TLS on a listener, and client certificates, which a route may ask for as well.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        self, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use crate::raw::OneOrMany;

/// Which certificates a listener serves. The one for the name that the client asks for (SNI) is
/// chosen: that of the exact host, else of the longest wildcard. Who asks for another name, or for
/// none, gets `default` where there is one, else no connection.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ListenerCertificates {
    /// The issuer of certificates for the hosts of its routes that none of `names` stands for: the name
    /// of an `[acme.NAME]`, or `local`, the development CA of this machine. Default none.
    pub auto: Option<String>,
    /// Names of certificates. Default every `[certificates.*]`.
    pub names: Option<OneOrMany<String>>,
    /// The certificate for clients that ask for a name that no certificate stands for, or for none.
    /// Default none: their handshake ends with `unrecognized_name`.
    pub default: Option<String>,
}

/// How TLS is spoken on a listener. Cipher suites and key exchanges are not settable: those of TLS 1.3,
/// and of TLS 1.2 those with forward secrecy and authenticated encryption.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ListenerTls {
    /// The oldest version that is spoken. Default `1.2`.
    pub min_version: Option<TlsVersion>,
    /// What is offered as the protocol inside (ALPN), the best first; `[]` offers nothing. On an `https`
    /// listener `h2` and `http/1.1`, on a `tls` listener any. Default `["h2", "http/1.1"]` on an
    /// `https` listener, else nothing.
    pub alpn: Option<OneOrMany<String>>,
    /// Whether a client that comes back may take up its earlier session, which spares both sides the
    /// costly part of a handshake. Default `true`.
    pub session_tickets: Option<bool>,
}

/// A version of TLS. Older ones are broken, and not spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Certificates of clients (mutual TLS). Those of a route win whole over those of its listeners.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct ClientCertificates {
    /// Whether a client must have one. Default `required`.
    pub mode: Option<ClientCertificateMode>,
    /// Files in PEM with the CAs that are believed. Required unless `mode` is `off`.
    pub ca: Option<OneOrMany<String>>,
    /// Files in PEM with lists of certificates that were taken back; they are read again when they
    /// change. A CA without a list takes nothing back. Default none.
    pub crl: Option<OneOrMany<String>>,
    /// Names one of which the certificate must have: a host (`a.example.com`), a wildcard for one or more
    /// labels (`*.example.com`), a URI (`spiffe://shop/web`), or a URI with `*` as its last segment, for
    /// all below. Default any.
    pub san: Option<OneOrMany<String>>,
    /// Public keys one of which the certificate must have: `sha256/` and the SHA-256 of its
    /// `SubjectPublicKeyInfo` in base64. Default any.
    pub spki: Option<OneOrMany<String>>,
}

/// Whether a client must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificateMode {
    /// It is not asked for one.
    Off,
    /// It is asked for one, and may have none; a wrong one ends the handshake.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

/// A name, a list of names, or a table that says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamesOr<T> {
    /// The short form.
    Names(OneOrMany<String>),
    /// The long form.
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NamesOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = NamesOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names or a table")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(NamesOr::Names(OneOrMany::One(value.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(NamesOr::Table)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let names = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(NamesOr::Names(OneOrMany::Many(names)))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for NamesOr<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Names_or_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names = OneOrMany::<String>::json_schema(generator);
        let mut branches = names
            .get("anyOf")
            .and_then(serde_json::Value::as_array)
            .cloned()
            .unwrap_or_default();
        branches.push(generator.subschema_for::<T>().to_value());
        json_schema!({ "anyOf": branches })
    }
}
