//! The report for people.

use std::fmt;

use sluice_config::model::{Balance, Limit, Mode, RespondBody, StreamLimits};

use super::report::{Answer, Report, Sent, StreamAnswer, StreamReport, Target};
use crate::route::{Candidate, Chosen, Explanation, Failure, Outcome};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("(no host)");
        writeln!(f, "request   {} {host} {}", self.method, self.target)?;
        let trusted = if self.trusted {
            ", by a trusted proxy"
        } else {
            ""
        };
        writeln!(f, "client    {}{trusted}", self.client)?;
        writeln!(f, "listener  {} ({})", self.listener, self.address)?;
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        if let Some(route) = &self.route {
            print_route(f, route)?;
        }
        self.print_filters(f)?;
        if let Some(sent) = &self.sent {
            print_sent(f, sent)?;
        }
        print_answer(f, &self.answer)
    }
}

impl Report {
    fn print_filters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.route.as_ref().is_none_or(|it| it.chosen.is_none()) {
            return Ok(());
        }
        writeln!(f, "\nfilters")?;
        if self.filters.is_empty() {
            writeln!(f, "  none")?;
        }
        for filter in &self.filters {
            let from = format!("{:?}", filter.from).to_lowercase();
            writeln!(f, "  {:<17} from the {from}", filter.key)?;
        }
        match self.max_body {
            Some(limit) => writeln!(f, "  body limit        {limit} bytes")?,
            None => writeln!(f, "  body limit        off")?,
        }
        match self.timeout {
            Some(timeout) => writeln!(f, "  timeout           {timeout:?}"),
            None => writeln!(f, "  timeout           off"),
        }
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.mode == Mode::Udp {
            "datagram"
        } else {
            "stream  "
        };
        writeln!(f, "{what}  to {}", self.destination)?;
        writeln!(f, "client    {}", self.client)?;
        if self.sni.is_some() || !self.alpn.is_empty() || self.ended {
            let name = self.sni.as_deref().unwrap_or("no name");
            let offered = match self.alpn.as_slice() {
                [] => String::new(),
                alpn => format!(", offers {}", alpn.join(", ")),
            };
            let way = match self.mode {
                _ if self.ended => "; ended here",
                Mode::Passthrough => "; not ended",
                Mode::Http | Mode::Tcp | Mode::Udp => "",
            };
            writeln!(f, "tls       for {name}{offered}{way}")?;
        }
        let protocol = self.protocol.as_str();
        writeln!(
            f,
            "listener  {} ({}, {protocol})",
            self.listener, self.address
        )?;
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        if let Some(route) = &self.route {
            writeln!(f, "mode      {}", self.mode)?;
            print_route(f, route)?;
        }
        if let Some(stream) = &self.stream {
            print_stream(f, stream)?;
        }
        match &self.answer {
            StreamAnswer::Forward { targets } => {
                writeln!(f, "\nforwarded to")?;
                targets
                    .iter()
                    .try_for_each(|target| print_target(f, target))
            }
            StreamAnswer::Requests => {
                writeln!(
                    f,
                    "\nread as requests: ask with a method and URL what becomes of one"
                )
            }
            StreamAnswer::Egress => {
                writeln!(
                    f,
                    "\nasked to go out: ask with --egress, a method and a target what becomes of it"
                )
            }
            StreamAnswer::Refuse { reason, why } => writeln!(f, "\nclosed, {reason}: {why}"),
        }
    }
}

fn print_stream(f: &mut fmt::Formatter<'_>, stream: &StreamLimits) -> fmt::Result {
    let limit = |limit: Limit<std::time::Duration>| match limit {
        Limit::Off => "off".to_owned(),
        Limit::At(time) => format!("{time:?}"),
    };
    writeln!(f, "\nlasts")?;
    writeln!(f, "  idle_timeout      {}", limit(stream.idle_timeout))?;
    writeln!(f, "  max_duration      {}", limit(stream.max_duration))?;
    writeln!(f, "  drain             {:?}", stream.drain)
}

