//! The sockets of the control side: bound before anything serves, so that a port that is taken ends
//! the start and nothing else.

use std::{
    fs, io,
    net::TcpListener as StdTcp,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener as StdUnix, UnixStream as StdStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sluice_config::model::ControlAddress;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::sleep,
};

use super::{
    Admin,
    serve::{Purpose, serve},
};
use crate::{drain::Tasks, stream::Stream};

/// Connections that one address serves at a time; further ones wait in the kernel's queue.
const MOST: usize = 64;

/// How long to wait after `accept` failed.
const PAUSE: Duration = Duration::from_millis(200);

/// The sockets of the control side.
#[derive(Debug)]
pub struct Ports(Vec<(Purpose, Port)>);

/// An address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("listening on the {purpose} address {address} (`process.{purpose}`, or `off`)")]
pub struct BindError {
    purpose: Purpose,
    address: String,
    #[source]
    source: io::Error,
}

#[derive(Debug)]
enum Port {
    Tcp(StdTcp),
    Unix(StdUnix, Removed),
}

/// A socket file that goes with its socket.
#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "the socket is left behind");
        }
    }
}

impl Ports {
    /// Binds what is not off.
    pub fn bind(
        admin: &ControlAddress,
        metrics: &ControlAddress,
        readiness: &ControlAddress,
    ) -> Result<Self, BindError> {
        let wanted = [
            (Purpose::Admin, admin),
            (Purpose::Metrics, metrics),
            (Purpose::Readiness, readiness),
        ];
        let mut ports = Vec::new();
        for (purpose, address) in wanted {
            let port = Port::bind(address).map_err(|source| BindError {
                purpose,
                address: address.to_string(),
                source,
            })?;
            ports.extend(port.map(|port| (purpose, port)));
        }
        Ok(Self(ports))
    }

    /// Answers on them until `tasks` end. On a runtime.
    pub fn serve(self, admin: &Arc<Admin>, tasks: &Tasks) -> io::Result<()> {
        for (purpose, port) in self.0 {
            let door = match port {
                Port::Tcp(socket) => {
                    let socket = TcpListener::from_std(socket)?;
                    let address = socket.local_addr()?;
                    tracing::info!(%purpose, %address, "answering");
                    Door::Tcp(socket)
                }
                Port::Unix(socket, file) => {
                    tracing::info!(%purpose, path = %file.0.display(), "answering");
                    Door::Unix(UnixListener::from_std(socket)?, file)
                }
            };
            let admin = Arc::clone(admin);
            tasks.spawn(accepting(door, purpose, admin, tasks.clone()));
        }
        Ok(())
    }
}

impl Port {
    fn bind(address: &ControlAddress) -> io::Result<Option<Self>> {
        let port = match address {
            ControlAddress::Off => return Ok(None),
            ControlAddress::Tcp(address) => {
                let socket = StdTcp::bind(address)?;
                socket.set_nonblocking(true)?;
                Self::Tcp(socket)
            }
            ControlAddress::Unix(path) => {
                free(path)?;
                let socket = StdUnix::bind(path)?;
                let file = Removed(path.clone());
                socket.set_nonblocking(true)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                Self::Unix(socket, file)
            }
        };
        Ok(Some(port))
    }
}

/// Takes away a socket that nobody answers on: its process has died.
fn free(path: &Path) -> io::Result<()> {
    match StdStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// A socket that is watched.
enum Door {
    Tcp(TcpListener),
    /// With the file that goes with it.
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "removes the file when dropped")] Removed,
    ),
}

impl Door {
    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(socket) => Stream::Tcp(socket.accept().await?.0),
            Self::Unix(socket, _) => Stream::Unix(socket.accept().await?.0),
        })
    }
}

async fn accepting(door: Door, purpose: Purpose, admin: Arc<Admin>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match door.accept().await {
            Ok(stream) => {
                let admin = Arc::clone(&admin);
                tasks.spawn(async move {
                    serve(stream, purpose, &admin).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, %purpose, "accept failed");
                sleep(PAUSE).await;
            }
        }
    }
}
