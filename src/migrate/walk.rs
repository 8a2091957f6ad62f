//! A directory and all below it, in the order in which S3 lists keys.
//!
//! A directory is entered by its descriptor: one that is renamed meanwhile is walked
//! to its end, and no symlink that takes its place is followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

use super::entry::{Odd, Stat};
use super::named::{Kind, Named, may_be_directory, told, unfinished};
use super::odd_policy::HardLinks;
use super::selection::{Selection, is_unfinished};
use crate::namespace::NAME_LIMIT_BYTES;
use crate::store::KEY_LIMIT_BYTES;

/// What is to be done with symlinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symlinks {
    /// They are named, and not sent.
    Name,
    /// What those lead to that stay inside the directory is taken in their place.
    Inside,
    /// What each leads to is taken in its place.
    Everywhere,
}

/// What a walk meets. Paths are relative to its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    File {
        path: String,
        stat: Stat,
        /// That it has in all, here and elsewhere.
        names: u64,
    },
    /// Its path ends in `/`.
    Directory {
        path: String,
        is_empty: bool,
    },
    /// What an export that was killed has left.
    Unfinished {
        path: String,
        stat: Stat,
    },
    /// Its name is not UTF-8: the path is how it is told, and no key.
    NotUtf8 {
        path: String,
    },
    Odd {
        path: String,
        odd: Odd,
        why: String,
    },
}

impl Found {
    /// What it is, for a digest of a walk. An export may be at its unfinished files still.
    pub fn text(&self) -> String {
        match self {
            Self::Unfinished { path, .. } => format!("{path:?}"),
            found => format!("{found:?}"),
        }
    }

    pub fn path(&self) -> &str {
        match self {
            Self::File { path, .. }
            | Self::Directory { path, .. }
            | Self::Unfinished { path, .. }
            | Self::NotUtf8 { path }
            | Self::Odd { path, .. } => path,
        }
    }
}

#[derive(Debug, Clone)]
pub struct WalkSettings {
    pub symlinks: Symlinks,
    pub hard_links: HardLinks,
    pub selection: Selection,
    /// Of every key.
    pub prefix_bytes: usize,
}

/// How a path below the root is opened.
pub fn resolve_flags(symlinks: Symlinks) -> ResolveFlags {
    match symlinks {
        Symlinks::Name => {
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
        }
        Symlinks::Inside => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        Symlinks::Everywhere => ResolveFlags::NO_MAGICLINKS,
    }
}

