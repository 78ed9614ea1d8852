//! What validating servers are to be answered while orders run: read by workers on requests under
//! `/.well-known/acme-challenge/` and on `acme-tls/1` handshakes, without a lock.
//!
//! Only what is pending is answered: the exact path of a token, under the host it was made for, and
//! names with an order under way. A replica that does not hold an answer asks the storage, because
//! another may be ordering; it asks only for names that are due, and only so often.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use rustls::sign::CertifiedKey;
use tokio::sync::{mpsc, oneshot};

use super::challenge;
use crate::name;

/// What the path of an HTTP-01 challenge begins with (RFC 8555 §8.3).
const PREFIX: &str = "/.well-known/acme-challenge/";
/// Tokens have at least 128 bits in base64url; ours to bound is how long.
const LONGEST_TOKEN: usize = 128;
/// How many lookups may wait for the storage.
const LOOKUPS: usize = 32;
/// How long a request or a handshake waits for a lookup.
const PATIENCE: Duration = Duration::from_secs(3);

type Map<V> = HashMap<String, V, RandomState>;

/// Answers to validating servers. One for the process; workers read, the keeper writes.
pub struct Pending {
    answers: ArcSwap<Answers>,
    lookups: mpsc::Sender<Lookup>,
    /// How often was answered: HTTP-01, TLS-ALPN-01.
    answered: [AtomicU64; 2],
}

/// What may be asked for now. Replaced whole, seldom.
#[derive(Default, Clone)]
pub(crate) struct Answers {
    /// Token → host and key authorisation.
    pub(crate) http: Map<(String, Arc<str>)>,
    /// Name as it stands in the client's hello → certificate.
    pub(crate) alpn: Map<Arc<CertifiedKey>>,
    /// Hosts that are due here, so that another replica may be ordering them.
    pub(crate) due: Arc<HashSet<String, RandomState>>,
}

/// What one replica asks the storage for another.
pub(crate) struct Lookup {
    pub(crate) question: Question,
    /// When it is known that there is nothing, or the answers have it.
    pub(crate) done: oneshot::Sender<()>,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Http { token: String },
    Alpn { name: String },
}

impl Question {
    /// Where the answer lies in a storage, if there is one.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Http { token } => challenge::place_of_token(token),
            Self::Alpn { name } => challenge::place_of_name(name),
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = self.answers.load();
        f.debug_struct("Pending")
            .field("http", &answers.http.len())
            .field("alpn", &answers.alpn.len())
            .finish_non_exhaustive()
    }
}

impl Pending {
    /// Nothing is pending, until a [`Keeper`](super::Keeper) says so.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Lookup>) {
        let (lookups, asked) = mpsc::channel(LOOKUPS);
        let pending = Self {
            answers: ArcSwap::default(),
            lookups,
            answered: Default::default(),
        };
        (Arc::new(pending), asked)
    }

    /// Nothing is pending, ever.
    pub fn none() -> Arc<Self> {
        Self::new().0
    }

    /// The token, if a path is one of a challenge. Costs a comparison of the beginning.
    pub fn token(path: &str) -> Option<&str> {
        let token = path.strip_prefix(PREFIX)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fine = !token.is_empty() && token.len() <= LONGEST_TOKEN && token.bytes().all(fits);
        fine.then_some(token)
    }

    /// The key authorisation to answer for `token` under `host`, if it is pending.
    pub fn http(&self, host: &str, token: &str) -> Option<Arc<str>> {
        let answers = self.answers.load();
        let (asked, authorisation) = answers.http.get(token)?;
        let host = name::normal(host);
        (*asked == bare(&host)).then(|| Arc::clone(authorisation))
    }

    /// The certificate to answer `acme-tls/1` with under `name`, if it is pending.
    pub fn alpn(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let answers = self.answers.load();
        answers.alpn.get(&*name::normal(name)).map(Arc::clone)
    }

    /// Like [`Pending::http`], but asks the storage for a host that another replica may be ordering.
    pub async fn find_http(&self, host: &str, token: &str) -> Option<Arc<str>> {
        let found = self.look_for_http(host, token).await?;
        self.answered[0].fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    async fn look_for_http(&self, host: &str, token: &str) -> Option<Arc<str>> {
        if let Some(found) = self.http(host, token) {
            return Some(found);
        }
        let question = Question::Http {
            token: token.to_owned(),
        };
        self.look_up(bare(&name::normal(host)), question).await?;
        self.http(host, token)
    }

    /// Like [`Pending::alpn`], but asks the storage for a name that another replica may be ordering.
    pub async fn find_alpn(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let found = self.look_for_alpn(name).await?;
        self.answered[1].fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// How often was answered since the start: HTTP-01 and TLS-ALPN-01.
    pub fn answered(&self) -> (u64, u64) {
        let [http, alpn] = &self.answered;
        (http.load(Ordering::Relaxed), alpn.load(Ordering::Relaxed))
    }

    async fn look_for_alpn(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if let Some(found) = self.alpn(name) {
            return Some(found);
        }
        let normal = name::normal(name);
        let question = Question::Alpn {
            name: normal.to_string(),
        };
        self.look_up(&normal, question).await?;
        self.alpn(name)
    }

    /// Waits until the storage was asked, if it may be.
    async fn look_up(&self, host: &str, question: Question) -> Option<()> {
        if !self.answers.load().due.contains(host) {
            return None;
        }
        let (done, waiting) = oneshot::channel();
        // When too many ask, this one is no validating server that could not ask again.
        self.lookups.try_send(Lookup { question, done }).ok()?;
        tokio::time::timeout(PATIENCE, waiting).await.ok()?.ok()
    }

    /// Changes what is pending.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Answers)) {
        let mut answers = Answers::clone(&self.answers.load());
        change(&mut answers);
        self.answers.store(Arc::new(answers));
    }
}

