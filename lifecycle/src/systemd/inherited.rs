//! Sockets that systemd has opened for us (socket activation, sd_listen_fds(3)).
//!
//! # Invariants
//! 1. A descriptor is taken only when the environment and the system agree on it: it is open,
//!    a socket, and was there before this program began. All that a Rust program opens itself
//!    closes on exec, and what was inherited over an exec does not; so one that does is not
//!    inherited, or was taken before.
//! 2. What was taken closes on exec: children do not hold a listener open.
//! 3. What was taken is remembered as shared with whoever handed it down
//!    (`inherited_sockets`), so that a drain leaves the socket as it is.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::{fs, io};

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::InheritError;
use crate::inherited_sockets;

/// The sockets that were handed to this process, each to be taken once.
///
/// With socket activation systemd listens before the service runs and while it is restarted:
/// connections wait in the queue instead of being refused. They are known afterwards
/// ([`was_inherited`](crate::was_inherited)): the drain of `lifecycle_tower::serve` closes such a
/// listener without changing the socket, which is the next process' too.
///
/// # Examples
/// ```no_run
/// use lifecycle::Inherited;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut inherited = Inherited::from_env()?;
/// let listener = match inherited.named("http") {
///     Some(socket) => tokio::net::TcpListener::from_std(socket.tcp()?)?,
///     None => tokio::net::TcpListener::bind("127.0.0.1:8080").await?,
/// };
/// println!("listening on {}", listener.local_addr()?);
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Option<InheritedSocket>>,
}

/// One inherited socket; dropped without being used, it is closed.
#[derive(Debug)]
#[must_use = "dropped it is closed"]
pub struct InheritedSocket {
    name: String,
    descriptor: u32,
    fd: OwnedFd,
}

impl Inherited {
    /// Takes what the variables `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` announce. None
    /// of them is changed; without `LISTEN_FDS` there is nothing.
    ///
    /// Descriptors can be taken once in a process: the second call is an error where the
    /// first has found any.
    ///
    /// # Errors
    /// [`InheritError`] when the variables are not understood, are meant for another process, or
    /// announce a descriptor that is closed, no socket, or was not inherited. Then nothing was
    /// taken.
    pub fn from_env() -> Result<Self, InheritError> {
        let announced = Announced::read(
            |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            std::process::id(),
        )?;
        (FIRST..FIRST + announced.names.len() as u32).try_for_each(inspect)?;
        if announced.names.is_empty() {
            return Ok(Self::default());
        }
        let fds = sd_listen_fds::get();
        let fds = fds.map_err(|_| variable("LISTEN_FDS", String::new(), TAKES_COUNT))?;
        let mut sockets = Vec::new();
        for ((descriptor, (_, fd)), name) in (FIRST..).zip(fds).zip(announced.names) {
            let fd = fd.into_std();
            let refused = |error| InheritError::Descriptor { descriptor, error };
            let closes = rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC);
            closes.map_err(|error| refused(error.into()))?;
            // Without a cookie (before Linux 4.12, some sandboxes) it is not known later on.
            if let Err(error) = inherited_sockets::remember(fd.as_fd()) {
                tracing::debug!(target: "lifecycle", %error, "an inherited socket has no cookie");
            }
            sockets.push(Some(InheritedSocket { name, descriptor, fd }));
        }
        Ok(Self { sockets })
    }

    /// Takes the first socket of that name (`FileDescriptorName=` of the socket unit, by default
    /// the unit's own name, as in `orders.socket`) that was not taken yet.
    pub fn named(&mut self, name: &str) -> Option<InheritedSocket> {
        let socket = self
            .sockets
            .iter_mut()
            .find(|socket| socket.as_ref().is_some_and(|socket| socket.name == name));
        socket.and_then(Option::take)
    }

    /// Takes the socket at that position, counted from 0 in the order of the socket unit.
    pub fn at(&mut self, position: usize) -> Option<InheritedSocket> {
        self.sockets.get_mut(position).and_then(Option::take)
    }

    /// The names of those that were not taken yet, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sockets.iter().flatten().map(|socket| socket.name.as_str())
    }
}

impl InheritedSocket {
    /// Its name; `unknown` when it was given none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It as a TCP listener in non-blocking mode, as tokio wants it.
    ///
    /// # Errors
    /// [`InheritError::Kind`] when it is something else.
    pub fn tcp(self) -> Result<TcpListener, InheritError> {
        let ip = [AddressFamily::INET, AddressFamily::INET6];
        let listener = TcpListener::from(self.listener(&ip, "TCP listener")?);
        Ok(listener)
    }

    /// It as a listener on a Unix socket, in non-blocking mode.
    ///
    /// # Errors
    /// [`InheritError::Kind`] when it is something else.
    pub fn unix(self) -> Result<UnixListener, InheritError> {
        let fd = self.listener(&[AddressFamily::UNIX], "listener on a Unix socket")?;
        Ok(UnixListener::from(fd))
    }

    fn listener(
        self,
        domains: &[AddressFamily],
        wanted: &'static str,
    ) -> Result<OwnedFd, InheritError> {
        let Self { name, descriptor, fd } = self;
        let is_wanted = is_listener(&fd, domains).and_then(|yes| {
            rustix::io::ioctl_fionbio(&fd, true)?;
            Ok(yes)
        });
        match is_wanted {
            Ok(true) => Ok(fd),
            Ok(false) => Err(InheritError::Kind { name, descriptor, wanted }),
            Err(error) => Err(InheritError::Descriptor { descriptor, error }),
        }
    }
}

fn is_listener(fd: impl AsFd, domains: &[AddressFamily]) -> io::Result<bool> {
    Ok(sockopt::socket_type(&fd)? == SocketType::STREAM
        && domains.contains(&sockopt::socket_domain(&fd)?)
        && sockopt::socket_acceptconn(&fd)?)
}

