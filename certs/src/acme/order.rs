//! One order from start to end: account, authorisations, challenges, key, certificate.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error,
    Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};

use super::{
    challenge::{Board, Challenge, ChallengeKind, PublishError, Shown},
    issuer::{Issuer, KeyChoice},
    schedule::{Failure, Moment},
    transport::Refusal,
};
use crate::storage::StorageError;

/// So often a request is made anew when its nonce is refused, each time with three nonces. With half of
/// all nonces refused one request in thirty thousand fails.
pub(super) const NONCES: u32 = 5;
/// How long the issuer may take to look at the challenges, and to issue.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_mins(3));

/// Makes a call of instant-acme again while the issuer refuses its nonces.
macro_rules! insist {
    ($call:expr) => {{
        let mut turn = 1;
        loop {
            match ($call).await {
                Err(instant_acme::Error::Api(problem))
                    if turn < $crate::acme::order::NONCES
                        && $crate::acme::order::is_nonce(&problem) =>
                {
                    turn += 1;
                }
                answer => break answer,
            }
        }
    }};
}
pub(super) use insist;

/// Whether it is only the nonce that was refused.
pub(super) fn is_nonce(problem: &instant_acme::Problem) -> bool {
    Refusal::of(problem, 400).is("badNonce")
}

/// A certificate with its key, both as PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Why an order came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The issuer refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The issuer could not be asked, or its answer makes no sense.
    #[error("asking the issuer")]
    Acme(#[source] Error),
    /// The issuer offers other challenges only.
    #[error("the issuer does not offer this challenge for {host}")]
    NoChallenge {
        /// For this host.
        host: String,
    },
    /// The issuer did not decide in time.
    #[error("the issuer did not decide in time")]
    Undecided,
    /// A challenge could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The key could not be made.
    #[error("making the key and the request for its certificate")]
    Key(#[source] rcgen::Error),
    /// The thread that makes keys ended.
    #[error("making the key was cut short")]
    KeyLost,
    /// The issuer's certificate is not what was ordered.
    #[error("what the issuer sent is no certificate for the key")]
    Pair(#[from] crate::PairError),
    /// The storage is away, or the lock is another's.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The account cannot be written down.
    #[error("the account cannot be written down")]
    Unwritable,
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => Self::Refused(Refusal::of(&problem, 0)),
            Error::Timeout(_) => Self::Undecided,
            Error::Other(cause) => match cause.downcast::<Refusal>() {
                Ok(refusal) => Self::Refused(*refusal),
                Err(cause) => Self::Acme(Error::Other(cause)),
            },
            error => Self::Acme(error),
        }
    }
}

impl OrderError {
    /// What it means for the next attempt.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Refused(refusal) => Failure {
                limited: refusal.is("rateLimited"),
                retry_after: refusal.retry_after,
            },
            _ => Failure::default(),
        }
    }

    /// Whether the issuer does not know who we are.
    pub(super) fn is_stranger(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is("accountDoesNotExist"))
    }
}

/// What an order needs to know.
pub(super) struct Terms<'a> {
    pub(super) issuer: &'a Issuer,
    pub(super) hosts: &'a [String],
    /// The certificate that this one is to replace.
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
    /// How long published answers need to be seen by other replicas.
    pub(super) settle: Duration,
    pub(super) now: Moment,
}

/// Runs an order. Whatever it published is withdrawn when it ends; when it is dropped, at least here.
pub(super) async fn run(
    account: &Account,
    board: Board<'_>,
    terms: Terms<'_>,
) -> Result<Issued, OrderError> {
    let mut order = begin(account, &terms).await?;
    let mut published = Vec::new();
    let ready = prove(&mut order, board, &terms, &mut published).await;
    for shown in &published {
        board.withdraw(&shown.challenge).await;
    }
    ready?;
    let hosts = terms.hosts.to_vec();
    let kind = terms.issuer.key;
    let made = tokio::task::spawn_blocking(move || request(&hosts, kind)).await;
    let (request, key) = made
        .map_err(|_| OrderError::KeyLost)?
        .map_err(OrderError::Key)?;
    insist!(order.finalize_csr(&request))?;
    let chain = insist!(order.poll_certificate(&POLL))?;
    Ok(Issued { chain, key })
}

/// Orders, naming the certificate that is replaced where the issuer wants to know.
async fn begin(account: &Account, terms: &Terms<'_>) -> Result<Order, OrderError> {
    let hosts: Vec<Identifier> = terms.hosts.iter().map(|host| identifier(host)).collect();
    let plain = || match &terms.issuer.profile {
        Some(profile) => NewOrder::new(&hosts).profile(profile),
        None => NewOrder::new(&hosts),
    };
    if let Some(replaces) = &terms.replaces {
        let order = plain().replaces(replaces.clone());
        match insist!(account.new_order(&order)).map_err(OrderError::from) {
            // Issuers without renewal information do not take it, and others refuse what they do not
            // know, or know as replaced.
            Err(OrderError::Acme(Error::Unsupported(_))) => {}
            Err(OrderError::Refused(refusal))
                if !refusal.is("rateLimited") && refusal.status < 500 =>
            {
                tracing::debug!(%refusal, "ordering without naming what is replaced");
            }
            answer => return answer,
        }
    }
    let order = plain();
    Ok(insist!(account.new_order(&order))?)
}

