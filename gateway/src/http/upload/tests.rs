use std::future::poll_fn;

use http_body_util::BodyExt as _;

use super::*;
use crate::{
    filter::Rpc,
    message::{Body, Request},
    telemetry::metrics::Metrics,
};

/// Gives one piece, and then there is a defect.
struct Defect {
    given: bool,
}

impl HttpBody for Defect {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        assert!(
            !std::mem::replace(&mut self.get_mut().given, true),
            "on purpose"
        );
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"YWJj")))))
    }
}

const PACE: Pace = Pace {
    pause: Duration::from_secs(30),
    rate: 0,
    trailers: 1000,
};

fn defective(metrics: &Metrics) -> (Body, Rc<Progress>) {
    let progress = Progress::new(Rc::new(Phase::new()), metrics.worker(0));
    let progress = Rc::new(progress);
    let upload = Upload::new(Defect { given: false }, Rc::clone(&progress), PACE);
    (Body::stream(upload), progress)
}

/// Gives the first piece, and what became of the others.
async fn read(mut body: Body) -> (Bytes, Option<ProxyError>) {
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let second = body.frame().await.unwrap().err();
    let third = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(third.is_none(), "nothing is polled again");
    (first, second)
}

#[tokio::test]
async fn a_panic_on_the_way_to_a_piece_is_a_failure_of_its_own_request() {
    let metrics = Metrics::new(1);
    let (body, progress) = defective(&metrics);

    let (first, second) = read(body).await;

    assert_eq!(first, "YWJj");
    assert!(matches!(second, Some(ProxyError::Internal)));
    assert_eq!(progress.fault(), Some(Fault::Defect));
    assert!(!progress.is_ended());
    assert_eq!(metrics.sum(Counter::Panics), 1);
}

#[tokio::test]
async fn a_panic_below_a_decoder_is_counted_once() {
    let metrics = Metrics::new(1);
    let (body, progress) = defective(&metrics);
    let request = from_web(Request::new(body), Rpc::WebText, Some(Rc::clone(&progress)));

    let (first, second) = read(request.into_body()).await;

    assert_eq!(first, "abc");
    assert!(matches!(second, Some(ProxyError::Internal)));
    assert_eq!(progress.fault(), Some(Fault::Defect));
    assert_eq!(metrics.sum(Counter::Panics), 1);
}
