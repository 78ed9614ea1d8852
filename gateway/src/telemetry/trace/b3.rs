//! B3, in one header or in several: who called us, and what we tell whom we call. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{SpanId, TraceId};

use super::context::Parent;

const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// The span that called, and whether somebody has decided that it is recorded. The one header counts
/// where it can be read, else the several.
pub(super) fn hear(headers: &HeaderMap) -> (Option<Parent>, Option<bool>) {
    let single = text(headers, &SINGLE).and_then(single);
    single.unwrap_or_else(|| several(headers))
}

/// In one header.
pub(super) fn tell_single(own: Parent, sampled: bool, headers: &mut HeaderMap) {
    forget(headers);
    let text = format!("{}-{}-{}", own.trace, own.span, u8::from(sampled));
    put(headers, SINGLE, text);
}

/// In several headers.
pub(super) fn tell_multi(own: Parent, sampled: bool, headers: &mut HeaderMap) {
    forget(headers);
    put(headers, TRACE, own.trace.to_string());
    put(headers, SPAN, own.span.to_string());
    put(headers, SAMPLED, u8::from(sampled).to_string());
}

/// What the caller said in either way would say something else than we do.
fn forget(headers: &mut HeaderMap) {
    for name in [SINGLE, TRACE, SPAN, PARENT, SAMPLED, FLAGS] {
        headers.remove(name);
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

/// The only value of a header.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// `TRACE-SPAN`, `TRACE-SPAN-DECISION`, `TRACE-SPAN-DECISION-PARENT`, or a decision alone.
fn single(text: &str) -> Option<(Option<Parent>, Option<bool>)> {
    let mut fields = text.split('-');
    let first = fields.next()?;
    let Some(span) = fields.next() else {
        return Some((None, Some(decision(first)?)));
    };
    let decided = match fields.next() {
        None => None,
        Some(field) => Some(decision(field)?),
    };
    let ends = fields.next().is_none_or(|parent| id(parent, &[16])) && fields.next().is_none();
    let parent = parent(first, span).filter(|_| ends)?;
    Some((Some(parent), decided))
}

fn several(headers: &HeaderMap) -> (Option<Parent>, Option<bool>) {
    let debug = text(headers, &FLAGS) == Some("1");
    let decided = match text(headers, &SAMPLED) {
        _ if debug => Some(true),
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(text) => decision(text),
        None => None,
    };
    let ids = text(headers, &TRACE).zip(text(headers, &SPAN));
    (ids.and_then(|(trace, span)| parent(trace, span)), decided)
}

/// `d` asks for more than a record, which we have not.
fn decision(text: &str) -> Option<bool> {
    match text {
        "1" | "d" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

/// Traces have 64 bits or 128.
fn parent(trace: &str, span: &str) -> Option<Parent> {
    if !id(trace, &[16, 32]) || !id(span, &[16]) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Parent { trace, span })
}

fn id(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SHORT: &str = "64fe8b2a57d3eff7";
    const CALLER: &str = "e457b5a2e4d86bd1";

    fn heard(pairs: &[(HeaderName, &str)]) -> (Option<String>, Option<bool>) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::try_from(*value).unwrap());
        }
        let (parent, sampled) = hear(&headers);
        let ids = parent.map(|parent| format!("{}/{}", parent.trace, parent.span));
        (ids, sampled)
    }

    #[test]
    fn one_header_is_read_in_every_form_that_it_may_have() {
        let long = format!("{LONG}/{CALLER}");
        let short = format!("{SHORT:0>32}/{CALLER}");
        for (text, ids, sampled) in [
            (format!("{LONG}-{CALLER}-1"), Some(&long), Some(true)),
            (format!("{LONG}-{CALLER}-d"), Some(&long), Some(true)),
            (format!("{LONG}-{CALLER}"), Some(&long), None),
            (
                format!("{SHORT}-{CALLER}-0-{CALLER}"),
                Some(&short),
                Some(false),
            ),
            ("0".to_owned(), None, Some(false)),
            ("d".to_owned(), None, Some(true)),
            ("x".to_owned(), None, None),
            (format!("{LONG}-{CALLER}-2"), None, None),
            (format!("{LONG}-{CALLER}-1-{CALLER}-1"), None, None),
            (format!("{}-{CALLER}-1", "0".repeat(32)), None, None),
            (format!("{LONG}1-{CALLER}-1"), None, None),
            (format!("+{}-{CALLER}-1", &LONG[1..]), None, None),
        ] {
            let found = heard(&[(SINGLE, &text)]);
            assert_eq!((found.0.as_ref(), found.1), (ids, sampled), "{text:?}");
        }
    }

    #[test]
    fn several_headers_are_read_and_the_one_counts_before_them() {
        let ids = [(TRACE, LONG), (SPAN, CALLER)];
        let with = |more: &[(HeaderName, &'static str)]| {
            let all: Vec<_> = ids.iter().cloned().chain(more.iter().cloned()).collect();
            heard(&all)
        };
        let id = Some(format!("{LONG}/{CALLER}"));
        assert_eq!(with(&[]), (id.clone(), None));
        assert_eq!(with(&[(SAMPLED, "1")]), (id.clone(), Some(true)));
        assert_eq!(with(&[(SAMPLED, "false")]), (id.clone(), Some(false)));
        assert_eq!(with(&[(FLAGS, "1")]), (id.clone(), Some(true)));
        assert_eq!(with(&[(SINGLE, "0")]), (None, Some(false)));
        assert_eq!(with(&[(SINGLE, "nonsense")]), (id, None));
        assert_eq!(heard(&[(SAMPLED, "0")]), (None, Some(false)));
        assert_eq!(
            heard(&[(TRACE, LONG), (TRACE, LONG), (SPAN, CALLER)]),
            (None, None)
        );
    }

    #[test]
    fn what_is_told_is_heard_and_the_caller_is_forgotten() {
        let own = Parent {
            trace: TraceId::from(7_u128),
            span: SpanId::from(9_u64),
        };
        for tell in [tell_single, tell_multi] {
            let mut headers = HeaderMap::new();
            headers.insert(PARENT, HeaderValue::from_static(CALLER));
            headers.insert(FLAGS, HeaderValue::from_static("1"));
            tell(own, false, &mut headers);
            assert_eq!(hear(&headers), (Some(own), Some(false)));
            assert!(!headers.contains_key(PARENT) && !headers.contains_key(FLAGS));
        }
    }
}
