//! Names that stand in `/etc/hosts`, in files of the test's own that the gateway sees in its place.

use std::{net::SocketAddr, process::Stdio};

use sluice_tests::{
    Client, Origin,
    eventually::within,
    name_server::NameServer,
    outside::rule,
    process::{free_port, program},
};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Duration, sleep},
};

/// Whether this machine lets a process see other files than others do; said aloud where not.
async fn may_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]);
    let status = command.stderr(Stdio::null()).status().await;
    let may = status.is_ok_and(|status| status.success());
    let must = std::env::var_os("CI").is_some_and(|it| !it.is_empty());
    assert!(may || !must, "CI needs mount namespaces");
    if !may {
        eprintln!("SKIPPED: no mount namespaces");
    }
    may
}

/// A forward proxy that sees these hosts and asks nobody else, or a name server as `dns` says.
async fn started(hosts: &str, dns: &str, rules: &str) -> (Child, tempfile::TempDir, SocketAddr) {
    let folder = tempfile::tempdir().expect("a folder");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        "[access_log]\noutput = \"off\"\n[listeners.web]\naddress = \"{address}\"\n\
         protocol = \"forward-proxy\"\n{rules}\n{dns}\n"
    );
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write("sluice.toml", &config).expect("a file");
    write("hosts", hosts).expect("a file");
    // Nobody listens there.
    write("resolv.conf", "nameserver 127.0.0.1\n").expect("a file");
    let script = "mount --bind hosts /etc/hosts\n\
                  mount --bind resolv.conf /etc/resolv.conf\n\
                  exec \"$0\" run --config sluice.toml";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec", script])
        .arg(program())
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("SLUICE_STATE_DIRECTORY", folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in ["SLUICE_ADMIN", "SLUICE_METRICS", "SLUICE_READINESS"] {
        command.env(name, "off");
    }
    let child = command.spawn().expect("it starts");
    within("it accepts", async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    (child, folder, address)
}

async fn get(proxy: SocketAddr, host: &str, port: u16) -> u16 {
    let mut client = Client::connect(proxy).await;
    let request = format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    client.send(request).await;
    client.reply().await.status
}

#[tokio::test]
async fn names_of_the_hosts_file_lead_outside_unless_other_servers_are_to_be_asked() {
    if !may_mount().await {
        return;
    }
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let hosts = "127.0.0.1 origin.test other.test # two of them\n10.0.0.1 inside.test\n";
    let rules = rule("all", "\"*.test\"", port, "");

    let (_child, _folder, proxy) = started(hosts, "", &rules).await;
    for (host, status) in [
        ("origin.test", 200),
        ("OTHER.test", 200),
        // It is held against the rule like any other address.
        ("inside.test", 403),
        ("nobody.test", 503),
    ] {
        assert_eq!(get(proxy, host, port).await, status, "{host}");
    }

    let names = NameServer::start().await;
    let (_child, _folder, proxy) = started(hosts, &names.config(), &rules).await;
    assert_eq!(get(proxy, "origin.test", port).await, 503);
    assert_eq!(names.asked(), 1);
}
