//! Which mounts there are on this machine, by their control sockets.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::session::control::answers::Health;
use crate::session::control::client::{AskError, ask_within};
use crate::session::control::place;

/// A daemon says at once how it is, unless it hangs.
pub const SAYS_WITHIN: Duration = Duration::from_secs(5);
/// Sockets that are asked at once.
const ASKED_AT_ONCE: usize = 32;

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

/// A mount that answers.
#[derive(Debug)]
pub struct FoundMount {
    pub socket: PathBuf,
    pub health: Health,
}

impl FoundMount {
    /// Sends a request. Errors: the mount's, in words.
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        request: &impl Serialize,
        within: Duration,
    ) -> anyhow::Result<T> {
        let answer = ask_within(&self.socket, (method, path), request, within);
        answer.map_err(|error| anyhow!("{}: {error}", self.health.mountpoint))
    }
}

impl SocketArg {
    /// The same question to every mount, or to the one whose socket is given.
    pub fn ask_all<T: DeserializeOwned + Send>(&self, path: &str) -> Vec<Asked<T>> {
        let sockets = match &self.socket {
            Some(socket) => vec![socket.clone()],
            None => place::sockets(),
        };
        let ask = |socket: &PathBuf| Asked {
            socket: socket.clone(),
            answer: ask_within(socket, (Method::GET, path), &(), SAYS_WITHIN),
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

    /// Every mount that answers.
    ///
    /// Errors: there is none.
    pub fn all(&self) -> anyhow::Result<Vec<FoundMount>> {
        let asked = self.ask_all::<Health>("/health").into_iter();
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for Asked { socket, answer } in asked {
            match answer {
                Ok(health) => found.push(FoundMount { socket, health }),
                Err(error) => silent.push(format!("{}: {error}", socket.display())),
            }
        }
        if found.is_empty() {
            bail!("{}", no_mount(&silent));
        }
        Ok(found)
    }

    /// The same, each with the path of its root.
    pub fn whole(&self) -> anyhow::Result<Vec<(FoundMount, String)>> {
        let all = self.all()?.into_iter();
        Ok(all.map(|mount| (mount, String::new())).collect())
    }

    /// The mount of this name or on this mountpoint.
    ///
    /// Errors: there is none that answers.
    pub fn named(&self, which: &str) -> anyhow::Result<FoundMount> {
        let wanted = Path::new(which);
        let mut silent = Vec::new();
        for Asked { socket, answer } in self.ask_all::<Health>("/health") {
            match answer {
                Ok(health) if is_called(&health, wanted) => {
                    return Ok(FoundMount { socket, health });
                }
                Err(error) if is_socket_of(&socket, wanted) => {
                    bail!("{which}: {error} at {}", socket.display());
                }
                Ok(_) => {}
                Err(error) => silent.push(format!("{}: {error}", socket.display())),
            }
        }
        bail!(
            "no mount {which:?}{}: 'mediafs status' lists those that there are",
            also(&silent)
        )
    }

    /// The mount that a path is in, and the path below its mountpoint.
    ///
    /// Errors: it is in none that answers.
    pub fn holding(&self, path: &Path) -> anyhow::Result<(FoundMount, String)> {
        let mut mounts = self.all()?;
        // A mountpoint below another is the longer one.
        mounts.sort_by_key(|mount| Reverse(mount.health.mountpoint.len()));
        // Symlinks are followed where nothing else fits: what hangs may be on the way.
        let given = as_given(path)?;
        let mut found = below_one(&mounts, &given);
        if found.is_none() {
            let followed = without_symlinks(&given);
            found = followed.and_then(|followed| below_one(&mounts, &followed));
        }
        let Some((at, below)) = found else {
            bail!(
                "{} is in no mount: 'mediafs status' lists those that there are",
                path.display()
            );
        };
        let Some(below) = below.to_str() else {
            bail!("{}: no file of a mount has such a name", path.display());
        };
        Ok((mounts.swap_remove(at), below.to_owned()))
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

/// Why none answers, and what there is.
pub fn no_mount(silent: &[String]) -> String {
    let where_to = match place::own_dir() {
        Some(dir) => format!("no mount answers in {}", dir.display()),
        None => "no mount answers: XDG_RUNTIME_DIR is not set".to_owned(),
    };
    format!("{where_to}{}", also(silent))
}

fn also(silent: &[String]) -> String {
    let lines = silent.iter().map(|line| format!("\n  {line}"));
    lines.collect()
}

fn is_called(health: &Health, wanted: &Path) -> bool {
    let mountpoint = Path::new(&health.mountpoint);
    let is_there = || spellings(wanted).is_ok_and(|all| all.iter().any(|it| it == mountpoint));
    Path::new(&health.name) == wanted || is_there()
}

/// Of a daemon that does not say which mount it has.
fn is_socket_of(socket: &Path, wanted: &Path) -> bool {
    let stem = socket.file_stem().unwrap_or_default();
    let named = spellings(wanted).unwrap_or_default();
    let mut names = named.iter().map(|it| place::name_of_mountpoint(it));
    stem == wanted.as_os_str() || socket == wanted || names.any(|name| stem == name.as_str())
}

/// A path as it is given, and without symlinks above it.
fn spellings(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let given = as_given(path)?;
    let followed = without_symlinks(&given);
    Ok([Some(given), followed].into_iter().flatten().collect())
}

fn as_given(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?.components().collect())
}

/// The path itself is not looked at, which may be a mount that hangs.
fn without_symlinks(given: &Path) -> Option<PathBuf> {
    let mut above = given.ancestors().skip(1);
    above.find_map(|above| {
        let rest = given.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(rest))
    })
}
