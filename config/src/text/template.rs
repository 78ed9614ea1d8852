//! Texts with variables: `"{client.ip}"`, captures `"{1}"`, `"{{"` for a brace.

use crate::{
    decode::nearest,
    findings::Finding,
    model::{CertificatePart, HeaderName, Part, Template, TlsPart, Variable},
};

/// Those without a parameter.
const VARIABLES: [(&str, Variable); 20] = [
    ("client.ip", Variable::ClientIp),
    ("client.port", Variable::ClientPort),
    (
        "client.certificate.subject",
        Variable::ClientCertificate(CertificatePart::Subject),
    ),
    (
        "client.certificate.issuer",
        Variable::ClientCertificate(CertificatePart::Issuer),
    ),
    (
        "client.certificate.san",
        Variable::ClientCertificate(CertificatePart::San),
    ),
    (
        "client.certificate.serial",
        Variable::ClientCertificate(CertificatePart::Serial),
    ),
    (
        "client.certificate.fingerprint",
        Variable::ClientCertificate(CertificatePart::Fingerprint),
    ),
    ("tls.version", Variable::Tls(TlsPart::Version)),
    ("tls.cipher", Variable::Tls(TlsPart::Cipher)),
    ("tls.sni", Variable::Tls(TlsPart::Sni)),
    ("request.id", Variable::RequestId),
    ("request.method", Variable::RequestMethod),
    ("request.scheme", Variable::RequestScheme),
    ("request.host", Variable::RequestHost),
    ("request.path", Variable::RequestPath),
    ("request.query", Variable::RequestQuery),
    ("listener", Variable::Listener),
    ("route", Variable::Route),
    ("rule", Variable::Rule),
    ("upstream", Variable::Upstream),
];

fn bad(what: String) -> Finding {
    Finding::new("bad_template", what)
}

/// Reads a text with variables.
pub(crate) fn template(text: &str) -> Result<Template, Finding> {
    let mut template = Template::default();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        literal.push_str(before);
        if let Some(tail) = after.strip_prefix('{') {
            literal.push('{');
            rest = tail;
            continue;
        }
        let (name, tail) = after.split_once('}').ok_or_else(|| {
            bad(format!("the brace in {text:?} is not closed")).hint("write {{ for a literal brace")
        })?;
        if !literal.is_empty() {
            template
                .parts
                .push(Part::Text(std::mem::take(&mut literal)));
        }
        template.parts.push(hole(name)?);
        rest = tail;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        template.parts.push(Part::Text(literal));
    }
    Ok(template)
}

fn hole(name: &str) -> Result<Part, Finding> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(number @ 1..=9) = name.parse() {
            return Ok(Part::Capture(number));
        }
        let hole = format!("{{{name}}}");
        let finding = bad(format!("there is no capture {hole}")).part(hole);
        return Err(finding.hint("captures are {1} to {9}"));
    }
    if let Some((_, variable)) = VARIABLES.iter().find(|(known, _)| *known == name) {
        return Ok(Part::Variable(variable.clone()));
    }
    if let Some(header) = name.strip_prefix("request.header.") {
        return HeaderName::new(header)
            .map(|header| Part::Variable(Variable::RequestHeader(header)))
            .ok_or_else(|| bad(format!("{header:?} in {{{name}}} is no header name")));
    }
    let hole = format!("{{{name}}}");
    let what = format!("there is no variable {hole}");
    let finding = Finding::new("unknown_variable", what).part(hole);
    let known = VARIABLES
        .iter()
        .map(|(known, _)| *known)
        .chain(["request.header.NAME"]);
    Err(match nearest(known, name) {
        Some(hint) => finding.hint(hint),
        None => finding.hint("write {{ for a literal brace"),
    })
}

/// A text with variables that can stand in a header.
pub(crate) fn header_value(text: &str) -> Result<Template, Finding> {
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some(odd) => Err(Finding::new(
            "bad_header",
            format!("a header value may not contain {odd:?}"),
        )),
        None => template(text),
    }
}
