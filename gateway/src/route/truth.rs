//! Which conditions on headers, query and cookies hold for one request. Each kind is looked at when
//! the first rule asks for it, once, for all rules of the host together.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use http::HeaderName;
use sluice_config::model::ValueMatch;

use super::{Question, candidates::Set, texts::Texts, value};

/// Where a value is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Header,
    Query,
    Cookie,
}

/// A condition that a rule needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    kind: Kind,
    number: usize,
    holds: bool,
}

impl Need {
    pub(super) fn kind(self) -> Kind {
        self.kind
    }

    pub(super) fn number(self) -> usize {
        self.number
    }

    /// Whether the condition has to hold; else it may not.
    pub(super) fn holds(self) -> bool {
        self.holds
    }
}

/// Every condition on values among the rules of a host, each once.
#[derive(Default)]
pub(super) struct Values {
    headers: HashMap<HeaderName, Slot, RandomState>,
    query: HashMap<Box<str>, Slot, RandomState>,
    cookies: HashMap<Box<str>, Slot, RandomState>,
    known: HashMap<(Kind, Box<str>, Wanted), usize>,
}

/// The conditions on one name.
#[derive(Default)]
struct Slot {
    texts: Texts,
    present: Option<usize>,
}

/// A condition as a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Wanted {
    Exact(Box<str>),
    Starts(Box<str>),
    Matches(Box<str>),
    Present,
}

impl Values {
    /// Numbers a condition and says what a rule needs of it.
    pub(super) fn add(&mut self, kind: Kind, name: &str, wanted: &ValueMatch) -> Need {
        let key = match wanted {
            ValueMatch::Exact(text) => Wanted::Exact(text.as_str().into()),
            ValueMatch::StartsWith(text) => Wanted::Starts(text.as_str().into()),
            ValueMatch::Regex(pattern) => Wanted::Matches(pattern.as_str().into()),
            ValueMatch::Present(_) => Wanted::Present,
        };
        let holds = *wanted != ValueMatch::Present(false);
        let next = self.known.len();
        let number = *self.known.entry((kind, name.into(), key)).or_insert(next);
        let need = Need {
            kind,
            number,
            holds,
        };
        if number < next {
            return need;
        }
        let slot = match kind {
            // A checked name is a header name; one that were none could never be present.
            Kind::Header => match name.parse() {
                Ok(name) => self.headers.entry(name).or_default(),
                Err(_) => return need,
            },
            Kind::Query => self.query.entry(name.into()).or_default(),
            Kind::Cookie => self.cookies.entry(name.into()).or_default(),
        };
        match wanted {
            ValueMatch::Exact(text) => slot.texts.exact(text, number),
            ValueMatch::StartsWith(text) => slot.texts.starts(text, number),
            ValueMatch::Regex(pattern) => slot.texts.matches(pattern, number),
            ValueMatch::Present(_) => slot.present = Some(number),
        }
        need
    }

    /// How many conditions have a number.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// To be called once, after the last condition was added.
    pub(super) fn seal(&mut self) {
        let named = self.query.values_mut().chain(self.cookies.values_mut());
        for slot in self.headers.values_mut().chain(named) {
            slot.texts.seal();
        }
    }
}

impl Slot {
    fn hold(&self, value: &str, holding: &mut Set) {
        if let Some(number) = self.present {
            holding.insert(number);
        }
        self.texts.each(value, |number| holding.insert(number));
    }
}

/// What is known about one request.
pub(super) struct Truth<'q> {
    values: &'q Values,
    question: &'q Question<'q>,
    holding: Set,
    headers: bool,
    query: bool,
    cookies: bool,
}

impl<'q> Truth<'q> {
    pub(super) fn new(values: &'q Values, question: &'q Question<'q>) -> Self {
        Self {
            values,
            question,
            holding: Set::new(values.count()),
            headers: false,
            query: false,
            cookies: false,
        }
    }

    pub(super) fn question(&self) -> &'q Question<'q> {
        self.question
    }

    pub(super) fn is_met(&mut self, need: Need) -> bool {
        self.look_at(need.kind);
        self.holding.contains(need.number) == need.holds
    }

    /// The numbers of every condition that holds, of the kinds that were looked at.
    pub(super) fn holding(&self) -> &Set {
        &self.holding
    }

    pub(super) fn look_at(&mut self, kind: Kind) {
        match kind {
            Kind::Header if !self.headers => self.look_at_headers(),
            Kind::Query if !self.query => self.look_at_query(),
            Kind::Cookie if !self.cookies => self.look_at_cookies(),
            Kind::Header | Kind::Query | Kind::Cookie => {}
        }
    }

    fn look_at_headers(&mut self) {
        self.headers = true;
        let (slots, headers) = (&self.values.headers, self.question.headers);
        let mut look = |name: &HeaderName, slot: &Slot| {
            for value in value::of_header(headers, name) {
                slot.hold(&value, &mut self.holding);
            }
        };
        // Whichever is shorter: what the request has, or what the rules ask for.
        if headers.keys_len() < slots.len() {
            for name in headers.keys() {
                if let Some(slot) = slots.get(name) {
                    look(name, slot);
                }
            }
        } else {
            for (name, slot) in slots {
                look(name, slot);
            }
        }
    }

    fn look_at_query(&mut self) {
        self.query = true;
        for (name, value) in value::parameters(self.question.query.unwrap_or_default()) {
            if let Some(slot) = self.values.query.get(&*name) {
                slot.hold(&value, &mut self.holding);
            }
        }
    }

    fn look_at_cookies(&mut self) {
        self.cookies = true;
        for (name, value) in value::cookies(self.question.headers) {
            if let Some(slot) = self.values.cookies.get(&*name) {
                slot.hold(&value, &mut self.holding);
            }
        }
    }
}