/// Opens a directory to begin at.
pub fn open_root(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Gives everything below the root, until it is told to stop.
pub fn walk(
    root: BorrowedFd<'_>,
    settings: &WalkSettings,
    give: &mut dyn FnMut(Found) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut walk = Walk {
        root,
        settings,
        give,
        above: Vec::new(),
    };
    match rustix::fs::openat(root, ".", directory_flags(), Mode::empty()) {
        Ok(directory) => walk.enter(directory, ""),
        Err(error) => walk.odd(".", Odd::Unreadable, &io::Error::from(error).to_string()),
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    settings: &'a WalkSettings,
    give: &'a mut dyn FnMut(Found) -> ControlFlow<()>,
    /// The directories that are entered, by device and inode.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// `path` is empty, or ends in `/`.
    fn enter(&mut self, directory: OwnedFd, path: &str) -> ControlFlow<()> {
        let directory = File::from(directory);
        let opened = directory.metadata().map(|found| Stat::from(&found));
        let listed = opened.and_then(|stat| Ok((stat, self.names(directory.as_fd(), path)?)));
        let (stat, names) = match listed {
            Ok(listed) => listed,
            Err(error) => return self.odd(path, Odd::Unreadable, &error.to_string()),
        };
        if !path.is_empty() {
            (self.give)(Found::Directory {
                path: path.to_owned(),
                is_empty: names.is_empty(),
            })?;
        }
        self.above.push((stat.device, stat.inode));
        let mut names = names.into_iter();
        let outcome = names.try_for_each(|named| self.name(directory.as_fd(), path, &named));
        self.above.pop();
        outcome
    }

    /// What is in a directory, in the order of keys.
    fn names(&self, directory: BorrowedFd<'_>, path: &str) -> io::Result<Vec<Named>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let name = OsString::from_vec(bytes.to_vec());
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind_of(directory, &name),
                kind => Kind::of(kind),
            };
            names.push(self.followed(path, Named { name, kind }));
        }
        names.sort_by_cached_key(Named::order);
        Ok(names)
    }

    fn kind_of(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Kind {
        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Kind::of(FileType::from_raw_mode(stat.st_mode)),
            Err(error) => Kind::Unknown(io::Error::from(error).to_string()),
        }
    }

    /// A symlink as what it leads to, where that is taken in its place.
    fn followed(&self, path: &str, named: Named) -> Named {
        let follows = self.settings.symlinks != Symlinks::Name;
        if !follows || !matches!(named.kind, Kind::Symlink) {
            return named;
        }
        let Some(name) = named.name.to_str() else {
            return named;
        };
        let opened = self.open(&format!("{path}{name}"), OFlags::PATH | OFlags::CLOEXEC);
        let found = opened.and_then(|opened| File::from(opened).metadata());
        let kind = match found {
            Ok(found) => Kind::of(FileType::from_raw_mode(Stat::from(&found).mode)),
            Err(error) => Kind::Unknown(error.to_string()),
        };
        Named { kind, ..named }
    }

    fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let how = resolve_flags(self.settings.symlinks);
        Ok(rustix::fs::openat2(
            self.root,
            path,
            flags,
            Mode::empty(),
            how,
        )?)
    }

    fn name(&mut self, directory: BorrowedFd<'_>, above: &str, named: &Named) -> ControlFlow<()> {
        match (named.name.to_str(), &named.kind) {
            (None, _) => self.not_utf8(above, named),
            (Some(name), Kind::Directory) => {
                self.directory(directory, name, &format!("{above}{name}"))
            }
            (Some(name), _) => self.other(directory, name, format!("{above}{name}"), named),
        }
    }

    fn not_utf8(&mut self, above: &str, named: &Named) -> ControlFlow<()> {
        // As it was sorted.
        let path = format!("{above}{}", named.order());
        let selection = &self.settings.selection;
        let is_taken = match named.kind {
            Kind::Directory => !selection.skips_below(path.trim_end_matches('/')),
            _ => selection.takes(&path),
        };
        match is_taken {
            true => (self.give)(Found::NotUtf8 { path }),
            false => ControlFlow::Continue(()),
        }
    }

    /// What is no directory. Apart from those that it lies in, which are as many as a key is
    /// long: their stack is small.
    fn other(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &str,
        path: String,
        named: &Named,
    ) -> ControlFlow<()> {
        if is_unfinished(name)
            && let Some(stat) = unfinished(directory, named)
        {
            return (self.give)(Found::Unfinished { path, stat });
        }
        let selection = &self.settings.selection;
        let is_taken = selection.takes(&path)
            || !selection.skips_below(&path) && may_be_directory(directory, named);
        if !is_taken {
            return ControlFlow::Continue(());
        }
        if let Some(why) = self.too_long(name, &path) {
            return self.odd(&path, Odd::BadName, why);
        }
        match &named.kind {
            Kind::File | Kind::Directory => self.file(directory, name, path),
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new());
                let target = target.map(|it| told(OsStr::from_bytes(it.as_bytes())));
                let why = format!("leads to {}", target.unwrap_or_default());
                self.odd(&path, Odd::Symlink, &why)
            }
            Kind::Special => self.odd(&path, Odd::Special, "it is no file"),
            Kind::Unknown(why) => {
                let odd = match self.settings.symlinks {
                    Symlinks::Name => Odd::Unreadable,
                    Symlinks::Inside | Symlinks::Everywhere => Odd::Symlink,
                };
                self.odd(&path, odd, why)
            }
        }
    }

    fn directory(&mut self, directory: BorrowedFd<'_>, name: &str, path: &str) -> ControlFlow<()> {
        if self.settings.selection.skips_below(path) {
            return ControlFlow::Continue(());
        }
        let slashed = format!("{path}/");
        if let Some(why) = self.too_long(name, &slashed) {
            return self.odd(&slashed, Odd::BadName, why);
        }
        let opened = match self.settings.symlinks {
            Symlinks::Name => rustix::fs::openat(directory, name, directory_flags(), Mode::empty())
                .map_err(io::Error::from),
            Symlinks::Inside | Symlinks::Everywhere => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                self.open(path, flags)
            }
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return self.odd(&slashed, Odd::Unreadable, &error.to_string()),
        };
        let stat = opened.try_clone().and_then(|it| File::from(it).metadata());
        let is_above = stat.is_ok_and(|found| {
            let stat = Stat::from(&found);
            self.above.contains(&(stat.device, stat.inode))
        });
        if is_above {
            let why = "leads to a directory that it lies in";
            return self.odd(&slashed, Odd::Symlink, why);
        }
        self.enter(opened, &slashed)
    }

    fn file(&mut self, directory: BorrowedFd<'_>, name: &str, path: String) -> ControlFlow<()> {
        let follows = self.settings.symlinks != Symlinks::Name;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = if follows {
            self.open(&path, flags)
        } else {
            let flags = flags | OFlags::NOFOLLOW;
            rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(io::Error::from)
        };
        let found = opened.and_then(|opened| File::from(opened).metadata());
        let readable = rustix::fs::accessat(directory, name, Access::READ_OK, AtFlags::EACCESS);
        match (found, readable.map_err(io::Error::from)) {
            // Gone since it was listed.
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => ControlFlow::Continue(()),
            (Ok(found), Ok(())) if found.is_file() => {
                let names = found.nlink();
                if names > 1 && self.settings.hard_links != HardLinks::Each {
                    return self.odd(&path, Odd::HardLink, &one_of(names));
                }
                let stat = Stat::from(&found);
                (self.give)(Found::File { path, stat, names })
            }
            (Ok(_), Ok(())) => self.odd(&path, Odd::Special, "it is no file any more"),
            (Err(error), _) | (_, Err(error)) => {
                self.odd(&path, Odd::Unreadable, &error.to_string())
            }
        }
    }

    fn too_long(&self, name: &str, path: &str) -> Option<&'static str> {
        if name.len() > NAME_LIMIT_BYTES {
            return Some("its name has more than 255 bytes");
        }
        let bytes = self.settings.prefix_bytes + path.len();
        (bytes > KEY_LIMIT_BYTES).then_some("its key would have more than 1,024 bytes")
    }

    fn odd(&mut self, path: &str, odd: Odd, why: &str) -> ControlFlow<()> {
        (self.give)(Found::Odd {
            path: path.to_owned(),
            odd,
            why: why.to_owned(),
        })
    }
}

