//! DNS-01: a TXT record below `_acme-challenge`. By a dynamic update that is signed (RFC 2136, RFC 8945),
//! or by a hook.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hickory_proto::{
    ProtoError,
    dnssec::DnsSecError,
    op::{Message, ResponseCode, update_message},
    rr::{
        Name, RData, Record, RecordSet, TSigner, rdata::TXT,
        rdata::tsig::TsigAlgorithm as Algorithm,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::hook::{Exec, Webhook};
use crate::fetch::FetchError;

/// How long an update may take.
const TIME: Duration = Duration::from_secs(10);
/// How long resolvers may remember the record.
const TTL: u32 = 60;
/// How far the name server's clock may be off, as RFC 8945 §10 recommends.
const FUDGE: u16 = 300;

/// How records are written.
#[derive(Debug, Clone)]
pub enum Dns {
    /// A dynamic update to a name server.
    Update(Update),
    /// A program.
    Exec(Exec),
    /// A webhook.
    Webhook(Webhook),
}

/// A name server that takes dynamic updates.
#[derive(Clone)]
pub struct Update {
    /// Host and port.
    pub server: String,
    /// The zone that is changed.
    pub zone: String,
    /// The name of the key that signs.
    pub key_name: String,
    /// The key.
    pub key: Vec<u8>,
    /// How it signs.
    pub algorithm: TsigAlgorithm,
}

/// How updates are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A name is none.
    #[error("{name:?} is no name in DNS")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        #[source]
        source: ProtoError,
    },
    /// The host is outside the zone.
    #[error("{name} is not in the zone {zone}")]
    Zone {
        /// The record's name.
        name: String,
        /// The zone.
        zone: String,
    },
    /// The update could not be signed.
    #[error("signing the update")]
    Sign(#[source] DnsSecError),
    /// The update could not be written, or its answer not be read or trusted.
    #[error("the message to or from the name server")]
    Message(#[source] ProtoError),
    /// The name server could not be reached.
    #[error("talking to the name server {server}")]
    Server {
        /// Which.
        server: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The name server refused.
    #[error("the name server answered {0}")]
    Refused(ResponseCode),
    /// The command is empty.
    #[error("there is no program to run")]
    NoCommand,
    /// The program could not be run.
    #[error("running {program}")]
    Exec {
        /// Which.
        program: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The program did not end.
    #[error("the program did not end within {} s", .0.as_secs())]
    Late(Duration),
    /// The program or the webhook refused.
    #[error("{who} said: {words}")]
    Said {
        /// Who.
        who: String,
        /// Its own words.
        words: String,
    },
    /// The webhook's address or headers cannot be sent.
    #[error("the webhook's address")]
    Request(#[source] http::Error),
    /// The webhook could not be reached.
    #[error("calling the webhook")]
    Webhook(#[source] FetchError),
}

impl std::fmt::Debug for Update {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Update")
            .field("server", &self.server)
            .field("zone", &self.zone)
            .finish_non_exhaustive()
    }
}

impl Dns {
    /// Adds the record for `host`, beside those that are there.
    pub(super) async fn present(&self, host: &str, value: &str) -> Result<(), DnsError> {
        self.act("present", host, value).await
    }

    /// Removes the record for `host` with this value, and no other.
    pub(super) async fn cleanup(&self, host: &str, value: &str) -> Result<(), DnsError> {
        self.act("cleanup", host, value).await
    }

    async fn act(&self, action: &str, host: &str, value: &str) -> Result<(), DnsError> {
        let name = record(host);
        match self {
            Self::Exec(exec) => exec.run(action, &name, value).await,
            Self::Webhook(webhook) => webhook.call(action, &name, value).await,
            Self::Update(update) => {
                let late = |_| DnsError::Server {
                    server: update.server.clone(),
                    source: io::ErrorKind::TimedOut.into(),
                };
                let done =
                    tokio::time::timeout(TIME, update.send(action == "present", &name, value));
                done.await.map_err(late)?
            }
        }
    }
}

impl Update {
    async fn send(&self, present: bool, name: &str, value: &str) -> Result<(), DnsError> {
        let (zone, name) = (parse(&self.zone)?, parse(name)?);
        if !zone.zone_of(&name) {
            return Err(DnsError::Zone {
                name: name.to_string(),
                zone: zone.to_string(),
            });
        }
        let text = TXT::new(vec![value.to_owned()]);
        let record = Record::from_rdata(name, TTL, RData::TXT(text));
        let mut message = if present {
            update_message::append(RecordSet::from(record), zone, false, false)
        } else {
            update_message::delete_by_rdata(RecordSet::from(record), zone, false)
        };
        let algorithm = match self.algorithm {
            TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
        };
        let signer = TSigner::new(self.key.clone(), algorithm, parse(&self.key_name)?, FUDGE);
        let signer = signer.map_err(DnsError::Sign)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let done = signer.sign_message(&message, now.as_secs());
        let (signature, verifier) = done.map_err(DnsError::Message)?;
        message.set_signature(signature);
        let bytes = message.to_vec().map_err(DnsError::Message)?;

        let answer = self
            .exchange(&bytes)
            .await
            .map_err(|source| DnsError::Server {
                server: self.server.clone(),
                source,
            })?;
        let unsigned =
            Message::from_vec(&answer).map_err(|error| DnsError::Message(error.into()))?;
        // A server that does not know the key, or whose clock is off, says so without a signature.
        match unsigned.response_code {
            ResponseCode::NoError => {}
            code => return Err(DnsError::Refused(code)),
        }
        if let Some(mut verifier) = verifier {
            verifier.verify(&answer).map_err(DnsError::Message)?;
        }
        Ok(())
    }

    /// Over TCP, where no answer is cut short.
    async fn exchange(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.server).await?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), bytes].concat();
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

/// What the record says (RFC 8555 §8.4).
pub(super) fn value(digest: &[u8; 32]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

/// The record's name: that of the host, also for its wildcard.
fn record(host: &str) -> String {
    format!("_acme-challenge.{}", host.trim_start_matches("*."))
}

fn parse(name: &str) -> Result<Name, DnsError> {
    let mut parsed = Name::from_ascii(name).map_err(|source| DnsError::Name {
        name: name.to_owned(),
        source,
    })?;
    parsed.set_fqdn(true);
    Ok(parsed)
}
