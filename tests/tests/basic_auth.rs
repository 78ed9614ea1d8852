//! Users with passwords: how their passwords are hashed, and who is let in.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use sluice_gateway::authn::password::PasswordHash;
use sluice_tests::{
    Client, Origin, Reply,
    eventually::within,
    origin::Peer,
    outside::connect,
    process::{Sluice, program, sluice, stderr, stdout},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::{sleep, timeout},
};

/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a program that is told this, and then nothing more.
async fn told(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // What does not fit it may refuse to read.
    stdin.write_all(input).await.unwrap_or_default();
    drop(stdin);
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    ended.expect("it ends").expect("its output")
}

/// `sluice hash-password` with a password from another program.
async fn piped(options: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut command = Command::new(program());
    command.arg("hash-password").args(options);
    told(command, input.as_ref()).await
}

#[tokio::test]
async fn hash_password_takes_a_password_from_a_pipe() {
    let long = "é".repeat(36);
    for (options, kind) in [(&[][..], "$argon2id$v=19$"), (&["--bcrypt"], "$2b$12$")] {
        for input in ["open sesame", "open sesame\n", "open sesame\r\n"] {
            let output = piped(options, input).await;
            let text = stdout(&output);
            assert!(output.status.success(), "{}", stderr(&output));
            assert!(text.starts_with(kind), "{text}");
            let hash = PasswordHash::parse(text.trim_end()).expect(&text);
            assert!(hash.verify(b"open sesame"), "{input:?}");
            assert!(!hash.verify(input.to_uppercase().as_bytes()), "{input:?}");
        }
        assert!(piped(options, &long).await.status.success());
    }
}

#[tokio::test]
async fn hash_password_refuses_what_no_client_can_send() {
    let long = format!("{}x", "é".repeat(36));
    for (options, input, said) in [
        (&[][..], &b""[..], "empty"),
        (&[], b"\n", "empty"),
        (&[], b"open\nsesame\n", "control character"),
        (&[], b"open sesame\0", "control character"),
        (&[], b"open ses\xe4me", "reading"),
        (&[], &[b'x'; 1025], "longer than 1024"),
        (&[], &vec![b'x'; 1 << 20], "longer than 1024"),
        (&["--bcrypt"], long.as_bytes(), "72 bytes"),
    ] {
        let output = piped(options, input).await;
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert_eq!(stdout(&output), "", "{said}");
    }
}

#[tokio::test]
async fn hash_password_does_not_show_what_is_typed() {
    for (typed, good) in [
        ("open sesame\nopen sesame\n", true),
        ("open sesame\nopen barley\n", false),
    ] {
        // A terminal, all of whose lines come to us.
        let mut command = Command::new("script");
        let line = format!("{} hash-password", program().display());
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("util-linux has it");
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut shown = String::new();
        let mut out = child.stdout.take().expect("a pipe");
        for (prompt, line) in ["Password: ", "Again: "]
            .iter()
            .zip(typed.split_inclusive('\n'))
        {
            read_until(&mut out, &mut shown, prompt).await;
            stdin.write_all(line.as_bytes()).await.expect("it is typed");
        }
        read_until(
            &mut out,
            &mut shown,
            if good { "$argon2id$" } else { "not the same" },
        )
        .await;
        drop(stdin);
        let status = timeout(PATIENCE, child.wait()).await.expect("it ends");
        assert_eq!(status.expect("a status").success(), good, "{shown}");
        assert!(!shown.contains("sesame"), "{shown}");
    }
}

