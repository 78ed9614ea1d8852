//! One request on a shared connection: its head, its body on the way out, its answer.
//!
//! What must stay true: a request that ends for us ends for the endpoint too, whichever half is still
//! under way; and what an endpoint refused unseen can be sent elsewhere whole.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{header::CONTENT_LENGTH, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use sluice_config::names::UpstreamName;
use tokio::time::{Instant, Sleep};

use super::{
    super::upload::{Outgoing, Upload},
    channel::Channel,
    request::head,
    wire::Line,
};
use crate::{
    drain::Tasks,
    error::{BoxError, ProxyError},
    message::Body,
};

/// The most that is handed to the codec at a time.
const PIECE: usize = 32 * 1024;

/// Why there is no answer.
pub(in crate::upstream) struct Refusal {
    pub(in crate::upstream) error: ProxyError,
    /// The endpoint said something about this request.
    pub(in crate::upstream) answered: bool,
}

/// The head of the answer, once it comes.
pub(in crate::upstream) struct Answer(ResponseFuture);

impl Answer {
    pub(super) fn new(answer: ResponseFuture) -> Self {
        Self(answer)
    }

    pub(in crate::upstream) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<Given>, h2::Error>> {
        let response = ready!(Pin::new(&mut self.0).poll(cx))?;
        let length = response.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        Poll::Ready(Ok(response.map(|stream| Given::new(stream, length))))
    }
}

/// The body of an answer. Dropped before its end, it tells the endpoint to stop.
pub(in crate::upstream) struct Given {
    stream: RecvStream,
    left: Option<u64>,
    data_over: bool,
}

impl Given {
    fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self {
            stream,
            left: length,
            data_over: false,
        }
    }

    /// What it comes from, of which nothing was taken.
    pub(super) fn into_stream(self) -> RecvStream {
        self.stream
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                // A piece that says nothing; whether it was the last is found out next.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    self.left = self.left.map(|left| left.saturating_sub(length));
                    // Who took this piece has room for the next. On a stream that is over there is
                    // nothing to give back.
                    let released = self.stream.flow_control().release_capacity(data.len());
                    drop(released);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_over = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(Frame::trailers).map(Ok)),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_over() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

/// The body of a request on its way. Dropped, what is still missing is not sent any more.
pub(in crate::upstream) struct Sending(Rc<Source>);

#[derive(Default)]
struct Source {
    /// Gone once it is all sent, or wanted back.
    body: RefCell<Option<Outgoing>>,
    /// Some of it is gone.
    begun: Cell<bool>,
    stopped: Cell<bool>,
    pump: RefCell<Option<Waker>>,
}

impl Sending {
    /// All of the body, if none of it was sent.
    pub(in crate::upstream) fn recover(self) -> Option<Body> {
        if self.0.begun.get() {
            return None;
        }
        let body = self.0.body.borrow_mut().take();
        body.map(Outgoing::into_body)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.stopped.set(true);
        let waker = self.0.pump.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What it takes to send the body of a request.
pub(in crate::upstream) struct Load {
    pub(in crate::upstream) body: Body,
    pub(in crate::upstream) upload: Option<Rc<Upload>>,
    pub(in crate::upstream) upstream: UpstreamName,
    /// How long the endpoint may accept nothing.
    pub(in crate::upstream) stall: Duration,
}

impl Channel {
    /// Sends the head of a request, and what there is of its body; the rest follows from a task of its
    /// own.
    pub(in crate::upstream) fn send(
        &self,
        parts: &Parts,
        load: Load,
        tasks: &Tasks,
    ) -> Result<(Answer, Sending), Refusal> {
        let refusal = |error| Refusal {
            error,
            answered: false,
        };
        let over = load.body.is_end_stream();
        let length = load.body.size_hint().exact();
        let head = head(parts, length, &self.endpoint).map_err(refusal)?;
        let mut sender = self.sender();
        let sent = sender.send_request(head, over);
        let (answer, stream) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                let upstream = load.upstream;
                let source = error.into();
                return Err(refusal(ProxyError::UpstreamReset { upstream, source }));
            }
        };
        let source = Rc::new(Source::default());
        *source.body.borrow_mut() = Some(Outgoing::new(load.body, load.upload.clone()));
        let sending = Sending(Rc::clone(&source));
        if !over {
            let pump = Pump {
                stream,
                source,
                upload: load.upload,
                upstream: load.upstream,
                stall: load.stall,
                piece: None,
                timer: None,
                stalling: false,
            };
            tasks.spawn_local(pump);
        }
        Ok((Answer(answer), sending))
    }

