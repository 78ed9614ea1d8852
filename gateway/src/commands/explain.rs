//! `sluice explain`: what would become of one request, from the files alone.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    net::{IpAddr, SocketAddr},
};

use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use sluice_config::{Style, check, names::ListenerName, read, render};
use sluice_gateway::explain::{
    Asked, AskedEgress, AskedStream, Hello, explain, explain_egress, explain_stream,
};

use crate::{
    Exit,
    args::{ConfigPaths, environment},
};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The method, case-sensitive.
    #[arg(required_unless_present_any = ["tcp", "udp", "sni", "egress"])]
    method: Option<Method>,
    /// A whole URL, as a client would be given it: `https://shop.example.com/cart`.
    #[arg(required_unless_present_any = ["tcp", "udp", "sni", "egress"])]
    url: Option<Uri>,
    /// Instead of a request a connection to this listener, by its name or at `ADDRESS:PORT`.
    #[arg(long, value_name = "LISTENER", conflicts_with_all = ["method", "url", "headers", "udp"])]
    tcp: Option<String>,
    /// Instead of a request a datagram to this listener, by its name or at `ADDRESS:PORT`.
    #[arg(long, value_name = "LISTENER", conflicts_with_all = ["method", "url", "headers", "sni"])]
    udp: Option<String>,
    /// Instead of a request to us one to go out: `CONNECT HOST:PORT`, `GET http://…`; or what was redirected here,
    /// `TLS HOST:PORT` or `TCP ADDRESS:PORT`.
    #[arg(
        long,
        num_args = 2,
        value_names = ["METHOD", "TARGET"],
        conflicts_with_all = ["method", "url", "headers", "tcp", "udp", "alpn", "destination"]
    )]
    egress: Vec<String>,
    /// With --egress: who the client is by its password.
    #[arg(long, value_name = "NAME", requires = "egress")]
    user: Option<String>,
    /// With --egress: who the client is by its certificate, `spiffe://DOMAIN/PATH`.
    #[arg(long, value_name = "URI", requires = "egress")]
    identity: Option<String>,
    /// Instead of a request a TLS connection that asks for this name, which is empty for none. With --egress
    /// the name in the handshake that goes out.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["method", "url", "headers"])]
    sni: Option<String>,
    /// What is offered inside TLS; may be repeated.
    #[arg(long, value_name = "PROTOCOL", value_delimiter = ',', conflicts_with_all = ["method", "udp"])]
    alpn: Vec<String>,
    /// A header of the request; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The address of the connected peer [default: 127.0.0.1].
    #[arg(long, visible_alias = "client", value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    /// The address and port that the client has connected to [default: those of the listener].
    #[arg(long, value_name = "ADDRESS:PORT")]
    destination: Option<SocketAddr>,
    /// The listener it comes in by [default: found by the URL].
    #[arg(long, value_name = "NAME", value_parser = ListenerName::new)]
    listener: Option<ListenerName>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigPaths,
}

/// Explains to standard output.
pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    run_to(args, &mut io::stdout().lock())
}

fn run_to(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let sources = read(&args.config.resolve(), &environment);
    let report = check(&sources, None);
    // Contained mistakes show in what they did to the request; without a snapshot there is nothing
    // to explain.
    if !report.problems.is_empty() {
        let color = io::stderr().is_terminal();
        let style = if color { Style::Color } else { Style::Plain };
        let text = render(&report.problems, &sources, style);
        io::stderr().lock().write_all(text.as_bytes())?;
    }
    let Some(snapshot) = report.snapshot else {
        return Ok(Exit::Refused);
    };
    let explained = if let [method, target] = args.egress.as_slice() {
        let asked = AskedEgress {
            method: method.clone(),
            target: target.clone(),
            client: args.client_ip,
            user: args.user,
            identity: args.identity,
            sni: args.sni,
            listener: args.listener,
        };
        explain_egress(&snapshot, &asked).map(|report| tell(&report, report.matches(), args.json))
    } else if let (Some(method), Some(url)) = (args.method, args.url) {
        let asked = Asked {
            method,
            url,
            headers: args.headers,
            client: args.client_ip,
            listener: args.listener,
            destination: args.destination,
        };
        explain(&snapshot, &asked).map(|report| tell(&report, report.matches(), args.json))
    } else {
        let says = args.sni.is_some() || !args.alpn.is_empty();
        let name = args
            .sni
            .map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let listener = args.listener.map(|name| name.to_string());
        let asked = AskedStream {
            datagram: args.udp.is_some(),
            to: args.tcp.or(args.udp).or(listener),
            hello: says.then(|| Hello {
                sni: name.filter(|name| !name.is_empty()),
                alpn: args.alpn,
            }),
            client: args.client_ip,
            destination: args.destination,
        };
        explain_stream(&snapshot, &asked).map(|report| tell(&report, report.matches(), args.json))
    };
    match explained {
        Ok(told) => {
            let (text, matches) = told?;
            out.write_all(text.as_bytes())?;
            Ok(if matches { Exit::Fine } else { Exit::NoMatch })
        }
        Err(unexplained) => {
            writeln!(io::stderr().lock(), "sluice: {unexplained}")?;
            Ok(Exit::Usage)
        }
    }
}