/// A host without port and brackets.
fn bare(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    match host.rsplit_once(':') {
        // An address of IPv6 has more than one.
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(host: &str, token: &str) -> Arc<Pending> {
        let (pending, _) = Pending::new();
        pending.change(|answers| {
            let answer = (host.to_owned(), "token.thumb".into());
            answers.http.insert(token.to_owned(), answer);
        });
        pending
    }

    #[test]
    fn a_token_is_the_whole_rest_of_the_path() {
        for (path, token) in [
            ("/.well-known/acme-challenge/abc-_9", Some("abc-_9")),
            ("/.well-known/acme-challenge/", None),
            ("/.well-known/acme-challenge/a/b", None),
            ("/.well-known/acme-challenge/a.b", None),
            ("/.well-known/acme-challenge", None),
            ("/x/.well-known/acme-challenge/abc", None),
            ("/.well-known/acme-challenge/%61", None),
        ] {
            assert_eq!(Pending::token(path), token, "{path}");
        }
        let long = format!("{PREFIX}{}", "a".repeat(LONGEST_TOKEN + 1));
        assert_eq!(Pending::token(&long), None);
    }

    #[test]
    fn a_token_is_answered_only_under_its_host() {
        let pending = pending("www.example.com", "abc");
        for host in ["www.example.com", "WWW.example.com.", "www.example.com:80"] {
            assert!(pending.http(host, "abc").is_some(), "{host}");
        }
        for (host, token) in [
            ("example.com", "abc"),
            ("www.example.com", "abd"),
            ("", "abc"),
        ] {
            assert!(pending.http(host, token).is_none(), "{host} {token}");
        }
    }

    #[test]
    fn an_address_is_a_host_too() {
        let four = pending("10.0.0.1", "abc");
        assert!(four.http("10.0.0.1:8080", "abc").is_some());
        let six = pending("::1", "abc");
        for host in ["[::1]", "[::1]:80", "::1"] {
            assert!(six.http(host, "abc").is_some(), "{host}");
        }
    }

    #[tokio::test]
    async fn the_storage_is_asked_only_for_names_that_are_due() {
        let (pending, mut asked) = Pending::new();
        pending.change(|answers| {
            answers.due = Arc::new(HashSet::from_iter(["due.example".to_owned()]));
        });
        assert!(pending.find_http("other.example", "abc").await.is_none());
        assert!(asked.try_recv().is_err());

        let answering = async {
            let lookup = asked.recv().await.expect("a question");
            assert_eq!(
                lookup.question,
                Question::Http {
                    token: "abc".to_owned()
                }
            );
            pending.change(|answers| {
                let answer = ("due.example".to_owned(), "abc.thumb".into());
                answers.http.insert("abc".to_owned(), answer);
            });
            lookup.done.send(()).expect("somebody waits");
        };
        let (found, ()) = tokio::join!(pending.find_http("due.example", "abc"), answering);
        assert_eq!(found.as_deref(), Some("abc.thumb"));
    }
}
