//! The route table against a plain scan, over tables and requests that bytes choose.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_config::{
    Objects, Snapshot,
    model::{
        self, Action, Filters, HeaderMatch, HostPattern, Listener, Match, Method, Mode, PathMatch,
        Pattern, Route, Rule, ValueMatch, order,
    },
    names::{ListenerName, RouteName, RuleName},
};
use sluice_gateway::route::{Opening, Question, Table};

/// Any bytes will do.
pub const SEEDS: &[&[u8]] = &[
    b"the quick brown fox jumps over the lazy dog, and over the next one, and over a third",
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijkl",
    b"\x00\x01\x02\x03\x02\x01\x00\x01\x01\x05\x01\x02\x07\x09\x0b\x0d\x11\x13\x17\x1d\x1f\x25",
    b"zyxwvutsrqponmlkjihgfedcba987654321000zyxwvutsrqponmlkjihgfedcba987654321000zyxwvuts",
];

const HOSTS: &[&str] = &["a.x", "*.x", "*", "b.a.x", "*.a.x"];
const ASKED: &[&str] = &["a.x", "b.a.x", "c.a.x", "x", "y", ".x"];
const PATHS: &[&str] = &["/", "/a", "/a/", "/ab", "/a/b", "/a/b/c", "/b", "*"];
const PREFIXES: &[&str] = &["/", "/a", "/a/b", "/b", "/ab"];
const TEXTS: &[&str] = &["", "a", "b", "ab", "a, b"];
const REGEXES: &[&str] = &[
    "a", "/a.*", "[ab]+", "/(a|b)/b", "a, .*", "/b.*|b", "/[^b]*", "",
];
const NAMES: &[&str] = &["x-a", "x-b", "x-c"];
const METHODS: &[&str] = &["GET", "POST", "get"];
const CLIENTS: &[&str] = &["192.0.2.0/24", "10.0.0.0/8", "::/0", "192.0.2.7/32"];
const LISTENERS: &[&str] = &["web", "other"];

/// The table finds what a plain scan of the merged order finds.
pub fn find(input: &[u8]) {
    let mut dice = Dice(input.iter());
    let mut objects = Objects::default();
    for name in LISTENERS {
        let name = ListenerName::new(name).expect("a name");
        let address = "127.0.0.1:80".parse().expect("an address");
        let listener = Arc::new(Listener::new(name.clone(), address));
        objects.listeners.insert(name, listener);
    }
    for number in 0..dice.below(4) {
        let route = Arc::new(dice.route(number));
        objects.routes.insert(route.name.clone(), route);
    }
    let snapshot = Snapshot::seal(objects);
    let table = Table::compile(&snapshot, None);
    for _ in 0..4 {
        let headers = dice.headers();
        let question = Question {
            host: dice.chance().then(|| dice.one(ASKED)),
            path: dice.one(PATHS),
            query: dice
                .chance()
                .then(|| dice.one(&["x-a=a&x-b", "x-a=b&x-a=%61", "x-c=a,%20b"])),
            method: dice.one(METHODS),
            headers: &headers,
            client: dice
                .one(&["192.0.2.7", "10.1.1.1", "::1"])
                .parse()
                .expect("an address"),
            mode: Mode::Http,
            opening: Opening::plain("127.0.0.1:80".parse().expect("an address")),
        };
        let listener = ListenerName::new(dice.one(LISTENERS)).expect("a name");
        let found = table
            .find(&listener, &question)
            .map(|found| (found.route.name.clone(), found.rule, found.matched));
        assert_eq!(
            found,
            plainly(&snapshot, &listener, &question),
            "{question:?}"
        );
    }
}

/// Choices, made by bytes; after the last one the first alternative is always taken.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or_default()) % bound
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 1
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }

    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }

    fn route(&mut self, number: usize) -> Route {
        let rules = self.below(8);
        Route {
            name: RouteName::new(&format!("r{number}")).expect("a name"),
            listeners: vec![ListenerName::new(self.one(LISTENERS)).expect("a name")],
            mode: Mode::Http,
            hosts: (0..=self.below(2)).map(|_| self.host()).collect(),
            priority: i32::from(self.chance()),
            rules: (0..rules)
                .map(|position| Arc::new(self.rule(position)))
                .collect(),
            timeout: None,
            filters: Filters::default(),
            client_certificates: None,
        }
    }

    fn host(&mut self) -> HostPattern {
        let host = self.one(HOSTS);
        match host.strip_prefix('*') {
            Some("") => HostPattern::Any,
            Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
            None => HostPattern::Exact(host.to_owned()),
        }
    }

    fn rule(&mut self, position: usize) -> Rule {
        Rule {
            name: RuleName::nth(position),
            matches: self.some(2, Self::condition),
            action: Action::Refused,
            timeout: None,
            filters: Filters::default(),
        }
    }

    fn condition(&mut self) -> Match {
        let header = |dice: &mut Self| HeaderMatch {
            name: model::HeaderName::new(dice.one(NAMES)).expect("a header name"),
            value: dice.value(),
        };
        let named = |dice: &mut Self| (dice.one(NAMES).to_owned(), dice.value());
        let method = |dice: &mut Self| Method::new(dice.one(METHODS)).expect("a method");
        let client = |dice: &mut Self| dice.one(CLIENTS).parse().expect("a network");
        let listener = |dice: &mut Self| ListenerName::new(dice.one(LISTENERS)).expect("a name");
        Match {
            path: self.path(),
            methods: self.some(1, method),
            headers: self.some(1, header),
            query: self.some(1, named),
            cookies: self.some(1, named),
            clients: self.some(1, client),
            listeners: self.some(1, listener),
            ..Match::default()
        }
    }

    fn path(&mut self) -> Option<PathMatch> {
        Some(match self.below(5) {
            0 => return None,
            1 => PathMatch::Exact(self.one(PATHS).to_owned()),
            2 => PathMatch::Prefix(self.one(PREFIXES).to_owned()),
            3 => PathMatch::StartsWith(self.one(PATHS).to_owned()),
            _ => PathMatch::Regex(self.pattern()),
        })
    }

    fn value(&mut self) -> ValueMatch {
        match self.below(4) {
            0 => ValueMatch::Exact(self.one(TEXTS).to_owned()),
            1 => ValueMatch::StartsWith(self.one(TEXTS).to_owned()),
            2 => ValueMatch::Regex(self.pattern()),
            _ => ValueMatch::Present(self.chance()),
        }
    }

    fn pattern(&mut self) -> Pattern {
        Pattern::new(self.one(REGEXES)).expect("an expression")
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for _ in 0..self.below(4) {
            let name = HeaderName::from_static(self.one(NAMES));
            headers.append(name, HeaderValue::from_static(self.one(TEXTS)));
        }
        for _ in 0..self.below(3) {
            let line = self.one(&["x-a=a; x-b=ab", "x-c = b ;x-b=a, b", "junk;;x-a="]);
            headers.append(http::header::COOKIE, HeaderValue::from_static(line));
        }
        headers
    }
}

