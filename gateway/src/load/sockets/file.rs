//! The file of a unix socket.
//!
//! What must stay true: what another process listens on, and what is no socket, is never taken away; of
//! several gateways that want the same path at the same moment one gets it, and the others are told; and
//! nobody gets in for whom the configured permissions are not meant, not even for a moment.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, Mode, flock};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::Instant;

/// How long another gateway may take to bind in the same directory, which is a matter of microseconds. Who
/// holds a lock on it for longer is none, and does not keep us from starting.
const OTHERS: Duration = Duration::from_millis(500);

/// The file of a socket of ours. Dropped, it is removed, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Which file system, and which file there.
    identity: (u64, u64),
}

/// Listens at `path`, where a file that a dead process left behind is replaced.
pub(super) fn bind(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // The file is made with these permissions, less what the umask takes away.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    let address = SockAddr::unix(path)?;
    let _alone = alone(path);
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error);
        }
        remove_stale(path, &address)?;
        socket.bind(&address)?;
    }
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok((UnixListener::from(socket), file))
}

/// Keeps other gateways from binding beside `path` until it is dropped: between a look and what follows
/// from it, and before somebody listens, a socket that lives looks like one that was left behind.
fn alone(path: &Path) -> Option<File> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    // Who may not read it binds without.
    let folder = File::open(folder.unwrap_or(Path::new("."))).ok()?;
    let deadline = Instant::now() + OTHERS;
    while flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            return None;
        }
        thread::yield_now();
    }
    Some(folder)
}

/// Removes the socket of a process that has ended.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let what = "there is a file that is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Somebody took it away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // It was accepted, or will be once there is room.
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl SocketFile {
    /// Lets these connect from now on.
    pub(super) fn permit(&self, mode: u32) {
        let permissions = fs::Permissions::from_mode(mode);
        if self.is_ours()
            && let Err(error) = fs::set_permissions(&self.path, permissions)
        {
            let path = self.path.display();
            tracing::error!(%error, %path, "the permissions of a socket stay as they were");
        }
    }

    fn is_ours(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _alone = alone(&self.path);
        if self.is_ours()
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%error, %path, "the file of a socket is left behind");
        }
    }
}
