//! What a certificate says, as everybody who looks at it wants to know it.

use std::{fmt::Write as _, net::IpAddr};

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{self, Oid},
    prelude::FromDer as _,
    public_key::PublicKey,
    x509::{AttributeTypeAndValue, SubjectPublicKeyInfo, X509Name},
};

use crate::name;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The hosts it is for, lower case: names, wildcards (`*.example.com`) and addresses. What is no
    /// host is left out.
    pub names: Vec<String>,
    /// The URIs it is for, as SPIFFE ids are.
    pub uris: Vec<String>,
    /// Valid from.
    pub not_before: OffsetDateTime,
    /// Valid until, inclusive.
    pub not_after: OffsetDateTime,
    /// Who it is for (RFC 4514).
    pub subject: String,
    /// Who signed it (RFC 4514).
    pub issuer: String,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// SHA-256 of its public key, as pins have it.
    pub spki: [u8; 32],
    /// The kind of its key.
    pub key: KeyKind,
    /// The addresses among the names.
    addresses: Vec<IpAddr>,
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// On the curve of that many bits.
    Ecdsa(usize),
    /// With a modulus of that many bits.
    Rsa(usize),
    /// Ed25519.
    Ed25519,
    /// Something else.
    Other,
}

/// A certificate that is none.
#[derive(Debug, thiserror::Error)]
#[error("the certificate cannot be read")]
pub struct Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Facts {
    /// Reads a certificate in DER.
    pub fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| Unreadable(Box::new(error)))?;
        let alternative = certificate
            .subject_alternative_name()
            .map_err(|error| Unreadable(Box::new(error)))?;
        let mut facts = Self {
            names: Vec::new(),
            uris: Vec::new(),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            subject: subject(certificate.subject()),
            issuer: subject(certificate.issuer()),
            serial: hex(certificate.raw_serial()),
            fingerprint: Sha256::digest(der).into(),
            spki: Sha256::digest(certificate.public_key().raw).into(),
            key: KeyKind::of(certificate.public_key()),
            addresses: Vec::new(),
        };
        let names = alternative.iter().flat_map(|it| &it.value.general_names);
        names.for_each(|name| facts.add(name));
        Ok(facts)
    }

    fn add(&mut self, general: &GeneralName<'_>) {
        match general {
            GeneralName::DNSName(text) if name::is_host(text) => {
                self.names.push(text.to_ascii_lowercase());
            }
            GeneralName::IPAddress(octets) => {
                let address = <[u8; 4]>::try_from(*octets)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
                if let Ok(address) = address {
                    self.names.push(address.to_string());
                    self.addresses.push(address);
                }
            }
            GeneralName::URI(text) if !text.chars().any(char::is_control) => {
                self.uris.push((*text).to_owned());
            }
            _ => {}
        }
    }

    /// Whether it is for `host`: a name in whatever case, also with a dot at its end, or an address.
    pub fn covers(&self, host: &str) -> bool {
        if let Some(address) = name::address(host) {
            return self.addresses.contains(&address.to_canonical());
        }
        let host = name::normal(host);
        self.names.iter().any(|name| name::covers(name, &host))
    }

    /// Whether it is for every host that `*.example.com` can stand for here. A certificate covers only
    /// one label, so this is about the first one.
    pub fn covers_wildcard(&self, wildcard: &str) -> bool {
        let wildcard = name::normal(wildcard);
        self.names.iter().any(|name| *name == *wildcard)
    }

    /// Whether it is valid at `now`.
    pub fn is_valid(&self, now: OffsetDateTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// [`Self::fingerprint`] in lower-case hexadecimal.
    pub fn fingerprint_hex(&self) -> String {
        hex(&self.fingerprint)
    }
}

impl KeyKind {
    fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        if key.algorithm.algorithm == oid_registry::OID_SIG_ED25519 {
            return Self::Ed25519;
        }
        match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => Self::Rsa(rsa.key_size()),
            // A point has whole bytes; the largest curve has not.
            Ok(PublicKey::EC(point)) if point.key_size() == 528 => Self::Ecdsa(521),
            Ok(PublicKey::EC(point)) => Self::Ecdsa(point.key_size()),
            _ => Self::Other,
        }
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ecdsa(bits) => write!(f, "ECDSA P-{bits}"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// Kinds of attributes that have a short name (RFC 4514 §3); others stand there by number.
static KINDS: [(Oid<'static>, &str); 10] = [
    (oid_registry::OID_X509_COMMON_NAME, "CN"),
    (oid_registry::OID_X509_LOCALITY_NAME, "L"),
    (oid_registry::OID_X509_STATE_OR_PROVINCE_NAME, "ST"),
    (oid_registry::OID_X509_ORGANIZATION_NAME, "O"),
    (oid_registry::OID_X509_ORGANIZATIONAL_UNIT, "OU"),
    (oid_registry::OID_X509_COUNTRY_NAME, "C"),
    (oid_registry::OID_X509_STREET_ADDRESS, "STREET"),
    (oid_registry::OID_DOMAIN_COMPONENT, "DC"),
    (oid_registry::OID_USERID, "UID"),
    (oid_registry::OID_PKCS9_EMAIL_ADDRESS, "emailAddress"),
];

/// A distinguished name as text (RFC 4514): the most specific part first.
pub fn subject(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (position, part) in parts.into_iter().rev().enumerate() {
        for (inner, attribute) in part.iter().enumerate() {
            if inner > 0 {
                text.push('+');
            } else if position > 0 {
                text.push(',');
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let known = KINDS.iter().find(|(kind, _)| kind == attribute.attr_type());
    match known {
        Some((_, short)) => text.push_str(short),
        None => text.push_str(&attribute.attr_type().to_id_string()),
    }
    text.push('=');
    let Ok(value) = attribute.as_str() else {
        text.push('#');
        text.push_str(&hex(attribute.as_slice()));
        return;
    };
    for (position, character) in value.chars().enumerate() {
        let first = position == 0;
        let last = position.saturating_add(1) == value.chars().count();
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            '#' if first => text.push_str("\\#"),
            ' ' if first || last => text.push_str("\\ "),
            character if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    // Writing to a string cannot fail.
                    write!(text, "\\{byte:02x}").unwrap_or_default();
                }
            }
            character => text.push(character),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}