    /// What it means that there is no answer.
    pub(in crate::upstream) fn failure(
        &self,
        error: h2::Error,
        upstream: &UpstreamName,
    ) -> Refusal {
        let answered = error.is_reset() || error.is_library();
        let unseen = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        if unseen {
            if error.is_reset() {
                self.refused();
            } else {
                self.retire();
            }
        }
        Refusal {
            error: meaning(error, unseen, &self.line, upstream),
            answered: answered && !unseen,
        }
    }
}

fn meaning(error: h2::Error, unseen: bool, line: &Line, upstream: &UpstreamName) -> ProxyError {
    let upstream = upstream.clone();
    if unseen {
        let source = error.into();
        ProxyError::StreamRefused { upstream, source }
    } else if line.stalled.get() {
        ProxyError::UpstreamStalled { upstream }
    } else if error.is_library() {
        let source = error.into();
        ProxyError::UpstreamProtocol { upstream, source }
    } else {
        let source = error.into();
        ProxyError::UpstreamReset { upstream, source }
    }
}

/// Moves the body of a request into its stream as fast as the endpoint takes it.
struct Pump {
    stream: SendStream<Bytes>,
    source: Rc<Source>,
    upload: Option<Rc<Upload>>,
    upstream: UpstreamName,
    stall: Duration,
    /// What waits for room, and whether it is the last.
    piece: Option<(Bytes, bool)>,
    timer: Option<Pin<Box<Sleep>>>,
    stalling: bool,
}

/// How the pump goes on.
enum Step {
    /// There may be more to do at once.
    More,
    /// Nothing is left to do.
    Over,
    /// The endpoint must not take what it has for the whole.
    Break,
}

impl Future for Pump {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let step = loop {
            match ready!(this.step(cx)) {
                Step::More => {}
                step => break step,
            }
        };
        if matches!(step, Step::Break) {
            this.stream.send_reset(Reason::CANCEL);
        }
        // What was not begun may still be wanted back; it goes with whoever waits for the answer.
        if this.source.begun.get() || this.source.stopped.get() {
            let body = this.source.body.borrow_mut().take();
            drop(body);
        }
        Poll::Ready(())
    }
}

impl Pump {
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.source.stopped.get() {
            return Poll::Ready(Step::Break);
        }
        let mut waker = self.source.pump.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        drop(waker);
        // The endpoint wants no more of it.
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Step::Over);
        }
        if self.piece.is_some() {
            return self.push(cx);
        }
        let mut body = self.source.body.borrow_mut();
        let Some(body) = body.as_mut() else {
            return Poll::Ready(Step::Break);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        self.source.begun.set(true);
        let frame = match frame {
            None => return Poll::Ready(last(self.stream.send_data(Bytes::new(), true))),
            // Why, the upload knows.
            Some(Err(_)) => return Poll::Ready(Step::Break),
            Some(Ok(frame)) => frame,
        };
        Poll::Ready(match frame.into_data() {
            Ok(data) => {
                let end = body.is_end_stream();
                if end || !data.is_empty() {
                    self.piece = Some((data, end));
                }
                Step::More
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => last(self.stream.send_trailers(trailers)),
                Err(_) => Step::More,
            },
        })
    }

    /// Sends of the piece at hand what there is room for.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let Some((data, end)) = &mut self.piece else {
            return Poll::Ready(Step::More);
        };
        if data.is_empty() {
            return Poll::Ready(last(self.stream.send_data(Bytes::new(), true)));
        }
        self.stream.reserve_capacity(data.len().min(PIECE));
        let room = self.stream.capacity();
        if room == 0 {
            return match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => Poll::Ready(Step::More),
                Poll::Ready(_) => Poll::Ready(Step::Over),
                Poll::Pending => {
                    ready!(self.poll_stall(cx));
                    Poll::Ready(Step::Break)
                }
            };
        }
        self.stalling = false;
        let piece = data.split_to(room.min(data.len()));
        let whole = data.is_empty();
        let end = *end && whole;
        let sent = self.stream.send_data(piece, end);
        if whole {
            self.piece = None;
        }
        Poll::Ready(match sent {
            Ok(()) if end => Step::Over,
            Ok(()) => Step::More,
            Err(_) => Step::Over,
        })
    }

    /// Ready when the endpoint accepted nothing for too long.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stall = self.stall;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        if !self.stalling {
            timer.as_mut().reset(Instant::now() + stall);
            self.stalling = true;
        }
        ready!(timer.as_mut().poll(cx));
        if let Some(upload) = &self.upload {
            let upstream = self.upstream.clone();
            upload.fail(ProxyError::UpstreamStalled { upstream });
        }
        Poll::Ready(())
    }
}

/// After the last of a body. A failure to send it shows in the answer.
fn last(sent: Result<(), h2::Error>) -> Step {
    drop(sent);
    Step::Over
}
