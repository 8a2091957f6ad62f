//! Circles of imports between files.
//!
//! A name that another file re-exports is an import of the file that has it; the
//! re-export itself is none. Not seen are calls of methods (see `spread`), and what a
//! folder's `mod.rs` names by a child's name where it is used (`child::f()`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::source::{outside_tests, without_comments_and_strings};
use crate::{files_below, repository};

/// More re-exports of one name than there are.
const REEXPORTS_LIMIT: usize = 8;

type Path = Vec<String>;

/// The files by their modules, each with the paths that it names.
#[derive(Default)]
struct Modules {
    named: BTreeMap<Path, Vec<Path>>,
    /// What a module's name stands for in another.
    exports: BTreeMap<Path, Path>,
}

impl Modules {
    fn of(sources: &[(String, String)]) -> Self {
        let mut this = Self::default();
        let codes: Vec<(Path, String)> = sources
            .iter()
            .filter_map(|(path, text)| {
                let code = without_comments_and_strings(text);
                Some((module_of(path)?, outside_tests(&code).to_owned()))
            })
            .collect();
        let of_none = |(module, _): &(Path, String)| (module.clone(), Vec::new());
        this.named = codes.iter().map(of_none).collect();
        for (module, code) in &codes {
            let (uses, rest) = uses(code);
            let mut named = inline_paths(&rest);
            for Use { path, name, is_pub } in uses {
                if !is_pub {
                    named.push(path);
                } else if let Some(target) = this.absolute(module, &path) {
                    this.exports.insert(joined(module, &[name]), target);
                }
            }
            let named = named.iter().filter_map(|path| this.absolute(module, path));
            let named = named.collect();
            this.named.insert(module.clone(), named);
        }
        this
    }

    /// From the crate's root; none for what is not of this crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Path> {
        let first = path.first()?;
        let ups = path.iter().take_while(|it| *it == "super").count();
        match first.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some(joined(module, &path[1..])),
            "super" => {
                let above = module.get(..module.len().checked_sub(ups)?)?;
                Some(joined(above, &path[ups..]))
            }
            _ => {
                let child = joined(module, std::slice::from_ref(first));
                let is_child = self.named.contains_key(&child);
                is_child.then(|| joined(module, path))
            }
        }
    }

    /// The module of the file that has what the path names.
    fn home(&self, path: &[String]) -> Option<Path> {
        let mut path = path.to_vec();
        for _ in 0..REEXPORTS_LIMIT {
            let is_module = |len: &usize| self.named.contains_key(&path[..*len]);
            let len = (0..=path.len()).rev().find(is_module)?;
            let export = path.get(..=len).and_then(|name| self.exports.get(name));
            match export {
                Some(target) => path = joined(target, &path[len + 1..]),
                None => return Some(path[..len].to_vec()),
            }
        }
        None
    }

    /// Which files each file imports from, as far as they lead back to one another.
    fn circles(&self) -> BTreeMap<Path, BTreeSet<Path>> {
        let mut arrows: BTreeMap<Path, BTreeSet<Path>> = BTreeMap::new();
        for (module, named) in &self.named {
            let homes = named.iter().filter_map(|path| self.home(path));
            let others: BTreeSet<Path> = homes.filter(|home| home != module).collect();
            arrows.insert(module.clone(), others);
        }
        let leads_back = |from: &Path, to: &Path| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(module) = next.pop() {
                if seen.insert(module) {
                    next.extend(arrows.get(module).into_iter().flatten());
                }
            }
            seen.contains(to)
        };
        let circles = arrows.iter().map(|(module, others)| {
            let circle = others.iter().filter(|other| leads_back(other, module));
            (module.clone(), circle.cloned().collect())
        });
        let circles = circles.filter(|(_, others): &(Path, BTreeSet<Path>)| !others.is_empty());
        circles.collect()
    }
}

/// One name of a `use`.
struct Use {
    path: Path,
    /// What it is called here.
    name: String,
    is_pub: bool,
}

fn joined(head: &[String], tail: &[String]) -> Path {
    [head, tail].concat()
}

/// None for the program, which is a crate of its own, and for tests.
fn module_of(file: &str) -> Option<Path> {
    let inside = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut module: Path = inside.split('/').map(str::to_owned).collect();
    let last = module.last()?.clone();
    if matches!(last.as_str(), "mod" | "lib") {
        module.pop();
    }
    let is_other = last == "main" || module.iter().any(|it| it == "tests");
    (!is_other).then_some(module)
}

