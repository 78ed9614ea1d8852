//! Keys and certificates on disk while the process that writes them is killed at random moments: never half
//! a file, never a key that others can read, and the next start works.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use sluice_certs::{
    Pair,
    authority::local::Local,
    storage::{Directory, Kind, Storage},
    testing::{Authority, Client, Key, Wanted},
};
use sluice_tests::{
    process::{Sluice, free_port, program},
    tls::secure,
};
use tokio::time::{Duration, Instant, sleep};

/// How often the process is killed.
const KILLS: usize = 100;

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Nobody but its owner may read a file with a key in it, half written ones included.
fn holds_no_open_key(folder: &Path) {
    for path in files(folder) {
        let Ok(facts) = fs::metadata(&path) else {
            continue;
        };
        let text = fs::read(&path).unwrap_or_default();
        let has_key = text.windows(11).any(|part| part == b"PRIVATE KEY");
        let mode = facts.permissions().mode() & 0o777;
        let is_root = path.file_name() == Some(OsStr::new("root.pem"));
        assert!(!has_key || mode == 0o600, "{}: {mode:o}", path.display());
        assert!(!(is_root && has_key), "{} has a key", path.display());
    }
}

/// What is there under a name that somebody reads is whole. Gives the certificates by file name.
fn is_whole(folder: &Path) -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    for path in files(folder) {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') {
            continue;
        }
        let text = fs::read(&path).expect("readable");
        if name == "root.pem" {
            Local::published(folder).expect("whole").expect("there");
        } else {
            let pair = Pair::from_pem(&text, &text);
            pair.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        if path.parent().and_then(Path::file_name) == Some(OsStr::new("certificates")) {
            leaves.insert(name);
        }
    }
    leaves
}

/// Certificates of the development CA for hosts that only this round has.
fn config(round: usize) -> String {
    let hosts: Vec<String> = (0..12)
        .map(|host| format!("h{host}.round{round}.test"))
        .collect();
    format!(
        "[process]\nstate_directory = \"state\"\nworkers = 1\n[access_log]\noutput = \"off\"\n\
         [listeners.web]\naddress = \"{{address}}\"\nprotocol = \"https\"\n\
         certificates = {{ auto = \"local\" }}\n\
         [routes.r]\nhosts = {hosts:?}\nrespond = {{ body = \"hello\" }}\n"
    )
}

#[tokio::test]
async fn the_development_ca_survives_a_hundred_kills() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let kept = folder.path().join("state/local");
    // How long a whole start takes here and now: moments are chosen from a little more than that.
    let warm = Arc::new(tempfile::tempdir().expect("a folder"));
    program();
    let begin = Instant::now();
    let mut first = Sluice::start_in(warm, address, &config(0));
    // Sockets are there before certificates are written.
    first.says("\"listener\":\"web\"").await;
    let whole = begin.elapsed();
    first.signal("KILL");
    first.ends().await;

    let mut root: Option<Vec<u8>> = None;
    let mut torn = 0;
    for round in 1..=KILLS {
        let mut running = Sluice::start_in(Arc::clone(&folder), address, &config(round));
        sleep(whole.mul_f64(rand::random_range(0.1..1.3))).await;
        running.signal("KILL");
        running.ends().await;
        holds_no_open_key(&folder.path().join("state"));
        let leaves = is_whole(&kept);
        let mine = leaves
            .iter()
            .filter(|name| name.contains(&format!(".round{round}.test")));
        torn += usize::from((1..12).contains(&mine.count()));
        let authority = fs::read(kept.join("authority.pem")).ok();
        assert!(root.is_none() || authority == root, "the root stays");
        root = authority;
    }
    assert!(
        torn > 0,
        "no kill came while certificates were being written"
    );
    assert!(root.is_some(), "no start ever got so far");

    // The next start works, and serves what who trusts the root trusts.
    let last = Sluice::start_in(folder, address, &config(KILLS));
    last.says("\"listener\":\"web\"").await;
    let pem = fs::read_to_string(Local::root(&kept)).expect("a root");
    let client = Client::believing(&pem, &["http/1.1"]);
    let host = format!("h3.round{KILLS}.test");
    let mut client = secure(&client, address, &host).await;
    assert_eq!(client.get(&host, "/").await.text(), "hello");
}

/// Says to the writer where to write.
const FOLDER: &str = "SLUICE_TEST_STORAGE";

#[tokio::test]
#[ignore = "a writer that the next test starts, and kills"]
async fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = PathBuf::from(folder);
    let bundles = [0, 1].map(|number| {
        let text = fs::read(folder.join(format!("{number}.pem"))).expect("a bundle");
        Bytes::from(text)
    });
    let storage = Directory::new(folder.join("storage"), false);
    // The lock of who was killed stays for a while.
    let lock = storage.lock(&std::process::id().to_string()).await;
    let lock = lock.expect("a storage").expect("a lock of our own");
    for bundle in bundles.iter().cycle() {
        for name in ["a.example", "b.example"] {
            let written = storage.write(Kind::Certificate, name, bundle.clone(), &lock);
            written.await.expect("written");
        }
    }
}

#[tokio::test]
async fn a_storage_survives_a_hundred_kills_of_who_writes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    // Large enough that writing it takes a while.
    let names: Vec<String> = (0..400).map(|host| format!("h{host}.a.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let authority = Authority::default();
    for (number, key) in [(0, Key::P256), (1, Key::Rsa)] {
        let leaf = authority.sign(&Wanted::server(&names).key(key));
        let text = leaf.chain + &leaf.key;
        fs::write(folder.path().join(format!("{number}.pem")), text).expect("a file");
    }
    let place = folder.path().join("storage");
    let (mut last, mut progress) = (None, 0);
    for _ in 0..KILLS {
        let mut writer = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "writes_until_it_is_killed"])
            .env(FOLDER, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        sleep(Duration::from_millis(rand::random_range(10..60))).await;
        writer.kill().expect("it ran until now");
        writer.wait().expect("it ends");
        holds_no_open_key(&place);
        let storage = Directory::new(&place, false);
        let there = storage.list(Kind::Certificate).await.expect("a list");
        for name in there.keys() {
            let read = storage.read(Kind::Certificate, name, None).await;
            let stored = read.expect("readable").expect("there");
            Pair::from_pem(&stored.bytes, &stored.bytes).expect("whole");
        }
        let version = there.get("a.example").copied();
        assert!(
            version >= last,
            "{version:?} after {last:?}: what was there is gone"
        );
        progress += usize::from(version > last);
        last = version;
    }
    assert!(
        progress > KILLS / 4,
        "it was killed before it wrote: {progress}"
    );
}
