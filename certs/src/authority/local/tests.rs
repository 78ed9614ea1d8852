use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{
    Roots,
    client::{Client, ClientSpec, Host, Offer, Version},
    testing::Server,
};

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn open(folder: &Path) -> Local {
    Local::open(folder, "laptop", now()).unwrap()
}

fn hosts(hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|host| (*host).to_owned()).collect()
}

fn serial(pair: &Pair) -> String {
    pair.facts().serial.clone()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_root_says_whose_it_is_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).facts().unwrap();
    assert_eq!(first.subject, "CN=Sluice local development CA laptop");
    assert_eq!(open(folder.path()).facts().unwrap(), first);
    let text = fs::read_to_string(Local::root(folder.path())).unwrap();
    assert!(!text.contains("KEY"), "{text}");
    assert_eq!(certificates(text.as_bytes()).unwrap().len(), 1);
    let published = Local::published(folder.path()).unwrap().unwrap();
    assert_eq!((published.pem, published.facts), (text, first));
    let nobody = tempfile::tempdir().unwrap();
    assert!(Local::published(nobody.path()).unwrap().is_none());
}

#[test]
fn keys_are_readable_by_their_owner_only_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(folder.path());
    local.pair("a.test", &hosts(&["a.test"]), now()).unwrap();
    assert_eq!(mode(&folder.path().join(AUTHORITY)), 0o600);
    assert_eq!(mode(&local.path("a.test")), 0o600);
    assert_eq!(mode(&Local::root(folder.path())), 0o644);
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["authority.pem", "certificates", "root.pem"]);
}

#[test]
fn a_certificate_is_kept_until_it_is_due_or_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(folder.path());
    let pair = |local: &Local, names: &[&str], days: i64| {
        let now = now() + Duration::days(days);
        serial(&local.pair("shop", &hosts(names), now).unwrap())
    };
    let first = pair(&local, &["a.test", "b.test"], 0);
    assert_eq!(pair(&local, &["b.test", "a.test"], 59), first);
    assert_eq!(pair(&open(folder.path()), &["a.test", "b.test"], 0), first);
    let second = pair(&local, &["a.test", "b.test"], 61);
    assert_ne!(second, first);
    assert_ne!(pair(&local, &["a.test"], 61), second);
}

#[test]
fn a_certificate_that_is_not_due_is_renewed_when_somebody_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(folder.path());
    let names = hosts(&["a.test"]);
    let first = serial(&local.pair("a.test", &names, now()).unwrap());
    let second = serial(&local.renew("a.test", &names, now()).unwrap());
    assert_ne!(second, first);
    assert_eq!(
        serial(&local.pair("a.test", &names, now()).unwrap()),
        second
    );
    let kept = Local::kept(folder.path(), "a.test").unwrap().unwrap();
    let kept = Pair::from_pem(kept.as_bytes(), kept.as_bytes()).unwrap();
    assert_eq!(serial(&kept), second);
    assert!(Local::kept(folder.path(), "b.test").unwrap().is_none());
}

#[test]
fn what_a_crash_or_a_hand_has_broken_is_made_anew_but_never_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(folder.path());
    let names = hosts(&["a.test"]);
    let first = serial(&local.pair("a.test", &names, now()).unwrap());
    fs::write(local.path("a.test"), "half").unwrap();
    assert_ne!(serial(&local.pair("a.test", &names, now()).unwrap()), first);
    fs::write(folder.path().join(AUTHORITY), "half").unwrap();
    let error = Local::open(folder.path(), "laptop", now()).unwrap_err();
    assert!(matches!(error, LocalError::Broken { .. }), "{error}");
}

#[test]
fn another_root_makes_other_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let names = hosts(&["a.test"]);
    let first = serial(&open(folder.path()).pair("a", &names, now()).unwrap());
    fs::remove_file(folder.path().join(AUTHORITY)).unwrap();
    let local = open(folder.path());
    assert_ne!(serial(&local.pair("a", &names, now()).unwrap()), first);
    let root = fs::read_to_string(Local::root(folder.path())).unwrap();
    assert_eq!(certificates(root.as_bytes()).unwrap(), [local.root]);
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(folder.path());
    let path = local.path("../../etc/x");
    assert_eq!(
        path.parent(),
        Some(folder.path().join("certificates").as_path())
    );
}

#[test]
fn processes_that_begin_together_have_one_root() {
    let folder = tempfile::tempdir().unwrap();
    let together: Vec<_> = (0..8)
        .map(|_| {
            let folder = folder.path().to_path_buf();
            std::thread::spawn(move || open(&folder).facts().unwrap().serial)
        })
        .collect();
    let mut serials: Vec<_> = together.into_iter().map(|it| it.join().unwrap()).collect();
    serials.dedup();
    assert_eq!(serials.len(), 1);
}

#[tokio::test]
async fn whoever_trusts_the_root_trusts_its_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(folder.path());
    let names = hosts(&["localhost", "127.0.0.1", "::1", "*.shop.test"]);
    let pair = local.pair("all", &names, now()).unwrap();
    let root = fs::read(Local::root(folder.path())).unwrap();
    let client = Client::new(ClientSpec {
        trust: Some(Roots::from_pem([root.as_slice()]).unwrap()),
        sni: None,
        names: Vec::new(),
        certificate: None,
        min_version: Version::Tls12,
    })
    .unwrap();
    for host in ["localhost", "127.0.0.1", "::1", "a.shop.test"] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = Server::showing(&pair, &[], None, false);
        let host = Host::new(host).unwrap();
        let connecting = client.connect(near, Some(&host), Offer::Nothing);
        let (connected, accepted) = tokio::join!(connecting, server.accept(far));
        connected.unwrap();
        accepted.unwrap();
    }
}
