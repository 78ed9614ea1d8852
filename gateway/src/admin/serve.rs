//! The paths of the control side, and the connections they are asked for on.

use std::{convert::Infallible, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{timeout, timeout_at},
};

use super::{
    Admin, Order,
    certificates::{self, Renewal},
    egress, guard, metrics, report,
};
use crate::{
    stream::Stream,
    telemetry::{access_log::Choice, metrics::text::CONTENT_TYPE},
};

/// The longest request head, in bytes.
const HEAD: usize = 16 << 10;

/// The longest request body, in bytes: an order is a few words.
const BODY: usize = 16 << 10;

/// Longest wait for a head, and for a body.
const READ: Duration = Duration::from_secs(5);

/// Longest wait for a reload. Ten thousand routes take a second.
const RELOAD: Duration = Duration::from_secs(30);

/// One request and its answer, the reader of a large answer included.
const CONNECTION: Duration = Duration::from_mins(1);

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Everything.
    Admin,
    /// `/metrics`.
    Metrics,
    /// `/live` and `/ready`, without details.
    Readiness,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Metrics => "metrics",
            Self::Readiness => "readiness",
        })
    }
}

type Reply = Response<Full<Bytes>>;

/// Answers one request.
pub(super) async fn serve(stream: Stream, purpose: Purpose, admin: &Admin) {
    let is_unix = matches!(stream, Stream::Unix(_));
    let service = service_fn(|request: Request<Incoming>| async move {
        let head = request.method() == Method::HEAD;
        let mut reply = answer(request, purpose, is_unix, admin).await;
        if head {
            *reply.body_mut() = Full::default();
        }
        Ok::<_, Infallible>(reply)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, %purpose, "a connection broke off"),
        Err(_) => tracing::debug!(%purpose, "a connection took too long"),
    }
}

async fn answer(
    request: Request<Incoming>,
    purpose: Purpose,
    is_unix: bool,
    admin: &Admin,
) -> Reply {
    if purpose == Purpose::Admin
        && let Err(foreign) = guard::check(request.headers(), is_unix)
    {
        return refuse(StatusCode::FORBIDDEN, &foreign.to_string());
    }
    let (parts, body) = request.into_parts();
    let Some(page) = Page::at(purpose, &parts.method, parts.uri.path()) else {
        return refuse(StatusCode::NOT_FOUND, "there is nothing at this path");
    };
    if !page.takes(&parts.method) {
        let mut reply = refuse(StatusCode::METHOD_NOT_ALLOWED, "not by this method");
        let allow = HeaderValue::from_static(page.methods());
        reply.headers_mut().insert(header::ALLOW, allow);
        return reply;
    }
    let body = Limited::new(body, BODY).collect();
    let body = match timeout(READ, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        Err(_) => {
            return refuse(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            );
        }
    };
    let Ok(text) = std::str::from_utf8(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the body is no text");
    };
    match page {
        Page::Live => reply(StatusCode::OK, &json!({ "live": true })),
        Page::Ready => ready(admin, purpose),
        Page::Metrics => metrics(admin),
        Page::Config => config(admin, parts.headers.get(header::ACCEPT)),
        Page::Routes => reply(StatusCode::OK, &report::routes(admin)),
        Page::Upstreams => reply(StatusCode::OK, &report::upstreams(admin)),
        Page::Listeners => reply(StatusCode::OK, &report::listeners(admin)),
        Page::Egress => self::text(StatusCode::OK, "application/json", egress::report(admin)),
        Page::Certificates => reply(StatusCode::OK, &certificates::list(admin)),
        Page::Certificate(name) => match certificates::one(admin, &name) {
            Some(certificate) => reply(StatusCode::OK, &certificate),
            None => refuse(StatusCode::NOT_FOUND, NO_CERTIFICATE),
        },
        Page::Renew(name) => renew(admin, &name),
        Page::Reload => reload(admin).await,
        Page::Drain => drain(admin, text),
        Page::LogLevel => {
            let wanted = (parts.method == Method::POST).then(|| text.trim().to_owned());
            log_level(admin, wanted).await
        }
        Page::AccessLog => {
            let wanted = (parts.method == Method::POST).then(|| text.trim());
            access_log(admin, wanted)
        }
    }
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    Live,
    Ready,
    Metrics,
    Config,
    Routes,
    Upstreams,
    Listeners,
    Egress,
    Certificates,
    /// The one of this name.
    Certificate(String),
    /// An order for the one of this name.
    Renew(String),
    Reload,
    Drain,
    LogLevel,
    AccessLog,
}

/// Below it each certificate has a page, and below that an order.
const CERTIFICATES: &str = "/certificates/";
const RENEW: &str = "/renew";

impl Page {
    fn at(purpose: Purpose, method: &Method, path: &str) -> Option<Self> {
        match (purpose, path) {
            (Purpose::Admin | Purpose::Readiness, "/live") => Some(Self::Live),
            (Purpose::Admin | Purpose::Readiness, "/ready") => Some(Self::Ready),
            (Purpose::Metrics, "/metrics") => Some(Self::Metrics),
            (Purpose::Admin, "/config") => Some(Self::Config),
            (Purpose::Admin, "/routes") => Some(Self::Routes),
            (Purpose::Admin, "/upstreams") => Some(Self::Upstreams),
            (Purpose::Admin, "/listeners") => Some(Self::Listeners),
            (Purpose::Admin, "/egress") => Some(Self::Egress),
            (Purpose::Admin, "/certificates") => Some(Self::Certificates),
            (Purpose::Admin, "/reload") => Some(Self::Reload),
            (Purpose::Admin, "/drain") => Some(Self::Drain),
            (Purpose::Admin, "/log-level") => Some(Self::LogLevel),
            (Purpose::Admin, "/access-log") => Some(Self::AccessLog),
            (Purpose::Admin, path) => {
                let name = path.strip_prefix(CERTIFICATES)?;
                // A name may end so as well; nobody gives orders by looking at it.
                let order = Some(name).filter(|_| method == Method::POST);
                let order = order.and_then(|name| name.strip_suffix(RENEW));
                let decoded = percent_decode_str(order.unwrap_or(name));
                let name = decoded.decode_utf8().ok()?.into_owned();
                Some(if order.is_some() {
                    Self::Renew(name)
                } else {
                    Self::Certificate(name)
                })
            }
            _ => None,
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|it| it == method.as_str())
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Reload | Self::Drain | Self::Renew(_) => "POST",
            Self::LogLevel | Self::AccessLog => "GET, HEAD, POST",
            Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Config
            | Self::Routes
            | Self::Upstreams
            | Self::Listeners
            | Self::Egress
            | Self::Certificates
            | Self::Certificate(_) => "GET, HEAD",
        }
    }
}

