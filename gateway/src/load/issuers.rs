//! From whom certificates are ordered, and where they are kept, as the configuration and its files say.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{HeaderName, HeaderValue};
use sluice_certs::{
    Roots,
    acme::{
        ChallengeKind, Dns, Exec, ExternalAccount, Issuer, KeyChoice, OnDemand, TsigAlgorithm,
        Update, Webhook,
    },
    fetch::Client,
    storage::{Directory, Etcd, Login, Storage},
};
use sluice_config::{
    Problem, Snapshot,
    model::{self, Acme, AcmeChallenge, AcmeDns, AcmeKey, Secret, SecretText},
};

use super::trust::{Refused, read, roots};

/// From whom certificates are ordered, and where they are kept.
#[derive(Debug)]
pub struct Issuance {
    /// By name.
    pub issuers: BTreeMap<String, Arc<Issuer>>,
    /// Where accounts, certificates and what replicas share are kept.
    pub place: Place,
}

/// Where certificates are kept. Equal when it is the same place, asked in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder in the state directory: this gateway is alone.
    Own,
    /// A directory that several gateways reach.
    Directory(PathBuf),
    /// An etcd that several gateways reach.
    Etcd {
        /// URLs of its members.
        endpoints: Vec<String>,
        /// What all keys begin with.
        prefix: String,
        /// Who logs in.
        login: Option<Login>,
        /// With what it is called.
        client: Client,
    },
}

/// Below the state directory.
const FOLDER: &str = "certificates";

impl Place {
    /// The folder, where it is one. `state` is the state directory.
    pub fn folder(&self, state: &Path) -> Option<PathBuf> {
        match self {
            Self::Own => Some(state.join(FOLDER)),
            Self::Directory(path) => Some(path.clone()),
            Self::Etcd { .. } => None,
        }
    }

    /// What is kept there. `state` is the state directory.
    pub fn storage(&self, state: &Path) -> Arc<dyn Storage> {
        match self {
            Self::Own => Arc::new(Directory::new(state.join(FOLDER), false)),
            Self::Directory(path) => Arc::new(Directory::new(path, true)),
            Self::Etcd {
                endpoints,
                prefix,
                login,
                client,
            } => Arc::new(Etcd::new(client.clone(), endpoints, prefix, login.clone())),
        }
    }
}

/// Reads what `snapshot` names; none when it names no issuer. Blocks.
pub(super) fn read_all(snapshot: &Snapshot, problems: &mut Vec<Problem>) -> Option<Issuance> {
    if snapshot.acme.is_empty() {
        return None;
    }
    let mut system = None;
    let mut refuse = |at: String, refused: Refused| {
        problems.push(Problem {
            code: "issuer",
            at: format!("{at}{}", refused.key),
            what: refused.what,
            hint: refused.hint.map(str::to_owned),
            witness: None,
            place: None,
        });
    };
    let mut issuers = BTreeMap::new();
    for (name, model) in &snapshot.acme {
        match issuer(model, &mut system) {
            Ok(issuer) => drop(issuers.insert(name.to_string(), Arc::new(issuer))),
            Err(refused) => refuse(format!("acme.{name}"), refused),
        }
    }
    match place(&snapshot.storage, &mut system) {
        Ok(place) => Some(Issuance { issuers, place }),
        Err(refused) => {
            refuse("storage.etcd".to_owned(), refused);
            None
        }
    }
}

/// The files that an issuer or the storage is read from.
pub(super) fn named(snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut secret = |text: &SecretText| match text {
        SecretText::File(path) => paths.push(path.clone()),
        SecretText::Text(_) => {}
    };
    for acme in snapshot.acme.values() {
        if let Some(account) = &acme.external_account {
            secret(&account.key);
        }
        match &acme.dns {
            Some(AcmeDns::Rfc2136(update)) => secret(&update.key),
            Some(AcmeDns::Webhook(hook)) => hook.headers.iter().for_each(|(_, it)| secret(it)),
            Some(AcmeDns::Exec(_)) | None => {}
        }
    }
    let mut bundles: Vec<PathBuf> = Vec::new();
    if !snapshot.acme.is_empty()
        && let model::Storage::Etcd(etcd) = &*snapshot.storage
    {
        if let Some(login) = &etcd.login {
            secret(&login.password);
        }
        bundles.extend(etcd.ca.iter().cloned());
    }
    bundles.extend(snapshot.acme.values().flat_map(|acme| &acme.ca).cloned());
    paths.extend(bundles);
    paths
}