fn print_route(f: &mut fmt::Formatter<'_>, route: &Explanation) -> fmt::Result {
    match (&route.host, &route.chosen) {
        (Some(host), Some(chosen)) => writeln!(f, "route     {} (host {host})", Place(chosen))?,
        (Some(host), None) => writeln!(f, "route     none matches (host {host})")?,
        (None, _) => writeln!(f, "route     none has this host")?,
    }
    if !route.candidates.is_empty() {
        writeln!(f, "\ncandidates, in the order in which they are asked")?;
    }
    for candidate in &route.candidates {
        print_candidate(f, candidate)?;
    }
    if let Some(nearest) = &route.nearest {
        writeln!(f, "\nnearest   {}", Place(&nearest.place))?;
        print_failures(f, &nearest.failed)?;
    }
    Ok(())
}

fn print_candidate(f: &mut fmt::Formatter<'_>, candidate: &Candidate) -> fmt::Result {
    let place = Place(&candidate.place);
    match &candidate.outcome {
        Outcome::Chosen => writeln!(f, "  + {place}: chosen"),
        Outcome::Later => writeln!(f, "  - {place}: matches, but an earlier rule matched"),
        Outcome::Failed(failed) => {
            writeln!(f, "  - {place}")?;
            print_failures(f, failed)
        }
    }
}

fn print_failures(f: &mut fmt::Formatter<'_>, failed: &[Failure]) -> fmt::Result {
    for failure in failed {
        writeln!(f, "      wants: {}; is: {}", failure.wanted, failure.found)?;
    }
    Ok(())
}

struct Place<'a>(&'a Chosen);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Chosen {
            route,
            rule,
            matched,
        } = self.0;
        match matched {
            Some(matched) => write!(f, "{route} {rule}, match {}", matched.saturating_add(1)),
            None => write!(f, "{route} {rule}"),
        }
    }
}

fn print_sent(f: &mut fmt::Formatter<'_>, sent: &Sent) -> fmt::Result {
    writeln!(f, "\nthe origin sees")?;
    writeln!(f, "  {} {}", sent.method, sent.target)?;
    for (name, value) in &sent.headers {
        writeln!(f, "  {name}: {}", value.escape_debug())?;
    }
    Ok(())
}

fn print_answer(f: &mut fmt::Formatter<'_>, answer: &Answer) -> fmt::Result {
    match answer {
        Answer::Forward { targets } => {
            writeln!(f, "\nforwarded to")?;
            targets
                .iter()
                .try_for_each(|target| print_target(f, target))
        }
        Answer::Redirect { status, location } => {
            writeln!(f, "\nanswered with {status}, location: {location}")
        }
        Answer::Respond {
            status,
            headers,
            body,
        } => {
            writeln!(f, "\nanswered with {status} from the configuration")?;
            for (name, value) in headers {
                writeln!(f, "  {name}: {}", value.escape_debug())?;
            }
            match body {
                None => writeln!(f, "  no body"),
                Some(RespondBody::Text(text)) => writeln!(f, "  body of {} bytes", text.len()),
                Some(RespondBody::File(path)) => writeln!(f, "  body from {}", path.display()),
            }
        }
        Answer::Refuse {
            status,
            reason,
            why,
        } => writeln!(f, "\nrefused with {status} {reason}: {why}"),
    }
}

fn print_target(f: &mut fmt::Formatter<'_>, target: &Target) -> fmt::Result {
    let balance = match target.balance {
        Some(Balance::RoundRobin) => ", round-robin",
        Some(Balance::Random) => ", random",
        Some(Balance::LeastRequest) => ", least-request",
        Some(Balance::RingHash) => ", ring-hash",
        None => "",
    };
    let Target {
        name,
        weight,
        percent,
        ..
    } = target;
    writeln!(f, "  {name} (weight {weight}, {percent} %{balance})")?;
    if target.endpoints.is_empty() && target.balance.is_some() {
        writeln!(f, "    no endpoints: answers 503 no_endpoint")?;
    }
    for endpoint in &target.endpoints {
        writeln!(f, "    {} (weight {})", endpoint.address, endpoint.weight)?;
    }
    Ok(())
}
