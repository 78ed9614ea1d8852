//! An authority in memory, for tests: it signs what it is asked to, sensible or not.
//!
//! Everything panics instead of failing: a test that cannot have its certificate cannot go on.

mod client;
mod server;

use std::{net::IpAddr, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::Pair;

pub use client::{Client, Connected, Speaks, alert};
pub use server::{Seen, Server};

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, and those between it and the root without the root.
    chain: String,
    own: String,
    is_root: bool,
}

/// A certificate with its chain and its key, as files have them.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// PEM: the certificate, then those between it and the root.
    pub chain: String,
    /// PEM (PKCS #8).
    pub key: String,
    serial: SerialNumber,
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Wanted {
    names: Vec<String>,
    subject: Option<String>,
    key: Key,
    days: (i64, i64),
    usage: ExtendedKeyUsagePurpose,
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA with 2048 bits.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new("Test CA")
    }
}

impl Authority {
    /// A root of that name, valid for ten years.
    pub fn new(name: &str) -> Self {
        Self::valid(name, (-1, 3650))
    }

    /// A root of that name, valid from and until so many days from now.
    pub fn valid(name: &str, days: (i64, i64)) -> Self {
        let (params, key) = authority(name, days);
        let certificate = params.self_signed(&key).expect("a root");
        Self {
            own: certificate.pem(),
            chain: String::new(),
            issuer: Issuer::new(params, key),
            is_root: true,
        }
    }

    /// An authority below this one.
    #[must_use]
    pub fn intermediate(&self, name: &str) -> Self {
        let (params, key) = authority(name, (-1, 3650));
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("an intermediate");
        Self {
            chain: certificate.pem() + &self.chain,
            own: certificate.pem(),
            issuer: Issuer::new(params, key),
            is_root: false,
        }
    }

    /// Its own certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.own
    }

    /// Whether it signed itself.
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// A certificate for a server of these names: hosts, wildcards, addresses.
    pub fn server(&self, names: &[&str]) -> Leaf {
        self.sign(&Wanted::server(names))
    }

    /// A certificate for a client of these names: hosts and URIs.
    pub fn client(&self, names: &[&str]) -> Leaf {
        self.sign(&Wanted::client(names))
    }

    /// Signs.
    pub fn sign(&self, wanted: &Wanted) -> Leaf {
        let key = wanted.key.generate();
        let mut params = CertificateParams::default();
        params.subject_alt_names = wanted.names.iter().map(|name| san(name)).collect();
        params.distinguished_name = DistinguishedName::new();
        let first = wanted.names.first().map(|name| name.replace('\0', ""));
        if let Some(subject) = wanted.subject.clone().or(first) {
            params.distinguished_name.push(DnType::CommonName, subject);
        }
        (params.not_before, params.not_after) = times(wanted.days);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![wanted.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        let serial = SerialNumber::from(u64::from(rand::random::<u32>()) + 1);
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf {
            chain: certificate.pem() + &self.chain,
            key: key.serialize_pem(),
            serial,
        }
    }

    /// A list of revoked certificates in PEM, valid for a week.
    pub fn crl(&self, revoked: &[&Leaf]) -> String {
        self.crl_valid(revoked, (-1, 7))
    }

    /// The same, valid from and until so many days from now.
    pub fn crl_valid(&self, revoked: &[&Leaf], days: (i64, i64)) -> String {
        let (this_update, next_update) = times(days);
        let revoke = |leaf: &&Leaf| RevokedCertParams {
            serial_number: leaf.serial.clone(),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(revoke).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        list.pem().expect("a list in PEM")
    }
}

impl Leaf {
    /// Both, ready to be used.
    pub fn pair(&self) -> Pair {
        Pair::from_pem(self.chain.as_bytes(), self.key.as_bytes()).expect("a pair")
    }

    /// Writes both below `folder`, as `chain.pem` and `key.pem`.
    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join("chain.pem"), &self.chain).expect("the chain is written");
        std::fs::write(folder.join("key.pem"), &self.key).expect("the key is written");
    }
}

impl Wanted {
    /// A certificate for a server, valid for 90 days.
    pub fn server(names: &[&str]) -> Self {
        Self::new(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client, valid for 90 days.
    pub fn client(names: &[&str]) -> Self {
        Self::new(names, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn new(names: &[&str], usage: ExtendedKeyUsagePurpose) -> Self {
        Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            subject: None,
            key: Key::P256,
            days: (-1, 90),
            usage,
        }
    }

    /// With this common name; without one it is the first name.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }

    /// With a key of this kind; without one it is P-256.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Valid from and until so many days from now.
    #[must_use]
    pub fn days(mut self, from: i64, until: i64) -> Self {
        self.days = (from, until);
        self
    }
}

impl Key {
    fn generate(self) -> KeyPair {
        let key = match self {
            Self::P256 => KeyPair::generate(),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        };
        key.expect("a key")
    }
}

fn authority(name: &str, days: (i64, i64)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = times(days);
    (params, KeyPair::generate().expect("a key"))
}

fn times((from, until): (i64, i64)) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now + Duration::days(from), now + Duration::days(until))
}

fn san(name: &str) -> SanType {
    if let Ok(address) = name.parse::<IpAddr>() {
        return SanType::IpAddress(address);
    }
    let text = || name.try_into().expect("a name in ASCII");
    if name.contains("://") {
        SanType::URI(text())
    } else {
        SanType::DnsName(text())
    }
}
