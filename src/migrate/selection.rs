//! Which names take part: --include and --exclude.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// How the names of unfinished files of an export begin.
pub const UNFINISHED: &str = ".mediafs-export-";

/// Globs over paths below the directory; one without a slash is of names at any depth.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Selection {
    /// Errors: a glob that is none, in words.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        Ok(Self {
            include: if include.is_empty() {
                None
            } else {
                Some(set(include)?)
            },
            exclude: set(exclude)?,
        })
    }

    /// Whether a file, or a directory by its path with a slash, takes part.
    pub fn takes(&self, path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path);
        let ends = path.match_indices('/').map(|(at, _)| at);
        let mut above = ends.filter_map(|end| path.get(..end));
        if self.skips_below(path) || above.any(|directory| self.exclude.is_match(directory)) {
            return false;
        }
        let include = self.include.as_ref();
        include.is_none_or(|include| include.is_match(path))
    }

    /// Whether nothing below this directory takes part.
    pub fn skips_below(&self, path: &str) -> bool {
        self.exclude.is_match(path)
    }
}

/// Whether a file of a directory has a name of an unfinished file of an export: sixteen
/// digits follow. A key that has one is any other key.
pub fn is_unfinished(name: &str) -> bool {
    let digits = name.strip_prefix(UNFINISHED);
    digits.is_some_and(|digits| {
        digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

fn set(globs: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let trimmed = glob.trim_start_matches('/');
        let anywhere = !glob.trim_end_matches('/').contains('/');
        let trimmed = trimmed.trim_end_matches('/');
        let whole = if anywhere {
            format!("**/{trimmed}")
        } else {
            trimmed.to_owned()
        };
        let built = GlobBuilder::new(&whole).literal_separator(true).build();
        set.add(built.map_err(|error| format!("{glob:?}: {error}"))?);
    }
    set.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |globs: &[&str]| globs.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn globs_without_a_slash_are_of_names_at_any_depth() {
        let all = selection(&[], &["*.tmp", "cache/"]);
        for (path, taken) in [
            ("a.png", true),
            ("a.tmp", false),
            ("x/y/a.tmp", false),
            ("cache/a", false),
            ("x/cache/a", false),
            ("x/cache/", false),
            ("cached", true),
            (".mediafs-export-0123456789abcdef", true),
            (".mediafs-export-notes", true),
        ] {
            assert_eq!(all.takes(path), taken, "{path}");
        }
        let some = selection(&["/public/**", "*.png"], &["public/old"]);
        for (path, taken) in [
            ("public/a", true),
            ("public/x/a", true),
            ("public/old/a.png", false),
            ("b.png", true),
            ("b.txt", false),
        ] {
            assert_eq!(some.takes(path), taken, "{path}");
        }
        assert!(Selection::new(&["[".to_owned()], &[]).is_err());
    }
}
