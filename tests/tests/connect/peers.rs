//! Both ends of a tunnel over HTTP/2: a client and an origin, on the codec that the gateway uses, too.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::SendRequest,
    ext::Protocol,
    server::{self, SendResponse},
};
use http::{Method, Request, Response, StatusCode, Version};
use parking_lot::Mutex;
use sluice_gateway::drain::Tasks;
use sluice_tests::eventually::within;
use tokio::net::{TcpListener, TcpStream};

/// Both halves of a stream.
pub(crate) struct Tunnel {
    pub(crate) send: SendStream<Bytes>,
    pub(crate) recv: RecvStream,
}

impl Tunnel {
    /// Sends all of it, as fast as the other side takes it; false when it is taken no more.
    pub(crate) async fn write(&mut self, bytes: impl Into<Bytes>) -> bool {
        write(&mut self.send, bytes.into()).await
    }

    /// Sends all of it and its end, and gives what comes meanwhile until the other end.
    pub(crate) async fn exchange(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Reason> {
        let Self { send, recv } = self;
        let writing = async {
            // Uneven pieces, so that no buffer's size is met by chance.
            for piece in bytes.chunks(70_001) {
                assert!(write(send, Bytes::copy_from_slice(piece)).await);
            }
            send.send_data(Bytes::new(), true).expect("its end");
        };
        let mut all = Vec::new();
        let reading = async {
            while let Some(data) = read(recv).await? {
                all.extend_from_slice(&data);
            }
            Ok::<(), Reason>(())
        };
        let both = async { tokio::join!(writing, reading).1 };
        within("the exchange", both).await?;
        Ok(all)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        self.send.send_data(Bytes::new(), true).unwrap_or_default();
    }

    /// What comes next; nothing at the end.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Reason> {
        read(&mut self.recv).await
    }

    /// Everything until the end, or what it was reset with.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>, Reason> {
        let mut all = Vec::new();
        while let Some(data) = within("the next piece", self.read()).await? {
            all.extend_from_slice(&data);
        }
        Ok(all)
    }

    /// So many bytes, at least.
    pub(crate) async fn at_least(&mut self, wanted: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < wanted {
            let next = within("the next piece", self.read()).await;
            all.extend_from_slice(&next.expect("no reset").expect("no end"));
        }
        all
    }
}

async fn write(send: &mut SendStream<Bytes>, mut bytes: Bytes) -> bool {
    while !bytes.is_empty() {
        send.reserve_capacity(bytes.len());
        let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else {
            return false;
        };
        let piece = bytes.split_to(room.min(bytes.len()));
        if send.send_data(piece, false).is_err() {
            return false;
        }
    }
    true
}

async fn read(recv: &mut RecvStream) -> Result<Option<Bytes>, Reason> {
    match recv.data().await {
        None => Ok(None),
        Some(Err(error)) => Err(error.reason().unwrap_or(Reason::INTERNAL_ERROR)),
        Some(Ok(data)) => {
            let flow = recv.flow_control();
            flow.release_capacity(data.len()).unwrap_or_default();
            Ok(Some(data))
        }
    }
}

/// An HTTP/2 connection to a gateway.
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
    tasks: Tasks,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it accepts");
        let handshake = h2::client::handshake(stream).await;
        let (sender, connection) = handshake.expect("HTTP/2");
        let tasks = Tasks::new();
        tasks.spawn(async move {
            // How it ends, its streams tell.
            connection.await.unwrap_or_default();
        });
        // The codec lets nobody ask before it knows the gateway's settings.
        let sender = sender.ready().await.expect("the gateway's settings");
        Self { sender, tasks }
    }

    /// Whether the gateway closed it, or said goodbye.
    pub(crate) fn is_closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// Asks, and gives the answer with both halves of its stream.
    pub(crate) async fn ask(&mut self, request: Request<()>) -> (Response<()>, Tunnel) {
        let ends = request.method() != Method::CONNECT;
        let asked = self.sender.send_request(request, ends);
        let (answer, send) = asked.expect("a request");
        let answer = within("an answer", answer).await.expect("an answer");
        let (parts, recv) = answer.into_parts();
        (Response::from_parts(parts, ()), Tunnel { send, recv })
    }

    /// Opens a tunnel that has to be granted.
    pub(crate) async fn open(&mut self, request: Request<()>) -> Tunnel {
        let (answer, tunnel) = self.ask(request).await;
        assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
        tunnel
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

pub(crate) fn get(path: &str) -> Request<()> {
    let request = Request::get(format!("http://a.example{path}"));
    request.body(()).expect("a request")
}

/// An extended CONNECT.
pub(crate) fn extended(protocol: &str, path: &str) -> Request<()> {
    let mut request = get(path);
    *request.method_mut() = Method::CONNECT;
    *request.version_mut() = Version::HTTP_2;
    request.extensions_mut().insert(Protocol::from(protocol));
    let headers = request.headers_mut();
    headers.insert(
        "sec-websocket-version",
        http::HeaderValue::from_static("13"),
    );
    request
}

/// A CONNECT without a protocol.
pub(crate) fn connect(target: &'static str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = http::Uri::from_static(target);
    request
}

/// What an origin does with a request for a tunnel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// Grants it and sends back what comes.
    Echo,
    /// Grants it and reads nothing.
    Deaf,
    /// Grants it, and resets the stream once something came.
    Reset,
    /// Says something, ends its half, and reads on.
    LastWords,
    /// Says 403.
    Refuse,
}