fn ready(admin: &Admin, purpose: Purpose) -> Reply {
    let status = if admin.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply(status, &report::ready(admin, purpose == Purpose::Admin))
}

fn metrics(admin: &Admin) -> Reply {
    text(StatusCode::OK, CONTENT_TYPE, metrics::write(admin))
}

/// The canonical form: JSON, or TOML for those who ask for it. It names files and shows no secrets.
fn config(admin: &Admin, accept: Option<&HeaderValue>) -> Reply {
    let Some(live) = admin.view.live() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "nothing runs yet");
    };
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let shown = live.snapshot.redacted();
    if accept == Some("application/toml") {
        text(StatusCode::OK, "application/toml", shown.to_toml())
    } else {
        text(StatusCode::OK, "application/json", shown.to_json())
    }
}

/// Waits until the files were read and applied or refused.
async fn reload(admin: &Admin) -> Reply {
    let deadline = tokio::time::Instant::now() + RELOAD;
    let mut status = admin.status.clone();
    let before = status.borrow_and_update().handled;
    if admin.orders.try_send(Order::Reload).is_err() {
        return busy();
    }
    let handled = status.wait_for(|status| status.handled != before);
    let outcome = match timeout_at(deadline, handled).await {
        Ok(Ok(outcome)) => outcome.clone(),
        Ok(Err(_)) => return busy(),
        Err(_) => return refuse(StatusCode::GATEWAY_TIMEOUT, "the reload goes on"),
    };
    let version = outcome.running.as_ref().map(sluice_config::Version::as_str);
    match outcome.refused {
        None => reply(StatusCode::OK, &json!({ "version": version })),
        Some(problems) => reply(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({
                "error": "the configuration is refused, the last good one keeps running",
                "version": version,
                "problems": &*problems,
            }),
        ),
    }
}

/// The body of an order to drain.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grace {
    /// For requests in flight; without it as long as the configuration says.
    grace_seconds: Option<u32>,
}

fn drain(admin: &Admin, body: &str) -> Reply {
    let grace = match body.trim() {
        "" => Ok(Grace::default()),
        body => serde_json::from_str(body),
    };
    let grace = match grace {
        Ok(Grace { grace_seconds }) => grace_seconds,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let grace = grace.map(|seconds| Duration::from_secs(seconds.into()));
    if admin.orders.try_send(Order::Drain(grace)).is_err() {
        return busy();
    }
    admin.set_draining();
    reply(StatusCode::ACCEPTED, &json!({ "draining": true }))
}

async fn log_level(admin: &Admin, wanted: Option<String>) -> Reply {
    let (done, outcome) = oneshot::channel();
    if admin
        .orders
        .try_send(Order::LogLevel(wanted, done))
        .is_err()
    {
        return busy();
    }
    match timeout(READ, outcome).await {
        Ok(Ok(Ok(level))) => reply(StatusCode::OK, &json!({ "level": level })),
        Ok(Ok(Err(error))) => refuse(StatusCode::BAD_REQUEST, &error),
        Ok(Err(_)) | Err(_) => busy(),
    }
}

/// Which requests have a line, after changing that.
fn access_log(admin: &Admin, wanted: Option<&str>) -> Reply {
    let switch = admin.view.access_log();
    if let Some(wanted) = wanted {
        match wanted.parse::<Choice>() {
            Ok(choice) => switch.set(choice),
            Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        }
        tracing::info!(access_log = %switch.choice(), "access log switched");
    }
    let live = admin.view.live();
    let output = live.as_ref().map(|live| &live.snapshot.access_log.output);
    reply(
        StatusCode::OK,
        &json!({ "access_log": switch.choice().to_string(), "output": output }),
    )
}

const NO_CERTIFICATE: &str = "there is no certificate of this name";

/// Does not wait until it is renewed: an issuer takes its time.
fn renew(admin: &Admin, name: &str) -> Reply {
    match certificates::renew(admin, name) {
        Renewal::Ordered => reply(StatusCode::ACCEPTED, &json!({ "renewing": true })),
        Renewal::Unknown => refuse(StatusCode::NOT_FOUND, NO_CERTIFICATE),
        Renewal::Files => refuse(
            StatusCode::CONFLICT,
            "it comes from files: replace them, and they are read at once",
        ),
    }
}

fn busy() -> Reply {
    refuse(
        StatusCode::SERVICE_UNAVAILABLE,
        "the gateway takes no orders now",
    )
}

fn refuse(status: StatusCode, error: &str) -> Reply {
    reply(status, &json!({ "error": error }))
}

fn reply(status: StatusCode, value: &serde_json::Value) -> Reply {
    text(status, "application/json", value.to_string())
}

fn text(status: StatusCode, kind: &'static str, mut text: String) -> Reply {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut reply = Response::new(Full::from(text));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
