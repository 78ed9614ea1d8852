//! What became of a connection on which anything could be spoken.

/// What became of it, by what was said first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// The client spoke HTTP/1.
    Http1,
    /// The client spoke HTTP/2.
    Http2,
    /// The client spoke TLS.
    Tls,
    /// The client spoke `PostgreSQL`.
    Postgres,
    /// The client spoke something else.
    Raw,
    /// The endpoint spoke first.
    ServerFirst,
    /// Nobody said enough in time.
    Silent,
    /// The client left, or the gateway is ending.
    Closed,
}

impl Sniffed {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Http1,
        Self::Http2,
        Self::Tls,
        Self::Postgres,
        Self::Raw,
        Self::ServerFirst,
        Self::Silent,
        Self::Closed,
    ];

    /// The stable word for it in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Postgres => "postgres",
            Self::Raw => "raw",
            Self::ServerFirst => "server_first",
            Self::Silent => "silent",
            Self::Closed => "closed",
        }
    }
}
