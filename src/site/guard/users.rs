//! Who is known: users and groups, by files that are read again when they change.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::BasicAuth;
use super::password::Scheme;
use crate::cgi::AuthenticatedUser;
use crate::gateway::Failure;

/// How long it is remembered whose a password was, or that it was nobody's: a hash of bcrypt takes a processor for a tenth of
/// a second, and a page has twenty pictures.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How long a password may be, as crypt(3) has it, in bytes.
const LONGEST_PASSWORD: usize = 512;

/// How many passwords are remembered.
const MOST_REMEMBERED: usize = 4096;

/// How often it is looked whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many passwords are hashed at once, and how long one may wait for that.
const AT_ONCE: usize = 2;
const PATIENCE: Duration = Duration::from_secs(10);

/// Finds out who asks.
#[derive(Debug)]
pub(super) struct Basic {
    auth: BasicAuth,
    /// What makes of a password what nobody else can tell from another.
    key: [u8; 32],
    known: Arc<Mutex<Known>>,
    /// For hashing.
    places: Arc<Semaphore>,
    /// For the look at the files: on a file system that does not answer, no more than one thread is lost.
    look: Arc<Semaphore>,
}

/// What the files say, as far as it was looked.
#[derive(Debug, Default)]
struct Known {
    users: Option<Arc<Users>>,
    /// When it was looked last whether they have changed.
    looked: Option<Instant>,
}

/// What the files say.
#[derive(Debug)]
struct Users {
    /// Which files these were.
    stamps: Stamps,
    hashes: HashMap<String, (Scheme, String)>,
    groups: HashMap<String, HashSet<String>>,
    remembered: Mutex<HashMap<[u8; 32], (bool, Instant)>>,
}

/// What of a file differs when it has changed.
type Stamp = (u64, u64, i64, i64, u64, i64, i64);
type Stamps = [Option<Stamp>; 2];

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
#[error("{what} {} cannot be read", path.display())]
struct Unreadable {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Basic {
    pub(super) fn new(auth: BasicAuth) -> Self {
        // Version 4: 122 bits each that nobody can guess.
        let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat();
        let key = Sha256::digest(&random).into();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { auth, key, known: Arc::default(), places, look: Arc::new(Semaphore::new(1)) }
    }

    /// Who a request's `Authorization` says that it is, and may have this.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn user(&self, headers: &HeaderMap) -> Result<AuthenticatedUser, Failure> {
        let refused = || Failure::Unauthorized { realm: self.auth.realm.clone() };
        // SECURITY: some forms hash the whole of it thousands of times. Nobody's is longer.
        let credentials = credentials(headers).filter(|(_, password)| password.len() <= LONGEST_PASSWORD);
        let Some((name, password)) = credentials else { return Err(refused()) };
        let users = self.users().await?;
        let is_known = self.is_known(&users, &name, password).await?;
        // To be told apart by nobody: known and not meant, and not known.
        match is_known && users.is_required(&name, &self.auth.require) {
            true => Ok(AuthenticatedUser { auth_type: "Basic".to_owned(), name }),
            false => Err(refused()),
        }
    }

    async fn is_known(&self, users: &Arc<Users>, name: &str, password: Vec<u8>) -> Result<bool, Failure> {
        let mark = self.mark(name, &password);
        if let Some(is_known) = users.remembered(&mark) {
            return Ok(is_known);
        }
        let place = tokio::time::timeout(PATIENCE, self.places.clone().acquire_owned()).await;
        let place = place.map_err(|_| Failure::UsersBusy)?.map_err(|_| Failure::Interrupted)?;
        // Somebody else may have waited for the same.
        if let Some(is_known) = users.remembered(&mark) {
            return Ok(is_known);
        }
        let (known, name) = (users.clone(), name.to_owned());
        let hashed = tokio::task::spawn_blocking(move || {
            let is_known = known.verify(&name, &password);
            known.remember(mark, is_known);
            drop(place);
            is_known
        });
        hashed.await.map_err(|_| Failure::Interrupted)
    }

    /// What a name and a password are remembered by.
    fn mark(&self, name: &str, password: &[u8]) -> [u8; 32] {
        let mut mark = Sha256::new();
        mark.update(self.key);
        mark.update((name.len() as u64).to_le_bytes());
        mark.update(name);
        mark.update(password);
        mark.finalize().into()
    }

