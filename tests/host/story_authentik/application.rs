//! The application whose folder is moved.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::NamedTempFile;

use super::{APPLICATION_USER, Tree, WITHIN, as_user};
use crate::support::podman::Podman;
use crate::support::wait_until;

/// Uploads icons and reads them, and an old one; once it may, it changes and
/// removes them too. It tells each thing that it has done, and each that failed.
///
/// `$own`: how its files begin; `$media`: their folder; `$told`: the one by which it is told
/// what to do, and tells how far it is.
const SCRIPT: &str = r#"
icons=public/application-icons n=0 has_changed=
failed() { echo "! $1 in round $n"; }
while [ ! -e $told/stop ]; do
    [ ! -e $told/moved ] || media=/data/media
    [ "$(cat $media/$icons/old.svg)" = "<svg>old</svg>" ] || failed "a read of an old icon"
    n=$((n + 1))
    icon=$icons/$own$n.svg
    echo "<svg>$n</svg>" >$media/$icon || failed "an upload"
    echo "+ $icon <svg>$n</svg>"
    [ "$(cat $media/$icon)" = "<svg>$n</svg>" ] || failed "a read of an upload"
    if [ -e $told/changes ]; then
        echo $n >$media/public/$own.txt || failed "a change"
        echo "+ public/$own.txt $n"
        case $((n % 3)) in
            0) rm $media/$icon || failed "a removal"
                echo "- $icon" ;;
            1) mv $media/$icon $media/$icons/$own-moved.svg || failed "a rename"
                echo "> $icon $icons/$own-moved.svg" ;;
        esac
        if [ ! "$has_changed" ]; then
            rm $media/$icons/$own-removed.png || failed "the removal of an old icon"
            echo "- $icons/$own-removed.png"
            mv $media/$icons/$own-renamed.png $media/$icons/$own-new.png || failed "its rename"
            echo "> $icons/$own-renamed.png $icons/$own-new.png"
            has_changed=1
        fi
    fi
    echo $n >$told/rounds.new
    mv $told/rounds.new $told/rounds
done
"#;

/// An application that runs.
pub struct Application {
    child: Child,
    /// The folder by which it is told what to do, as this process reaches it.
    told: PathBuf,
    /// What it tells of what it has done.
    did: NamedTempFile,
}

impl Application {
    #[track_caller]
    pub fn inside(container: &Podman, own: &str, media: &Path) -> Self {
        let told = Path::new("/tmp").join(own);
        let script = script(own, media, &told);
        let told = container.path(told.to_str().unwrap());
        give_folder(&told);
        Self::start(container.shell(&script), told)
    }

    /// On this host, as its user.
    #[track_caller]
    pub fn here(own: &str, media: &Path, told: PathBuf) -> Self {
        give_folder(&told);
        let script = script(own, media, &told);
        Self::start(as_user(Command::new("sh").arg("-ec").arg(script)), told)
    }

    #[track_caller]
    fn start(mut command: Command, told: PathBuf) -> Self {
        // A pipe that nobody reads would stop it.
        let did = NamedTempFile::new().unwrap();
        let child = command.stdout(did.reopen().unwrap()).spawn().unwrap();
        let this = Self { child, told, did };
        this.goes_on();
        this
    }

    pub fn tell(&self, name: &str, text: &str) {
        fs::write(self.told.join(name), text).unwrap();
    }

    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.told.join(name)).unwrap_or_default()
    }

    fn rounds(&self) -> u64 {
        self.told("rounds").trim().parse().unwrap_or_default()
    }

    /// Returns once it has done more.
    #[track_caller]
    pub fn goes_on(&self) {
        let before = self.rounds();
        wait_until(WITHIN, "more rounds", || self.rounds() >= before + 3);
    }

    /// Ends it, and has the model do what it did. Returns the names that its files had.
    #[track_caller]
    pub fn end(mut self, model: &mut Tree) -> Vec<String> {
        self.tell("stop", "now");
        let status = self.child.wait().unwrap();
        let text = fs::read_to_string(self.did.path()).unwrap();
        assert!(status.success(), "{text}");
        let mut names = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words[..] {
                ["+", path, body] => {
                    model.insert(path.to_owned(), format!("{body}\n").into());
                    names.push(path.to_owned());
                }
                ["-", path] => drop(model.remove(path).unwrap()),
                [">", from, to] => {
                    let body = model.remove(from).unwrap();
                    model.insert(to.to_owned(), body);
                    names.push(to.to_owned());
                }
                _ => panic!("{line}"),
            }
        }
        names
    }
}

fn give_folder(path: &Path) {
    fs::create_dir(path).unwrap();
    chown(path, Some(APPLICATION_USER), Some(APPLICATION_USER)).unwrap();
}

fn script(own: &str, media: &Path, told: &Path) -> String {
    let (media, told) = (media.display(), told.display());
    format!("own={own} media={media} told={told}\n{SCRIPT}")
}