/// What the variables announce: one name a descriptor.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    names: Vec<String>,
}

impl Announced {
    fn read(
        var: impl Fn(&'static str) -> Option<String>,
        own_pid: u32,
    ) -> Result<Self, InheritError> {
        let var = |name| var(name).filter(|value| !value.is_empty());
        let Some(count) = var("LISTEN_FDS") else { return Ok(Self { names: Vec::new() }) };
        let count = match count.parse::<u32>() {
            Ok(count) if count <= COUNT_MOST => count as usize,
            _ => return Err(variable("LISTEN_FDS", count, TAKES_COUNT)),
        };
        let pid = var("LISTEN_PID").unwrap_or_default();
        match pid.parse::<u32>() {
            Ok(pid) if pid == own_pid => {}
            Ok(pid) => return Err(InheritError::OtherProcess { pid, own_pid }),
            Err(_) => return Err(variable("LISTEN_PID", pid, TAKES_PID)),
        }
        let names = match var("LISTEN_FDNAMES") {
            None => vec![UNKNOWN.to_owned(); count],
            Some(names) => names.split(':').map(str::to_owned).collect(),
        };
        if names.len() != count {
            return Err(InheritError::Names { names: names.len(), count });
        }
        Ok(Self { names })
    }
}

/// Looks at a descriptor that is not ours to touch yet (invariant 1).
fn inspect(descriptor: u32) -> Result<(), InheritError> {
    let path = |folder| format!("/proc/self/{folder}/{descriptor}");
    let seen = fs::read_link(path("fd")).and_then(|target| {
        let flags = fs::read_to_string(path("fdinfo"))?;
        Ok((target.to_string_lossy().starts_with("socket:"), flags_of(&flags)))
    });
    match seen {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && fs::exists("/proc/self/fd").unwrap_or(false) =>
        {
            Err(InheritError::Closed { descriptor })
        }
        Err(error) => Err(InheritError::Descriptor { descriptor, error }),
        Ok((_, Some(flags))) if flags & SocketFlags::CLOEXEC.bits() != 0 => {
            Err(InheritError::NotInherited { descriptor })
        }
        Ok((true, Some(_))) => Ok(()),
        Ok(_) => Err(InheritError::NoSocket { descriptor }),
    }
}

/// The flags in a file of `/proc/self/fdinfo`, which are octal.
fn flags_of(info: &str) -> Option<u32> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u32::from_str_radix(flags.trim(), 8).ok()
}

fn variable(name: &'static str, value: String, takes: &'static str) -> InheritError {
    InheritError::Variable { name, value, takes }
}

/// `SD_LISTEN_FDS_START`.
const FIRST: u32 = 3;
/// More descriptors than Linux lets a process have unless it is told otherwise (`fs.nr_open`).
const COUNT_MOST: u32 = 1_048_576;
const TAKES_COUNT: &str = "the number of sockets";
const TAKES_PID: &str = "the process that they are for";
/// As sd_listen_fds_with_names(3) has it.
const UNKNOWN: &str = "unknown";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let var = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let announced = Announced::read(var, 77);
        announced.map(|announced| announced.names).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_announced_has_a_name_each() {
        let ours = ("LISTEN_PID", "77");
        assert_eq!(read(&[]), Ok(vec![]));
        assert_eq!(read(&[("LISTEN_FDS", "")]), Ok(vec![]));
        assert_eq!(read(&[("LISTEN_FDS", "0"), ours]), Ok(vec![]));
        assert_eq!(read(&[("LISTEN_FDS", "2"), ours]), Ok(vec!["unknown".into(); 2]));
        let named = read(&[("LISTEN_FDS", "2"), ours, ("LISTEN_FDNAMES", "http:probes")]);
        assert_eq!(named, Ok(vec!["http".into(), "probes".into()]));
    }

    #[test]
    fn variables_that_lie_are_told_apart() {
        let one = ("LISTEN_FDS", "1");
        for (pairs, said) in [
            (vec![one, ("LISTEN_PID", "78")], "for process 78, and this is process 77"),
            (vec![one], "LISTEN_PID=\"\" is not understood"),
            (vec![one, ("LISTEN_PID", "me")], "LISTEN_PID=\"me\" is not understood"),
            (vec![("LISTEN_FDS", "-1"), ("LISTEN_PID", "77")], "LISTEN_FDS=\"-1\""),
            (vec![("LISTEN_FDS", "4294967295"), ("LISTEN_PID", "77")], "LISTEN_FDS=\"42949"),
            (vec![one, ("LISTEN_PID", "77"), ("LISTEN_FDNAMES", "a:b")], "2 names"),
        ] {
            let error = read(&pairs).expect_err("refused");
            assert!(error.contains(said), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn a_descriptor_is_looked_at_before_it_is_touched() {
        use std::os::fd::AsRawFd;

        let own = TcpListener::bind("127.0.0.1:0").expect("a port");
        let number = |fd: i32| u32::try_from(fd).expect("a descriptor");
        let error = |descriptor| inspect(descriptor).expect_err("refused").to_string();
        let descriptor = number(own.as_raw_fd());
        assert!(error(descriptor).contains("was not inherited"), "{}", error(descriptor));
        rustix::io::fcntl_setfd(&own, FdFlags::empty()).expect("ours");
        inspect(descriptor).expect("as if inherited");
        let file = fs::File::open("/dev/null").expect("is there");
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).expect("ours");
        let file = error(number(file.as_raw_fd()));
        assert!(file.contains("no socket"), "{file}");
        assert!(error(1_000_000).contains("is closed"), "{}", error(1_000_000));
    }
}
