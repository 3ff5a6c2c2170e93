//! Who asks, and for which host: from the connection, and from what trusted proxies say of it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::HOST;
use http::{HeaderMap, Request, Response, Version, request};
use ipnet::IpNet;
use tower::{Layer, Service};

use super::refusal;
use crate::cgi::split_host;
use crate::connection::ConnectionInfo;
use crate::gateway::{Body, Client, Failure, Input};

/// A layer that finds out who asks, for all that comes behind it.
#[derive(Clone, Debug)]
pub(super) struct ClientLayer {
    /// Whose `Forwarded` and `X-Forwarded-*` headers are believed.
    pub(super) trusted_proxies: Arc<[IpNet]>,
}

/// See [`ClientLayer`].
#[derive(Clone, Debug)]
pub(super) struct IdentifyClient<S> {
    inner: S,
    trusted_proxies: Arc<[IpNet]>,
}

/// The client's address, as a response's extension: for the layers in front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) IpAddr);

impl<S> Layer<S> for ClientLayer {
    type Service = IdentifyClient<S>;

    fn layer(&self, inner: S) -> IdentifyClient<S> {
        IdentifyClient { inner, trusted_proxies: self.trusted_proxies.clone() }
    }
}

impl<S> Service<Request<Input>> for IdentifyClient<S>
where
    S: Service<Request<Input>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Input>) -> Self::Future {
        let (mut head, input) = request.into_parts();
        match Client::of(&head, &self.trusted_proxies) {
            Ok(client) => {
                let remote = client.remote.map(|remote| Remote(remote.ip().to_canonical()));
                head.extensions.insert(Arc::new(client));
                let answered = self.inner.call(Request::from_parts(head, input));
                async move {
                    let mut response = answered.await?;
                    if let Some(remote) = remote {
                        response.extensions_mut().insert(remote);
                    }
                    Ok(response)
                }
                .boxed()
            }
            Err(failure) => {
                let page = refusal(&head, &failure.into(), false);
                async move { Ok(page) }.boxed()
            }
        }
    }
}

/// What proxies tell of the client's connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Forwarded<'a> {
    remote: Option<SocketAddr>,
    https: Option<bool>,
    host: Option<&'a str>,
}

impl Client {
    pub(super) fn of(head: &request::Parts, trusted: &[IpNet]) -> Result<Self, Failure> {
        let connection = head.extensions.get::<ConnectionInfo>().copied().unwrap_or_default();
        let forwarded = if is_trusted(connection.remote, trusted) {
            Forwarded::from(&head.headers, trusted)
        } else {
            Forwarded::default()
        };
        let https = forwarded.https.unwrap_or(connection.https);
        let asked = match forwarded.host {
            Some(host) => Some(host),
            None => asked_host(head)?,
        };
        let local = connection.local;
        let (host, port) = match asked {
            Some(asked) => {
                let (host, port) = split_host(asked)?;
                (host, port.unwrap_or(if https { 443 } else { 80 }))
            }
            // HTTP/1.0 need not say. What it reached is all there is to tell.
            None => local.map_or_else(
                || ("localhost".to_owned(), 80),
                |local| (bracketed(local.ip().to_canonical()), local.port()),
            ),
        };
        Ok(Self {
            remote: forwarded.remote.or(connection.remote),
            server_addr: local.map(|local| local.ip().to_canonical()),
            host,
            port,
            https,
        })
    }
}

