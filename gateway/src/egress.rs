//! Who may reach what outside: one decision for the forward proxy, the transparent listener and `explain`.
//!
//! [`Table`] decides, and is pure. [`Egress`] is the table as it runs: with the rates of rules, what came of
//! attempts, and the report of destinations, all of which outlive a reload. What must stay true: a refusal
//! is the default of every doubt; an address that is not public is refused unless it is listed, whatever
//! else says yes; and names are decided before anybody resolves them, their addresses after.

mod addresses;
mod hosts;
mod report;
mod table;
mod target;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use sluice_config::{model, names::EgressName};
use tokio::time::Instant;

use crate::limit::Limiter;
use report::{Place, Sighting};

pub use addresses::is_public;
pub use report::{Destination, Report, Spoken};
pub use table::{Table, dialled_port};
pub use target::{Target, TargetError};

/// Who wants something.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The client's address.
    pub source: IpAddr,
    /// As `basic` knows it.
    pub user: Option<&'a str>,
    /// As the client's certificate says it.
    pub identity: Option<&'a str>,
}

/// What somebody wants.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Whom to reach.
    pub target: &'a Target,
    /// At which port.
    pub port: u16,
    /// For what.
    pub kind: Kind<'a>,
}

/// What is to be spoken, as far as it can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A request that we see.
    Http {
        /// As written.
        method: &'a str,
        /// Normalised, without the query.
        path: &'a str,
    },
    /// CONNECT, before anything was said inside.
    Tunnel,
    /// TLS, inside a tunnel or of a redirected stream.
    Tls {
        /// Whom it is for.
        name: Sni<'a>,
    },
    /// Anything else, inside a tunnel or of a redirected stream.
    Tcp,
}

/// Whom a TLS handshake is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sni<'a> {
    /// This host.
    Name(&'a str),
    /// It does not say.
    Absent,
    /// It hides it (Encrypted `ClientHello`); what stands outside means nothing.
    Encrypted,
}

/// What becomes of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The rule that allows, or of those that do not the one that came nearest; none where no rule is for the
    /// host, or the default allows.
    pub rule: Option<EgressName>,
    /// Whether it may be.
    pub outcome: Outcome,
    /// It is refused, and passes nevertheless: `mode = "shadow"`.
    pub shadow: bool,
    /// After how long the rate of the rule lets the next one pass, where that is why it is refused.
    pub wait: Option<Duration>,
}

/// Whether something may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It may.
    Allowed,
    /// It may not.
    Refused(Why),
}

macro_rules! whys {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal),* $(,)?) => {
        /// Why something is refused. In the order in which conditions are asked: of several rules the one that
        /// came furthest is the nearest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Why {
            $($(#[doc = $doc])+ $variant),*
        }

        impl Why {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its stable word, for logs.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),*
                }
            }
        }
    };
}

whys! {
    /// No rule is for the host.
    Host = "host",
    /// Not at this port.
    Port = "port",
    /// Not what is spoken.
    Protocol = "protocol",
    /// Not by this method.
    Method = "method",
    /// Not this path.
    Path = "path",
    /// Not from this address.
    Source = "source",
    /// Not this user.
    User = "user",
    /// Not this identity.
    Identity = "identity",
    /// The host is, or resolves to, nothing but addresses that are not public.
    Address = "address",
    /// The name in the TLS handshake is another than the target.
    SniMismatch = "sni_mismatch",
    /// The TLS handshake names nobody.
    SniAbsent = "sni_absent",
    /// The TLS handshake hides its name.
    SniEncrypted = "sni_encrypted",
    /// Too often.
    Rate = "rate",
    /// The target cannot be read.
    Target = "target",
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Decision {
    /// Whether the attempt goes on.
    pub fn passes(&self) -> bool {
        self.outcome == Outcome::Allowed || self.shadow
    }

    /// The rule whose `addresses`, `via` and `tls` count: the one that allows, also when it is out of its rate. Who
    /// passes in the shadow goes as if no rule were about it: what a rule opens it opens for those whom it allows.
    pub fn led_by(&self) -> Option<&EgressName> {
        match self.outcome {
            Outcome::Allowed | Outcome::Refused(Why::Rate) => self.rule.as_ref(),
            Outcome::Refused(_) => None,
        }
    }

    /// Why not, if so.
    pub fn why(&self) -> Option<Why> {
        match self.outcome {
            Outcome::Allowed => None,
            Outcome::Refused(why) => Some(why),
        }
    }

    /// None of the addresses of the target may be dialled; there is no shadow to that.
    pub fn refuse_addresses(&mut self) {
        self.outcome = Outcome::Refused(Why::Address);
        self.shadow = false;
    }
}

/// What came of attempts, by the rule that was nearest.
#[derive(Debug, Default)]
struct Tally {
    allowed: AtomicU64,
    refused: AtomicU64,
    shadow: AtomicU64,
}

/// What came of attempts so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that were allowed.
    pub allowed: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that would have been, but for `mode = "shadow"`.
    pub shadow: u64,
}