/// What is told of a file with more than one name.
pub fn one_of(names: u64) -> String {
    format!("one of {names} names of a file")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn paths(root: &Path, symlinks: Symlinks) -> Vec<String> {
        let settings = WalkSettings {
            symlinks,
            hard_links: HardLinks::Each,
            selection: Selection::default(),
            prefix_bytes: 1000,
        };
        let mut found = Vec::new();
        let opened = open_root(root).unwrap();
        let outcome = walk(opened.as_fd(), &settings, &mut |it| {
            let odd = match &it {
                Found::Odd { odd, .. } => format!(" {odd:?}"),
                Found::Directory { is_empty: true, .. } => " empty".to_owned(),
                _ => String::new(),
            };
            found.push(format!("{}{odd}", it.path()));
            ControlFlow::Continue(())
        });
        assert!(outcome.is_continue());
        found
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at("a-d")).unwrap();
        for file in ["a/b/x", "a-b", "a0", "z"] {
            fs::write(at(file), "x").unwrap();
        }
        let long = "l".repeat(30);
        fs::write(at(&long), "").unwrap();
        fs::write(at("").join(OsStr::from_bytes(b"n\xff")), "").unwrap();
        symlink("a0", at("in")).unwrap();
        symlink("a", at("dir")).unwrap();
        symlink("/etc/passwd", at("out")).unwrap();
        symlink("nowhere", at("none")).unwrap();
        symlink("..", at("a/up")).unwrap();
        symlink("self", at("self")).unwrap();
        dir
    }

    #[test]
    fn a_tree_is_walked_in_the_order_of_keys_and_what_is_odd_is_named() {
        let dir = tree();
        let long = format!("{} BadName", "l".repeat(30));
        assert_eq!(
            paths(dir.path(), Symlinks::Name),
            [
                "a-b",
                "a-d/ empty",
                "a/",
                "a/b/",
                "a/b/x",
                "a/up Symlink",
                "a0",
                "dir Symlink",
                "in Symlink",
                &long,
                "n\\xff",
                "none Symlink",
                "out Symlink",
                "self Symlink",
                "z"
            ]
        );
    }

    #[test]
    fn symlinks_are_followed_inside_or_everywhere_and_never_in_a_circle() {
        let dir = tree();
        let inside = paths(dir.path(), Symlinks::Inside);
        for wanted in [
            "a/up/ Symlink",
            "dir/b/x",
            "dir/up/ Symlink",
            "in",
            "none Symlink",
            "out Symlink",
            "self Symlink",
        ] {
            assert!(inside.iter().any(|it| it == wanted), "{wanted}: {inside:?}");
        }
        let all = paths(dir.path(), Symlinks::Everywhere);
        assert!(all.iter().any(|it| it == "out"), "{all:?}");
        assert!(all.iter().any(|it| it == "self Symlink"), "{all:?}");
    }
}
