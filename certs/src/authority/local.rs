//! The development CA of this machine: certificates that a browser takes once it trusts one root.
//!
//! What must stay true: the root is made once and kept, since people trust it by hand; its key is
//! readable by its owner only; a crash at any moment leaves the old files or the new ones.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    Facts, Pair, PairError,
    durable::{self, PRIVATE, PUBLIC},
    pair::certificates,
};

/// How long the root is good for. It is trusted by hand, which nobody wants to do often.
const ROOT: Duration = Duration::days(3650);

/// How long a certificate is good for. Browsers refuse some that are good for longer than 398 days.
const LEAF: Duration = Duration::days(90);

/// A certificate is renewed when it is good for less than this.
const RENEW: Duration = Duration::days(30);

/// Clocks of other machines may be behind.
const SKEW: Duration = Duration::hours(1);

/// The root with its key.
const AUTHORITY: &str = "authority.pem";

/// The root alone, for those who shall trust it.
const PUBLIC_ROOT: &str = "root.pem";

/// The folder of the certificates, each with its key.
const LEAVES: &str = "certificates";

/// A development CA.
pub struct Local {
    folder: PathBuf,
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// The root of a development CA, without its key.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its file.
    pub path: PathBuf,
    /// The content of that.
    pub pem: String,
    /// What it says.
    pub facts: Facts,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Local");
        fields.field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Why there is no certificate of the development CA.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kept file is not what was written.
    #[error("{} is broken: delete it for a new one", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: PairError,
    },
    /// A certificate cannot be made.
    #[error("signing a certificate for {subject}")]
    Sign {
        /// For whom.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

impl Local {
    /// The CA in `folder`, made when there is none or it has ended. `machine` stands in its name, so
    /// that people can tell whose it is.
    pub fn open(folder: &Path, machine: &str, now: OffsetDateTime) -> Result<Self, LocalError> {
        sweep(folder);
        let path = folder.join(AUTHORITY);
        let kept = read(&path)?;
        let text = match kept {
            Some(text) if !is_over(&path, &text, now)? => text,
            Some(_) => {
                let text = root(machine, now)?;
                let replaced = durable::replace(&path, text.as_bytes(), PRIVATE);
                replaced.map_err(|source| file(&path, source))?;
                text
            }
            None => {
                let text = root(machine, now)?;
                match durable::create(&path, text.as_bytes(), PRIVATE) {
                    Ok(()) => text,
                    // Another process was faster; there is to be one.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        read(&path)?.ok_or_else(|| file(&path, error))?
                    }
                    Err(error) => return Err(file(&path, error)),
                }
            }
        };
        let local = Self::read(folder, &path, &text)?;
        local.publish()?;
        Ok(local)
    }

    fn read(folder: &Path, path: &Path, text: &str) -> Result<Self, LocalError> {
        let broken = |source| broken(path, source);
        let root = certificates(text.as_bytes()).map_err(broken)?;
        let root = root.into_iter().next();
        let root = root.ok_or_else(|| broken(PairError::NoCertificate))?;
        let sign = |source| LocalError::Sign {
            subject: "itself".to_owned(),
            source,
        };
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes());
        let key = key.map_err(|error| broken(PairError::Pem(error)))?;
        let key = KeyPair::try_from(&key).map_err(sign)?;
        let issuer = Issuer::from_ca_cert_der(&root, key).map_err(sign)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            root,
            issuer,
        })
    }

    /// Where the root is that people trust.
    pub fn root(folder: &Path) -> PathBuf {
        folder.join(PUBLIC_ROOT)
    }

    /// The root that people trust, of the CA that was opened in `folder` before; none where none was.
    pub fn published(folder: &Path) -> Result<Option<Root>, LocalError> {
        let path = Self::root(folder);
        let Some(pem) = read(&path)? else {
            return Ok(None);
        };
        let all = certificates(pem.as_bytes()).map_err(|source| broken(&path, source))?;
        let first = all.first().ok_or(PairError::NoCertificate);
        let first = first.map_err(|source| broken(&path, source))?;
        let facts = Facts::read(first);
        let facts = facts.map_err(|source| broken(&path, source.into()))?;
        Ok(Some(Root { path, pem, facts }))
    }

    /// What the root says.
    pub fn facts(&self) -> Result<Facts, LocalError> {
        let unreadable = |error| broken(&self.folder.join(AUTHORITY), PairError::from(error));
        Facts::read(&self.root).map_err(unreadable)
    }

    /// The certificate called `name` for `hosts`: the kept one, unless it is for others, of another
    /// root, or due.
    pub fn pair(
        &self,
        name: &str,
        hosts: &[String],
        now: OffsetDateTime,
    ) -> Result<Pair, LocalError> {
        if let Some(text) = read(&self.path(name))? {
            // What is broken is made anew: nobody has to trust it by hand.
            if let Ok(pair) = Pair::from_pem(text.as_bytes(), text.as_bytes())
                && self.will_do(&pair, hosts, now)
            {
                return Ok(pair);
            }
        }
        self.renew(name, hosts, now)
    }

    /// A new certificate called `name` for `hosts`, instead of any that is kept.
    pub fn renew(
        &self,
        name: &str,
        hosts: &[String],
        now: OffsetDateTime,
    ) -> Result<Pair, LocalError> {
        let path = self.path(name);
        let text = self.sign(hosts, now)?;
        let replaced = durable::replace(&path, text.as_bytes(), PRIVATE);
        replaced.map_err(|source| file(&path, source))?;
        Pair::from_pem(text.as_bytes(), text.as_bytes()).map_err(|source| broken(&path, source))
    }

    /// The chain and the key of the kept certificate called `name`, in PEM; none where none is kept.
    pub fn kept(folder: &Path, name: &str) -> Result<Option<String>, LocalError> {
        read(&place(folder, name))
    }

    /// When a certificate of this CA is to be made anew.
    pub fn due(facts: &Facts) -> OffsetDateTime {
        facts.not_after - RENEW
    }

    fn path(&self, name: &str) -> PathBuf {
        place(&self.folder, name)
    }

    fn will_do(&self, pair: &Pair, hosts: &[String], now: OffsetDateTime) -> bool {
        let facts = pair.facts();
        let fits =
            hosts.len() == facts.names.len() && hosts.iter().all(|host| facts.names.contains(host));
        let mine = || {
            let leaf = pair.certified().cert.first()?;
            let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
            let (_, root) = X509Certificate::from_der(&self.root).ok()?;
            leaf.verify_signature(Some(root.public_key())).ok()
        };
        fits && now < Self::due(facts) && facts.not_before <= now && mine().is_some()
    }

    /// A certificate and its key in one text, so that no crash can part them.
    fn sign(&self, hosts: &[String], now: OffsetDateTime) -> Result<String, LocalError> {
        let failed = |source| LocalError::Sign {
            subject: hosts.join(", "),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(first) = hosts.first() {
            params.distinguished_name.push(DnType::CommonName, first);
        }
        let names = hosts.iter().map(|host| match host.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => host.as_str().try_into().map(SanType::DnsName),
        });
        params.subject_alt_names = names.collect::<Result<_, _>>().map_err(failed)?;
        params.not_before = now - SKEW;
        // A certificate must not outlive its issuer.
        params.not_after = (now + LEAF).min(self.facts()?.not_after);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(certificate.pem() + &key.serialize_pem())
    }

    /// Puts the root where people find it.
    fn publish(&self) -> Result<(), LocalError> {
        let path = Self::root(&self.folder);
        let kept = read(&path)?;
        let kept = kept.and_then(|text| certificates(text.as_bytes()).ok());
        if kept.is_some_and(|kept| kept.first() == Some(&self.root)) {
            return Ok(());
        }
        let text = read(&self.folder.join(AUTHORITY))?.unwrap_or_default();
        let root = text.split_inclusive(END).next().unwrap_or_default();
        let replaced = durable::replace(&path, format!("{root}\n").as_bytes(), PUBLIC);
        replaced.map_err(|source| file(&path, source))
    }
}

