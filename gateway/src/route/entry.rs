//! The conditions of one match, compiled.

use std::{collections::HashMap, ops::RangeInclusive};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use sluice_config::{
    model::{self, Match, PathMatch, ValueMatch},
    names::ListenerName,
};

use super::{
    Opening, Question,
    truth::{Kind, Need, Values},
};

/// Every method among the rules has a number: numbers compare faster than texts.
pub(super) type Methods = HashMap<Box<str>, usize, RandomState>;

/// The conditions of one match, but for a path that is the key.
pub(super) struct Entry {
    /// Every path but `*`.
    rooted: bool,
    /// Numbers of methods; empty means every method.
    methods: Box<[usize]>,
    clients: Box<[IpNet]>,
    listeners: Box<[ListenerName]>,
    needs: Box<[Need]>,
    /// Few rules have any.
    connection: Option<Box<OnConnection>>,
}

/// Conditions on a connection, whatever it carries.
struct OnConnection {
    destinations: Box<[IpNet]>,
    ports: Box<[RangeInclusive<u16>]>,
    alpn: Box<[String]>,
    sni: Option<ValueMatch>,
}

impl Entry {
    pub(super) fn compile(condition: &Match, methods: &mut Methods, values: &mut Values) -> Self {
        let number = |method: &model::Method| {
            let next = methods.len();
            *methods.entry(method.as_str().into()).or_insert(next)
        };
        let methods = condition.methods.iter().map(number).collect();
        let mut needs = Vec::new();
        for header in &condition.headers {
            needs.push(values.add(Kind::Header, header.name.as_str(), &header.value));
        }
        for (name, value) in &condition.query {
            needs.push(values.add(Kind::Query, name, value));
        }
        for (name, value) in &condition.cookies {
            needs.push(values.add(Kind::Cookie, name, value));
        }
        Self {
            rooted: match &condition.path {
                Some(PathMatch::Prefix(text) | PathMatch::StartsWith(text)) => text == "/",
                Some(PathMatch::Exact(_) | PathMatch::Regex(_)) | None => false,
            },
            methods,
            clients: condition.clients.clone().into(),
            listeners: condition.listeners.clone().into(),
            needs: needs.into(),
            connection: OnConnection::compile(condition).map(Box::new),
        }
    }

    /// Whether its condition on the path is no more than that there is one.
    pub(super) fn is_rooted(&self) -> bool {
        self.rooted
    }

    pub(super) fn needs(&self) -> &[Need] {
        &self.needs
    }

    pub(super) fn methods(&self) -> &[usize] {
        &self.methods
    }

    /// Whether everything holds but its needs and a path that is its key.
    pub(super) fn admits(
        &self,
        listener: &ListenerName,
        method: Option<usize>,
        question: &Question<'_>,
    ) -> bool {
        self.admits_path(question)
            && self.admits_method(method)
            && self.admits_listener(listener)
            && self.admits_client(question)
            && self.admits_connection(question)
    }

    fn admits_path(&self, question: &Question<'_>) -> bool {
        !self.rooted || question.path.starts_with('/')
    }

    fn admits_method(&self, method: Option<usize>) -> bool {
        self.methods.is_empty() || method.is_some_and(|method| self.methods.contains(&method))
    }

    fn admits_listener(&self, listener: &ListenerName) -> bool {
        self.listeners.is_empty() || self.listeners.contains(listener)
    }

    fn admits_client(&self, question: &Question<'_>) -> bool {
        self.clients.is_empty()
            || self
                .clients
                .iter()
                .any(|net| net.contains(&question.client))
    }

    fn admits_connection(&self, question: &Question<'_>) -> bool {
        let connection = self.connection.as_ref();
        connection.is_none_or(|connection| connection.admits(&question.opening))
    }
}

impl OnConnection {
    fn compile(condition: &Match) -> Option<Self> {
        let Match {
            destination,
            destination_port,
            alpn,
            sni,
            ..
        } = condition;
        let none = destination.is_empty()
            && destination_port.is_empty()
            && alpn.is_empty()
            && sni.is_none();
        (!none).then(|| Self {
            destinations: destination.clone().into(),
            ports: destination_port.clone().into(),
            alpn: alpn.clone().into(),
            sni: sni.clone(),
        })
    }

    fn admits(&self, opening: &Opening<'_>) -> bool {
        let (ip, port) = (opening.destination.ip(), opening.destination.port());
        let offered = |name: &String| opening.alpn.contains(&name.as_bytes());
        (self.destinations.is_empty() || self.destinations.iter().any(|net| net.contains(&ip)))
            && (self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&port)))
            && (self.alpn.is_empty() || self.alpn.iter().any(offered))
            && self.admits_sni(opening.sni)
    }

    fn admits_sni(&self, sni: Option<&str>) -> bool {
        match &self.sni {
            None => true,
            Some(ValueMatch::Present(present)) => sni.is_some() == *present,
            Some(ValueMatch::Exact(name)) => sni == Some(name),
            Some(ValueMatch::StartsWith(text)) => {
                sni.is_some_and(|name| name.starts_with(text.as_str()))
            }
            Some(ValueMatch::Regex(pattern)) => {
                sni.is_some_and(|name| pattern.regex().is_match(name))
            }
        }
    }
}
