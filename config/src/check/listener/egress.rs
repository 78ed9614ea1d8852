//! `basic` and `open` of a listener: who may use a proxy; and what an egress listener cannot be.

use std::sync::Arc;

use crate::check::tls;
use crate::{
    findings::{Finding, Findings},
    model::{
        Basic, BasicError, Bind, ClientCertificateMode, ListenerTls, PasswordHash,
        PasswordHashError, Protocol,
    },
    raw,
    tree::At,
};

/// Whom it asks, and whether it lets anybody in.
pub(super) fn check(
    raw: &raw::Listener,
    protocol: Protocol,
    (bind, tls): (Option<&Bind>, Option<&ListenerTls>),
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> (Option<Arc<Basic>>, bool) {
    let basic = raw.basic.as_ref();
    let basic = basic.map(|raw| Arc::new(self::basic(raw, &at.key("basic"), findings)));
    let open = raw.open.unwrap_or(false);
    // Of a protocol that cannot be read nothing is known.
    if !findings.is_clean(&at.key("protocol")) {
        return (basic, open);
    }
    let is_unix = bind.is_some_and(|bind| bind.socket().is_none());
    if protocol == Protocol::Transparent && is_unix {
        let what = "nothing that was meant for somewhere else is redirected to a unix socket";
        let finding = Finding::new("conflict", what).hint("write ADDRESS:PORT");
        findings.value(&at.key("address"), finding);
    }
    if protocol == Protocol::ForwardProxy {
        admission(raw, open, (bind, tls), at, findings);
        return (basic, open);
    }
    let misplaced = [
        (
            "basic",
            raw.basic.is_some(),
            "only a forward-proxy listener asks for names and passwords",
        ),
        (
            "open",
            raw.open.is_some(),
            "only a forward-proxy listener has to say that anybody may use it",
        ),
    ];
    for (key, _, what) in misplaced.iter().filter(|(_, written, _)| *written) {
        let hint = format!("take {key} away");
        findings.key(&at.key(key), Finding::new("conflict", *what).hint(hint));
    }
    (None, false)
}

/// Somebody has to say who may use a proxy: one that anybody reaches and uses is found within hours.
fn admission(
    raw: &raw::Listener,
    open: bool,
    (bind, tls): (Option<&Bind>, Option<&ListenerTls>),
    at: &At<'_>,
    findings: &mut Findings<'_>,
) {
    let asked = tls.and_then(|tls| tls.client_certificates.as_ref());
    let required = asked.is_some_and(|asked| asked.mode == ClientCertificateMode::Required);
    let written = [
        ("basic", raw.basic.is_some()),
        ("client_certificates", required),
    ];
    let asks = written.into_iter().find(|(_, asks)| *asks);
    if let Some((key, _)) = asks {
        if open {
            let what = format!("open lets anybody in, and {key} does not");
            let finding = Finding::new("conflict", what);
            findings.key(&at.key("open"), finding.hint("take one of them away"));
        }
        return;
    }
    let local = bind.is_none_or(|bind| {
        let address = bind.socket().map(|address| address.ip().to_canonical());
        address.is_none_or(|ip| ip.is_loopback())
    });
    let settings = ["basic", "open", "certificates", "client_certificates"];
    let clear = settings.iter().all(|key| findings.is_clean(&at.key(key)));
    if !open && !local && clear {
        let what = format!("anybody who reaches {at} could use it");
        let hint = "write basic = { users = { NAME = \"HASH\" } }, client_certificates = { mode = \
                    \"required\", ca = \"clients.pem\" } with certificates, or open = true where \
                    only [egress] shall decide";
        findings.key(at, Finding::new("open_proxy", what).hint(hint));
    }
}

fn basic(raw: &raw::Basic, at: &At<'_>, findings: &mut Findings<'_>) -> Basic {
    let mut realm = Basic::REALM.to_owned();
    if let Some(text) = &raw.realm {
        match Basic::check_realm(text) {
            Ok(()) => realm.clone_from(text),
            Err(error) => {
                let finding = bad(error, &format!("{text:?} is no realm"));
                findings.value(&at.key("realm"), finding);
            }
        }
    }
    let mut users = Vec::new();
    let of_users = at.key("users");
    for (name, hash) in raw.users.iter().flat_map(raw::Table::iter) {
        let at = of_users.key(name);
        if let Err(error) = Basic::check_user(name) {
            let finding = bad(error, &format!("{name:?} is no name of a user"));
            findings.key(&at, finding);
            continue;
        }
        match PasswordHash::new(hash) {
            Ok(hash) => users.push((name.to_owned(), hash)),
            Err(error) => findings.value(&at, bad_hash(name, error)),
        }
    }
    let file = raw.file.as_ref();
    let file = file.and_then(|path| tls::file(path, &at.key("file"), findings));
    if users.is_empty() && file.is_none() && findings.is_clean(at) {
        let what = format!("{at} names nobody, so that nobody could come in");
        let hint = "write users = { NAME = \"HASH\" }, as `sluice hash-password` prints it, or file = \
                    \"users\"";
        findings.key(at, Finding::new("missing_key", what).hint(hint));
    }
    Basic { realm, users, file }
}

fn bad(error: BasicError, what: &str) -> Finding {
    Finding::new("bad_name", format!("{what}: {error}"))
}

/// What stands there may be the password itself, so it is not repeated.
fn bad_hash(name: &str, error: PasswordHashError) -> Finding {
    let what = format!("what stands for {name:?} is no password hash: {error}");
    let finding = Finding::new("bad_hash", what);
    finding.hint("write what `sluice hash-password` prints: \"$argon2id$v=19$m=…\"")
}
