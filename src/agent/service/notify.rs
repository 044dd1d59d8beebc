//! Telling the service manager how it goes: systemd's notification protocol (sd_notify(3)), a datagram of `KEY=value`.
//!
//! The socket's name is the value of `NOTIFY_SOCKET`, which arrives as an argument; without one nothing is sent.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where messages go.
#[derive(Debug, Default)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// A path, or `@` and the name of an abstract socket; `None` sends nothing.
    ///
    /// # Errors
    /// A name that is no address.
    pub fn new(name: Option<&str>) -> io::Result<Self> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(Self(None)) };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold up the service.
        socket.set_nonblocking(true)?;
        Ok(Self(Some((socket, address))))
    }

    /// The service does what it is for.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// It reads its configuration again. `now_us` is of the clock that does not stop for sleep (`CLOCK_MONOTONIC`).
    pub fn reloading(&self, now_us: u64) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// It lives.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line about what it does.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// A manager that does not listen is no reason to stop serving.
    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!(%error, message, "the service manager does not listen");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(name: &str, socket: &UnixDatagram) {
        let notifier = Notifier::new(Some(name)).unwrap();
        notifier.ready();
        notifier.status("two\nlines");
        for expected in ["READY=1", "STATUS=two lines"] {
            let mut message = [0; 64];
            let length = socket.recv(&mut message).unwrap();
            assert_eq!(std::str::from_utf8(&message[..length]).unwrap(), expected);
        }
    }

    #[test]
    fn messages_reach_both_kinds_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        heard(path.to_str().unwrap(), &UnixDatagram::bind(&path).unwrap());
        let name = format!("edgetune-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        heard(&format!("@{name}"), &UnixDatagram::bind_addr(&address).unwrap());
    }

    #[test]
    fn nobody_need_listen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deaf");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.to_str()).unwrap();
        (0..5000).for_each(|_| notifier.watchdog());
        Notifier::new(None).unwrap().ready();
        Notifier::new(Some("")).unwrap().ready();
        Notifier::new(Some("/nowhere/at/all")).unwrap().watchdog();
    }
}
