//! Whether a password is that of a hash, in the forms that `htpasswd` and crypt(3) have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use sha_crypt::{PasswordVerifier, ShaCrypt};
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// How a password was hashed; what costs more, later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scheme {
    Sha1,
    /// `$apr1$`, or `$1$`.
    Md5(&'static str),
    /// SHA-256 or SHA-512, of crypt(3).
    ShaCrypt,
    Bcrypt,
}

/// What stands in front of SHA-1.
const SHA1: &str = "{SHA}";

/// How many characters of a salt count for MD5.
const MD5_SALT: usize = 8;

impl Scheme {
    /// The one that a hash is of. `None`: crypt's DES, plain text, or what is none.
    pub(super) fn of(hash: &str) -> Option<Self> {
        match hash {
            _ if hash.starts_with("$2") => Some(Self::Bcrypt),
            _ if hash.starts_with("$apr1$") => Some(Self::Md5("$apr1$")),
            _ if hash.starts_with("$1$") => Some(Self::Md5("$1$")),
            _ if hash.starts_with(SHA1) => Some(Self::Sha1),
            _ if hash.starts_with("$5$") || hash.starts_with("$6$") => Some(Self::ShaCrypt),
            _ => None,
        }
    }

    /// Whether a password is this hash's. Takes as long as it takes to hash one, whatever the answer.
    pub(super) fn verify(self, password: &[u8], hash: &str) -> bool {
        match self {
            Self::Bcrypt => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Md5(magic) => is_same(&md5_crypt(password, hash, magic), hash),
            Self::Sha1 => {
                let own = STANDARD.encode(Sha1::digest(password));
                is_same(&own, &hash[SHA1.len()..])
            }
            Self::ShaCrypt => ShaCrypt::default().verify_password(password, hash).is_ok(),
        }
    }
}

fn is_same(own: &str, hash: &str) -> bool {
    own.as_bytes().ct_eq(hash.as_bytes()).into()
}

/// The hash of a password with the salt of another: MD5 a thousand times, as FreeBSD had it in 1994, and Apache with another
/// word in front.
fn md5_crypt(password: &[u8], hash: &str, magic: &str) -> String {
    let salt = hash[magic.len()..].split('$').next().unwrap_or_default();
    let salt = salt.char_indices().nth(MD5_SALT).map_or(salt, |(end, _)| &salt[..end]);
    let digest = |parts: &[&[u8]]| {
        let mut digest = Md5::new();
        parts.iter().for_each(|part| digest.update(part));
        <[u8; 16]>::from(digest.finalize())
    };
    let mixed = digest(&[password, salt.as_bytes(), password]);
    let mut first = Md5::new();
    first.update(password);
    first.update(magic);
    first.update(salt);
    for part in (0..password.len()).step_by(mixed.len()) {
        first.update(&mixed[..mixed.len().min(password.len() - part)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        match bits & 1 {
            1 => first.update([0]),
            _ => first.update(&password[..1]),
        }
        bits >>= 1;
    }
    let mut last = <[u8; 16]>::from(first.finalize());
    for round in 0..1000 {
        let (begin, end) = if round % 2 == 1 { (password, &last[..]) } else { (&last[..], password) };
        let salt = if round % 3 == 0 { &[] } else { salt.as_bytes() };
        let again = if round % 7 == 0 { &[] } else { password };
        last = digest(&[begin, salt, again, end]);
    }
    format!("{magic}{salt}${}", encoded(&last))
}

/// In crypt's own base 64, in the order that MD5 has there.
fn encoded(digest: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let group = |a: usize, b: usize, c: usize| {
        (u32::from(digest[a]) << 16 | u32::from(digest[b]) << 8 | u32::from(digest[c]), 4)
    };
    let groups = [
        group(0, 6, 12),
        group(1, 7, 13),
        group(2, 8, 14),
        group(3, 9, 15),
        group(4, 10, 5),
        (u32::from(digest[11]), 2),
    ];
    let letters = groups.into_iter().flat_map(|(bits, letters)| {
        (0..letters).map(move |letter| char::from(ALPHABET[(bits >> (6 * letter) & 63) as usize]))
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Apache's page on password formats, from the crypt scheme's own tests, and by openssl passwd.
    const KNOWN: [(&str, &str); 9] = [
        ("myPassword", "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC"),
        ("myPassword", "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"),
        ("myPassword", "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="),
        ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        (
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        ("Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
        ("", "$apr1$saltsalt$a8ml/vK5HEjiZ5oypDWA7/"),
        ("a", "$1$salt$M17PcHxFIEt5v7SAsS4v60"),
        ("a password that is longer than two blocks of MD5", "$apr1$saltsalt$MazOxQga8UbdwT5KWX8531"),
    ];

    #[test]
    fn the_known_passwords_are_known() {
        for (password, hash) in KNOWN {
            let scheme = Scheme::of(hash).unwrap();
            assert!(scheme.verify(password.as_bytes(), hash), "{hash}");
            assert!(!scheme.verify(format!("{password}x").as_bytes(), hash), "{hash}");
            assert!(!scheme.verify(b"", hash) || password.is_empty(), "{hash}");
        }
    }

    #[test]
    fn what_is_cut_is_nobodys() {
        for (password, hash) in KNOWN {
            let scheme = Scheme::of(hash).unwrap();
            for end in 0..hash.len() {
                if Scheme::of(&hash[..end]) == Some(scheme) {
                    assert!(!scheme.verify(password.as_bytes(), &hash[..end]), "{}", &hash[..end]);
                }
            }
        }
    }

    #[test]
    fn plain_text_and_des_are_no_hashes() {
        for hash in ["rqXexS6ZhobKA", "myPassword", "", "$", "$7$x", "*", "!"] {
            assert_eq!(Scheme::of(hash), None, "{hash}");
        }
    }
}
