//! Which headers carry a trace from caller to called: what `OTEL_PROPAGATORS` lists. Pure.
//!
//! `baggage` needs nothing of us: it passes through like any other header.

use http::HeaderMap;
use opentelemetry::trace::TraceState;

use super::{b3, context};
use context::Parent;

/// A form of the headers that carry a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `traceparent` and `tracestate`
    W3c,
    /// `b3`
    B3,
    /// `x-b3-traceid` and its like
    B3Multi,
}

/// The forms that are heard and told, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Propagation(Vec<Form>);

/// What a request says of its caller.
#[derive(Debug, Default)]
pub(super) struct Caller {
    /// The span that called. None when it says nothing, or nothing that can be read: then a trace
    /// begins here.
    pub(super) parent: Option<Parent>,
    /// Whether it is recorded, as far as somebody has decided.
    pub(super) sampled: Option<bool>,
    /// The vendors' part of W3C's form.
    pub(super) state: TraceState,
    form: Option<Form>,
}

impl Propagation {
    /// What the list names; `tracecontext` and `baggage` without one.
    pub(super) fn new(list: Option<&str>) -> Self {
        let mut forms = Vec::new();
        for word in list.unwrap_or("tracecontext,baggage").split(',') {
            let form = match word.trim() {
                "tracecontext" => Form::W3c,
                "b3" => Form::B3,
                "b3multi" => Form::B3Multi,
                "baggage" | "none" | "" => continue,
                word => {
                    tracing::warn!(word, "OTEL_PROPAGATORS names what is not known here");
                    continue;
                }
            };
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        Self(forms)
    }

    /// Who calls: the first form of the list that says something.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Caller {
        let heard = self.0.iter().map(|form| form.hear(headers));
        heard
            .into_iter()
            .find(|caller| caller.parent.is_some() || caller.sampled.is_some())
            .unwrap_or_default()
    }

    /// Tells whom we call that `own` calls, in every form of the list.
    pub(super) fn tell(
        &self,
        own: Parent,
        sampled: bool,
        caller: &Caller,
        headers: &mut HeaderMap,
    ) {
        for form in &self.0 {
            form.tell(own, sampled, headers);
            // No vendor's part belongs to a trace that begins here.
            if *form == Form::W3c && caller.form != Some(Form::W3c) {
                context::forget_state(headers);
            }
        }
    }

    /// Passes on a caller that is not recorded here: in its own form it stays as it came.
    pub(super) fn pass_on(&self, parent: Parent, caller: &Caller, headers: &mut HeaderMap) {
        let others = self.0.iter().filter(|form| caller.form != Some(**form));
        for form in others.filter(|form| !(form.is_b3() && caller.form.is_some_and(Form::is_b3))) {
            form.tell(parent, false, headers);
        }
    }
}

impl Form {
    fn is_b3(self) -> bool {
        matches!(self, Self::B3 | Self::B3Multi)
    }

    fn hear(self, headers: &HeaderMap) -> Caller {
        match self {
            Self::W3c => {
                let found = context::parent(headers);
                Caller {
                    parent: found.map(|(parent, _)| parent),
                    sampled: found.map(|(_, sampled)| sampled),
                    state: match found {
                        // Only who follows a caller passes on what it says to other vendors.
                        Some(_) => context::state(headers),
                        None => TraceState::default(),
                    },
                    form: found.map(|_| self),
                }
            }
            // Who speaks one of both hears both.
            Self::B3 | Self::B3Multi => {
                let (parent, sampled) = b3::hear(headers);
                Caller {
                    parent,
                    sampled,
                    state: TraceState::default(),
                    form: Some(self),
                }
            }
        }
    }

    fn tell(self, own: Parent, sampled: bool, headers: &mut HeaderMap) {
        match self {
            Self::W3c => context::tell(own, sampled, headers),
            Self::B3 => b3::tell_single(own, sampled, headers),
            Self::B3Multi => b3::tell_multi(own, sampled, headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::{SpanId, TraceId};

    use super::*;

    const OWN: Parent = Parent {
        trace: TraceId::from_bytes([1; 16]),
        span: SpanId::from_bytes([2; 8]),
    };

    fn names(list: &str, caller: &[(&'static str, &'static str)], recorded: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in caller {
            headers.insert(*name, value.parse().unwrap());
        }
        let propagation = Propagation::new(Some(list));
        let found = propagation.caller(&headers);
        match found.parent {
            Some(parent) if !recorded => propagation.pass_on(parent, &found, &mut headers),
            _ => propagation.tell(OWN, recorded, &found, &mut headers),
        }
        let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn every_form_of_the_list_is_told_and_no_other() {
        let multi = ["x-b3-sampled", "x-b3-spanid", "x-b3-traceid"];
        for (list, expected) in [
            ("none", &[][..]),
            ("baggage", &[]),
            ("jaeger", &[]),
            ("tracecontext,baggage", &["traceparent"]),
            ("b3", &["b3"]),
            ("b3multi", &multi),
            ("b3 , tracecontext", &["b3", "traceparent"]),
        ] {
            assert_eq!(names(list, &[], true), expected, "{list}");
        }
        assert_eq!(
            Propagation::new(None),
            Propagation::new(Some("tracecontext"))
        );
    }

    #[test]
    fn a_caller_that_is_not_recorded_stays_and_is_told_in_the_other_forms() {
        let single = ("b3", "0102030405060708-0102030405060708-0");
        assert_eq!(
            names("b3,tracecontext", &[single], false),
            ["b3", "traceparent"]
        );
        assert_eq!(names("b3multi", &[single], false), ["b3"]);
        assert_eq!(
            names("tracecontext", &[single], false),
            ["b3", "traceparent"]
        );
        // Two forms of one thing must not say different things.
        let multi = ["x-b3-sampled", "x-b3-spanid", "x-b3-traceid"];
        assert_eq!(names("b3multi", &[single], true), multi);
    }

    #[test]
    fn the_first_form_that_says_something_is_believed() {
        let mut headers = HeaderMap::new();
        let w3c = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", w3c.parse().unwrap());
        headers.insert("b3", "0102030405060708-0102030405060708-0".parse().unwrap());
        let sampled = |list| Propagation::new(Some(list)).caller(&headers).sampled;
        assert_eq!(sampled("tracecontext,b3"), Some(true));
        assert_eq!(sampled("b3,tracecontext"), Some(false));
        assert_eq!(sampled("none"), None);
    }
}