async fn read_until(out: &mut (impl tokio::io::AsyncRead + Unpin), shown: &mut String, text: &str) {
    let reading = async {
        let mut buffer = [0; 256];
        while !shown.contains(text) {
            let count = out.read(&mut buffer).await.expect("it can be read");
            assert_ne!(count, 0, "it ended, and never said {text:?}:\n{shown}");
            shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    timeout(PATIENCE, reading).await.expect("it says it");
}

/// The hash of `open sesame`.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";

/// A listener that asks for the users of a file beside the configuration.
const CONFIG: &str = "[listeners.web]\naddress = \"{address}\"\nprotocol = \"forward-proxy\"\n\
                      basic = { users = { carol = \"HASH\" }, file = \"users\" }\n";

#[tokio::test]
async fn check_names_the_line_of_a_file_of_users_that_it_cannot_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = CONFIG
        .replace("{address}", "127.0.0.1:0")
        .replace("HASH", HASH);
    std::fs::write(folder.path().join("sluice.toml"), config).expect("a file");
    for (users, said) in [
        (None, "users cannot be used"),
        (Some(String::new()), "has no user"),
        (Some(format!("alice:{HASH}\n\nbob\n")), "line 3: it is no"),
        (
            Some("alice:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=".to_owned()),
            "line 1: the hash is refused",
        ),
        (
            Some(format!("alice:{HASH}\nalice:{HASH}")),
            "line 2: there is a user",
        ),
    ] {
        if let Some(users) = users {
            std::fs::write(folder.path().join("users"), users).expect("a file");
        }
        let output = sluice(folder.path(), &["check", "sluice.toml"]).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{said}: {text}");
        assert!(text.contains(said), "{said}: {text}");
        assert!(!text.contains("VBPuJHI7"), "no hash is shown: {text}");
    }
    // Who is in both is no mistake.
    std::fs::write(folder.path().join("users"), format!("carol:{HASH}")).expect("a file");
    let output = sluice(folder.path(), &["check", "sluice.toml"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test]
async fn a_file_of_users_that_breaks_is_told_of_and_mended_without_a_word_about_the_configuration()
{
    let folder = std::sync::Arc::new(tempfile::tempdir().expect("a folder"));
    let users = folder.path().join("users");
    std::fs::write(&users, format!("alice:{HASH}")).expect("a file");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], sluice_tests::process::free_port()));
    let running = Sluice::start_in(folder, address, &CONFIG.replace("HASH", HASH));
    // It accepts before it has read the file.
    running.says("\"started\"").await;

    std::fs::write(&users, "alice").expect("a file");
    let said = running.says("the file of users is refused").await;
    assert!(said.contains("line 1: it is no"), "{said}");
    running.accepts().await;
}

/// Answers requests, and sends back what is none.
async fn origin() -> Origin {
    Origin::start(|mut peer: Peer| async move {
        loop {
            let said = peer.take(1).await;
            if said.is_empty() {
                return;
            }
            let answer = if said.ends_with(b"\r\n\r\n") {
                sluice_tests::origin::ok("hello")
            } else {
                said
            };
            peer.send(answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn who_is_taken_out_of_the_file_is_asked_again_on_a_connection_that_is_open() {
    let origin = origin().await;
    let at = origin.address().to_string();
    let folder = std::sync::Arc::new(tempfile::tempdir().expect("a folder"));
    let users = folder.path().join("users");
    let (alice, bob) = (format!("alice:{HASH}\n"), format!("bob:{HASH}\n"));
    std::fs::write(&users, format!("{alice}{bob}")).expect("a file");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], sluice_tests::process::free_port()));
    let config = format!(
        "{}[access_log]\noutput = \"off\"\n[egress.allow.all]\nhosts = \"127.0.0.1\"\n\
         ports = {}\nprotocols = [\"http\", \"tcp\"]\naddresses = \"127.0.0.1\"\n\
         from = {{ users = \"alice\" }}\n",
        CONFIG.replace("HASH", HASH),
        origin.address().port()
    );
    let running = Sluice::start_in(folder, address, &config);
    running.accepts().await;
    // `alice:open sesame`.
    let credentials = "Proxy-Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n";
    let mut client = running.connect().await;
    let ask = async |client: &mut Client| -> Reply {
        let request = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{credentials}\r\n");
        client.send(request).await;
        client.reply().await
    };
    let becomes = async |client: &mut Client, status: u16| {
        within(&format!("it answers {status}"), async {
            loop {
                let reply = ask(client).await;
                if reply.status == status {
                    return reply;
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    };
    assert_eq!(ask(&mut client).await.status, 200);
    let (reply, mut tunnel) = connect(address, &at, credentials).await;
    assert_eq!(reply.status, 200);

    std::fs::write(&users, &bob).expect("a file");
    let reply = becomes(&mut client, 407).await;
    assert!(reply.header("proxy-authenticate").is_some(), "{reply:?}");
    assert_eq!(ask(&mut client).await.status, 407);
    assert_eq!(connect(address, &at, credentials).await.0.status, 407);
    // Tunnels that are open stay.
    tunnel.write_all(b"ping").await.expect("sent");
    let mut echo = [0; 4];
    let read = within("an echo", tunnel.read_exact(&mut echo)).await;
    assert_eq!((read.expect("an echo"), &echo), (4, b"ping"));

    std::fs::write(&users, format!("{bob}{alice}")).expect("a file");
    becomes(&mut client, 200).await;
}
