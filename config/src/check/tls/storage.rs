//! `[storage]`

use crate::check::{Draft, single, tls};
use crate::{
    findings::{Finding, Findings},
    model::{Etcd, EtcdLogin, Storage},
    raw, text,
    tree::{At, Node},
};

pub(in crate::check) fn check(root: &Node, findings: &mut Findings<'_>) -> Draft<Storage> {
    let at = At::Root.key("storage");
    let raw: raw::Storage = single(root, "storage", findings);
    let object = match (&raw.directory, &raw.etcd) {
        (None, None) => Some(Storage::Own),
        (Some(directory), None) => {
            tls::file(directory, &at.key("directory"), findings).map(Storage::Directory)
        }
        (None, Some(raw)) => Some(Storage::Etcd(etcd(raw, &at.key("etcd"), findings))),
        (Some(_), Some(_)) => {
            let finding = Finding::new("conflict", "directory and etcd cannot stand together");
            findings.key(&at, finding.hint("keep the one that every gateway reaches"));
            None
        }
    };
    Draft {
        object,
        clean: findings.is_clean(&at),
    }
}

fn etcd(raw: &raw::Etcd, at: &At<'_>, findings: &mut Findings<'_>) -> Etcd {
    let mut endpoints = Vec::new();
    let hint = "write endpoints = [\"http://127.0.0.1:2379\"]";
    match &raw.endpoints {
        None => {
            let finding = Finding::new("missing_key", format!("{at} lacks its endpoints"));
            findings.missing(at, "endpoints", finding.hint(hint));
        }
        Some(list) => {
            let at = at.key("endpoints");
            if list.as_slice().is_empty() {
                let finding = Finding::new("empty_list", "there is no member to ask");
                findings.value(&at, finding.hint(hint));
            }
            for (index, url) in list.as_slice().iter().enumerate() {
                match text::url(url, &["http", "https"]) {
                    Ok(()) => endpoints.push(url.clone()),
                    Err(finding) => {
                        findings.value(&at.element(index, list.is_list()), finding.hint(hint));
                    }
                }
            }
        }
    }
    let prefix = raw.prefix.as_deref().unwrap_or(Etcd::PREFIX);
    if !prefix.starts_with('/') || prefix.ends_with('/') {
        let what = format!("{prefix:?} does not begin with /, or ends with it");
        let finding = Finding::new("bad_path", what);
        findings.value(&at.key("prefix"), finding.hint("write \"/sluice\""));
    }
    let login = match (&raw.user, &raw.password) {
        (None, None) => None,
        (Some(user), Some(password)) => {
            let password = tls::secret(password, &at.key("password"), findings);
            password.map(|password| EtcdLogin {
                user: user.clone(),
                password,
            })
        }
        (Some(_), None) => {
            let finding = Finding::new("missing_key", "the user lacks its password");
            findings.missing(
                at,
                "password",
                finding.hint("write password = \"file:/PATH\""),
            );
            None
        }
        (None, Some(_)) => {
            let finding = Finding::new("missing_key", "nobody says whose password this is");
            findings.missing(at, "user", finding.hint("write user = \"NAME\""));
            None
        }
    };
    let ca = tls::files(raw.ca.as_ref(), &at.key("ca"), findings);
    Etcd {
        endpoints,
        prefix: prefix.to_owned(),
        login,
        ca,
    }
}