/// The host in the request target, which wins (RFC 9112 §3.2.2), or in the Host header.
fn asked_host(head: &request::Parts) -> Result<Option<&str>, Failure> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::Malformed("more than one Host header"));
    }
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    match (authority, host) {
        (Some(authority), _) => Ok(Some(authority)),
        (None, Some(host)) => {
            host.to_str().map(Some).map_err(|_| Failure::Malformed("the Host header is no text"))
        }
        (None, None) if head.version >= Version::HTTP_11 => Err(Failure::Malformed("no Host header")),
        (None, None) => Ok(None),
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Whether a peer's word is believed. A peer on a unix socket has no address: it is one of ours wherever
/// proxies are expected at all.
fn is_trusted(peer: Option<SocketAddr>, trusted: &[IpNet]) -> bool {
    match peer {
        Some(peer) => is_trusted_ip(peer.ip(), trusted),
        None => !trusted.is_empty(),
    }
}

fn is_trusted_ip(peer: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&peer.to_canonical()))
}

impl<'a> Forwarded<'a> {
    /// SECURITY: where both kinds of headers are there, X-Forwarded-* is believed. Most proxies write those and
    /// let a `Forwarded` pass that the client made up.
    fn from(headers: &'a HeaderMap, trusted: &[IpNet]) -> Self {
        if headers.keys().any(|name| name.as_str().starts_with("x-forwarded-")) {
            Self::from_x_forwarded(headers, trusted)
        } else {
            Self::from_rfc7239(headers, trusted)
        }
    }

    fn from_x_forwarded(headers: &'a HeaderMap, trusted: &[IpNet]) -> Self {
        let last = |name| items(headers, name).last();
        let hops: Vec<_> = items(headers, "x-forwarded-for").collect();
        Self {
            remote: nearest_untrusted(&hops, trusted),
            https: last("x-forwarded-proto").and_then(is_https),
            host: last("x-forwarded-host"),
        }
    }

    /// RFC 7239 §4.
    fn from_rfc7239(headers: &'a HeaderMap, trusted: &[IpNet]) -> Self {
        let elements: Vec<_> = items(headers, "forwarded").collect();
        let parameter = |element: &'a str, wanted: &str| {
            element.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
            })
        };
        let hops: Vec<_> =
            elements.iter().map(|element| parameter(element, "for").unwrap_or("unknown")).collect();
        let nearest = elements.last();
        Self {
            remote: nearest_untrusted(&hops, trusted),
            https: nearest.and_then(|element| parameter(element, "proto")).and_then(is_https),
            host: nearest.and_then(|element| parameter(element, "host")),
        }
    }
}

/// What stands for a list member that is no text: it parses as nothing.
const UNREADABLE: &str = "\u{fffd}";

/// The members of a comma-separated list, over all headers of a name.
///
/// SECURITY: each is read by itself. A proxy appends what it knows to what its client wrote, in one value; what the
/// client wrote must not make the rest unreadable.
fn items<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let members =
        headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let texts = members.map(|member| std::str::from_utf8(member).map_or(UNREADABLE, str::trim));
    texts.filter(|item| !item.is_empty())
}

