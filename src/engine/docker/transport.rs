//! Connections to the engine.
//!
//! bollard opens a connection for every call and closes it again. Over a unix socket that is cheap; over TLS
//! or SSH it is not. Here calls share hyper's pool, whatever carries them: only attach streams, which a
//! request owns to its end, leave it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;

use super::Endpoint;
use crate::engine::{EngineError, EngineErrorKind};

/// How long a call may take until its answer begins. Starting a container on a slow disk takes its time.
const CALL_TIMEOUT_SECONDS: u64 = 120;

/// How long a connection over the network may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many connections wait for the next call, and for how long.
const IDLE_CONNECTIONS: usize = 32;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of the engine at an endpoint. Connects on the first call.
pub(super) fn client(endpoint: &Endpoint) -> Result<Docker, EngineError> {
    let connector = Connector::new(endpoint)?;
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build(connector);
    let transport = move |request: BollardRequest| {
        let answer = client.request(request);
        async move { answer.await.map_err(bollard::errors::Error::from) }
    };
    // The address is a mere name here: the connector knows where to go.
    Docker::connect_with_custom_transport(
        transport,
        Some("http://docker"),
        CALL_TIMEOUT_SECONDS,
        API_DEFAULT_VERSION,
    )
    .map_err(|e| super::api::error(e, format!("cannot talk to {endpoint}")))
}

#[derive(Clone)]
enum Connector {
    Unix(Arc<Path>),
    Tcp(Arc<str>),
    Tls(Arc<str>, ServerName<'static>, TlsConnector),
    Ssh(Arc<str>, Option<u16>),
}

impl Connector {
    fn new(endpoint: &Endpoint) -> Result<Self, EngineError> {
        Ok(match endpoint {
            Endpoint::Unix(path) => Self::Unix(path.as_path().into()),
            Endpoint::Tcp(address) => Self::Tcp(address.as_str().into()),
            Endpoint::Tls(address, certificates) => {
                let config = tls_config(certificates)?;
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).map_err(|e| {
                    EngineError::new(EngineErrorKind::Refused, format!("{address} is no host name"))
                        .because(e)
                })?;
                Self::Tls(address.as_str().into(), name, TlsConnector::from(Arc::new(config)))
            }
            Endpoint::Ssh(destination, port) => Self::Ssh(destination.as_str().into(), *port),
        })
    }

    async fn connect(self) -> io::Result<EngineStream> {
        Ok(EngineStream(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(&path).await?),
            Self::Tcp(address) => Box::new(tcp(&address).await?),
            Self::Tls(address, name, tls) => Box::new(tls.connect(name, tcp(&address).await?).await?),
            Self::Ssh(destination, port) => Box::new(ssh(&destination, port)?),
        }))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<EngineStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<EngineStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.clone().connect());
        async move { Ok(TokioIo::new(connecting.await.map_err(|_| io::ErrorKind::TimedOut)??)) }.boxed()
    }
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// TLS with a client certificate, as `docker --tlsverify` does it.
fn tls_config(certificates: &Path) -> Result<rustls::ClientConfig, EngineError> {
    let problem = |file: &str, why: String| {
        let file = certificates.join(file);
        EngineError::new(EngineErrorKind::Refused, format!("{}: {why}", file.display()))
    };
    let read = |file: &str| {
        CertificateDer::pem_file_iter(certificates.join(file))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| problem(file, e.to_string()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in read("ca.pem")? {
        roots.add(certificate).map_err(|e| problem("ca.pem", e.to_string()))?;
    }
    let key = PrivateKeyDer::from_pem_file(certificates.join("key.pem"))
        .map_err(|e| problem("key.pem", e.to_string()))?;
    rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|e| problem("", e.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(read("cert.pem")?, key)
        .map_err(|e| problem("cert.pem", e.to_string()))
}

/// What the `docker` command does for `ssh://`.
fn ssh(destination: &str, port: Option<u16>) -> io::Result<SshStream> {
    let mut command = Command::new("ssh");
    if let Some(port) = port {
        command.arg("-p").arg(port.to_string());
    }
    let mut child = command
        .args(["-o", "ConnectTimeout=10", "-o", "BatchMode=yes", "-T", "--", destination])
        .args(["docker", "system", "dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    Ok(SshStream { stdin: child.stdin.take(), stdout: child.stdout.take(), _child: child })
}

/// The pipes of an `ssh` process.
struct SshStream {
    /// Taken by `shutdown`: only closing the pipe ends the other side's input.
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// Killed with us.
    _child: Child,
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stdout {
            Some(stdout) => Pin::new(stdout).poll_read(cx, buf),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to the engine, whatever carries it.
struct EngineStream(Box<dyn Stream>);

impl Connection for EngineStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for EngineStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