/// A report as text, and whether anything matches.
fn tell(
    report: &(impl Serialize + Display),
    matches: bool,
    json: bool,
) -> serde_json::Result<(String, bool)> {
    let text = if json {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        text
    } else {
        report.to_string()
    };
    Ok((text, matches))
}

/// Why a header is refused.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("write NAME: VALUE")]
    NoColon,
    #[error("the name cannot stand in a request")]
    Name(#[from] http::header::InvalidHeaderName),
    #[error("the value cannot stand in a request")]
    Value(#[from] http::header::InvalidHeaderValue),
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
    let (name, value) = text.split_once(':').ok_or(HeaderError::NoColon)?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args;

    const CONFIG: &str = r#"
[routes.app]
hosts = ["app.example"]
[[routes.app.rules]]
match = { path = "/here", headers = { x-a = "1" } }
to = "10.0.0.5:8080"
"#;

    /// Runs the whole command line; gives the exit and what was printed.
    fn sluice(config: &str, rest: &[&str]) -> (Exit, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("sluice.toml");
        std::fs::write(&file, config).expect("written");
        let mut line = vec!["sluice", "explain", "--config"];
        line.push(file.to_str().expect("text"));
        line.extend(rest);
        let args::Command::Explain(args) = args::Args::parse_from(line).command else {
            panic!("another command");
        };
        let mut out = Vec::new();
        let exit = run_to(*args, &mut out).expect("explained");
        (exit, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn tells_by_exit_code_whether_a_rule_matches() {
        let here = ["GET", "http://app.example/here", "-H", "X-A: 1"];
        let (exit, text) = sluice(CONFIG, &here);
        assert_eq!(exit, Exit::Fine, "{text}");
        assert!(text.contains("10.0.0.5:8080"), "{text}");

        let (exit, text) = sluice(CONFIG, &["GET", "http://app.example/there"]);
        assert_eq!(exit, Exit::NoMatch, "{text}");
        assert!(text.contains("nearest   app #1"), "{text}");

        let (exit, text) = sluice("[routes.app]\nto = 5\n", &here);
        assert_eq!((exit, &*text), (Exit::Refused, ""));

        let (exit, _) = sluice(CONFIG, &["GET", "/", "--listener", "none"]);
        assert_eq!(exit, Exit::Usage);
    }

    const EGRESS: &str = r#"
[listeners.proxy]
address = "127.0.0.1:3128"
protocol = "forward-proxy"
[egress.allow.payments]
hosts = "api.example.com"
protocols = "tls"
from = { sources = "10.0.1.0/24" }
"#;

    #[test]
    fn names_the_rule_by_which_somebody_goes_out() {
        let connect = ["--egress", "CONNECT", "api.example.com:443", "--client-ip"];
        let (exit, text) = sluice(EGRESS, &[&connect[..], &["10.0.1.5"]].concat());
        assert_eq!(exit, Exit::Fine, "{text}");
        assert!(text.contains("allowed by payments"), "{text}");

        let (exit, text) = sluice(EGRESS, &[&connect[..], &["10.0.2.5", "--json"]].concat());
        assert_eq!(exit, Exit::NoMatch, "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["rule"], "payments");
        assert_eq!(value["candidates"][0]["lacks"], "source");
        assert_eq!(value["answer"]["reason"], "egress_refused");

        let (exit, _) = sluice(EGRESS, &["--egress", "TLS", "api.example.com:443"]);
        assert_eq!(exit, Exit::Usage);
    }

    #[test]
    fn prints_the_same_as_json() {
        let line = ["GET", "http://app.example/here", "-H", "x-a: 1", "--json"];
        let (_, text) = sluice(CONFIG, &line);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["route"]["chosen"]["route"], "app");
        assert_eq!(value["answer"]["action"], "forward");
        assert_eq!(value["route"]["candidates"][0]["outcome"], "chosen");
    }
}
