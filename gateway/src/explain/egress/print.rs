//! The report for people.

use std::fmt;

use ipnet::IpNet;
use sluice_config::names::EgressName;

use super::report::{EgressAnswer, EgressReport, Refusal};

impl fmt::Display for EgressReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "egress    {} {}", self.method, self.asked)?;
        write!(f, "client    {}", self.client)?;
        for (word, who) in [("user", &self.user), ("identity", &self.identity)] {
            if let Some(who) = who {
                write!(f, ", {word} {who}")?;
            }
        }
        let (listener, address) = (&self.listener, &self.address);
        let protocol = self.protocol.as_str();
        writeln!(f, "\nlistener  {listener} ({address}, {protocol})")?;
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        if let (Some(target), Some(port)) = (&self.target, self.port) {
            let path = self.path.as_deref().unwrap_or_default();
            let path = if path.is_empty() {
                String::new()
            } else {
                format!(", path {path}")
            };
            writeln!(f, "target    {target}, port {port}{path}")?;
            if self.candidates.is_empty() {
                writeln!(f, "rule      none is for this host")?;
            }
        }
        if !self.candidates.is_empty() {
            writeln!(f, "\ncandidates, in the order in which they are asked")?;
        }
        let mut chosen = false;
        for candidate in &self.candidates {
            match candidate.lacks {
                Some(lacks) => writeln!(f, "  - {}: not this {}", candidate.rule, noun(lacks))?,
                None if chosen => {
                    let rule = &candidate.rule;
                    writeln!(f, "  - {rule}: allows, but an earlier one did")?;
                }
                None => writeln!(f, "  + {}: allows", candidate.rule)?,
            }
            chosen |= candidate.lacks.is_none();
        }
        self.print_inside(f)?;
        print_answer(f, self.rule.as_ref(), &self.answer)
    }
}

impl EgressReport {
    fn print_inside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.inside.is_empty() {
            writeln!(f, "\ninside of the tunnel, decided about once more")?;
        }
        let outer = match &self.answer {
            EgressAnswer::Pass { addresses, .. } => addresses.as_slice(),
            EgressAnswer::Refuse(_) => &[],
        };
        for inside in &self.inside {
            let what = &inside.what;
            match (inside.refused, &inside.rule) {
                (None, Some(rule)) => write!(f, "  + {what}: allowed by {rule}")?,
                (None, None) => write!(f, "  + {what}: allowed by default")?,
                (Some(why), _) if inside.shadow => {
                    write!(f, "  + {what}: passes, though not this {}", noun(why))?;
                }
                (Some(why), _) => {
                    writeln!(f, "  - {what}: not this {}", noun(why))?;
                    continue;
                }
            }
            if inside.addresses != outer {
                write!(f, ", to a public address{}", or_one_in(&inside.addresses))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn or_one_in(addresses: &[IpNet]) -> String {
    if addresses.is_empty() {
        return String::new();
    }
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!(", or one in {}", list.join(", "))
}

/// The word of the log as it reads in a sentence.
fn noun(why: &str) -> String {
    match why {
        "sni_mismatch" => "name in the handshake (sni_mismatch)".to_owned(),
        "sni_absent" => "handshake without a name (sni_absent)".to_owned(),
        "sni_encrypted" => "handshake with a hidden name (sni_encrypted)".to_owned(),
        word => word.to_owned(),
    }
}

fn print_answer(
    f: &mut fmt::Formatter<'_>,
    rule: Option<&EgressName>,
    answer: &EgressAnswer,
) -> fmt::Result {
    let (port, addresses, via, tls, rate, shadow) = match answer {
        EgressAnswer::Refuse(refusal) => return writeln!(f, "\nrefused with {refusal}"),
        EgressAnswer::Pass {
            port,
            addresses,
            via,
            tls,
            rate,
            shadow,
        } => (port, addresses, via, tls, rate, shadow),
    };
    match (shadow, rule) {
        (Some(refusal), _) => {
            writeln!(f, "\npasses in the shadow; else refused with {refusal}")?;
        }
        (None, Some(rule)) => writeln!(f, "\nallowed by {rule}")?,
        (None, None) => writeln!(f, "\nallowed, since no rule says otherwise")?,
    }
    if let Some(via) = via {
        writeln!(f, "  through {via}, which looks for the address")?;
    } else {
        let listed = or_one_in(addresses);
        writeln!(f, "  to port {port} of a public address{listed}")?;
    }
    if *tls {
        writeln!(f, "  inside of TLS, which begins here")?;
    }
    if let Some(rate) = rate {
        writeln!(f, "  as often as {rate} at most")?;
    }
    Ok(())
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.reason, self.why)
    }
}