fn identifier(host: &str) -> Identifier {
    match host.parse() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(host.to_owned()),
    }
}

/// Publishes every challenge, says so, and waits for the issuer's opinion.
async fn prove<'a>(
    order: &mut Order,
    board: Board<'a>,
    terms: &Terms<'_>,
    published: &mut Vec<Shown<'a>>,
) -> Result<(), OrderError> {
    let kind = terms.issuer.challenge;
    let wanted = match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        ChallengeKind::Dns01 => ChallengeType::Dns01,
    };
    learn(order).await?;
    let mut authorisations = order.authorizations();
    while let Some(next) = authorisations.next().await {
        let mut authorisation = next?;
        if authorisation.status == AuthorizationStatus::Valid {
            continue;
        }
        let host = authorisation.identifier().to_string();
        let Some(challenge) = authorisation.challenge(wanted.clone()) else {
            return Err(OrderError::NoChallenge { host });
        };
        let authorisation = challenge.key_authorization();
        let challenge = Challenge::new(
            kind,
            &host,
            &challenge.token,
            authorisation.as_str(),
            terms.now,
        );
        // Noted before it is published: what was half published is withdrawn too.
        published.push(board.shown(challenge.clone()));
        board.publish(&challenge).await?;
    }
    if published.is_empty() {
        return Ok(());
    }
    tokio::time::sleep(terms.settle).await;
    judge(order, &wanted).await
}

/// Has the issuer look at every challenge, and waits for its opinion.
async fn judge(order: &mut Order, wanted: &ChallengeType) -> Result<(), OrderError> {
    let mut authorisations = order.authorizations();
    while let Some(next) = authorisations.next().await {
        let mut authorisation = next?;
        if authorisation.status == AuthorizationStatus::Valid {
            continue;
        }
        if let Some(mut challenge) = authorisation.challenge(wanted.clone()) {
            insist!(challenge.set_ready())?;
        }
    }
    match insist!(order.poll_ready(&POLL)) {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(_) => Err(why(order).await),
        // Some issuers say on the order only that an authorisation failed, and there why.
        Err(Error::Api(problem)) => Err(match why(order).await {
            OrderError::Undecided => Error::Api(problem).into(),
            detailed => detailed,
        }),
        Err(error) => Err(error.into()),
    }
}

/// Reads all authorisations. What was read stays read, so beginning again asks for the rest only.
async fn learn(order: &mut Order) -> Result<(), OrderError> {
    let mut turn = 1;
    'again: loop {
        let mut authorisations = order.authorizations();
        while let Some(next) = authorisations.next().await {
            match next {
                Err(Error::Api(problem)) if turn < NONCES && is_nonce(&problem) => {
                    turn += 1;
                    continue 'again;
                }
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        return Ok(());
    }
}

/// The issuer's words about the authorisation that failed.
async fn why(order: &mut Order) -> OrderError {
    let mut authorisations = order.authorizations();
    while let Some(next) = authorisations.next().await {
        let Ok(mut authorisation) = next else {
            continue;
        };
        if insist!(authorisation.refresh()).is_err() {
            continue;
        }
        let host = authorisation.identifier().to_string();
        let failed = authorisation
            .challenges
            .iter()
            .find(|challenge| challenge.status == ChallengeStatus::Invalid);
        if let Some(problem) = failed.and_then(|challenge| challenge.error.as_ref()) {
            let mut refusal = Refusal::of(problem, 0);
            refusal.words = format!("{host}: {}", refusal.words);
            return OrderError::Refused(refusal);
        }
    }
    OrderError::Undecided
}

/// A new key and the request for its certificate. Takes long for RSA.
fn request(hosts: &[String], kind: KeyChoice) -> Result<(Vec<u8>, String), rcgen::Error> {
    let key = match kind {
        KeyChoice::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        KeyChoice::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        KeyChoice::Rsa2048 => {
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?
        }
    };
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((request.der().to_vec(), key.serialize_pem()))
}

/// What renewal information calls a certificate.
pub(super) fn identify(pair: &crate::Pair) -> Option<CertificateIdentifier<'static>> {
    let leaf = pair.certified().cert.first()?;
    CertificateIdentifier::try_from(leaf).ok()
}

/// The account's issuer says when it would like a certificate to be renewed, and when to ask again.
pub(super) async fn window(
    account: &Account,
    certificate: &CertificateIdentifier<'static>,
) -> Result<((Moment, Moment), Duration), OrderError> {
    let (info, again) = account.renewal_info(certificate).await?;
    let window = info.suggested_window;
    Ok((
        (window.start.unix_timestamp(), window.end.unix_timestamp()),
        again,
    ))
}