fn issuer(model: &Acme, system: &mut Option<Roots>) -> Result<Issuer, Refused> {
    let client = client(".ca", roots(&model.ca, system)?)?;
    let external_account = model.external_account.as_ref().map(|account| {
        let key = bytes(&account.key, ".external_account.key")?;
        Ok(ExternalAccount {
            key_id: account.key_id.clone(),
            key,
        })
    });
    let on_demand = model.on_demand.as_ref().map(|it| {
        let ask = it.ask.as_ref();
        let ask = ask.map(|url| Ok((url.clone(), client_for(url, ".on_demand.ask", system)?)));
        Ok(OnDemand {
            allow: it.allow.iter().map(ToString::to_string).collect(),
            ask: ask.transpose()?,
            rate: Some((it.rate.count, it.rate.per)),
        })
    });
    let on_demand = on_demand.transpose()?;
    let dns = model.dns.as_ref().map(|model| dns(model, system));
    Ok(Issuer {
        name: model.name.to_string(),
        directory: model.directory.clone(),
        contact: model.contact.clone(),
        challenge: match model.challenge {
            AcmeChallenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
            AcmeChallenge::Http01 => ChallengeKind::Http01,
            AcmeChallenge::Dns01 => ChallengeKind::Dns01,
        },
        dns: dns.transpose()?,
        external_account: external_account.transpose()?,
        profile: model.profile.clone(),
        key: match model.key {
            AcmeKey::EcdsaP256 => KeyChoice::EcdsaP256,
            AcmeKey::EcdsaP384 => KeyChoice::EcdsaP384,
            AcmeKey::Rsa2048 => KeyChoice::Rsa2048,
        },
        fallback: model.fallback.iter().map(ToString::to_string).collect(),
        on_demand,
        client,
    })
}

fn dns(model: &AcmeDns, system: &mut Option<Roots>) -> Result<Dns, Refused> {
    Ok(match model {
        AcmeDns::Rfc2136(update) => Dns::Update(Update {
            server: update.server.to_string(),
            zone: update.zone.clone(),
            key_name: update.key_name.clone(),
            key: bytes(&update.key, ".dns.rfc2136.key")?,
            algorithm: match update.algorithm {
                model::TsigAlgorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
                model::TsigAlgorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
                model::TsigAlgorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
            },
        }),
        AcmeDns::Exec(exec) => Dns::Exec(Exec {
            command: exec.command.clone(),
            timeout: exec.timeout,
        }),
        AcmeDns::Webhook(hook) => {
            let headers = hook.headers.iter().map(|(name, value)| {
                const KEY: &str = ".dns.webhook.headers";
                let wrong = |what: &str| Refused {
                    key: KEY,
                    what: format!("{name} {what}"),
                    hint: None,
                };
                let text = text(value, KEY)?;
                let header = HeaderName::from_bytes(name.as_str().as_bytes());
                let mut value = HeaderValue::from_str(text.expose())
                    .map_err(|_| wrong("has a value that no header can have"))?;
                value.set_sensitive(true);
                let header = header.map_err(|_| wrong("is no header"))?;
                Ok((header, value))
            });
            Dns::Webhook(Webhook {
                url: hook.url.clone(),
                headers: headers.collect::<Result<_, _>>()?,
                client: client_for(&hook.url, ".dns.webhook.url", system)?,
            })
        }
    })
}

fn place(model: &model::Storage, system: &mut Option<Roots>) -> Result<Place, Refused> {
    let etcd = match model {
        model::Storage::Own => return Ok(Place::Own),
        model::Storage::Directory(path) => return Ok(Place::Directory(path.clone())),
        model::Storage::Etcd(etcd) => etcd,
    };
    let is_secure = etcd.endpoints.iter().any(|url| is_secure(url));
    let login = etcd.login.as_ref().map(|login| {
        Ok(Login {
            user: login.user.clone(),
            password: text(&login.password, ".password")?.expose().to_owned(),
        })
    });
    Ok(Place::Etcd {
        endpoints: etcd.endpoints.clone(),
        prefix: etcd.prefix.clone(),
        login: login.transpose()?,
        client: if is_secure {
            client(".ca", roots(&etcd.ca, system)?)?
        } else {
            Client::plain()
        },
    })
}

fn client(key: &'static str, roots: Roots) -> Result<Client, Refused> {
    Client::new(roots).map_err(|error| Refused::new(key, &error))
}

