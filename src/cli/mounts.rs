//! Which mounts there are on this machine, by their control sockets.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Args;
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::silence::{SilentMount, is_socket_of};
use super::spelling::{mountpoint_above, spellings};
use super::unasked::{missing, refuse_ambiguous, unasked, unheard};
use crate::session::control::answers::Health;
use crate::session::control::client::{Answer, AskError, answer_within, ask_within};
use crate::session::control::place;
use crate::session::{FS_TYPE, MountEntry, mount_at};

/// A daemon says at once how it is, unless it hangs.
pub const SAYS_WITHIN: Duration = Duration::from_secs(5);
/// Sockets that are asked at once.
const ASKED_AT_ONCE: usize = 32;

/// A successor of a daemon that died serves within this time, where one follows.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where to ask, for a mount that is not in the directory of sockets.
#[derive(Debug, Args)]
pub struct SocketArg {
    /// Ask at this socket, as given to 'mediafs mount --control-socket'
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// A socket, and what was answered there.
#[derive(Debug)]
pub struct Asked<T> {
    pub socket: PathBuf,
    pub answer: Result<T, AskError>,
}

/// Whether a successor of a daemon that died is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    No,
    ForASuccessor,
}

/// The mounts that were asked for.
#[derive(Debug)]
pub struct Chosen {
    /// Each with a path below its mountpoint.
    pub mounts: Vec<(FoundMount, String)>,
    /// Those that do not answer, or could not be asked.
    pub silent: Vec<SilentMount>,
}

/// A mount that answers.
#[derive(Debug)]
pub struct FoundMount {
    pub socket: PathBuf,
    pub health: Health,
    /// Whose daemon it is.
    uid: u32,
}

impl FoundMount {
    /// Whether this user may act on whatever the daemon says. Another user's can say
    /// anything, to have root do what that user may not.
    pub fn is_trusted(&self) -> bool {
        self.uid == 0 || self.is_own()
    }

    fn is_own(&self) -> bool {
        self.uid == rustix::process::geteuid().as_raw()
    }

    /// Whether it serves what it says: a mount of its user's is there.
    fn is_proved(&self) -> bool {
        let there = || mount_at(Path::new(&self.health.mountpoint));
        let is_theirs = |it: MountEntry| it.fs_type == FS_TYPE && it.is_of_user(self.uid);
        self.is_trusted() || there().is_ok_and(|there| there.is_some_and(is_theirs))
    }

    /// Sends a request, to a successor where the daemon dies before it has answered.
    /// Errors: the mount's, in words.
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        request: &impl Serialize,
        within: Duration,
    ) -> anyhow::Result<T> {
        let ask = || {
            let answer = answer_within(&self.socket, (method.clone(), path), request, within)?;
            match answer.uid == self.uid {
                true => Ok(answer.value),
                false => Err(AskError::Unproved(answer.uid)),
            }
        };
        let is_lost = |answer: &Result<T, AskError>| {
            answer.as_ref().is_err_and(AskError::is_of_a_dead_daemon)
        };
        let answer = retry_during_takeover(Wait::ForASuccessor, ask, is_lost);
        answer.map_err(|error| anyhow!("{}: {error}", self.health.mountpoint))
    }
}