    /// What the files say now, or have said a second ago.
    async fn users(&self) -> Result<Arc<Users>, Failure> {
        let looking = async {
            if let Some(users) = self.seen() {
                return Ok(users);
            }
            let place = self.look.clone().acquire_owned().await.map_err(|_| Failure::Interrupted)?;
            // Somebody else may have looked meanwhile.
            if let Some(users) = self.seen() {
                return Ok(users);
            }
            let before = {
                let mut known = self.known();
                // Others need not look meanwhile, where something is known.
                known.looked = Some(Instant::now());
                known.users.clone()
            };
            let (auth, known) = (self.auth.clone(), self.known.clone());
            // Put down there, and not by who waits: a client that leaves does not keep what was known before.
            let looked = tokio::task::spawn_blocking(move || {
                let looked = Users::look(&auth, before);
                known.lock().unwrap_or_else(PoisonError::into_inner).users = looked.as_ref().ok().cloned();
                drop(place);
                looked
            });
            let looked = looked.await.map_err(|_| Failure::Interrupted)?;
            looked.map_err(|unreadable| Failure::Users(unreadable.into()))
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or(Err(Failure::UsersSilent(PATIENCE)))
    }

    /// What was known a moment ago.
    fn seen(&self) -> Option<Arc<Users>> {
        let known = self.known();
        let is_fresh = known.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN);
        known.users.clone().filter(|_| is_fresh)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// What the files say. `before`, where they have not changed since. Blocks.
    fn look(auth: &BasicAuth, before: Option<Arc<Self>>) -> Result<Arc<Self>, Unreadable> {
        let stamps = [Some(&auth.file), auth.groups.as_ref()]
            .map(|file| fs::metadata(file?).ok().map(|found| stamp(&found)));
        if let Some(before) = before.filter(|before| before.stamps == stamps) {
            return Ok(before);
        }
        let read = |what, path: &Path| {
            // Names in other encodings are nobody's who asks in UTF-8.
            let read = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            read.map_err(|source| Unreadable { what, path: path.to_owned(), source })
        };
        let mut hashes = HashMap::new();
        for (number, line) in lines(&read("the users' file", &auth.file)?) {
            let place = || format!("{}:{number}", auth.file.display());
            let Some((name, rest)) = line.split_once(':') else {
                tracing::warn!(
                    "{}: no user: expected NAME:HASH, as `htpasswd` writes it; the line does not count",
                    place()
                );
                continue;
            };
            let hash = rest.split(':').next().unwrap_or_default();
            let Some(scheme) = Scheme::of(hash) else {
                tracing::warn!(
                    "{}: the password of `{name}` is in plain text or in crypt's DES form, which is not supported: set it anew \
                     by `htpasswd -B`; until then nobody is let in by it",
                    place()
                );
                continue;
            };
            // As with Apache, the first one counts.
            hashes.entry(name.to_owned()).or_insert_with(|| (scheme, hash.to_owned()));
        }
        let mut groups: HashMap<String, HashSet<String>> = HashMap::new();
        if let Some(file) = &auth.groups {
            for (number, line) in lines(&read("the groups' file", file)?) {
                let Some((name, members)) = line.split_once(':') else {
                    tracing::warn!(
                        "{}:{number}: no group: expected NAME: USER USER; the line does not count",
                        file.display()
                    );
                    continue;
                };
                let members = members.split_ascii_whitespace().map(str::to_owned);
                groups.entry(name.trim().to_owned()).or_default().extend(members);
            }
        }
        for name in auth.require.iter().filter_map(|name| name.strip_prefix('@')) {
            if !groups.contains_key(name) {
                tracing::warn!(
                    "`require` names the group `{name}`, which no groups' file has: it lets in nobody"
                );
            }
        }
        Ok(Arc::new(Self { stamps, hashes, groups, remembered: Mutex::default() }))
    }

    fn is_required(&self, name: &str, require: &[String]) -> bool {
        let is_meant = |wanted: &String| match wanted.strip_prefix('@') {
            Some(group) => self.groups.get(group).is_some_and(|members| members.contains(name)),
            None => wanted == name,
        };
        require.is_empty() || require.iter().any(is_meant)
    }

    /// Whether a password is a user's. Blocks for as long as that takes; for who is not known, as long as the costliest form.
    fn verify(&self, name: &str, password: &[u8]) -> bool {
        match self.hashes.get(name) {
            Some((scheme, hash)) => scheme.verify(password, hash),
            None => {
                if let Some((scheme, hash)) = self.hashes.values().max_by_key(|(scheme, _)| *scheme) {
                    _ = scheme.verify(password, hash);
                }
                false
            }
        }
    }

    fn remembered(&self, mark: &[u8; 32]) -> Option<bool> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_known, since) = remembered.get(mark)?;
        (since.elapsed() < REMEMBERED).then_some(*is_known)
    }

    fn remember(&self, mark: [u8; 32], is_known: bool) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.retain(|_, (is_known, since)| *is_known && since.elapsed() < REMEMBERED);
        }
        if remembered.len() < MOST_REMEMBERED {
            remembered.insert(mark, (is_known, Instant::now()));
        }
    }
}

fn stamp(found: &fs::Metadata) -> Stamp {
    (
        found.dev(),
        found.ino(),
        found.mtime(),
        found.mtime_nsec(),
        found.size(),
        found.ctime(),
        found.ctime_nsec(),
    )
}

