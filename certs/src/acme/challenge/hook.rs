//! DNS-01 by somebody else's hands: a program, or a webhook.

use std::{process::Stdio, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header::CONTENT_TYPE};
use serde_json::json;
use tokio::{io::AsyncReadExt, process::Command};

use super::DnsError;
use crate::fetch::Client;

/// How much of what a hook says is repeated.
const WORDS: u64 = 512;

/// A program that writes the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Program and first arguments; `present` or `cleanup`, the record's name and its value follow.
    pub command: Vec<String>,
    /// How long it may take. It should end when the record can be seen.
    pub timeout: Duration,
}

/// An address that is told: `POST {"action": "present", "name": …, "value": …}`.
#[derive(Clone)]
pub struct Webhook {
    /// The address.
    pub url: String,
    /// Sent along. May be secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// With what it is called.
    pub client: Client,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Exec {
    pub(super) async fn run(&self, action: &str, name: &str, value: &str) -> Result<(), DnsError> {
        let (program, arguments) = self.command.split_first().ok_or(DnsError::NoCommand)?;
        let failed = |source| DnsError::Exec {
            program: program.clone(),
            source,
        };
        let mut child = Command::new(program)
            .args(arguments)
            .args([action, name, value])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let said = child.stderr.take();
        let ended = async {
            let mut words = Vec::new();
            if let Some(mut said) = said {
                (&mut said)
                    .take(WORDS)
                    .read_to_end(&mut words)
                    .await
                    .map_err(failed)?;
                // What it says beyond that must not hold it up.
                tokio::io::copy(&mut said, &mut tokio::io::sink())
                    .await
                    .map_err(failed)?;
            }
            Ok((child.wait().await.map_err(failed)?, words))
        };
        let late = |_| DnsError::Late(self.timeout);
        let (status, words) = tokio::time::timeout(self.timeout, ended)
            .await
            .map_err(late)??;
        if status.success() {
            return Ok(());
        }
        Err(DnsError::Said {
            who: program.clone(),
            words: said_by(&words, &status.to_string()),
        })
    }
}

impl Webhook {
    pub(super) async fn call(&self, action: &str, name: &str, value: &str) -> Result<(), DnsError> {
        let body = json!({ "action": action, "name": name, "value": value });
        let mut request = Request::post(&self.url).header(CONTENT_TYPE, "application/json");
        for (header, value) in &self.headers {
            request = request.header(header, value);
        }
        let request = request
            .body(Bytes::from(body.to_string()))
            .map_err(DnsError::Request)?;
        let answer = self.client.send(request).await.map_err(DnsError::Webhook)?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(DnsError::Said {
            who: "the webhook".to_owned(),
            words: said_by(answer.body(), answer.status().as_str()),
        })
    }
}

/// What was said, on one line; what happened, if nothing was.
fn said_by(words: &[u8], otherwise: &str) -> String {
    let words = String::from_utf8_lossy(words);
    let printable = words
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it });
    let line: String = printable
        .take(usize::try_from(WORDS).unwrap_or(0))
        .collect();
    match line.trim() {
        "" => otherwise.to_owned(),
        line => line.to_owned(),
    }
}
