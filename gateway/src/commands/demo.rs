//! `sluice demo`: a small shop, a gateway in front of it, and six things to try.
//!
//! The gateway is the one of `sluice run`, with a configuration in a visible folder: editing it is
//! part of the demo, so a file that is there already is never overwritten.

mod pages;
mod storefront;

use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use sluice_certs::authority::local::Local;
use sluice_config::model::{ControlAddress, Protocol};
use sluice_gateway::{drain::Tasks, load::LOCAL};

use super::run::Running;
use crate::{Exit, args::environment};
use storefront::{Part, Places, Storefront};

/// The configuration, in the folder of the demo.
const CONFIG: &str = "sluice.toml";

/// The state of the gateway, there as well.
const STATE: &str = "state";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the configuration is written; one that is there already is kept.
    #[arg(long, value_name = "PATH", default_value = "sluice-demo")]
    folder: PathBuf,
    /// The port of the gateway.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The port of the gateway for https.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    https_port: u16,
    /// The first of the six ports of the shop.
    #[arg(long, value_name = "PORT", default_value_t = 9080)]
    shop_port: u16,
}

/// Runs the demo until a signal ends it.
pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let level = crate::log::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let exit = runtime.block_on(args.run(level));
    runtime.shutdown_background();
    exit
}

impl Args {
    async fn run(self, level: crate::log::Level) -> anyhow::Result<Exit> {
        let config = self.folder.join(CONFIG);
        let kept = config.exists();
        let doors = kept.then(|| Doors::of(&config)).flatten();
        let doors = doors.unwrap_or_else(|| Doors::at(self.port, self.https_port));
        // Every port is tried before a file is written, so that a second try finds nothing to keep.
        let file = kept.then_some(config.as_path());
        is_free(doors.plain, "--port", file)?;
        if let Some(secure) = doors.secure {
            is_free(secure, "--https-port", file)?;
        }
        let shop = Storefront::bind(self.shop_port).await.with_context(|| {
            let other = self.shop_port.saturating_add(100);
            format!("stop what listens there, or choose other ports with --shop-port {other}")
        })?;
        if !kept {
            self.write(&config)?;
        }
        let tasks = Tasks::new();
        shop.serve(
            Places {
                gateway: doors.plain,
                ratings: self.part(Part::Ratings),
            },
            &tasks,
        );
        welcome(&self.folder, kept, doors)?;
        let running = Running {
            paths: vec![config],
            workers: None,
            state_directory: Some(self.folder.join(STATE)),
            // Another gateway may run on this machine.
            admin: Some(ControlAddress::Off),
            metrics: Some(ControlAddress::Off),
            readiness: Some(ControlAddress::Off),
        };
        let exit = running.run(level).await;
        tasks.finish(Duration::ZERO).await;
        exit
    }

    /// Where a part of the shop listens.
    fn part(&self, wanted: Part) -> SocketAddr {
        let ports = Part::ALL.into_iter().zip(self.shop_port..);
        let port = ports
            .into_iter()
            .find(|(part, _)| *part == wanted)
            .map_or(0, |(_, port)| port);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Writes the configuration; never over one that is there.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("creating the folder {}", self.folder.display()))?;
        let mut text = include_str!("demo/sluice.toml")
            .replace("{port}", &self.port.to_string())
            .replace("{https_port}", &self.https_port.to_string());
        for part in Part::ALL {
            text = text.replace(part.mark(), &self.part(part).to_string());
        }
        let created = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path);
        let written = created.and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("writing {}", path.display()))
    }
}

/// Where the gateway accepts.
#[derive(Debug, Clone, Copy)]
struct Doors {
    plain: SocketAddr,
    secure: Option<SocketAddr>,
}

impl Doors {
    fn at(port: u16, https_port: u16) -> Self {
        let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            plain: here(port),
            secure: Some(here(https_port)),
        }
    }

    /// As the configuration says. None when it says nothing good.
    fn of(config: &Path) -> Option<Self> {
        let sources = sluice_config::read(&[config.to_owned()], &environment);
        let snapshot = sluice_config::check(&sources, None).snapshot?;
        let first = |protocol| {
            let mut all = snapshot.listeners.values();
            let mut address = all.find(|it| it.protocol == protocol)?.address.socket()?;
            if address.ip().is_unspecified() {
                address.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            Some(address)
        };
        let secure = first(Protocol::Https);
        Some(Self {
            // The shop asks here whatever there is.
            plain: first(Protocol::Http).or(secure)?,
            secure,
        })
    }
}

/// Says what to do about a port that is taken, before anything has started.
fn is_free(gateway: SocketAddr, flag: &str, kept: Option<&Path>) -> anyhow::Result<()> {
    // The gateway shares its port among workers, and would with another gateway; this does not.
    let bound = TcpListener::bind(gateway).with_context(|| {
        let other = match kept {
            Some(path) => format!("change `address` in {}", path.display()),
            None => format!("choose another port with {flag} {}", gateway.port().saturating_add(1)),
        };
        format!("the gateway of the demo cannot listen on {gateway}: stop what listens there, or {other}")
    });
    bound.map(drop)
}

/// How an address is written in a URL.
fn in_url(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_loopback() => format!("localhost:{}", address.port()),
        _ => address.to_string(),
    }
}

fn welcome(folder: &Path, kept: bool, doors: Doors) -> io::Result<()> {
    let config = folder.join(CONFIG);
    let (path, state) = (config.display(), folder.join(STATE));
    let origin = in_url(doors.plain);
    let file = if kept {
        "is yours already and was kept"
    } else {
        "is written for you"
    };
    let secure = doors.secure.map_or_else(String::new, |secure| {
        let origin = in_url(secure);
        let root = Local::root(&state.join(LOCAL));
        format!(
            "  curl --cacert {} https://{origin}/details/0
      TLS, with a certificate that a CA of this machine made. Browsers take it after
      sluice certs trust --state-directory {}
",
            root.display(),
            state.display()
        )
    });
    let and = doors.secure.map_or_else(String::new, |secure| {
        format!(" and https://{}/", in_url(secure))
    });
    write!(
        io::stdout().lock(),
        "
A small shop runs behind a gateway on http://{origin}/{and} (open it in a browser).
Its configuration {path} {file}.

Try, in a second terminal:

  curl {origin}/details/0
      a prefix route: the details of a book
  curl -H 'x-canary: true' {origin}/reviews/0
      a header canary: version 3 of the reviews, with red stars
  for i in $(seq 20); do curl -s {origin}/reviews/0; done
      a split: nine of ten from version 1, one of ten from version 2
  curl -i {origin}/productpage
      a redirect, answered by the gateway itself
  curl -i {origin}/orders
      nobody is there: 502, and the verdict `connect` in the access log below
{secure}
Then edit {path} and save: the change takes effect at once. A mistake is shown here, and
what ran before runs on. Why a request goes where it goes:

  sluice explain --config {path} GET http://{origin}/reviews/0 -H 'x-canary: true'

Ctrl-C ends it. The access log follows, one line per request.

"
    )
}
