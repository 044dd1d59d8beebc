//! Sockets that listen: one of the configuration's, or those that the service manager holds.
//!
//! A socket file that a killed service left is replaced; one that somebody answers on is not.

use crate::agent::config::Address;
use crate::agent::record::folders::error_at;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net;

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// In the file system.
    Unix(UnixListener),
    /// A port.
    Tcp(TcpListener),
}

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// Listens on an address.
///
/// # Errors
/// The system's, with the address: it is in use, or not this process's to take.
pub fn bind(address: &Address) -> io::Result<Socket> {
    let text = String::from(address.clone());
    let failed = |error| error_at(Path::new(&format!("api.listen = {text}")), error);
    match address {
        Address::Tcp(address) => TcpListener::bind(address).map(Socket::Tcp).map_err(failed),
        Address::Unix(path) => bind_unix(path).map(Socket::Unix).map_err(failed),
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket()) {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                ErrorKind::AddrInUse,
                "another process answers there; stop it, or name another",
            ));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// The same for the API's thread.
pub(super) enum Listener {
    Unix(net::UnixListener),
    Tcp(net::TcpListener),
}

impl Listener {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                net::UnixListener::from_std(socket).map(Self::Unix)
            }
            Socket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                net::TcpListener::from_std(socket).map(Self::Tcp)
            }
        }
    }

    pub(super) fn is_port(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(socket) => socket.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// A connection of either kind.
pub(super) enum Stream {
    Unix(net::UnixStream),
    Tcp(net::TcpStream),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, to),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, to),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, from),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // A socket keeps nothing back.
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_left_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/a.sock");
        let address = Address::Unix(path.clone());
        let first = bind(&address).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let error = bind(&address).unwrap_err();
        assert!(error.to_string().contains("a.sock") && error.kind() == ErrorKind::AddrInUse, "{error}");
        drop(first);
        bind(&address).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "no socket").unwrap();
        assert!(bind(&Address::Unix(file.clone())).is_err());
        assert_eq!(fs::read_to_string(file).unwrap(), "no socket");
    }
}