/// Looks until what is found is not `lost`, as long as a takeover lasts.
fn retry_during_takeover<T>(wait: Wait, look: impl Fn() -> T, is_lost: impl Fn(&T) -> bool) -> T {
    let mut lost_at = None;
    loop {
        let found = look();
        let goes_on = wait == Wait::ForASuccessor && is_lost(&found);
        if !goes_on || lost_at.get_or_insert_with(Instant::now).elapsed() > TAKEN_OVER_WITHIN {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl SocketArg {
    /// The same question to every mount, or to the one whose socket is given.
    pub fn ask_all<T: DeserializeOwned + Send>(&self, path: &str) -> Vec<Asked<T>> {
        self.each(|socket| ask_within(socket, (Method::GET, path), &(), SAYS_WITHIN))
    }

    fn each<T: Send>(&self, ask: impl Fn(&Path) -> Result<T, AskError> + Sync) -> Vec<Asked<T>> {
        let sockets = match &self.socket {
            Some(socket) => vec![socket.clone()],
            None => place::sockets(),
        };
        let ask = |socket: &PathBuf| Asked {
            socket: socket.clone(),
            answer: ask(socket),
        };
        let mut asked = Vec::new();
        for some in sockets.chunks(ASKED_AT_ONCE) {
            std::thread::scope(|scope| {
                let ask = &ask;
                let asking: Vec<_> = some
                    .iter()
                    .map(|socket| scope.spawn(move || ask(socket)))
                    .collect();
                let answers = asking.into_iter().map(|it| it.join());
                asked.extend(answers.flatten());
            });
        }
        asked
    }

    /// The mount that the path is in, or that has this name; without one every mount.
    ///
    /// Errors: the path is in none that answers; there is none.
    pub fn chosen(&self, path: Option<&Path>) -> anyhow::Result<Chosen> {
        match path {
            Some(path) => Ok(Chosen {
                mounts: vec![self.holding(path)?],
                silent: Vec::new(),
            }),
            None => Ok(self.all()),
        }
    }

    /// The mounts that gave no answer, and those that could not be asked.
    pub fn silent_of<T>(&self, asked: &[Asked<T>], health: fn(&T) -> &Health) -> Vec<SilentMount> {
        let failed = asked
            .iter()
            .filter_map(|it| Some((&*it.socket, it.answer.as_ref().err()?)));
        let served = asked.iter().filter_map(|it| it.answer.as_ref().ok());
        let served = served.map(|it| PathBuf::from(&health(it).mountpoint));
        self.silent(failed, served)
    }

    /// The same, beside the mounts that serve these mountpoints.
    fn silent<'a>(
        &self,
        failed: impl IntoIterator<Item = (&'a Path, &'a AskError)>,
        served: impl IntoIterator<Item = PathBuf>,
    ) -> Vec<SilentMount> {
        let failed = failed.into_iter();
        let mut silent: Vec<SilentMount> = failed
            .map(|(socket, error)| SilentMount::of_socket(socket, error))
            .collect();
        // The one whose socket is given is asked, and no other.
        if self.socket.is_none() {
            let told = silent.iter().filter_map(|it| it.mountpoint.clone());
            let known: Vec<PathBuf> = served.into_iter().chain(told).collect();
            silent.extend(unasked(&known));
        }
        silent
    }

    /// Every mount that answers, and why others do not.
    fn look(&self) -> Looked {
        let mut looked = Looked::default();
        let asked = (Method::GET, "/health");
        let ask = |socket: &Path| answer_within(socket, asked.clone(), &(), SAYS_WITHIN);
        for Asked { socket, answer } in self.each::<Answer<Health>>(ask) {
            match answer {
                Ok(Answer { value: health, uid }) => looked.found.push(FoundMount {
                    socket,
                    health,
                    uid,
                }),
                Err(error) => looked.silent.push((socket, error)),
            }
        }
        looked
    }

    /// The same, without those that say of themselves what is not so. One whose socket
    /// was given may be in a mount namespace of its own.
    fn look_for_one(&self) -> Looked {
        let mut looked = self.look();
        if self.socket.is_none() {
            let unproved = looked.found.extract_if(.., |mount| !mount.is_proved());
            let unproved = unproved.map(|it| (it.socket, AskError::Unproved(it.uid)));
            looked.silent.extend(unproved);
        }
        looked
    }

    fn all(&self) -> Chosen {
        let look = || self.look();
        let Looked { found, silent } =
            retry_during_takeover(Wait::ForASuccessor, look, Looked::has_dead);
        let served = found.iter().map(|it| PathBuf::from(&it.health.mountpoint));
        let failed = silent.iter().map(|(socket, error)| (&**socket, error));
        let silent = self.silent(failed, served);
        let found = found.into_iter();
        Chosen {
            mounts: found.map(|mount| (mount, String::new())).collect(),
            silent,
        }
    }

    /// The mount of this name or on this mountpoint.
    ///
    /// Errors: `SilentMount`; there is none.
    pub fn named(&self, which: &str, wait: Wait) -> anyhow::Result<FoundMount> {
        let wanted = Path::new(which);
        let wanted_at = spellings(wanted).unwrap_or_default();
        // At a socket that is given there is no other.
        let is_wanted = |it: &(PathBuf, AskError)| {
            self.socket.is_some() || is_socket_of(&it.0, wanted, &wanted_at)
        };
        let called = |looked: &Looked| {
            let found = looked.found.iter();
            let called = found.filter(|mount| is_called(&mount.health, wanted, &wanted_at));
            called.count()
        };
        let look = || self.look_for_one();
        let mut looked = retry_during_takeover(wait, look, |looked| {
            let mut dead = looked.silent.iter().filter(|it| is_wanted(it));
            called(looked) == 0 && dead.any(|(_, error)| error.is_of_a_dead_daemon())
        });
        let is_meant = |mount: &mut FoundMount| is_called(&mount.health, wanted, &wanted_at);
        let mut found: Vec<FoundMount> = looked.found.extract_if(.., is_meant).collect();
        // Those of other users do not keep a user's own from being found.
        if found.iter().any(FoundMount::is_own) {
            found.retain(FoundMount::is_own);
        }
        if self.socket.is_none() {
            let at = found.iter().map(|it| PathBuf::from(&it.health.mountpoint));
            refuse_ambiguous(wanted, at.collect())?;
        }
        match found.pop() {
            Some(found) => Ok(found),
            None => Err(missing(which, &wanted_at, looked.silent, is_wanted)),
        }
    }

    /// The mount that a path is in, and the path below its mountpoint.
    ///
    /// Errors: it is in none that answers.
    fn holding(&self, path: &Path) -> anyhow::Result<(FoundMount, String)> {
        // Symlinks are followed where nothing else fits: what hangs may be on the way.
        let spellings = spellings(path)?;
        // Of one mount below another the other one knows nothing.
        let mountpoint = spellings.iter().find_map(|path| mountpoint_above(path));
        let find = || {
            let Looked { mut found, silent } = self.look_for_one();
            // A mountpoint below another is the longer one.
            found.sort_by_key(|mount| Reverse(mount.health.mountpoint.len()));
            let below = spellings.iter().find_map(|path| below_one(&found, path));
            let below = below.filter(|(at, _)| {
                let answers = found
                    .get(*at)
                    .map(|mount| Path::new(&mount.health.mountpoint));
                silent.is_empty() || mountpoint.is_none() || answers == mountpoint.as_deref()
            });
            let below = below.map(|(at, below)| (found.swap_remove(at), below));
            (below, silent)
        };
        let is_lost = |found: &(Option<_>, Vec<_>)| {
            found.0.is_none() && mountpoint.is_some() && !found.1.is_empty()
        };
        let (found, silent) = retry_during_takeover(Wait::ForASuccessor, find, is_lost);
        let Some((mount, below)) = found else {
            let is_name = path.components().count() == 1;
            return match (&mountpoint, path.to_str().filter(|_| is_name)) {
                (Some(mountpoint), _) => Err(unheard(mountpoint, &silent).into()),
                (None, Some(name)) => {
                    let named = self.named(name, Wait::ForASuccessor)?;
                    Ok((named, String::new()))
                }
                (None, None) => bail!(
                    "{} is not in a mount: 'mediafs status' lists the mounts",
                    path.display()
                ),
            };
        };
        let Some(below) = below.to_str() else {
            bail!("{}: not UTF-8, so no file of a mount", path.display());
        };
        Ok((mount, below.to_owned()))
    }
}

/// What a look at all sockets has found.
#[derive(Debug, Default)]
struct Looked {
    found: Vec<FoundMount>,
    silent: Vec<(PathBuf, AskError)>,
}

impl Looked {
    fn has_dead(&self) -> bool {
        let mut silent = self.silent.iter();
        silent.any(|(_, error)| error.is_of_a_dead_daemon())
    }
}

/// Which of the mounts a path is below, and how it goes on there.
fn below_one(mounts: &[FoundMount], path: &Path) -> Option<(usize, PathBuf)> {
    let mut mounts = mounts.iter().enumerate();
    mounts.find_map(|(at, mount)| {
        let below = path.strip_prefix(&mount.health.mountpoint).ok()?;
        Some((at, below.to_owned()))
    })
}

/// What a request came to, with the mount that was asked.
pub fn as_json(mount: &FoundMount, answer: &impl Serialize) -> anyhow::Result<Value> {
    let mut object = serde_json::to_value(answer)?;
    if let Some(fields) = object.as_object_mut() {
        let mountpoint = mount.health.mountpoint.clone();
        fields.insert("mountpoint".to_owned(), Value::String(mountpoint));
    }
    Ok(object)
}

fn is_called(health: &Health, wanted: &Path, wanted_at: &[PathBuf]) -> bool {
    let is_there = || {
        wanted_at
            .iter()
            .any(|it| it == Path::new(&health.mountpoint))
    };
    Path::new(&health.name) == wanted || is_there()
}
