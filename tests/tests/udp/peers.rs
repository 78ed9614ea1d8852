//! Both ends of a session, by hand: a client that takes answers from nobody but the gateway, and an
//! endpoint that keeps what it got.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use sluice_gateway::drain::Tasks;
use sluice_tests::eventually::{eventually, within};
use tokio::{net::UdpSocket, time::timeout};

/// How long nothing has to come before a test believes that nothing comes.
const SILENCE: Duration = Duration::from_millis(150);

/// What arrived, and from whom.
type Seen = Arc<Mutex<Vec<(SocketAddr, Vec<u8>)>>>;

/// An endpoint for datagrams.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    socket: Arc<UdpSocket>,
    seen: Seen,
    tasks: Tasks,
}

impl Endpoint {
    /// Answers each datagram with what `answer` makes of it.
    pub(crate) async fn start<A>(at: &str, answer: A) -> Self
    where
        A: Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    {
        let socket = Arc::new(UdpSocket::bind(at).await.expect("a port"));
        let seen = Seen::default();
        let tasks = Tasks::new();
        let (own, record) = (Arc::clone(&socket), Arc::clone(&seen));
        tasks.spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let Ok((length, from)) = own.recv_from(&mut buffer).await else {
                    continue;
                };
                let bytes = &buffer[..length];
                record.lock().push((from, bytes.to_vec()));
                for answer in answer(bytes) {
                    own.send_to(&answer, from).await.expect("it goes out");
                }
            }
        });
        Self {
            address: socket.local_addr().expect("an address"),
            socket,
            seen,
            tasks,
        }
    }

    /// Sends everything back.
    pub(crate) async fn echo() -> Self {
        Self::start("127.0.0.1:0", |bytes| vec![bytes.to_vec()]).await
    }

    /// Answers with its name.
    pub(crate) async fn named(name: &str) -> Self {
        let name = name.as_bytes().to_vec();
        Self::start("127.0.0.1:0", move |_| vec![name.clone()]).await
    }

    /// Says nothing.
    pub(crate) async fn silent() -> Self {
        Self::start("127.0.0.1:0", |_| Vec::new()).await
    }

    /// What it got, and from whom.
    pub(crate) fn saw(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.seen.lock().clone()
    }

    /// Waits until it has got so many datagrams, and says from whom.
    pub(crate) async fn got(&self, count: usize) -> Vec<SocketAddr> {
        eventually(&format!("{count} datagrams"), || {
            let seen = self.saw();
            (seen.len() >= count).then(|| seen.into_iter().map(|(from, _)| from).collect())
        })
        .await
    }

    /// Sends something nobody asked for.
    pub(crate) async fn send(&self, bytes: &[u8], to: SocketAddr) {
        self.socket.send_to(bytes, to).await.expect("it goes out");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// A client whose socket hears nobody but the address that it speaks to.
#[derive(Debug)]
pub(crate) struct Client(UdpSocket);

impl Client {
    pub(crate) async fn to(gateway: SocketAddr) -> Self {
        let own = match gateway.ip() {
            IpAddr::V4(_) => "127.0.0.1:0",
            IpAddr::V6(_) => "[::1]:0",
        };
        Self::from(own, gateway).await
    }

    /// From this address.
    pub(crate) async fn from(own: &str, gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind(own).await.expect("a port");
        socket.connect(gateway).await.expect("a route");
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes.as_ref()).await.expect("it goes out");
    }

    pub(crate) async fn receive(&self) -> Vec<u8> {
        within("an answer", self.next()).await
    }

    async fn next(&self) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        let length = self.0.recv(&mut buffer).await.expect("a datagram");
        buffer.truncate(length);
        buffer
    }

    /// Sends a datagram and gives the answer.
    pub(crate) async fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        self.send(bytes).await;
        String::from_utf8(self.receive().await).expect("text")
    }

    /// Nothing comes for a while.
    pub(crate) async fn hears_nothing(&self) {
        if let Ok(bytes) = timeout(SILENCE, self.next()).await {
            panic!("{} bytes came: {bytes:?}", bytes.len());
        }
    }

    /// Asks again and again until there is an answer that `wanted` takes.
    pub(crate) async fn ask_until<F: Fn(&str) -> bool>(&self, bytes: &str, wanted: F) -> String {
        within("the answer", async {
            loop {
                self.send(bytes).await;
                if let Ok(answer) = timeout(SILENCE, self.next()).await {
                    let answer = String::from_utf8(answer).expect("text");
                    if wanted(&answer) {
                        return answer;
                    }
                }
            }
        })
        .await
    }
}

/// An address that nobody listens on.
pub(crate) async fn nobody() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    socket.local_addr().expect("an address")
}
