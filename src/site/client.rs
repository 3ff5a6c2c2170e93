//! Who asks, and for which host: from the connection, and from what trusted proxies say of it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{FORWARDED, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version, request};
use ipnet::IpNet;
use tower::{Layer, Service};

use super::access_log::Remote;
use super::refusal;
use crate::cgi::split_host;
use crate::connection::ConnectionInfo;
use crate::gateway::{Body, Client, Failure, Input};

/// A layer that finds out who asks, for all that comes behind it.
#[derive(Clone, Debug)]
pub(super) struct ClientLayer(pub(super) Arc<Proxies>);

/// See [`ClientLayer`].
#[derive(Clone, Debug)]
pub(super) struct IdentifyClient<S> {
    inner: S,
    proxies: Arc<Proxies>,
}

/// The proxies in front, as far as they are believed.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    /// Where they are.
    pub(super) networks: Vec<IpNet>,
    /// How they tell of a client.
    pub(super) headers: ProxyHeaders,
}

/// The headers by which trusted proxies tell of a client.
///
/// There are two kinds, and a proxy writes one. It passes the other on as its client made it up, so that one alone can be
/// believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeaders {
    /// Whichever a request has. One that has both is refused: one of them is its client's.
    #[default]
    Either,
    /// `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, as most proxies write them.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl<S> Layer<S> for ClientLayer {
    type Service = IdentifyClient<S>;

    fn layer(&self, inner: S) -> IdentifyClient<S> {
        IdentifyClient { inner, proxies: self.0.clone() }
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
        match Client::of(&mut head, &self.proxies) {
            Ok(client) => {
                if let (Some(log), Some(remote)) = (head.extensions.get::<Remote>(), client.remote) {
                    log.is(remote.ip().to_canonical());
                }
                head.extensions.insert(Arc::new(client));
                self.inner.call(Request::from_parts(head, input)).boxed()
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
struct Forwarded {
    remote: Option<SocketAddr>,
    https: Option<bool>,
    host: Option<String>,
    /// The port that the client asked for, where the host does not say it.
    port: Option<u16>,
}

impl Client {
    /// Who asks by this head. Behind a trusted proxy the head is changed, for a program and for the choice of its route to
    /// see what the client saw: it names the host that the client asked for, and the kind of headers that such proxies do not
    /// write is gone.
    pub(super) fn of(head: &mut request::Parts, proxies: &Proxies) -> Result<Self, Failure> {
        let connection = head.extensions.get::<ConnectionInfo>().copied().unwrap_or_default();
        let forwarded = if proxies.trust(connection.remote) {
            match proxies.headers.settled(&mut head.headers)? {
                Kind::XForwarded => Forwarded::from_x_forwarded(&head.headers, proxies),
                Kind::Rfc7239 => Forwarded::from_rfc7239(&head.headers, proxies)?,
            }
        } else {
            Forwarded::default()
        };
        let https = forwarded.https.unwrap_or(connection.https);
        let usual_port = if https { 443 } else { 80 };
        let own = asked_host(head)?;
        let local = connection.local;
        let (host, port) = match forwarded.host.as_deref().or(own) {
            Some(asked) => {
                let (host, port) = split_host(asked)?;
                let port = forwarded.port.or(port).unwrap_or(usual_port);
                if forwarded.host.is_some() || forwarded.port.is_some() {
                    name_host(head, &host, Some(port).filter(|port| *port != usual_port))?;
                }
                (host, port)
            }
            // HTTP/1.0 need not say. What it reached is all there is to tell.
            None => {
                let (host, port) = local.map_or_else(
                    || ("localhost".to_owned(), 80),
                    |local| (bracketed(local.ip().to_canonical()), local.port()),
                );
                (host, forwarded.port.unwrap_or(port))
            }
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
    let named = match host {
        Some(host) => {
            let host = host.to_str().map_err(|_| Failure::Malformed("the Host header is no text"))?;
            // Whatever else names the host.
            split_host(host)?;
            Some(host)
        }
        None => None,
    };
    let authority = head.uri.authority().map(Authority::as_str);
    match authority.or(named) {
        // RFC 9112 §3.2: with a target that names the host too, where it has come over a connection.
        _ if named.is_none()
            && head.version == Version::HTTP_11
            && (authority.is_none() || head.extensions.get::<ConnectionInfo>().is_some()) =>
        {
            Err(Failure::Malformed("no Host header"))
        }
        None if head.version > Version::HTTP_11 => Err(Failure::Malformed("no Host header")),
        asked => Ok(asked),
    }
}

/// Has the request name this host, where it names one: in its target, or else in its Host field.
fn name_host(head: &mut request::Parts, host: &str, port: Option<u16>) -> Result<(), Failure> {
    const UNUSABLE: Failure = Failure::Malformed("the host that a proxy tells cannot stand in a request");
    let named = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    if head.uri.authority().is_some() {
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.authority = Some(named.parse::<Authority>().map_err(|_| UNUSABLE)?);
        head.uri = Uri::from_parts(parts).map_err(|_| UNUSABLE)?;
    } else {
        head.headers.insert(HOST, HeaderValue::from_str(&named).map_err(|_| UNUSABLE)?);
    }
    Ok(())
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

// === impl Proxies ===

impl Proxies {
    /// Whether a peer's word is believed. A peer on a unix socket has no address: it is one of ours wherever
    /// proxies are expected at all.
    fn trust(&self, peer: Option<SocketAddr>) -> bool {
        match peer {
            Some(peer) => self.trust_ip(peer.ip()),
            None => !self.networks.is_empty(),
        }
    }

    fn trust_ip(&self, peer: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&peer.to_canonical()))
    }
}

// === impl ProxyHeaders ===

/// The headers of a request that are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    XForwarded,
    Rfc7239,
}

impl ProxyHeaders {
    /// Which headers of a request are believed; takes out those of the other kind.
    ///
    /// SECURITY: those are the client's own, which the proxy passed on. To believe them where its own kind is missing would let
    /// a client choose who it is, and a program that reads them could not tell. Where nobody has said which kind the proxy
    /// writes, and it does write one, the client's makes two: neither is believed, and not the proxy's address either, which
    /// may be let in where clients are not.
    fn settled(self, headers: &mut HeaderMap) -> Result<Kind, Failure> {
        let has_other = |headers: &HeaderMap| X_FORWARDED.iter().any(|name| headers.contains_key(*name));
        let kind = match self {
            Self::XForwarded => Kind::XForwarded,
            Self::Forwarded => Kind::Rfc7239,
            Self::Either if !headers.contains_key(FORWARDED) => Kind::XForwarded,
            Self::Either if !has_other(headers) => Kind::Rfc7239,
            Self::Either => {
                return Err(Failure::UnclearProxy);
            }
        };
        match kind {
            Kind::XForwarded => _ = headers.remove(FORWARDED),
            Kind::Rfc7239 => {
                let is_other = |name: &&HeaderName| name.as_str().starts_with("x-forwarded-");
                let others: Vec<_> = headers.keys().filter(is_other).cloned().collect();
                for name in others {
                    headers.remove(name);
                }
            }
        }
        Ok(kind)
    }
}

/// Those of the one kind that are believed.
const X_FORWARDED: [&str; 4] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];

// === impl Forwarded ===

impl Forwarded {
    fn from_x_forwarded(headers: &HeaderMap, proxies: &Proxies) -> Self {
        let last = |name| items(headers, name).last();
        let hops: Vec<_> = items(headers, "x-forwarded-for").collect();
        Self {
            remote: nearest_untrusted(&hops, proxies),
            https: last("x-forwarded-proto").and_then(is_https),
            host: last("x-forwarded-host").map(str::to_owned),
            port: last("x-forwarded-port").and_then(port_of),
        }
    }

    /// RFC 7239 §4.
    ///
    /// # Errors
    /// SECURITY: where something in quotes would be taken for another element or parameter, or need not end where it seems to. No
    /// address and no host has any of it; what a client has had its proxy quote may.
    fn from_rfc7239(headers: &HeaderMap, proxies: &Proxies) -> Result<Self, Failure> {
        for value in headers.get_all(FORWARDED) {
            let parts = value.as_bytes().split(|byte| *byte == b'"');
            let mut quoted = parts.skip(1).step_by(2);
            let is_ambiguous = value.as_bytes().contains(&b'\\')
                || quoted.any(|text| text.iter().any(|byte| matches!(byte, b',' | b';')));
            if is_ambiguous {
                return Err(Failure::Malformed("what is quoted in Forwarded is no address and no host"));
            }
        }
        let elements: Vec<_> = items(headers, "forwarded").collect();
        let hops: Vec<_> =
            elements.iter().map(|element| parameter(element, "for").unwrap_or("unknown")).collect();
        let nearest = elements.last();
        Ok(Self {
            remote: nearest_untrusted(&hops, proxies),
            https: nearest.and_then(|element| parameter(element, "proto")).and_then(is_https),
            host: nearest.and_then(|element| parameter(element, "host")).map(str::to_owned),
            port: None,
        })
    }
}

/// A port in digits.
fn port_of(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

/// The value of a parameter of an element of `Forwarded`.
fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
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
fn nearest_untrusted(hops: &[&str], proxies: &Proxies) -> Option<SocketAddr> {
    let mut nearest = None;
    for hop in hops.iter().rev() {
        let Some(address) = hop_address(hop) else { break };
        nearest = Some(address);
        if !proxies.trust_ip(address.ip()) {
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

    /// The head of a request that has come from 10.0.0.1.
    fn head(headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri("/").header("host", "here:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let local = Some("127.0.0.1:8080".parse().unwrap());
        let remote = Some("10.0.0.1:5000".parse().unwrap());
        head.extensions.insert(ConnectionInfo { local, remote, https: false });
        head
    }

    fn proxies(networks: &[&str], headers: ProxyHeaders) -> Proxies {
        Proxies { networks: networks.iter().map(|network| network.parse().unwrap()).collect(), headers }
    }

    /// The peer, as a proxy that writes this kind.
    fn believed(headers: ProxyHeaders) -> Proxies {
        proxies(&["10.0.0.0/8"], headers)
    }

    fn client(proxies: &Proxies, headers: &[(&str, &str)]) -> Client {
        Client::of(&mut head(headers), proxies).unwrap()
    }

    fn remote(proxies: &Proxies, headers: &[(&str, &str)]) -> String {
        client(proxies, headers).remote.unwrap().ip().to_string()
    }

    const KINDS: [ProxyHeaders; 2] = [ProxyHeaders::XForwarded, ProxyHeaders::Forwarded];

    #[test]
    fn nobody_is_believed_unless_trusted() {
        let forged =
            [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"), ("forwarded", "for=1.2.3.4")];
        for kind in KINDS {
            for networks in [&[][..], &["10.0.0.2/32"][..]] {
                let client = client(&proxies(networks, kind), &forged);
                assert_eq!(client.remote.unwrap().ip().to_string(), "10.0.0.1");
                assert!(!client.https);
            }
        }
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        assert_eq!(remote(&believed(ProxyHeaders::XForwarded), &[("x-forwarded-for", "1.2.3.4")]), "1.2.3.4");
        assert_eq!(
            remote(&believed(ProxyHeaders::Forwarded), &[("forwarded", "for=1.2.3.4;proto=https")]),
            "1.2.3.4"
        );
    }

    #[test]
    fn what_a_client_wrote_before_the_first_trusted_hop_is_not_believed() {
        let hops = [("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.9")];
        assert_eq!(remote(&believed(ProxyHeaders::XForwarded), &hops), "1.2.3.4");
    }

    #[test]
    fn where_nobody_says_which_kind_a_proxy_writes_a_request_has_one() {
        let either = believed(ProxyHeaders::default());
        assert_eq!(remote(&either, &[("x-forwarded-for", "1.2.3.4")]), "1.2.3.4");
        assert_eq!(remote(&either, &[("forwarded", "for=1.2.3.4")]), "1.2.3.4");
        for name in X_FORWARDED {
            assert!(
                Client::of(&mut head(&[("forwarded", "for=1.2.3.4"), (name, "6.6.6.6")]), &either).is_err()
            );
        }
        // No word of who the client is.
        let other = [("forwarded", "for=1.2.3.4"), ("x-forwarded-prefix", "/a")];
        assert_eq!(remote(&either, &other), "1.2.3.4");
    }

    #[test]
    fn what_is_quoted_in_forwarded_is_no_other_element() {
        let client =
            |value| Client::of(&mut head(&[("forwarded", value)]), &believed(ProxyHeaders::Forwarded));
        for forged in [
            r#"for=6.6.6.6;host="a,for=9.9.9.9""#,
            r#"host="a;for=9.9.9.9";for=6.6.6.6"#,
            r#"for=6.6.6.6;host="a\",for=9.9.9.9""#,
            // What came before is not closed, and would take in the proxy's own.
            r#"host="a, for=6.6.6.6;host="b""#,
        ] {
            assert!(client(forged).is_err(), "{forged}");
        }
        let plain = client(r#"for="[2001:db8::7]:4711";host="example.org:8443", for=1.2.3.4"#).unwrap();
        assert_eq!(plain.remote.unwrap().ip().to_string(), "1.2.3.4");
    }

    #[test]
    fn headers_of_the_kind_that_proxies_do_not_write_are_neither_believed_nor_passed_on() {
        let forged = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-host", "forged.test"),
            ("x-forwarded-port", "6666"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-user", "root"),
        ];
        for more in [&[][..], &[("forwarded", "for=1.2.3.4")][..]] {
            let mut head = head(&[&forged[..], more].concat());
            let client = Client::of(&mut head, &believed(ProxyHeaders::Forwarded)).unwrap();
            let expected = if more.is_empty() { "10.0.0.1" } else { "1.2.3.4" };
            assert_eq!(client.remote.unwrap().ip().to_string(), expected);
            assert_eq!((client.host.as_str(), client.port, client.https), ("here", 8080, false));
            assert!(head.headers.keys().all(|name| !name.as_str().starts_with("x-")), "{:?}", head.headers);
        }
        for more in [&[][..], &[("x-forwarded-for", "1.2.3.4")][..]] {
            let forged = [("forwarded", "for=6.6.6.6;host=forged.test;proto=https")];
            let mut head = head(&[&forged[..], more].concat());
            let client = Client::of(&mut head, &believed(ProxyHeaders::XForwarded)).unwrap();
            let expected = if more.is_empty() { "10.0.0.1" } else { "1.2.3.4" };
            assert_eq!(client.remote.unwrap().ip().to_string(), expected);
            assert_eq!((client.host.as_str(), client.https), ("here", false));
            assert_eq!(head.headers.get("forwarded"), None);
        }
    }

    #[test]
    fn a_hop_that_hides_itself_hides_all_before_it() {
        let headers = [("forwarded", "for=6.6.6.6, for=_secret, for=10.0.0.7")];
        assert_eq!(remote(&believed(ProxyHeaders::Forwarded), &headers), "10.0.0.7");
    }

    #[test]
    fn a_hop_that_is_no_text_hides_only_what_is_before_it() {
        for (kind, name, value) in [
            (ProxyHeaders::Forwarded, "forwarded", &b"for=\xff, for=1.2.3.4"[..]),
            (ProxyHeaders::XForwarded, "x-forwarded-for", &b"\xff, 1.2.3.4"[..]),
        ] {
            let mut head = head(&[]);
            head.headers.insert(name, HeaderValue::from_bytes(value).unwrap());
            let client = Client::of(&mut head, &believed(kind)).unwrap();
            assert_eq!(client.remote.unwrap().ip().to_string(), "1.2.3.4", "{name}");
        }
    }

    #[test]
    fn an_ipv6_hop_is_read_with_and_without_port() {
        let headers = [("forwarded", r#"For="[2001:db8::1]:4711""#)];
        assert_eq!(remote(&believed(ProxyHeaders::Forwarded), &headers), "2001:db8::1");
        let headers = [("x-forwarded-for", "2001:db8::1")];
        assert_eq!(remote(&believed(ProxyHeaders::XForwarded), &headers), "2001:db8::1");
    }

    /// What a request says once it is known who asks: the client's host, port and encryption, and its own Host.
    fn view(kind: ProxyHeaders, headers: &[(&str, &str)]) -> (String, u16, bool, String) {
        let mut head = head(headers);
        let Client { host, port, https, .. } = Client::of(&mut head, &believed(kind)).unwrap();
        (host, port, https, head.headers[HOST].to_str().unwrap().to_owned())
    }

    fn seen(host: &str, port: u16, https: bool, field: &str) -> (String, u16, bool, String) {
        (host.to_owned(), port, https, field.to_owned())
    }

    #[test]
    fn a_trusted_proxy_says_scheme_and_host_and_port_and_the_host_field_agrees() {
        let x = |headers: &[(&str, &str)]| view(ProxyHeaders::XForwarded, headers);
        let (proto, host) = (("x-forwarded-proto", "https"), ("x-forwarded-host", "Example.org"));
        assert_eq!(x(&[proto, host]), seen("example.org", 443, true, "example.org"));
        assert_eq!(x(&[host]), seen("example.org", 80, false, "example.org"));
        assert_eq!(x(&[proto]), seen("here", 8080, true, "here:8080"));
        let port = ("x-forwarded-port", "8443");
        assert_eq!(x(&[proto, host, port]), seen("example.org", 8443, true, "example.org:8443"));
        assert_eq!(x(&[port]), seen("here", 8443, false, "here:8443"));
        assert_eq!(x(&[proto, ("x-forwarded-port", "443")]), seen("here", 443, true, "here"));
        assert_eq!(
            x(&[proto, ("x-forwarded-host", "example.org:8443")]),
            seen("example.org", 8443, true, "example.org:8443")
        );
        assert_eq!(x(&[("x-forwarded-port", "1, 8443")]), seen("here", 8443, false, "here:8443"));
        for none in ["0", "65536", "x", "-1"] {
            assert_eq!(x(&[("x-forwarded-port", none)]), seen("here", 8080, false, "here:8080"), "{none}");
        }
        let forwarded = [("forwarded", "for=1.2.3.4;proto=https;host=\"Example.org:8443\"")];
        assert_eq!(
            view(ProxyHeaders::Forwarded, &forwarded),
            seen("example.org", 8443, true, "example.org:8443")
        );
    }

    #[test]
    fn a_host_in_the_target_agrees_too() {
        let mut head = head(&[("x-forwarded-host", "example.org"), ("x-forwarded-port", "8080")]);
        head.uri = "http://inside:81/a?b".parse().unwrap();
        Client::of(&mut head, &believed(ProxyHeaders::XForwarded)).unwrap();
        assert_eq!(head.uri, "http://example.org:8080/a?b");
    }

    #[test]
    fn two_hosts_are_malformed_behind_a_trusted_proxy_too() {
        let mut head = head(&[("x-forwarded-host", "example.org")]);
        head.headers.append(HOST, HeaderValue::from_static("there"));
        assert!(Client::of(&mut head, &believed(ProxyHeaders::XForwarded)).is_err());
    }

    #[test]
    fn http_1_1_without_a_host_is_malformed() {
        let (mut head, ()) = Request::builder().uri("/").body(()).unwrap().into_parts();
        assert!(Client::of(&mut head, &Proxies::default()).is_err());
    }

    #[test]
    fn http_1_0_without_a_host_has_reached_an_address() {
        let (mut head, ()) =
            Request::builder().uri("/").version(Version::HTTP_10).body(()).unwrap().into_parts();
        let local = Some("[::1]:8080".parse().unwrap());
        head.extensions.insert(ConnectionInfo { local, ..Default::default() });
        let client = Client::of(&mut head, &Proxies::default()).unwrap();
        assert_eq!((client.host.as_str(), client.port), ("[::1]", 8080));
    }
}
