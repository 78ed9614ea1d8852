//! `[tracing]` and the filter key `trace`

use crate::check::{Draft, nearest, single};
use crate::{
    findings::{Finding, Findings},
    model::{HeaderName, Otlp, OtlpProtocol, ReceiverUrlError, Secret, Share, Trace, Tracing},
    raw,
    tree::{At, Node},
};

pub(in crate::check) fn check(root: &Node, findings: &mut Findings<'_>) -> Draft<Tracing> {
    let at = At::Root.key("tracing");
    let raw: raw::Tracing = single(root, "tracing", findings);
    let otlp = raw.otlp.as_ref();
    let otlp = otlp.map(|raw| otlp_of(raw, &at.key("otlp"), findings));
    let sample = raw.sample;
    let sample = sample.and_then(|sample| share(sample, &at.key("sample"), findings));
    let service_name = raw.service_name.filter(|name| {
        let empty = name.trim().is_empty();
        if empty {
            let finding = Finding::new("bad_name", "the name is empty");
            findings.value(&at.key("service_name"), finding);
        }
        !empty
    });
    Draft {
        object: Some(Tracing {
            otlp,
            sample,
            service_name,
        }),
        clean: findings.is_clean(&at),
    }
}

/// The filter key.
pub(in crate::check) fn trace(
    raw: &raw::Trace,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<Trace> {
    let Some(sample) = raw.sample else {
        let finding = Finding::new("missing_key", "the trace lacks its sample");
        findings.missing(at, "sample", finding.hint("write sample = 0.1"));
        return None;
    };
    let sample = share(sample, &at.key("sample"), findings)?;
    Some(Trace { sample })
}

fn share(share: f64, at: &At<'_>, findings: &mut Findings<'_>) -> Option<Share> {
    let found = Share::new(share);
    if found.is_none() {
        let what = format!("sample is {share}, beyond 0 to 1");
        findings.value(at, Finding::new("out_of_range", what));
    }
    found
}

fn otlp_of(raw: &raw::Otlp, at: &At<'_>, findings: &mut Findings<'_>) -> Otlp {
    let mut otlp = Otlp::default();
    if let Some(url) = &raw.endpoint {
        match Otlp::check_url(url) {
            Ok(()) => otlp.endpoint = Some(url.clone()),
            Err(wrong) => {
                let finding = Finding::new("bad_url", wrong.to_string());
                let finding = match wrong {
                    ReceiverUrlError::Scheme(_) => finding.hint("write \"http://127.0.0.1:4317\""),
                    ReceiverUrlError::Url(_) | ReceiverUrlError::Port { .. } => finding,
                };
                findings.value(&at.key("endpoint"), finding);
            }
        }
    }
    if let Some(word) = &raw.protocol {
        otlp.protocol = OtlpProtocol::new(word);
        if otlp.protocol.is_none() {
            let hint = nearest(["grpc", "http/protobuf"], word)
                .unwrap_or_else(|| "it is \"grpc\" or \"http/protobuf\"".to_owned());
            let what = format!("there is no protocol {word:?}");
            let finding = Finding::new("unknown_value", what).hint(hint);
            findings.value(&at.key("protocol"), finding);
        }
    }
    let at = at.key("headers");
    for (name, value) in raw.headers.iter().flat_map(raw::Table::iter) {
        let Some(header) = HeaderName::new(name) else {
            let what = format!("{name:?} is no header name");
            findings.value(&at.key(name), Finding::new("bad_header", what));
            continue;
        };
        if value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            otlp.headers.push((header, Secret::new(value)));
        } else {
            let what = "the value has characters that no header may have";
            findings.value(&at.key(name), Finding::new("bad_header", what));
        }
    }
    otlp
}
