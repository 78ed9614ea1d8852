//! Programs of other people behind the proxy.

use std::{path::Path, process::Output};

use sluice_tests::{
    Origin,
    origin::{Peer, ok},
    outside::{Outside, rule},
    tls::Pki,
    tools::{are_there, program, run, said, skip},
};

use super::secure_origin;

async fn curl(pki: &Pki, outside: &Outside, arguments: &[&str]) -> Output {
    let mut command = program("curl", &pki.path(""));
    let proxy = format!("http://{}", outside.gateway.address());
    command.args([
        "-sS",
        "--fail",
        "--max-time",
        "15",
        "-x",
        &proxy,
        "--cacert",
    ]);
    command.arg(pki.path("ca.pem")).args(arguments);
    run(command).await
}

#[tokio::test]
async fn curl_gets_out_as_it_may_and_no_further() {
    if !are_there(&["curl"]) {
        return;
    }
    let pki = Pki::new();
    let (front, _secure) = secure_origin(&pki, &["ok.test", "no.test"]).await;
    let plain = Origin::text("plain").await;
    let (secure, port) = (front.address().port(), plain.address().port());
    let rules = rule("plain", "\"ok.test\"", port, "protocols = \"http\"");
    let rules = format!(
        "[egress.allow.ok]\nhosts = \"ok.test\"\nports = [{secure}, {port}]\naddresses = \"127.0.0.0/8\"\n{}",
        rules.replace("ok.test", "plain.test")
    );
    let outside = Outside::start(&["ok.test", "no.test", "plain.test"], "", &rules).await;

    let output = curl(&pki, &outside, &[&format!("http://plain.test:{port}/")]).await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "plain",
        "{}",
        said(&output)
    );
    let output = curl(&pki, &outside, &[&format!("https://ok.test:{secure}/")]).await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello",
        "{}",
        said(&output)
    );

    for arguments in [
        vec![format!("https://no.test:{secure}/")],
        vec![format!("http://no.test:{port}/")],
        // One name for the proxy, another one for the server.
        vec![
            "--connect-to".to_owned(),
            format!("no.test:{secure}:ok.test:{secure}"),
            format!("https://no.test:{secure}/"),
        ],
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = curl(&pki, &outside, &arguments).await;
        assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
    }
    outside
        .gateway
        .log()
        .wait_for("egress_reason", "sni_mismatch")
        .await;
}

#[tokio::test]
async fn apt_fetches_through_it() {
    const HELPER: &str = "/usr/lib/apt/apt-helper";
    if !Path::new(HELPER).exists() {
        return skip("apt-helper is missing");
    }
    let origin = Origin::start(|mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.send(ok("a package")).await;
        }
    })
    .await;
    let port = origin.address().port();
    let more = "methods = [\"GET\", \"HEAD\"]\npaths = [{ prefix = \"/debian\" }]";
    let rules = rule("packages", "\"deb.test\"", port, more);
    let outside = Outside::start(&["deb.test"], "", &rules).await;
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("package");
    let proxy = outside.gateway.address();
    for (path, passes) in [("debian/pool/p.deb", true), ("secret/p.deb", false)] {
        let mut command = program(HELPER, folder.path());
        command
            .arg("-o")
            .arg(format!("Acquire::http::Proxy=http://{proxy}"))
            .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0"])
            .arg("download-file")
            .arg(format!("http://deb.test:{port}/{path}"))
            .arg(&target);
        let output = run(command).await;
        assert_eq!(output.status.success(), passes, "{path}: {}", said(&output));
    }
    assert_eq!(std::fs::read(&target).expect("a file"), b"a package");
    let line = outside
        .gateway
        .log()
        .wait_for("egress_reason", "path")
        .await;
    assert_eq!(line["status"], 403, "{line}");
}

/// A call through the proxy that the environment names.
const CALL: &str = "import sys, grpc\n\
    channel = grpc.insecure_channel(sys.argv[1])\n\
    print(channel.unary_unary('/calls.Calls/Unary')(b'hello', timeout=15).decode())\n";

#[tokio::test]
async fn grpc_calls_through_it() {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().expect("the path of this test");
    let tools = test
        .ancestors()
        .nth(3)
        .expect("target")
        .join("tools/grpc/bin/python");
    if !tools.exists() {
        return skip("grpcio is missing");
    }
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc"));
    let mut server = std::process::Command::new(&tools)
        .arg(folder.join("server.py"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut first = String::new();
    let mut output = std::io::BufReader::new(server.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut output, &mut first).expect("a line");
    let port: u16 = first
        .trim()
        .trim_start_matches("port ")
        .parse()
        .expect("a port");

    let rules = rule("calls", "\"calls.test\"", port, "protocols = \"tcp\"");
    let outside = Outside::start(&["calls.test"], "", &rules).await;
    let mut command = program(&tools.display().to_string(), folder);
    command
        .env(
            "http_proxy",
            format!("http://{}", outside.gateway.address()),
        )
        .args(["-c", CALL, &format!("calls.test:{port}")]);
    let output = run(command).await;
    server.kill().unwrap_or_default();
    server.wait().expect("it ends");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "echo hello\n",
        "{}",
        said(&output)
    );
    assert_eq!(outside.line("calls.test").await["egress"], "calls");
}