/// The lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The name and password of a request, where it has them (RFC 7617 §2).
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    // SECURITY: of two, another server may take the other one.
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&decoded[..colon]).ok()?;
    let is_name = !name.is_empty() && !name.chars().any(char::is_control);
    is_name.then(|| (name.to_owned(), decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Apache's own example: the password is `myPassword`.
    const APR1: &str = "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/";
    const SHA1: &str = "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=";

    fn basic(folder: &Path, users: &str, groups: Option<&str>, require: &[&str]) -> Basic {
        fs::write(folder.join("users"), users).unwrap();
        let groups = groups.map(|groups| {
            fs::write(folder.join("groups"), groups).unwrap();
            folder.join("groups")
        });
        Basic::new(BasicAuth {
            file: folder.join("users"),
            groups,
            realm: "Staff".into(),
            require: require.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    fn asking(credentials: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(credentials));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(value).unwrap())])
    }

    async fn is_let_in(basic: &Basic, credentials: &str) -> bool {
        match basic.user(&asking(credentials)).await {
            Ok(user) => {
                assert_eq!(user.name, credentials.split(':').next().unwrap());
                true
            }
            Err(Failure::Unauthorized { realm }) => {
                assert_eq!(realm, "Staff");
                false
            }
            Err(failure) => panic!("{failure}"),
        }
    }

    #[tokio::test]
    async fn who_is_known_is_let_in_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let users =
            format!("# staff\n\nada:{APR1}\nbob:{SHA1}:more\nno colon\nplain:myPassword\nada:{SHA1}x\n");
        let basic = basic(folder.path(), &users, None, &[]);
        // Twice: once it is worked out, once remembered.
        for _ in 0..2 {
            for (credentials, is_in) in [
                ("ada:myPassword", true),
                ("bob:myPassword", true),
                ("ada:mypassword", false),
                ("ada:", false),
                ("adamyPassword:", false),
                ("ad:amyPassword", false),
                ("plain:myPassword", false),
                ("eve:myPassword", false),
            ] {
                assert_eq!(is_let_in(&basic, credentials).await, is_in, "{credentials}");
            }
        }
    }

    #[tokio::test]
    async fn only_those_are_meant_whom_the_route_requires() {
        let folder = tempfile::tempdir().unwrap();
        let users: String = ["ada", "bob", "eve", "@ops"].map(|name| format!("{name}:{APR1}\n")).concat();
        let basic = basic(
            folder.path(),
            &users,
            Some("ops: bob\nother: eve\nops: carl\nbad\n"),
            &["ada", "@ops", "@none"],
        );
        for (name, is_in) in [("ada", true), ("bob", true), ("eve", false), ("carl", false), ("@ops", false)]
        {
            assert_eq!(is_let_in(&basic, &format!("{name}:myPassword")).await, is_in, "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_that_has_changed_is_read_again_and_one_that_is_gone_lets_in_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let basic = basic(folder.path(), &format!("ada:{APR1}\n"), None, &[]);
        assert!(is_let_in(&basic, "ada:myPassword").await);
        let look_again = || basic.known.lock().unwrap().looked = None;
        fs::write(folder.path().join("users"), format!("bob:{APR1}\n")).unwrap();
        look_again();
        assert!(!is_let_in(&basic, "ada:myPassword").await);
        assert!(is_let_in(&basic, "bob:myPassword").await);
        fs::remove_file(folder.path().join("users")).unwrap();
        look_again();
        let failure = basic.user(&asking("bob:myPassword")).await.unwrap_err();
        assert!(matches!(failure, Failure::Users(_)));
        fs::write(folder.path().join("users"), format!("bob:{APR1}\n")).unwrap();
        assert!(is_let_in(&basic, "bob:myPassword").await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_does_not_answer_holds_up_one_thread() {
        let folder = tempfile::tempdir().unwrap();
        let basic = Arc::new(basic(folder.path(), "", None, &[]));
        let file = folder.path().join("users");
        fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let asking = || {
            let basic = basic.clone();
            tokio::spawn(async move { basic.user(&asking("ada:myPassword")).await })
        };
        let all = [asking(), asking(), asking()];
        tokio::task::yield_now().await;
        tokio::time::advance(PATIENCE).await;
        for asked in all {
            let failure = asked.await.unwrap().unwrap_err();
            assert!(matches!(failure, Failure::UsersSilent(_)), "{failure}");
        }
        assert_eq!(basic.look.available_permits(), 0, "who looks has the place still");
        // Now it answers.
        fs::write(&file, format!("ada:{APR1}\n")).unwrap();
        let next = asking();
        drop(tokio::time::timeout(PATIENCE, basic.look.acquire()).await.unwrap());
        drop(next);
    }

    #[test]
    fn credentials_are_basic_whole_and_said_once() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::try_from(*value).unwrap());
            }
            credentials(&headers).map(|(name, password)| (name, String::from_utf8(password).unwrap()))
        };
        let ada = || Some(("ada".to_owned(), "a:b".to_owned()));
        assert_eq!(of(&["Basic YWRhOmE6Yg=="]), ada());
        assert_eq!(of(&["bASIC  YWRhOmE6Yg=="]), ada());
        for none in [
            "Bearer YWRhOmE6Yg==",
            "Basic",
            "Basic !",
            "YWRhOmE6Yg==",
            "Basic YWRh",
            "Basic OmE=",
            "Basic CmE6Yg==",
        ] {
            assert_eq!(of(&[none]), None, "{none}");
        }
        assert_eq!(of(&["Basic YWRhOmE6Yg==", "Basic YWRhOmE6Yg=="]), None);
        assert_eq!(of(&[]), None);
    }
}
