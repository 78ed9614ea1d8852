//! The client against servers by hand, on this machine only.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

fn client() -> Client {
    let root = crate::testing::Authority::new("root");
    let roots = Roots::from_pem([root.pem().as_bytes()]).expect("roots");
    Client::new(roots).expect("a client")
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).expect("a request")
}

/// Answers one request with `answer`; gives its address, and what it was sent.
async fn origin(answer: Vec<u8>) -> (SocketAddr, impl Future<Output = String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let served = async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a byte"));
        }
        // A client that has enough closes.
        stream.write_all(&answer).await.unwrap_or_default();
        String::from_utf8(head).expect("text")
    };
    (address, served)
}

async fn ask(answer: impl Into<Vec<u8>>) -> (Result<Response<Bytes>, FetchError>, String) {
    let (address, served) = origin(answer.into()).await;
    let client = client();
    let asked = client.send(get(&format!("http://{address}/a?b=c")));
    tokio::join!(asked, served)
}

#[tokio::test]
async fn a_request_says_host_path_and_who_asks() {
    let (answer, head) = ask("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(answer.expect("an answer").body(), "hello");
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("host: 127.0.0.1:") && head.contains("user-agent: sluice/"),
        "{head}"
    );
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let (answer, _) =
        ask("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
            .await;
    assert_eq!(answer.expect("an answer").status(), 302);
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_none() {
    let (answer, _) = ask("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").await;
    assert!(matches!(answer, Err(FetchError::Exchange(_))), "{answer:?}");
    let (answer, _) =
        ask("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    assert!(matches!(answer, Err(FetchError::Exchange(_))), "{answer:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_refused() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(SIZE + 100, b'x');
    let (answer, _) = ask(answer).await;
    assert!(matches!(answer, Err(FetchError::TooLarge)), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_forever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let silent = client().send(get(&format!("http://{address}/"))).await;
    assert!(matches!(silent, Err(FetchError::Timeout)), "{silent:?}");
}

#[tokio::test]
async fn link_local_addresses_are_not_called() {
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
    ] {
        let answer = client().send(get(url)).await;
        assert!(
            matches!(answer, Err(FetchError::LinkLocal(_))),
            "{url}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn only_http_is_spoken() {
    for url in ["ftp://127.0.0.1/", "/path", "http:/path"] {
        let Ok(request) = Request::get(url).body(Bytes::new()) else {
            continue;
        };
        let answer = client().send(request).await;
        assert!(
            matches!(answer, Err(FetchError::Address(_))),
            "{url}: {answer:?}"
        );
    }
}
