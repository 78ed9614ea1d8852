//! Fuzz targets: plain functions over bytes that panic when something is wrong.
//!
//! Two drivers: [`drive::drive`] on stable (seeds and seeded mutations, in `make test`), and
//! cargo-fuzz in `tests/fuzz` where a nightly toolchain exists. A new target is a function in one of
//! the files below, a line in [`TARGETS`], and a wrapper in `tests/fuzz/fuzz_targets`.

pub mod config;
pub mod connection;
pub mod drive;
pub mod egress;
pub mod http;
mod mutate;
pub mod proxy_protocol;
pub mod route;

/// Something to throw bytes at.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As on the command line.
    pub name: &'static str,
    /// Panics when the input shows a mistake.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: &'static [&'static [u8]],
    /// Words that mutations insert, since chance would hardly spell them.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "config_parse",
        run: config::parse,
        seeds: config::FILES,
        words: config::WORDS,
    },
    Target {
        name: "config_substitute",
        run: config::substitute,
        seeds: config::TEXTS,
        words: config::MARKS,
    },
    Target {
        name: "normalize",
        run: http::normalize,
        seeds: http::REQUESTS,
        words: http::WORDS,
    },
    Target {
        name: "authority",
        run: http::authority,
        seeds: http::AUTHORITIES,
        words: http::PIECES,
    },
    Target {
        name: "egress_target",
        run: egress::target,
        seeds: egress::SEEDS,
        words: egress::PIECES,
    },
    Target {
        name: "proxy_protocol",
        run: proxy_protocol::header,
        seeds: proxy_protocol::HEADERS,
        words: proxy_protocol::WORDS,
    },
    Target {
        name: "route_find",
        run: route::find,
        seeds: route::SEEDS,
        words: &[],
    },
    Target {
        name: "client_hello",
        run: connection::client_hello,
        seeds: connection::HELLOS,
        words: &[],
    },
    Target {
        name: "sniff",
        run: connection::sniff,
        seeds: connection::BEGINNINGS,
        words: &["GET ", "http://", "PRI * HTTP/2.0\r\n", " /"],
    },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
