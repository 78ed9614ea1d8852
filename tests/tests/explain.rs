//! `explain` and the live gateway decide alike: random configurations, random requests, the same
//! listener, route, rule, rewritten request and answer, or the same refusal.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path};

use parking_lot::Mutex;
use proptest::{
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestRunner},
};
use serde_json::Value;
use sluice_config::{Snapshot, names::ListenerName};
use sluice_gateway::explain::{Answer, Asked, Report, explain};
use sluice_tests::{
    Client, Gateway, Origin, Reply,
    gateway::snapshot,
    http1,
    process::{sluice, stdout},
};
use tokio::net::TcpSocket;

/// Configurations.
const CASES: u32 = 48;

/// Requests to each.
const REQUESTS: usize = 24;

/// Both tell the route and rule in every answer. The second one listens to a proxy and lets more
/// through than the first.
const LISTENERS: &str = r#"
[listeners.one]
address = "127.0.0.1:0"
response_headers = { set = { x-route = "{route}", x-rule = "{rule}" } }
[listeners.two]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.2"]
normalize = { escaped_slash = "keep", underscores = "keep" }
response_headers = { set = { x-route = "{route}", x-rule = "{rule}" } }
"#;

const HOSTS: &[&str] = &[
    "a.example",
    "x.a.example",
    "*.a.example",
    "*.x.a.example",
    "*.example",
    "*",
];

const PATHS: &[&str] = &[
    "\"/\"",
    "\"/a\"",
    "\"/a/b\"",
    "{ prefix = \"/\" }",
    "{ prefix = \"/a\" }",
    "{ prefix = \"/a/b\" }",
    "{ starts_with = \"/a\" }",
    "{ starts_with = \"/a/b\" }",
    "{ regex = \"/[a-b]+\" }",
    "{ regex = \"/a/([0-9]+)\" }",
];

const VALUES: &[&str] = &[
    "\"1\"",
    "\"\"",
    "{ starts_with = \"1\" }",
    "{ regex = \"[0-9]+\" }",
    "{ regex = \"1, .*\" }",
    "{ present = true }",
    "{ present = false }",
];

const ACTIONS: &[&str] = &[
    "respond = { status = 418, body = \"tea\", headers = { x-path = \"{request.path}\" } }",
    "respond = {}",
    "redirect = { host = \"other.example\", status = 308 }",
    "redirect = { path = \"/there{request.path}\", keep_query = false }",
    "to = \"echo\"",
    "to = [{ upstream = \"echo\", weight = 0 }, { upstream = \"again\", weight = 1 }]",
    "to = { upstream = \"echo\", weight = 0 }",
    "to = { service = \"reviews\", port = 80 }",
    "to = \"echo\"\nrewrite = { path = \"/new{request.path}\", host = \"{client.ip}.example\" }",
    "to = \"echo\"\nrequest_headers = { set = { x-way = \"{listener}/{route}/{rule}\" }, remove = [\"x-a\"] }",
];

/// A configuration without its listeners and upstreams.
fn configuration() -> impl Strategy<Value = String> {
    let matching = (
        prop::option::weighted(0.6, select(PATHS)),
        prop::option::weighted(0.3, subsequence(vec!["GET", "POST", "PUT"], 1..=2)),
        prop::option::weighted(0.3, (select(vec!["x-a", "x-b"]), select(VALUES))),
        prop::option::weighted(0.2, (select(vec!["q", "p"]), select(VALUES))),
        prop::option::weighted(0.2, (select(vec!["c", "d"]), select(VALUES))),
        prop::option::weighted(0.2, select(vec!["127.0.0.2", "192.0.2.0/24", "::/0"])),
        prop::option::weighted(0.15, select(vec!["one", "two"])),
    );
    let matching = matching.prop_map(|(path, method, header, query, cookie, client, listener)| {
        let named = |key: &str, pair: Option<(&str, &str)>| {
            pair.map(|(name, value)| format!("{key} = {{ {name} = {value} }}"))
        };
        let keys = [
            path.map(|path| format!("path = {path}")),
            method.map(|methods| format!("method = {methods:?}")),
            named("headers", header),
            named("query", query),
            named("cookies", cookie),
            client.map(|client| format!("client = {client:?}")),
            listener.map(|listener| format!("listener = {listener:?}")),
        ];
        let keys: Vec<_> = keys.into_iter().flatten().collect();
        format!("{{ {} }}", keys.join(", "))
    });
    let rule = (
        prop::collection::vec(matching, 0..=2),
        select(ACTIONS),
        any::<bool>(),
    );
    let route = (
        subsequence(HOSTS, 1..=3),
        prop::option::weighted(0.7, -1..=2),
        prop::collection::vec(rule, 0..=4),
        prop::option::weighted(0.3, select(ACTIONS)),
    );
    prop::collection::vec(route, 1..=4).prop_map(|routes| {
        let mut text = String::new();
        for (number, (hosts, priority, rules, catch_all)) in routes.into_iter().enumerate() {
            text.extend([format!("[routes.r{number}]\nhosts = {hosts:?}\n")]);
            text.extend(priority.map(|priority| format!("priority = {priority}\n")));
            let catch_all = catch_all.or(rules.is_empty().then_some("respond = {}"));
            text.extend(catch_all.map(|action| format!("{action}\n")));
            for (position, (matches, action, named)) in rules.into_iter().enumerate() {
                text.extend([format!("[[routes.r{number}.rules]]\n{action}\n")]);
                text.extend(named.then(|| format!("name = \"n{position}\"\n")));
                text.extend(
                    (!matches.is_empty()).then(|| format!("match = [{}]\n", matches.join(", "))),
                );
            }
        }
        text
    })
}

