//! Which sockets others share with this process, since it was handed them.

use std::os::fd::AsFd;

/// Whether that socket was handed to this process: taken from `Inherited`,
/// which needs the feature `systemd`. Without it, and anywhere but on Linux 4.12 or later: never.
///
/// Whoever handed it down keeps it and gives it to the next process, so nothing may be done to
/// the socket itself: closing the descriptor is all. A duplicate of the descriptor is the same
/// socket.
#[must_use]
pub fn was_inherited(socket: impl AsFd) -> bool {
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    return known::contains(socket.as_fd());
    #[cfg(not(all(target_os = "linux", feature = "systemd")))]
    {
        let _ = socket.as_fd();
        false
    }
}

#[cfg(all(target_os = "linux", feature = "systemd"))]
pub(crate) use known::remember;

#[cfg(all(target_os = "linux", feature = "systemd"))]
mod known {
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::sync::{Mutex, PoisonError};

    use rustix::net::sockopt::socket_cookie;

    /// By the kernel's number of each, which no other socket ever has.
    static COOKIES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

    pub(crate) fn remember(socket: BorrowedFd<'_>) -> io::Result<()> {
        let cookie = socket_cookie(socket)?;
        COOKIES.lock().unwrap_or_else(PoisonError::into_inner).push(cookie);
        Ok(())
    }

    pub(super) fn contains(socket: BorrowedFd<'_>) -> bool {
        let cookies = COOKIES.lock().unwrap_or_else(PoisonError::into_inner);
        socket_cookie(socket).is_ok_and(|cookie| cookies.contains(&cookie))
    }
}