impl Tally {
    fn count(&self, decision: &Decision) {
        let cell = match (decision.outcome, decision.shadow) {
            (Outcome::Allowed, _) => &self.allowed,
            (Outcome::Refused(_), true) => &self.shadow,
            (Outcome::Refused(_), false) => &self.refused,
        };
        cell.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Counts {
        Counts {
            allowed: self.allowed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            shadow: self.shadow.load(Ordering::Relaxed),
        }
    }
}

/// What a rule keeps over reloads.
#[derive(Debug)]
struct Kept {
    limiter: Option<Arc<Limiter>>,
    tally: Arc<Tally>,
}

/// Egress as it runs: part of the plan.
#[derive(Debug)]
pub struct Egress {
    table: Table,
    /// In the order of the rules.
    kept: Box<[Kept]>,
    /// Of attempts that no rule is for.
    unruled: Arc<Tally>,
    /// Attempts of clients of whom nobody knows who they are, where that is asked.
    unknown: Arc<AtomicU64>,
    report: Arc<Report>,
    /// What the limiters count time from.
    epoch: Instant,
}

impl Egress {
    /// Compiles `[egress]`, or what holds without it. The same value as `previous` when nothing changed;
    /// else with its report, the counts of rules that keep their name, and the buckets of those that keep their
    /// rate.
    pub fn compile(model: Option<&Arc<model::Egress>>, previous: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(previous) = previous
            && previous.table.is_of(model)
        {
            return Arc::clone(previous);
        }
        let table = Table::compile(model);
        let kept = table.rules().iter().map(|rule| {
            let known = previous.and_then(|previous| previous.kept(&rule.name));
            let tally = known.map(|(_, kept)| Arc::clone(&kept.tally));
            let limiter = rule.rate.map(|rate| {
                let same = known.filter(|(known, _)| known.rate == Some(rate));
                let same = same.and_then(|(_, kept)| kept.limiter.as_ref());
                let fresh = || Arc::new(Limiter::new(rate.count, rate.per));
                same.map_or_else(fresh, Arc::clone)
            });
            Kept {
                limiter,
                tally: tally.unwrap_or_default(),
            }
        });
        let limit = table.settings().report;
        let report = match previous {
            Some(previous) if limit > 0 => {
                previous.report.set_limit(limit);
                Arc::clone(&previous.report)
            }
            // What ran before may still tell; nobody listens.
            _ => Arc::new(Report::new(limit)),
        };
        Arc::new(Self {
            kept: kept.collect(),
            table,
            unruled: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.unruled)),
            unknown: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.unknown)),
            report,
            epoch: previous.map_or_else(Instant::now, |previous| previous.epoch),
        })
    }

    /// The decisions alone.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The settings of a rule.
    pub fn rule(&self, name: &EgressName) -> Option<&model::EgressRule> {
        self.table.rule(name)
    }

    /// Decides about an attempt at `now`, and counts it towards the rate of its rule. Ask once for each: for a
    /// tunnel before it opens, and [`Egress::inside`] about what comes out of it.
    pub fn attempt(&self, asker: &Asker<'_>, ask: &Ask<'_>, now: Instant) -> Decision {
        let mut decision = self.table.decide(asker, ask);
        self.charge(&mut decision, now);
        decision
    }

    /// Decides about what is spoken inside a tunnel that `outer` let open, which need not be for the same rule.
    /// `ask` is about the same target and port.
    pub fn inside(
        &self,
        outer: &Decision,
        asker: &Asker<'_>,
        ask: &Ask<'_>,
        now: Instant,
    ) -> Decision {
        let mut decision = self.table.inside(outer, asker, ask);
        // The attempt has been counted where it stays with its rule.
        if decision.rule != outer.rule || outer.outcome != Outcome::Allowed {
            self.charge(&mut decision, now);
        }
        decision
    }

    fn charge(&self, decision: &mut Decision, now: Instant) {
        if decision.outcome != Outcome::Allowed {
            return;
        }
        let rule = decision.rule.as_ref().and_then(|name| self.kept(name));
        let Some(limiter) = rule.and_then(|(_, kept)| kept.limiter.as_ref()) else {
            return;
        };
        if let Err(wait) = limiter.take(now.saturating_duration_since(self.epoch)) {
            decision.outcome = Outcome::Refused(Why::Rate);
            decision.shadow = self.table.is_shadow();
            decision.wait = Some(wait);
        }
    }

    /// Those of the addresses of a target that may be dialled under `decision`. When there are none, tell the
    /// decision ([`Decision::refuse_addresses`]).
    pub fn dialable<'a>(
        &'a self,
        decision: &Decision,
        addresses: impl IntoIterator<Item = IpAddr> + 'a,
    ) -> impl Iterator<Item = IpAddr> + 'a {
        let listed = self.table.listed(decision);
        let addresses = addresses.into_iter();
        addresses.filter(move |address| addresses::is_dialable(*address, listed))
    }

    /// Remembers what came of an attempt, in the counts and the report. Once for each, at its end: with the last
    /// decision about it, and with the last that was seen of it.
    pub fn tell(&self, asker: &Asker<'_>, ask: &Ask<'_>, decision: &Decision, now: SystemTime) {
        let place = Place {
            source: asker.source.to_canonical(),
            target: Some(ask.target.clone()),
            port: ask.port,
            rule: decision.rule.clone(),
        };
        self.note(place, decision, Spoken::of(ask.kind), now);
    }

    /// As [`Egress::tell`], of an attempt whose target cannot be read; gives what to say about it.
    pub fn tell_unreadable(&self, asker: &Asker<'_>, now: SystemTime) -> Decision {
        let decision = Decision {
            rule: None,
            outcome: Outcome::Refused(Why::Target),
            shadow: false,
            wait: None,
        };
        let place = Place {
            source: asker.source.to_canonical(),
            target: None,
            port: 0,
            rule: None,
        };
        self.note(place, &decision, Spoken::default(), now);
        decision
    }

    /// Counts an attempt of which it was not found out who asks. It is not for the report: whoever likes could
    /// fill that.
    pub fn tell_unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, place: Place, decision: &Decision, spoken: Spoken, now: SystemTime) {
        let rule = place.rule.as_ref().and_then(|name| self.kept(name));
        let tally = rule.map_or(&self.unruled, |(_, kept)| &kept.tally);
        tally.count(decision);
        let sighting = Sighting {
            why: decision.why(),
            shadow: decision.shadow,
            spoken,
            now,
        };
        self.report.note(place, sighting);
    }

    /// What came of attempts, by rule, in the order of their names; without one those that no rule is for.
    pub fn counts(&self) -> impl Iterator<Item = (Option<&EgressName>, Counts)> {
        let rules = self.table.rules().iter().map(|rule| &rule.name);
        let rules = rules.zip(&self.kept);
        let rules = rules.map(|(name, kept)| (Some(name), kept.tally.read()));
        std::iter::once((None, self.unruled.read())).chain(rules)
    }

    /// How many attempts there were of clients that have not said who they are.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// The destinations that were asked for.
    pub fn report(&self) -> &Report {
        &self.report
    }

    fn kept(&self, name: &EgressName) -> Option<(&model::EgressRule, &Kept)> {
        let position = self.table.position(name)?;
        Some((self.table.rules().get(position)?, self.kept.get(position)?))
    }
}
