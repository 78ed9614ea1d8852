//! `dns` of an issuer: how records are set.

use std::{ops::RangeInclusive, time::Duration};

use super::acme::{base64_at, text_at};
use crate::check::tls;
use crate::{
    findings::{Finding, Findings},
    model::{AcmeDns, DnsExec, DnsWebhook, HeaderName, Host, Rfc2136, TsigAlgorithm},
    raw,
    scalar::Scalars,
    text,
    tree::At,
};

/// Less is no time for a program, more is one that hangs.
const EXEC: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

pub(super) fn check(
    raw: &raw::AcmeDns,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<AcmeDns> {
    match (&raw.rfc2136, &raw.exec, &raw.webhook) {
        (Some(raw), None, None) => rfc2136(raw, &at.key("rfc2136"), findings).map(AcmeDns::Rfc2136),
        (None, Some(raw), None) => exec(raw, &at.key("exec"), findings).map(AcmeDns::Exec),
        (None, None, Some(raw)) => webhook(raw, &at.key("webhook"), findings).map(AcmeDns::Webhook),
        (None, None, None) => {
            if findings.is_clean(at) {
                let finding = Finding::new("missing_key", "nobody says how records are set");
                findings.key(at, finding.hint("write one of rfc2136, exec, webhook"));
            }
            None
        }
        _ => {
            let finding = Finding::new("conflict", "there is more than one way to set records");
            findings.key(at, finding.hint("keep one of rfc2136, exec, webhook"));
            None
        }
    }
}

fn rfc2136(raw: &raw::Rfc2136, at: &At<'_>, findings: &mut Findings<'_>) -> Option<Rfc2136> {
    let server = text_at("server", raw.server.as_deref(), at, findings);
    let server = server.and_then(|server| {
        let server = text::nameserver(&server);
        server
            .map_err(|finding| findings.value(&at.key("server"), finding))
            .ok()
    });
    let zone = text_at("zone", raw.zone.as_deref(), at, findings);
    let zone = zone.and_then(|zone| match text::url_host(&zone) {
        Ok(Host::Name(zone)) => Some(zone),
        Ok(Host::Ip(_)) => {
            let finding = Finding::new("bad_host", format!("{zone:?} is an address, not a zone"));
            findings.value(&at.key("zone"), finding);
            None
        }
        Err(finding) => {
            findings.value(&at.key("zone"), finding);
            None
        }
    });
    let key_name = text_at("key_name", raw.key_name.as_deref(), at, findings);
    let key = base64_at("key", raw.key.as_deref(), at, findings);
    Some(Rfc2136 {
        server: server?,
        zone: zone?,
        key_name: key_name?,
        key: key?,
        algorithm: match raw.algorithm {
            None => TsigAlgorithm::default(),
            Some(raw::TsigAlgorithm::HmacSha256) => TsigAlgorithm::HmacSha256,
            Some(raw::TsigAlgorithm::HmacSha384) => TsigAlgorithm::HmacSha384,
            Some(raw::TsigAlgorithm::HmacSha512) => TsigAlgorithm::HmacSha512,
        },
    })
}

fn exec(raw: &raw::DnsExec, at: &At<'_>, findings: &mut Findings<'_>) -> Option<DnsExec> {
    let timeout = raw.timeout.as_ref();
    let timeout = Scalars { at: *at, findings }.time("timeout", timeout, EXEC, DnsExec::TIMEOUT);
    let command = raw.command.as_ref().map(|list| list.as_slice().to_vec());
    match command.as_deref() {
        Some([program, ..]) if !program.is_empty() => {}
        Some(_) => {
            let finding = Finding::new("missing_key", "the command is empty");
            let hint = "write command = [\"/usr/local/bin/dns-hook\"]";
            findings.value(&at.key("command"), finding.hint(hint));
            return None;
        }
        None => {
            let finding = Finding::new("missing_key", format!("{at} lacks its command"));
            let hint = "write command = [\"/usr/local/bin/dns-hook\"]";
            findings.missing(at, "command", finding.hint(hint));
            return None;
        }
    }
    Some(DnsExec {
        command: command?,
        timeout,
    })
}

fn webhook(raw: &raw::DnsWebhook, at: &At<'_>, findings: &mut Findings<'_>) -> Option<DnsWebhook> {
    let url = text_at("url", raw.url.as_deref(), at, findings);
    let url = url.filter(|url| {
        let good = text::url(url, &["http", "https"]);
        good.map_err(|finding| findings.value(&at.key("url"), finding))
            .is_ok()
    });
    let at = at.key("headers");
    let mut headers = Vec::new();
    for (name, value) in raw.headers.iter().flat_map(raw::Table::iter) {
        let at = at.key(name);
        let Some(header) = HeaderName::new(name) else {
            let what = format!("{name:?} is no header name");
            findings.value(&at, Finding::new("bad_header", what));
            continue;
        };
        if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            let what = "the value has characters that no header may have";
            findings.value(&at, Finding::new("bad_header", what));
            continue;
        }
        if let Some(secret) = tls::secret(value, &at, findings) {
            headers.push((header, secret));
        }
    }
    Some(DnsWebhook { url: url?, headers })
}
