//! The places where the interface listens: addresses, with TLS or without, and socket files.
//!
//! A socket file is guarded by the file system: its mode and its owner are set before anybody can
//! connect. One that a dead process left is replaced; one that a living process answers at, or a
//! file of another kind, is not touched. When the interface ends, its socket file goes with it.

use std::{
    fmt,
    fs::{self, Permissions},
    io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
        net::UnixStream as Knock,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use certs::https::Acceptor;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};
use tracing::{info, warn};

use super::rules::Peer;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Where the interface is to listen.
#[derive(Debug, Clone)]
pub enum Listen {
    /// At an address; port 0 takes a free one.
    Http(SocketAddr),
    /// At an address, with TLS.
    Https(SocketAddr, Acceptor),
    /// At a socket file, without TLS: who may open it is the file system's affair.
    Unix(Socket),
}

/// A socket file to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// Its mode; what the process makes files with when there is none.
    pub mode: Option<u32>,
    /// The number of the user who is to own it.
    pub user: Option<u32>,
    /// The number of the group that is to own it.
    pub group: Option<u32>,
}

/// Where the interface listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Http(SocketAddr),
    /// An address, with TLS.
    Https(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Http(addr) => write!(f, "http://{addr}"),
            Place::Https(addr) => write!(f, "https://{addr}"),
            Place::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// A place could not be listened at.
#[derive(Debug, thiserror::Error)]
#[error("HTTP can't listen at {place}")]
pub struct BindError {
    /// The place.
    pub place: Place,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// What takes connections.
pub(super) enum Listener {
    Http(TcpListener),
    Https(TcpListener, Acceptor),
    Unix(UnixListener, SocketFile),
}

/// A connection that came in.
pub(super) enum Incoming {
    Http(TcpStream),
    Https(TcpStream, Acceptor),
    Unix(UnixStream),
}

impl Listen {
    fn place(&self) -> Place {
        match self {
            Listen::Http(addr) => Place::Http(*addr),
            Listen::Https(addr, _) => Place::Https(*addr),
            Listen::Unix(socket) => Place::Unix(socket.path.clone()),
        }
    }
}

impl Listener {
    /// Listens; returns where, too.
    pub(super) fn bind(listen: &Listen) -> Result<(Self, Place), BindError> {
        let failed = |source| BindError { place: listen.place(), source };
        match listen {
            Listen::Http(addr) => {
                let (listener, addr) = bind_tcp(*addr).map_err(failed)?;
                Ok((Self::Http(listener), Place::Http(addr)))
            }
            Listen::Https(addr, acceptor) => {
                let (listener, addr) = bind_tcp(*addr).map_err(failed)?;
                Ok((Self::Https(listener, acceptor.clone()), Place::Https(addr)))
            }
            Listen::Unix(socket) => {
                let (listener, file) = bind_unix(socket).map_err(failed)?;
                Ok((Self::Unix(listener, file), listen.place()))
            }
        }
    }

    /// Takes the next connection.
    pub(super) async fn accept(&self) -> io::Result<(Incoming, Peer)> {
        match self {
            Self::Http(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Incoming::Http(stream), Peer::Addr(peer)))
            }
            Self::Https(listener, acceptor) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Incoming::Https(stream, acceptor.clone()), Peer::Addr(peer)))
            }
            Self::Unix(listener, file) => {
                let (stream, _nameless) = listener.accept().await?;
                Ok((Incoming::Unix(stream), Peer::Socket(file.path.clone())))
            }
        }
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted agent takes its port although connections of its predecessor linger.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(BACKLOG)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Makes the socket file. Nobody can connect before it listens, which is when mode and owner are
/// as they have to be.
fn bind_unix(socket: &Socket) -> io::Result<(UnixListener, SocketFile)> {
    make_way(&socket.path)?;
    let unix = UnixSocket::new_stream()?;
    unix.bind(&socket.path)?;
    let file = SocketFile::made(&socket.path)?;
    if let Some(mode) = socket.mode {
        fs::set_permissions(&socket.path, Permissions::from_mode(mode))?;
    }
    if socket.user.is_some() || socket.group.is_some() {
        chown(&socket.path, socket.user, socket.group).map_err(|error| {
            io::Error::new(error.kind(), format!("it can't be given to its owner: {error}"))
        })?;
    }
    Ok((unix.listen(BACKLOG)?, file))
}

/// Removes the socket file of a dead process.
fn make_way(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let taken = |text: &str| Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    if !file.file_type().is_socket() {
        return taken("there is a file that is no socket: move it away");
    }
    match Knock::connect(path) {
        Ok(_) => taken("another process listens there"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            info!(path = %path.display(), "replacing the socket file of a process that is gone");
            fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

/// A socket file of ours, removed in the end.
pub(super) struct SocketFile {
    path: Arc<Path>,
    /// Device and number, by which it is known: another process may have replaced it.
    id: (u64, u64),
}

impl SocketFile {
    fn made(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), id: identity(path)? })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!(path = %self.path.display(), %error, "the socket file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(path: &Path) -> Socket {
        Socket { path: path.to_owned(), mode: None, user: None, group: None }
    }

    fn listen(path: &Path) -> Result<Listener, BindError> {
        Listener::bind(&Listen::Unix(socket(path))).map(|(listener, _)| listener)
    }

    fn refusal(path: &Path) -> String {
        let error = listen(path).err().unwrap();
        format!("{error}: {}", error.source)
    }

    #[tokio::test]
    async fn a_socket_file_has_its_mode_and_goes_with_its_listener() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.sock");
        let listen = Listen::Unix(Socket { mode: Some(0o620), ..socket(&path) });
        let (listener, place) = Listener::bind(&listen).unwrap();
        assert_eq!(place.to_string(), format!("unix://{}", path.display()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        Knock::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_processes_socket_file_is_replaced_and_a_living_ones_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file");
        let _listener = listen(&path).unwrap();
        let refusal = refusal(&path);
        assert!(refusal.contains("another process listens there"), "{refusal}");
        assert!(refusal.contains("a.sock"), "{refusal}");
        Knock::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_not_touched() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        let refusal = refusal(&path);
        assert!(refusal.contains("no socket"), "{refusal}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_missing_directory_is_an_error_that_names_the_path() {
        let home = tempfile::tempdir().unwrap();
        let refusal = refusal(&home.path().join("nowhere/a.sock"));
        assert!(
            refusal.contains("nowhere/a.sock") && refusal.contains("No such file"),
            "{refusal}"
        );
    }

    #[tokio::test]
    async fn a_file_that_replaced_ours_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.sock");
        let listener = listen(&path).unwrap();
        fs::rename(&path, home.path().join("moved.sock")).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