/// An origin that speaks HTTP/2.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    tasks: Tasks,
}

/// What an origin saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<Request<()>>,
    /// What came until each stream ended, or what it was reset with.
    pub(crate) ends: Vec<Result<Vec<u8>, Reason>>,
}

impl Origin {
    /// `announces`: that it takes extended CONNECT.
    pub(crate) async fn start(announces: bool, manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (seen, tasks) = (Arc::<Mutex<Seen>>::default(), Tasks::new());
        let (record, own) = (Arc::clone(&seen), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (record, tasks) = (Arc::clone(&record), own.clone());
                own.spawn(async move {
                    let mut builder = server::Builder::new();
                    if announces {
                        builder.enable_connect_protocol();
                    }
                    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
                        return;
                    };
                    while let Some(Ok((request, reply))) = connection.accept().await {
                        let (parts, recv) = request.into_parts();
                        let request = Request::from_parts(parts, ());
                        record.lock().requests.push(request);
                        let record = Arc::clone(&record);
                        tasks.spawn(serve(manner, reply, recv, record));
                    }
                });
            }
        });
        Self {
            address,
            seen,
            tasks,
        }
    }

    /// The only request so far.
    pub(crate) fn request(&self) -> Request<()> {
        let mut requests = std::mem::take(&mut self.seen.lock().requests);
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// How its first stream ended.
    pub(crate) async fn end(&self) -> Result<Vec<u8>, Reason> {
        let end = || self.seen.lock().ends.first().cloned();
        sluice_tests::eventually::eventually("the end of a stream", end).await
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

async fn serve(
    manner: Manner,
    mut reply: SendResponse<Bytes>,
    recv: RecvStream,
    seen: Arc<Mutex<Seen>>,
) {
    let mut answer = Response::new(());
    if matches!(manner, Manner::Refuse) {
        *answer.status_mut() = StatusCode::FORBIDDEN;
    }
    let headers = answer.headers_mut();
    headers.insert(
        "sec-websocket-protocol",
        http::HeaderValue::from_static("chat"),
    );
    let Ok(send) = reply.send_response(answer, false) else {
        return;
    };
    let mut tunnel = Tunnel { send, recv };
    let mut all = Vec::new();
    match manner {
        Manner::Refuse => {
            tunnel.write("not here").await;
            tunnel.finish();
        }
        Manner::LastWords => {
            tunnel.write("last words").await;
            tunnel.finish();
        }
        Manner::Deaf => std::future::pending().await,
        Manner::Echo | Manner::Reset => {}
    }
    let end = loop {
        match tunnel.read().await {
            Err(reason) => break Err(reason),
            Ok(None) => break Ok(all),
            Ok(Some(_)) if matches!(manner, Manner::Reset) => {
                tunnel.send.send_reset(Reason::CONNECT_ERROR);
                return;
            }
            Ok(Some(data)) => {
                all.extend_from_slice(&data);
                if matches!(manner, Manner::Echo) && !tunnel.write(data).await {
                    break Err(Reason::INTERNAL_ERROR);
                }
            }
        }
    };
    if end.is_ok() && matches!(manner, Manner::Echo) {
        tunnel.finish();
    }
    seen.lock().ends.push(end);
}