/// Where the certificate called `name` is kept.
fn place(folder: &Path, name: &str) -> PathBuf {
    // A name may have a slash, and no host may lead out of the folder.
    let name = name.replace('%', "%25").replace('/', "%2F");
    folder.join(LEAVES).join(format!("{name}.pem"))
}

/// Removes what killed processes left behind.
fn sweep(folder: &Path) {
    for folder in [folder, &folder.join(LEAVES)] {
        // It may not be there yet.
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            durable::sweep(&entry.path());
        }
    }
}

const END: &str = "-----END CERTIFICATE-----";

/// The root and its key in one text.
fn root(machine: &str, now: OffsetDateTime) -> Result<String, LocalError> {
    let name = format!("Sluice local development CA {machine}");
    let failed = |source| LocalError::Sign {
        subject: name.clone(),
        source,
    };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, &name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - SKEW;
    params.not_after = now + ROOT;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

/// Whether a kept root cannot sign for as long as a certificate lasts.
fn is_over(path: &Path, text: &str, now: OffsetDateTime) -> Result<bool, LocalError> {
    let pair = Pair::from_pem(text.as_bytes(), text.as_bytes());
    let pair = pair.map_err(|source| broken(path, source))?;
    Ok(pair.facts().not_after < now + RENEW)
}

fn read(path: &Path) -> Result<Option<String>, LocalError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(path, error)),
    }
}

fn file(path: &Path, source: io::Error) -> LocalError {
    LocalError::File {
        path: path.to_path_buf(),
        source,
    }
}

fn broken(path: &Path, source: PairError) -> LocalError {
    LocalError::Broken {
        path: path.to_path_buf(),
        source,
    }
}