/// A client that believes whom the system believes, where anybody has to be.
fn client_for(url: &str, key: &'static str, system: &mut Option<Roots>) -> Result<Client, Refused> {
    if is_secure(url) {
        let roots = roots(&[], system).map_err(|refused| Refused { key, ..refused })?;
        client(key, roots)
    } else {
        Ok(Client::plain())
    }
}

fn is_secure(url: &str) -> bool {
    url.starts_with("https:")
}

fn text(secret: &SecretText, key: &'static str) -> Result<Secret, Refused> {
    let path = match secret {
        SecretText::Text(secret) => return Ok(secret.clone()),
        SecretText::File(path) => path,
    };
    let bytes = read(path).map_err(|error| Refused::of(key, path, &error))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| Refused::of(key, path, &error))?;
    Ok(Secret::new(text.trim()))
}

fn bytes(secret: &SecretText, key: &'static str) -> Result<Vec<u8>, Refused> {
    let decoded = text(secret, key)?.decoded();
    decoded.filter(|bytes| !bytes.is_empty()).ok_or(Refused {
        key,
        // The text itself is a secret: no message repeats it.
        what: "this is no key in base64".to_owned(),
        hint: None,
    })
}

#[cfg(test)]
mod tests {
    use sluice_certs::authority::local::Local;
    use sluice_config::{Sources, check};

    use super::*;

    fn read_all(text: &str) -> (Option<Issuance>, Vec<Problem>) {
        let report = check(&Sources::from_text("a.toml", text), None);
        let snapshot = report.snapshot;
        let snapshot = snapshot.unwrap_or_else(|| panic!("{:?}", report.problems));
        let mut problems = Vec::new();
        let issuance = super::read_all(&snapshot, &mut problems);
        (issuance, problems)
    }

    /// An issuer that trusts the certificate in `folder`, with `more` in its table.
    fn issuer(folder: &Path, more: &str) -> String {
        let made = Local::open(folder, "here", time::OffsetDateTime::now_utc());
        made.expect("an authority");
        let ca = Local::root(folder);
        format!(
            "[acme.one]\ndirectory = \"https://one.example/dir\"\nca = \"{}\"\n{more}\n",
            ca.display()
        )
    }

    #[test]
    fn what_is_in_files_is_read_without_the_space_around_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("token"), "Bearer secret\n").expect("a file");
        std::fs::write(path("eab"), " c2VjcmV0 \n").expect("a file");
        let text = issuer(
            folder.path(),
            &format!(
                "challenge = \"dns-01\"\nprofile = \"brief\"\n\
                 external_account = {{ key_id = \"k\", key = \"file:{}\" }}\n\
                 [acme.one.dns.webhook]\nurl = \"http://127.0.0.1:1/\"\n\
                 headers = {{ authorization = \"file:{}\" }}\n",
                path("eab"),
                path("token")
            ),
        );
        let (issuance, problems) = read_all(&text);
        assert_eq!(problems, []);
        let issuance = issuance.expect("issuers");
        assert_eq!(issuance.place, Place::Own);
        let issuer = &issuance.issuers["one"];
        assert_eq!(issuer.profile.as_deref(), Some("brief"));
        let account = issuer.external_account.as_ref().expect("an account");
        assert_eq!(account.key, b"secret");
        let Some(Dns::Webhook(hook)) = &issuer.dns else {
            panic!("no webhook: {:?}", issuer.dns)
        };
        assert_eq!(hook.headers[0].1, "Bearer secret");
        assert!(hook.headers[0].1.is_sensitive());
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("none"), "no base64!").expect("a file");
        let account = |file: &str| {
            let file = path(file);
            format!("external_account = {{ key_id = \"k\", key = \"file:{file}\" }}")
        };
        for (more, at, words) in [
            (
                account("none"),
                "acme.one.external_account.key",
                "no key in base64",
            ),
            (
                account("missing"),
                "acme.one.external_account.key",
                "cannot be used",
            ),
        ] {
            let (_, problems) = read_all(&issuer(folder.path(), &more));
            let problem = problems.first().expect("a problem");
            assert_eq!((problem.at.as_str(), problems.len()), (at, 1));
            assert!(problem.what.contains(words), "{}", problem.what);
        }
        let text = issuer(folder.path(), "");
        std::fs::write(Local::root(folder.path()), "none").expect("a file");
        let (_, problems) = read_all(&text);
        assert_eq!(
            problems.first().map(|it| it.at.as_str()),
            Some("acme.one.ca")
        );
    }
}
