//! `socket` of a listener or upstream.

use std::time::Duration;

use crate::{
    findings::{Finding, Findings},
    model::{Bind, KeepAlive, Limit, ListenerSocket, Protocol, UpstreamSocket},
    raw::{self, TextOr},
    scalar::Scalars,
    tree::At,
    unit,
};

/// What the kernel takes for `TCP_KEEPIDLE` and `TCP_KEEPINTVL`, in whole hours.
const KEEPALIVE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(9);

pub(super) fn check(
    raw: Option<&raw::ListenerSocket>,
    (protocol, address): (Protocol, Option<&Bind>),
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> ListenerSocket {
    let default = ListenerSocket::default();
    let Some(raw) = raw else {
        return default;
    };
    misplaced(raw, (protocol, address), at, findings);
    let keepalive = keepalive(raw.keepalive.as_ref(), &at.key("keepalive"), findings);
    let mode = mode(raw.mode.as_deref(), &at.key("mode"), findings);
    let mut scalars = Scalars { at: *at, findings };
    let fast_open = raw.fast_open.as_ref();
    ListenerSocket {
        backlog: scalars.number("backlog", raw.backlog, 1..=1_000_000, default.backlog),
        fast_open: scalars.count("fast_open", fast_open, 1..=1_000_000, default.fast_open),
        nodelay: raw.nodelay.unwrap_or(default.nodelay),
        keepalive,
        mark: mark(&mut scalars, raw.mark),
        dscp: dscp(&mut scalars, raw.dscp),
        ipv6_only: raw.ipv6_only.unwrap_or(default.ipv6_only),
        transparent: raw.transparent.unwrap_or(default.transparent),
        mode,
    }
}

/// Those of connections to endpoints.
pub(in crate::check) fn upstream(
    raw: Option<&raw::UpstreamSocket>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> UpstreamSocket {
    let default = UpstreamSocket::default();
    let Some(raw) = raw else {
        return default;
    };
    let keepalive = keepalive(raw.keepalive.as_ref(), &at.key("keepalive"), findings);
    let mut scalars = Scalars { at: *at, findings };
    UpstreamSocket {
        fast_open: raw.fast_open.unwrap_or(default.fast_open),
        nodelay: raw.nodelay.unwrap_or(default.nodelay),
        keepalive,
        mark: mark(&mut scalars, raw.mark),
        dscp: dscp(&mut scalars, raw.dscp),
    }
}

/// Reports what such a socket does not have.
fn misplaced(
    raw: &raw::ListenerSocket,
    (protocol, address): (Protocol, Option<&Bind>),
    at: &At<'_>,
    findings: &mut Findings<'_>,
) {
    // Of an address that cannot be read nothing is known.
    let Some(address) = address else {
        return;
    };
    let unix = address.socket().is_none();
    let udp = protocol == Protocol::Udp;
    let ipv6 = address.socket().is_some_and(|it| it.is_ipv6());
    let of_unix = "unix sockets have no such setting";
    let of_udp = "sockets for datagrams have no such setting";
    let keys = [
        ("backlog", raw.backlog.is_some(), udp, of_udp),
        ("fast_open", raw.fast_open.is_some(), unix, of_unix),
        ("fast_open", raw.fast_open.is_some(), udp, of_udp),
        ("nodelay", raw.nodelay.is_some(), unix, of_unix),
        ("nodelay", raw.nodelay.is_some(), udp, of_udp),
        ("keepalive", raw.keepalive.is_some(), unix, of_unix),
        ("keepalive", raw.keepalive.is_some(), udp, of_udp),
        ("mark", raw.mark.is_some(), unix, of_unix),
        ("dscp", raw.dscp.is_some(), unix, of_unix),
        (
            "ipv6_only",
            raw.ipv6_only.is_some(),
            !ipv6,
            "only an IPv6 address can leave IPv4 alone",
        ),
        (
            "transparent",
            raw.transparent.is_some(),
            protocol != Protocol::Transparent,
            "only a transparent listener accepts what is meant for other addresses",
        ),
        (
            "mode",
            raw.mode.is_some(),
            !unix,
            "only a unix socket has a file with permissions",
        ),
    ];
    for (key, written, wrong, why) in keys {
        let at = at.key(key);
        if written && wrong && findings.is_clean(&at) {
            let hint = format!("take {key} away");
            findings.key(&at, Finding::new("conflict", why).hint(hint));
        }
    }
}

/// The mark of packets; 0 is none.
pub(in crate::check) fn mark(scalars: &mut Scalars<'_, '_, '_>, raw: Option<i64>) -> Option<u32> {
    raw.map(|mark| scalars.number("mark", Some(mark), 1..=u32::MAX, 1))
}

fn dscp(scalars: &mut Scalars<'_, '_, '_>, raw: Option<i64>) -> Option<u8> {
    raw.map(|dscp| scalars.number("dscp", Some(dscp), 0..=63, 0))
}

fn mode(raw: Option<&str>, at: &At<'_>, findings: &mut Findings<'_>) -> u32 {
    let Some(text) = raw else {
        return ListenerSocket::MODE;
    };
    unit::octal(text).unwrap_or_else(|| {
        let what = format!("{text:?} are no permissions of a file");
        let finding = Finding::new("bad_mode", what);
        findings.value(at, finding.hint("three octal digits: \"0660\""));
        ListenerSocket::MODE
    })
}

fn keepalive(
    raw: Option<&TextOr<raw::KeepAlive>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Limit<KeepAlive> {
    let raw = match raw {
        None => return Limit::Off,
        Some(TextOr::Text(text)) => {
            if text != "off" {
                let what = format!("{text:?} is neither \"off\" nor a table");
                let finding = Finding::new("wrong_type", what);
                findings.value(at, finding.hint("write keepalive = { idle = \"2m\" }"));
            }
            return Limit::Off;
        }
        Some(TextOr::Table(raw)) => raw,
    };
    let default = KeepAlive::default();
    let mut scalars = Scalars { at: *at, findings };
    let times = [
        ("idle", raw.idle.as_ref(), default.idle),
        ("interval", raw.interval.as_ref(), default.interval),
    ];
    let [idle, interval] = times.map(|(key, raw, default)| {
        let time = scalars.time(key, raw, KEEPALIVE, default);
        if time.subsec_nanos() != 0 {
            let finding = Finding::new("out_of_range", format!("{key} is not in whole seconds"));
            scalars.findings.value(&at.key(key), finding);
        }
        time
    });
    let count = scalars.number("count", raw.count, 1..=127, default.count);
    Limit::At(KeepAlive {
        idle,
        interval,
        count,
    })
}