/// One request, by its parts.
#[derive(Debug, Clone)]
struct Wish {
    listener: &'static str,
    client: [u8; 4],
    method: &'static str,
    host: &'static str,
    target: String,
    headers: Vec<(&'static str, &'static str)>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let hosts = vec![
        "a.example",
        "a.example",
        "x.a.example",
        "y.x.a.example",
        "A.EXAMPLE",
        "a.example.",
        "a.example:8443",
        "b.example",
        "other.test",
        "127.0.0.1",
    ];
    let paths = vec![
        "/", "/a", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/a/12", "/a/1x", "//a", "/a/./b",
        "/x/../a", "/%61", "/a%2fb", "/a%5cb", "/a/%00", "/ü", "/a;v=1/b",
    ];
    let queries = vec![
        "",
        "",
        "?q=1",
        "?q=2&p",
        "?p=1%30&q",
        "?q=x&q=1",
        "?Q=1",
        "?q=%31",
    ];
    let headers = vec![
        ("x-a", "1"),
        ("x-a", "12"),
        ("X-B", "1"),
        ("x-b", ""),
        ("cookie", "c=1; d=x"),
        ("cookie", "d=1"),
        ("x_a", "1"),
        ("x-forwarded-for", "192.0.2.9"),
        ("forwarded", "for=192.0.2.10;proto=https"),
        ("connection", "x-a"),
        ("te", "trailers"),
    ];
    (
        select(vec!["one", "two"]),
        select(vec![[127, 0, 0, 1], [127, 0, 0, 2]]),
        select(vec!["GET", "GET", "POST", "PUT", "OPTIONS", "get"]),
        select(hosts),
        (select(paths), select(queries)),
        subsequence(headers, 0..=4),
    )
        .prop_map(
            |(listener, client, method, host, (path, query), headers)| Wish {
                listener,
                client,
                method,
                host,
                target: format!("{path}{query}"),
                headers,
            },
        )
}

impl Wish {
    fn url(&self) -> String {
        format!("http://{}{}", self.host, self.target)
    }

    /// As `explain` understands it; none when no URL can say it.
    fn asked(&self) -> Option<Asked> {
        Some(Asked {
            method: self.method.parse().ok()?,
            url: self.url().parse().ok()?,
            headers: self
                .headers
                .iter()
                .map(|(name, value)| {
                    let name = name.parse().expect("a header name");
                    (name, value.parse().expect("a header value"))
                })
                .collect(),
            client: Some(self.client.into()),
            listener: Some(ListenerName::new(self.listener).expect("a name")),
            destination: None,
        })
    }

    async fn live(&self, gateway: &Gateway) -> Reply {
        let to = gateway.address_of(self.listener).expect("it listens");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from((self.client, 0)))
            .expect("an address of loopback");
        let mut client = Client::from(socket.connect(to).await.expect("it accepts"));
        let headers = self
            .headers
            .iter()
            .fold(String::new(), |all, (name, value)| {
                format!("{all}{name}: {value}\r\n")
            });
        let body = if self.method == "GET" {
            ""
        } else {
            "Content-Length: 0\r\n"
        };
        client
            .send(format!(
                "{} {} HTTP/1.1\r\nHost: {}\r\n{headers}{body}\r\n",
                self.method, self.target, self.host
            ))
            .await;
        client.reply().await
    }

    async fn command_line(&self, folder: &Path) -> (Option<i32>, String) {
        let client = std::net::Ipv4Addr::from(self.client).to_string();
        let url = self.url();
        let mut args = vec![
            "explain",
            "--json",
            "-c",
            "sluice.toml",
            "--listener",
            self.listener,
            "--client-ip",
            &client,
        ];
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        for header in &headers {
            args.extend(["-H", header]);
        }
        args.extend([self.method, &url]);
        let output = sluice(folder, &args).await;
        (output.status.code(), stdout(&output))
    }
}

