//! W3C trace context: who called us, and what we tell whom we call. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceState},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The span of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

/// The span that called, and whether it is recorded. None when the request says nothing of it, or
/// nothing that can be read: then a trace begins here, as the standard asks for.
pub(super) fn parent(headers: &HeaderMap) -> Option<(Parent, bool)> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let mut fields = value.split('-');
    let (version, trace) = (fields.next()?, fields.next()?);
    let (span, flags) = (fields.next()?, fields.next()?);
    // Later versions may say more at the end; version 255 never comes.
    let ends = version != "00" || fields.next().is_none();
    let digits = |text: &str, length| {
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        text.len() == length && text.bytes().all(digit)
    };
    if !ends
        || version == "ff"
        || !digits(version, 2)
        || !digits(trace, 32)
        || !digits(span, 16)
        || !digits(flags, 2)
    {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let is_valid = trace != TraceId::INVALID && span != SpanId::INVALID;
    is_valid.then_some((Parent { trace, span }, flags & 1 == 1))
}

/// The vendors' part of the context, empty where it cannot be read.
pub(super) fn state(headers: &HeaderMap) -> TraceState {
    let mut text = String::new();
    for value in headers.get_all(TRACESTATE) {
        let Ok(value) = value.to_str() else {
            return TraceState::default();
        };
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(value);
    }
    text.parse().unwrap_or_default()
}

/// Tells whom we call.
pub(super) fn tell(own: Parent, sampled: bool, headers: &mut HeaderMap) {
    let Parent { trace, span } = own;
    let text = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The vendors' part belongs to another trace.
pub(super) fn forget_state(headers: &mut HeaderMap) {
    headers.remove(TRACESTATE);
}

/// A context of ours.
pub(super) fn own(trace: TraceId, span: SpanId, sampled: bool, state: TraceState) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(sampled);
    SpanContext::new(trace, span, flags, false, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_believed_only_when_it_is_well_formed() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let span = "b7ad6b7169203331";
        let cases = [
            (format!("00-{id}-{span}-01"), Some(true)),
            (format!("00-{id}-{span}-00"), Some(false)),
            (format!("00-{id}-{span}-03"), Some(true)),
            (format!("cc-{id}-{span}-01-what-comes"), Some(true)),
            (format!("00-{id}-{span}-01-more"), None),
            (format!("ff-{id}-{span}-01"), None),
            (format!("00-{}-{span}-01", "0".repeat(32)), None),
            (format!("00-{id}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{span}-01", id.to_uppercase()), None),
            (format!("00-{id}-{span}"), None),
            (format!("00-{id}-{span}-1"), None),
            (format!("00-+{}-{span}-01", &id[1..]), None),
            (String::new(), None),
        ];
        for (text, sampled) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::try_from(text.as_str()).unwrap());
            let found = parent(&headers);
            assert_eq!(found.map(|(_, sampled)| sampled), sampled, "{text:?}");
        }
    }

    #[test]
    fn two_parents_are_none() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(text));
        assert!(parent(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(text));
        assert_eq!(parent(&headers), None);
    }

    #[test]
    fn what_is_told_is_read_back() {
        let own = Parent {
            trace: TraceId::from(7_u128),
            span: SpanId::from(9_u64),
        };
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        tell(own, true, &mut headers);
        assert_eq!(parent(&headers), Some((own, true)));
        assert_eq!(state(&headers).get("a"), Some("b"));
        tell(own, false, &mut headers);
        assert_eq!(parent(&headers), Some((own, false)));
        forget_state(&mut headers);
        assert!(!headers.contains_key(TRACESTATE));
    }
}
