//! What is known of a connection before anybody reads what it carries.

use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
};

use http::HeaderMap;
use sluice_config::model::Mode;

use super::Question;

/// What is known of a connection before anybody reads what it carries.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Our side of it, or where an earlier proxy says that its client connected to.
    pub destination: SocketAddr,
    /// What the client offers inside TLS (ALPN); where TLS was ended, what was agreed on. Empty without
    /// either.
    pub alpn: &'a [&'a [u8]],
    /// The name that the client asks for in its TLS handshake: lower case, without the dot at its end.
    pub sni: Option<&'a str>,
}

impl<'a> Opening<'a> {
    /// A connection without TLS, or whose TLS is of no account.
    pub fn plain(destination: SocketAddr) -> Self {
        Self {
            destination,
            alpn: &[],
            sni: None,
        }
    }

    /// The question for the route of a raw stream or datagram.
    pub fn question(self, mode: Mode, client: IpAddr) -> Question<'a> {
        static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

        Question {
            mode,
            host: self.sni,
            path: "/",
            query: None,
            method: "",
            headers: &NONE,
            client,
            opening: self,
        }
    }
}
