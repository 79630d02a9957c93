//! Unix sockets: tokio's listener as it is, and one that looks after its file.
//!
//! # Invariants
//! 1. Only a file that nobody listens on is replaced, and only our own is removed.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fmt, fs, net};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use super::listener::{Listener, peeks};

/// Leaves its file where it is when it closes, as tokio does; see [`OwnedUnixListener`].
impl Listener for UnixListener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> io::Result<(UnixStream, SocketAddr)> {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn try_accept(&mut self) -> io::Result<(UnixStream, SocketAddr)> {
        let (socket, _) = SockRef::from(&*self).accept()?;
        socket.set_nonblocking(true)?;
        let stream = UnixStream::from_std(socket.into())?;
        let peer = stream.peer_addr()?;
        Ok((stream, peer))
    }

    /// On Linux the end of reading refuses whoever connects from here on, and leaves the
    /// queue as it is. Elsewhere it may throw the queue away, so nothing is done, and what
    /// connects in the last microseconds is reset.
    fn refuse_new(&mut self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if lifecycle::was_inherited(&*self) {
            // Others go on with it.
        } else if let Err(error) = SockRef::from(&*self).shutdown(net::Shutdown::Read) {
            tracing::debug!(target: "lifecycle", %error, "connecting is not refused yet");
        }
    }

    fn has_unread(stream: &UnixStream) -> bool {
        peeks(&SockRef::from(stream))
    }
}

/// A Unix listener that looks after the file of its socket: it takes the place of a stale
/// one, and removes its own when it closes.
///
/// A socket's file outlives its listener, and the next `bind` fails on it with "address in
/// use". This one asks whether somebody listens there: if nobody does, it replaces the file.
/// It removes the file when the server has closed it (or when it is dropped), unless another
/// has been put in its place meanwhile. A process that was killed leaves its file to the
/// next one.
///
/// # Examples
/// ```no_run
/// # use std::convert::Infallible;
/// use lifecycle::{Lifecycle, Report};
/// use lifecycle_tower::{OwnedUnixListener, serve};
///
/// #[tokio::main]
/// async fn main() -> Result<Report, Box<dyn std::error::Error>> {
///     let mut life = Lifecycle::from_env()?;
///     # let app = tower::service_fn(|_: http::Request<_>| async {
///     #     Ok::<_, Infallible>(http::Response::new(String::new()))
///     # });
///     let listener = OwnedUnixListener::bind("/run/orders/http.sock")?;
///     life.spawn("http", serve(listener, app));
///     Ok(life.run().await?)
/// }
/// ```
#[must_use = "dropped, it removes its file"]
pub struct OwnedUnixListener {
    inner: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that we made.
    file: (u64, u64),
}

impl OwnedUnixListener {
    /// Binds `path`, in place of a socket's file that nobody listens on any more.
    ///
    /// Two processes that do this on one path in the same instant may both succeed, and the
    /// first is then without a file. The file's mode follows the process' umask.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) when another process listens there, or when
    /// what is there is no socket; others as the system has them.
    /// # Panics
    /// Outside of a tokio runtime with IO enabled.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        // An error that `main` prints has to say which of the listeners it was.
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()))
        };
        let inner = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path).and_then(|()| UnixListener::bind(path))
            }
            bound => bound,
        };
        let inner = inner.map_err(named)?;
        Ok(Self { inner, path: path.to_owned(), file: identity(path).map_err(named)? })
    }
}

impl Listener for OwnedUnixListener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> io::Result<(UnixStream, SocketAddr)> {
        self.inner.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn try_accept(&mut self) -> io::Result<(UnixStream, SocketAddr)> {
        self.inner.try_accept()
    }

    fn refuse_new(&mut self) {
        self.inner.refuse_new();
    }

    fn has_unread(stream: &UnixStream) -> bool {
        UnixListener::has_unread(stream)
    }
}

impl Drop for OwnedUnixListener {
    fn drop(&mut self) {
        // The file of whoever came after us is not ours to remove.
        if !identity(&self.path).is_ok_and(|file| file == self.file) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(target: "lifecycle", %error, %path, "the socket's file is left behind");
        }
    }
}

impl fmt::Debug for OwnedUnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedUnixListener").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whether the file is a socket that nobody listens on. Connecting never waits: a queue that
/// is full has a listener.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    is_socket && refused().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}
