//! Man pages, as scripts/install installs them and man(1) shows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::programs::{said, succeeds};

fn script(name: &str, destination: &Path) -> String {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut command = Command::new(scripts.join(name));
    command
        .env("DESTDIR", destination)
        .env("PREFIX", "/usr/local")
        .env("MEDIAFS_BINARY", env!("CARGO_BIN_EXE_mediafs"));
    succeeds(&mut command)
}

/// A page as man(1) formats it, and what groff warns of.
fn formatted(page: &Path) -> (String, String) {
    // Pages that include others name them from the folder of all of them.
    let folder = page.parent().unwrap().parent().unwrap();
    let mut command = Command::new("groff");
    command
        .args([
            "-s", "-man", "-Tutf8", "-rLL=80n", "-P-c", "-P-b", "-P-u", "-ww",
        ])
        .arg(page)
        .current_dir(folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // What man(1) shows for a minus is a hyphen.
    let text = String::from_utf8(output.stdout)
        .unwrap()
        .replace('\u{2212}', "-");
    (text, String::from_utf8(output.stderr).unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn commands_and_topics_are_installed_as_man_pages_and_uninstalled() {
    let destination = tempfile::tempdir().unwrap();
    let man = destination.path().join("usr/local/share/man");
    script("install", destination.path());

    let topics = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/help"));
    let topics = topics.unwrap().map(|entry| entry.unwrap().path());
    let topics: Vec<PathBuf> = topics
        .filter(|path| path.extension().is_some_and(|it| it == "md"))
        .collect();
    for topic in &topics {
        let topic = topic.file_stem().unwrap().to_str().unwrap();
        let (text, warnings) = formatted(&man.join(format!("man7/mediafs-{topic}.7")));
        assert_eq!(warnings, "", "{topic}");
        assert!(text.contains(&format!("mediafs-{topic} - ")), "{text}");
        let long = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{topic}");
        let broken = text.lines().find(|line| line.ends_with('\u{2010}'));
        assert_eq!(broken, None, "{topic}");
    }
    assert_eq!(files(&man.join("man7")).len(), topics.len());

    let commands = files(&man.join("man1"));
    assert!(commands.contains(&man.join("man1/mediafs-spool-retry.1")));
    for page in &commands {
        let (text, warnings) = formatted(page);
        assert_eq!(warnings, "", "{page:?}");
        assert!(text.contains("mediafs-troubleshooting(7)"), "{text}");
    }
    let (text, _) = formatted(&man.join("man1/mediafs-mount.1"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let flowing = words.join(" ");
    for words in [
        "WRITING AND SPOOL",
        "beyond it mv copies",
        "EXAMPLES",
        "mediafs mount media",
    ] {
        assert!(flowing.contains(words), "{words}: {text}");
    }
    let helper = man.join("man8/mount.mediafs.8");
    assert_eq!(formatted(&helper).0, text);

    script("uninstall", destination.path());
    for section in ["man1", "man7", "man8"] {
        assert_eq!(files(&man.join(section)), Vec::<PathBuf>::new());
    }
}