/// What the code has in its `use`s, and the code without them.
fn uses(code: &str) -> (Vec<Use>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut left = code;
    while let Some(at) = left.find("use ") {
        let (before, statement) = left.split_at(at);
        let line = before.rsplit('\n').next().unwrap_or_default().trim();
        let is_use = line.is_empty() || (line.starts_with("pub") && !line.contains(' '));
        let end = if is_use {
            statement.find(';').unwrap_or(statement.len())
        } else {
            "use ".len()
        };
        if is_use {
            let tree = &statement["use ".len()..end];
            found.extend(expanded(tree).into_iter().map(|(path, name)| Use {
                path,
                name,
                is_pub: !line.is_empty(),
            }));
        }
        rest.push_str(before);
        left = &statement[end..];
    }
    rest.push_str(left);
    (found, rest)
}

/// Every path of a tree of imports, and what it is called.
fn expanded(tree: &str) -> Vec<(Path, String)> {
    let segments = |path: &str| -> Path {
        let segments = path.split("::").map(str::trim);
        let segments = segments.filter(|it| !it.is_empty());
        segments.map(str::to_owned).collect()
    };
    if let Some((head, group)) = tree.split_once('{') {
        let head = segments(head);
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let below = members(group).into_iter().flat_map(expanded);
        return below
            .map(|(path, name)| (joined(&head, &path), name))
            .collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let path: Path = segments(path);
    let Some(last) = path.last().cloned() else {
        return Vec::new();
    };
    let name = Some(alias.trim()).filter(|alias| !alias.is_empty());
    let name = name.map_or(last, str::to_owned);
    vec![(path.into_iter().filter(|it| it != "self").collect(), name)]
}

/// The members of `a, b::{c, d}`.
fn members(group: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&group[start..]);
    found
}

/// Paths from the crate's root, or from the folder, in the code itself.
fn inline_paths(code: &str) -> Vec<Path> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_path(c)).filter(|it| it.contains("::"));
    let words = words.filter(|it| it.starts_with("crate::") || it.starts_with("super::"));
    words
        .map(|word| {
            let names = word.split("::").filter(|it| !it.is_empty());
            names.map(str::to_owned).collect()
        })
        .collect()
}

fn told(circles: &BTreeMap<Path, BTreeSet<Path>>) -> String {
    let shown = |path: &Path| path.join("::");
    let lines = circles.iter().map(|(module, others)| {
        let others: Vec<String> = others.iter().map(shown).collect();
        format!("{} imports from {}", shown(module), others.join(", "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn no_files_import_from_each_other() {
    let files = files_below(&["src"], "rs").into_iter();
    let sources: Vec<(String, String)> = files
        .map(|file| {
            let path = file.strip_prefix(repository()).unwrap().to_str().unwrap();
            (path.to_owned(), fs::read_to_string(&file).unwrap())
        })
        .collect();
    let modules = Modules::of(&sources);
    let arrows: usize = modules.named.values().map(Vec::len).sum();
    assert!(arrows > 1000, "imports are found");
    let circles = modules.circles();
    assert!(circles.is_empty(), "a circle:\n{}", told(&circles));
}

#[test]
fn files_that_import_from_each_other_are_found() {
    let circle = |files: &[(&str, &str)]| {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        let sources: Vec<(String, String)> = files.iter().map(owned).collect();
        !Modules::of(&sources).circles().is_empty()
    };
    let a = ("src/x/a.rs", "use super::b::{self, B as C};\n");
    assert!(circle(&[a, ("src/x/b.rs", "use crate::x::a::A;\n")]));
    assert!(circle(&[
        a,
        ("src/x/b.rs", "fn f() -> super::a::A { g(); }\n")
    ]));
    assert!(!circle(&[a, ("src/x/b.rs", "use std::a::A;\n")]));
    let tested = "#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}\n";
    assert!(!circle(&[a, ("src/x/b.rs", tested)]));
    // By way of what the folder re-exports.
    let folder = ("src/x/mod.rs", "mod a;\nmod b;\npub use a::A;\n");
    assert!(circle(&[folder, a, ("src/x/b.rs", "use super::A;\n")]));
    assert!(!circle(&[folder, a, ("src/x/b.rs", "use super::D;\n")]));
    // The folder itself and a file in it.
    let made = ("src/x/mod.rs", "mod a;\nuse a::B;\nstruct A;\n");
    assert!(circle(&[made, ("src/x/a.rs", "use super::A;\n")]));
    assert!(!circle(&[
        made,
        ("src/x/a.rs", "use super::super::y::A;\n")
    ]));
}