/// The last hop that is no trusted proxy; each has added its own peer at the end. Beyond one that hides itself
/// (`unknown`, `_name`) nothing is known.
fn nearest_untrusted(hops: &[&str], trusted: &[IpNet]) -> Option<SocketAddr> {
    let mut nearest = None;
    for hop in hops.iter().rev() {
        let Some(address) = hop_address(hop) else { break };
        nearest = Some(address);
        if !is_trusted_ip(address.ip(), trusted) {
            break;
        }
    }
    nearest
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`. Port 0: not told.
fn hop_address(hop: &str) -> Option<SocketAddr> {
    let unbracketed = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    hop.parse().ok().or_else(|| Some(SocketAddr::new(unbracketed.parse().ok()?, 0)))
}

fn is_https(proto: &str) -> Option<bool> {
    match proto {
        _ if proto.eq_ignore_ascii_case("https") => Some(true),
        _ if proto.eq_ignore_ascii_case("http") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn client(trusted: &[&str], headers: &[(&str, &str)]) -> Client {
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut request = Request::builder().uri("/").header("host", "here:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let local = Some("127.0.0.1:8080".parse().unwrap());
        let remote = Some("10.0.0.1:5000".parse().unwrap());
        let info = ConnectionInfo { local, remote, https: false };
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        head.extensions.insert(info);
        Client::of(&head, &trusted).unwrap()
    }

    fn remote(trusted: &[&str], headers: &[(&str, &str)]) -> String {
        client(trusted, headers).remote.unwrap().ip().to_string()
    }

    #[test]
    fn nobody_is_believed_unless_trusted() {
        let forged = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
        assert_eq!(remote(&[], &forged), "10.0.0.1");
        assert!(!client(&[], &forged).https);
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        assert_eq!(remote(&["10.0.0.0/8"], &[("x-forwarded-for", "1.2.3.4")]), "1.2.3.4");
        assert_eq!(remote(&["10.0.0.0/8"], &[("forwarded", "for=1.2.3.4;proto=https")]), "1.2.3.4");
    }

    #[test]
    fn what_a_client_wrote_before_the_first_trusted_hop_is_not_believed() {
        let hops = [("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.9")];
        assert_eq!(remote(&["10.0.0.0/8"], &hops), "1.2.3.4");
    }

    #[test]
    fn a_forwarded_header_beside_x_forwarded_is_not_believed() {
        let headers = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(remote(&["10.0.0.0/8"], &headers), "1.2.3.4");
    }

    #[test]
    fn a_hop_that_hides_itself_hides_all_before_it() {
        let headers = [("forwarded", "for=6.6.6.6, for=_secret, for=10.0.0.7")];
        assert_eq!(remote(&["10.0.0.0/8"], &headers), "10.0.0.7");
    }

    #[test]
    fn a_hop_that_is_no_text_hides_only_what_is_before_it() {
        for name in ["x-forwarded-for", "forwarded"] {
            let mut head = Request::builder().uri("/").header("host", "h").body(()).unwrap().into_parts().0;
            let value: &[u8] = if name == "forwarded" { b"for=\xff, for=1.2.3.4" } else { b"\xff, 1.2.3.4" };
            head.headers.insert(name, http::HeaderValue::from_bytes(value).unwrap());
            let remote = Some("10.0.0.1:5000".parse().unwrap());
            head.extensions.insert(ConnectionInfo { remote, ..Default::default() });
            let client = Client::of(&head, &["10.0.0.0/8".parse().unwrap()]).unwrap();
            assert_eq!(client.remote.unwrap().ip().to_string(), "1.2.3.4", "{name}");
        }
    }

    #[test]
    fn an_ipv6_hop_is_read_with_and_without_port() {
        let headers = [("forwarded", r#"For="[2001:db8::1]:4711""#)];
        assert_eq!(remote(&["10.0.0.0/8"], &headers), "2001:db8::1");
        assert_eq!(remote(&["10.0.0.0/8"], &[("x-forwarded-for", "2001:db8::1")]), "2001:db8::1");
    }

    #[test]
    fn a_trusted_proxy_says_scheme_and_host() {
        let headers = [("x-forwarded-proto", "https"), ("x-forwarded-host", "Example.org")];
        let client = client(&["10.0.0.0/8"], &headers);
        assert_eq!((client.host.as_str(), client.port, client.https), ("example.org", 443, true));
    }

    #[test]
    fn http_1_1_without_a_host_is_malformed() {
        let (head, ()) = Request::builder().uri("/").body(()).unwrap().into_parts();
        assert!(Client::of(&head, &[]).is_err());
    }

    #[test]
    fn http_1_0_without_a_host_has_reached_an_address() {
        let (mut head, ()) =
            Request::builder().uri("/").version(Version::HTTP_10).body(()).unwrap().into_parts();
        let local = Some("[::1]:8080".parse().unwrap());
        head.extensions.insert(ConnectionInfo { local, ..Default::default() });
        let client = Client::of(&head, &[]).unwrap();
        assert_eq!((client.host.as_str(), client.port), ("[::1]", 8080));
    }
}