/// What the origin saw, or was said to see, without what differs each time.
fn seen(headers: impl IntoIterator<Item = (String, String)>) -> BTreeSet<(String, String)> {
    let headers = headers
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value));
    headers
        .filter(|(name, _)| !["x-request-id", "content-length"].contains(&name.as_str()))
        .collect()
}

/// Fails where the two differ.
fn compare(said: &Report, live: &Reply) {
    let header = |name| live.header(name).unwrap_or_default();
    let chosen = said.route.as_ref().and_then(|route| route.chosen.as_ref());
    let names = chosen.map_or(("", ""), |chosen| {
        (chosen.route.as_str(), chosen.rule.as_str())
    });
    assert_eq!(
        (header("x-route"), header("x-rule")),
        names,
        "route and rule"
    );
    match &said.answer {
        Answer::Refuse { status, .. } => assert_eq!(live.status, *status),
        Answer::Redirect { status, location } => {
            assert_eq!(
                (live.status, header("location")),
                (*status, location.as_str())
            );
        }
        Answer::Respond {
            status, headers, ..
        } => {
            assert_eq!(live.status, *status);
            for (name, value) in headers {
                assert_eq!(live.header(name), Some(value.as_str()), "{name}");
            }
        }
        Answer::Forward { targets } => {
            let service = targets.iter().any(|target| target.endpoints.is_empty());
            assert_eq!(live.status, if service { 503 } else { 200 });
            if service {
                return;
            }
            let sent = said.sent.as_ref().expect("what is sent");
            let (echo, _) = http1::request(&live.message.body).expect("the echo of a request");
            assert_eq!(
                (echo.first(), echo.second()),
                (sent.method.as_str(), sent.target.as_str())
            );
            assert_eq!(seen(echo.headers), seen(sent.headers.clone()), "headers");
        }
    }
}

/// How often each way was taken, so that the test knows that it tests.
#[derive(Debug, Default)]
struct Tally {
    refused: u32,
    lost: u32,
    redirected: u32,
    answered: u32,
    forwarded: u32,
}

impl Tally {
    fn count(&mut self, said: &Report) {
        let cell = match &said.answer {
            Answer::Refuse { .. } if said.route.is_none() => &mut self.refused,
            Answer::Refuse { .. } => &mut self.lost,
            Answer::Redirect { .. } => &mut self.redirected,
            Answer::Respond { .. } => &mut self.answered,
            Answer::Forward { .. } => &mut self.forwarded,
        };
        *cell += 1;
    }
}

async fn hold(gateway: &Gateway, folder: &Path, text: &str, wishes: &[Wish], tally: &Mutex<Tally>) {
    gateway.reload(text).await;
    let snapshot: &Snapshot = &snapshot(text, folder);
    fs::write(folder.join("sluice.toml"), text).expect("a file");
    for (position, wish) in wishes.iter().enumerate() {
        let Some(asked) = wish.asked() else { continue };
        let said = explain(snapshot, &asked).expect("explained");
        let live = wish.live(gateway).await;
        let compared = std::panic::catch_unwind(|| compare(&said, &live));
        assert!(compared.is_ok(), "{wish:?}\nsaid {said:#?}\nlive {live:#?}");
        tally.lock().count(&said);
        // The program says what the library says.
        if position == 0 {
            let (code, printed) = wish.command_line(folder).await;
            let printed: Value = serde_json::from_str(&printed).expect("JSON");
            assert_eq!(printed, serde_json::to_value(&said).expect("JSON"));
            assert_eq!(code, Some(if said.matches() { 0 } else { 4 }));
        }
    }
}

#[test]
fn explain_and_the_live_gateway_decide_alike() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let (origin, gateway) = runtime.block_on(async {
        let origin = Origin::echo().await;
        let first = format!("{LISTENERS}[routes.first]\nrespond = {{}}\n");
        (origin, Gateway::start(&first, 1).await)
    });
    let upstreams = format!(
        "[upstreams.echo]\nendpoints = [\"{0}\"]\n[upstreams.again]\nendpoints = [\"{0}\"]\n",
        origin.address()
    );
    let tally = Mutex::new(Tally::default());
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let cases = (configuration(), prop::collection::vec(wish(), REQUESTS));
    let outcome = runner.run(&cases, |(routes, wishes)| {
        let text = format!("{LISTENERS}{upstreams}{routes}");
        runtime.block_on(hold(&gateway, folder.path(), &text, &wishes, &tally));
        Ok(())
    });
    if let Err(why) = outcome {
        panic!("{why}");
    }
    let tally = tally.into_inner();
    println!("{tally:?}");
    for ways in [
        tally.refused,
        tally.lost,
        tally.redirected,
        tally.answered,
        tally.forwarded,
    ] {
        assert!(ways > 10, "every way is taken: {tally:?}");
    }
}