type Place = (RouteName, usize, Option<usize>);

/// What the documentation says, word for word.
fn plainly(snapshot: &Snapshot, listener: &ListenerName, asked: &Question<'_>) -> Option<Place> {
    let host = asked.host.unwrap_or_default();
    let admits = |pattern: &&HostPattern| match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        HostPattern::Any => true,
    };
    let bound = || {
        let routes = snapshot.routes.values();
        routes.filter(|route| route.listeners.contains(listener))
    };
    let best = bound()
        .flat_map(|route| &route.hosts)
        .filter(admits)
        .max_by_key(|pattern| match pattern {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Wildcard(suffix) => suffix.len(),
            HostPattern::Any => 0,
        })?;
    let sharing: Vec<Arc<Route>> = bound()
        .filter(|route| route.hosts.contains(best))
        .map(Arc::clone)
        .collect();
    order::merge(&sharing).into_iter().find_map(|item| {
        let route = &sharing[item.route];
        let condition = item.matched.map(|it| &route.rules[item.rule].matches[it]);
        let holds = condition.is_none_or(|condition| holds(condition, listener, asked));
        holds.then(|| (route.name.clone(), item.rule, item.matched))
    })
}

fn holds(condition: &Match, listener: &ListenerName, asked: &Question<'_>) -> bool {
    let path = condition.path.as_ref().is_none_or(|path| match path {
        PathMatch::Exact(text) => asked.path == text,
        PathMatch::StartsWith(text) => asked.path.starts_with(&**text),
        PathMatch::Regex(pattern) => pattern.regex().is_match(asked.path),
        PathMatch::Prefix(text) if text == "/" => asked.path.starts_with('/'),
        PathMatch::Prefix(text) => {
            asked.path == text || asked.path.starts_with(&format!("{text}/"))
        }
    });
    let any = |empty: bool, found: bool| empty || found;
    path && any(
        condition.methods.is_empty(),
        condition
            .methods
            .iter()
            .any(|it| it.as_str() == asked.method),
    ) && any(
        condition.clients.is_empty(),
        condition
            .clients
            .iter()
            .any(|it| it.contains(&asked.client)),
    ) && any(
        condition.listeners.is_empty(),
        condition.listeners.contains(listener),
    ) && condition.headers.iter().all(|header| {
        let values = asked.headers.get_all(header.name.as_str());
        let mut values: Vec<String> = values
            .iter()
            .map(|value| value.to_str().expect("text").to_owned())
            .collect();
        if values.len() > 1 {
            values.push(values.join(", "));
        }
        value_holds(&header.value, &values)
    }) && condition.query.iter().all(|(name, wanted)| {
        let pairs = asked.query.unwrap_or_default().split('&');
        value_holds(wanted, &named(pairs, name))
    }) && condition.cookies.iter().all(|(name, wanted)| {
        let lines = asked.headers.get_all(http::header::COOKIE).iter();
        let pairs = lines.flat_map(|line| line.to_str().expect("text").split(';'));
        // A cookie has a `=`; a query parameter need not.
        value_holds(
            wanted,
            &named(pairs.filter(|pair| pair.contains('=')), name),
        )
    })
}

fn named<'a>(pairs: impl Iterator<Item = &'a str>, name: &str) -> Vec<String> {
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().replace("%61", "a").replace("%20", " "))
        .collect()
}

fn value_holds(wanted: &ValueMatch, values: &[String]) -> bool {
    match wanted {
        ValueMatch::Exact(text) => values.contains(text),
        ValueMatch::StartsWith(text) => values.iter().any(|value| value.starts_with(&**text)),
        ValueMatch::Regex(pattern) => values.iter().any(|value| pattern.regex().is_match(value)),
        ValueMatch::Present(present) => values.is_empty() != *present,
    }
}
