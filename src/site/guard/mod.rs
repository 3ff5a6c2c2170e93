//! Who may: what a route asks of a client before anything of a request's body is read.
//!
//! - `password`: whether a password is that of a hash
//! - `users`: who is known, by the files that `htpasswd` writes

mod password;
mod users;

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::request;
use ipnet::IpNet;

use crate::gateway::{Client, Failure};
use users::Basic;

/// Who may have what a route answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The networks that clients may be in; everybody, where it is empty. Who comes over a unix socket for which no trusted
    /// proxy speaks is in none.
    pub allow_from: Vec<IpNet>,
    /// How often a client may ask.
    pub rate_limit: Option<RateLimit>,
    /// Who may, by name and password.
    pub auth: Option<BasicAuth>,
}

/// How often one client may ask: an IPv4 address, or an IPv6 network of 64 bits, which is as much as a subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many requests…
    pub requests: NonZeroU32,
    /// …in this time,
    pub per: Duration,
    /// and so many at once after a pause.
    pub burst: NonZeroU32,
}

/// Basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// Users and their passwords, as `htpasswd` writes them: bcrypt, apr1, SHA-1, and crypt's MD5, SHA-256 and SHA-512. Read
    /// again when it changes.
    pub file: PathBuf,
    /// Groups and who is in them: `name: user user`.
    pub groups: Option<PathBuf>,
    /// What a browser shows.
    pub realm: String,
    /// Whom it is for: users, and groups with `@` in front. All who are known, where it is empty.
    pub require: Vec<String>,
}

/// What stands in front of a route.
#[derive(Debug)]
pub(super) struct Guard {
    allow_from: Vec<IpNet>,
    limiter: Option<Limiter>,
    basic: Option<Basic>,
}

#[derive(Debug)]
struct Limiter {
    limit: RateLimit,
    clients: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    /// How often it was asked since clients were last forgotten.
    asked: AtomicU32,
}

/// How often clients are forgotten that have not asked for long.
const FORGET_AFTER: u32 = 4096;

impl Guard {
    pub(super) fn new(access: Access) -> Self {
        let Access { allow_from, rate_limit, auth } = access;
        Self { allow_from, limiter: rate_limit.map(Limiter::new), basic: auth.map(Basic::new) }
    }

    /// Whether it is this that says who asks.
    pub(super) fn knows_users(&self) -> bool {
        self.basic.is_some()
    }

    /// Lets a request by, and puts down who asks; or says why not. What costs least is looked at first.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn admit(&self, client: &Client, head: &mut request::Parts) -> Result<(), Failure> {
        let address = client.remote.map(|remote| remote.ip().to_canonical());
        if !self.allow_from.is_empty() {
            let is_in = |address: IpAddr| self.allow_from.iter().any(|network| network.contains(&address));
            if !address.is_some_and(is_in) {
                return Err(Failure::Denied);
            }
        }
        if let Some(limiter) = &self.limiter {
            limiter.take(address)?;
        }
        if let Some(basic) = &self.basic {
            let user = basic.user(&head.headers).await?;
            head.extensions.insert(user);
        }
        Ok(())
    }
}

impl Limiter {
    fn new(limit: RateLimit) -> Self {
        let each = limit.per / limit.requests.get();
        // Never zero: that many a nanosecond nobody asks for.
        let quota = Quota::with_period(each.max(Duration::from_nanos(1)))
            .unwrap_or(Quota::per_second(NonZeroU32::MAX));
        let clients = RateLimiter::hashmap(quota.allow_burst(limit.burst));
        Self { limit, clients, asked: AtomicU32::new(0) }
    }

    fn take(&self, address: Option<IpAddr>) -> Result<(), Failure> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET_AFTER == FORGET_AFTER - 1 {
            self.clients.retain_recent();
        }
        let Err(too_soon) = self.clients.check_key(&subscriber(address)) else { return Ok(()) };
        let wait = too_soon.wait_time_from(self.clients.clock().now());
        Err(Failure::TooMany { limit: self.limit.to_string(), retry_after: wait.as_secs() + 1 })
    }
}

impl std::fmt::Display for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s".to_owned(),
            60 => "m".to_owned(),
            3600 => "h".to_owned(),
            _ => humantime::format_duration(self.per).to_string(),
        };
        write!(f, "{}/{unit}/{}", self.requests, self.burst)
    }
}

/// Whom a limit is for. Those without an address are one.
fn subscriber(address: Option<IpAddr>) -> IpAddr {
    match address {
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        Some(address) => address,
        None => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(requests: u32, burst: u32) -> Limiter {
        let number = |number| NonZeroU32::new(number).unwrap();
        Limiter::new(RateLimit {
            requests: number(requests),
            per: Duration::from_secs(3600),
            burst: number(burst),
        })
    }

    #[test]
    fn each_client_has_its_own_burst_and_then_waits() {
        let limiter = limiter(1, 3);
        let take = |text: &str| limiter.take(Some(text.parse().unwrap()));
        for _ in 0..3 {
            take("192.0.2.1").unwrap();
        }
        let Err(Failure::TooMany { limit, retry_after }) = take("192.0.2.1") else { panic!("it was let by") };
        assert_eq!(limit, "1/h/3");
        assert!((3500..=3601).contains(&retry_after), "{retry_after}");
        take("192.0.2.2").unwrap();
        // One who has a whole network.
        for last in 0..3 {
            take(&format!("2001:db8::{last}")).unwrap();
        }
        assert!(take("2001:db8::ffff:1").is_err());
        take("2001:db8:0:1::1").unwrap();
    }

    #[test]
    fn those_without_an_address_share_a_limit() {
        let limiter = limiter(1, 1);
        limiter.take(None).unwrap();
        assert!(limiter.take(None).is_err());
    }
}
