//! zip, unzip and 7z, which change an archive in place.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::suite::make_tree;
use crate::support::suite::{builder, run, tool};

/// Times in an archive are of two seconds each.
fn write_later(path: &Path, body: &[u8], minutes: u64) {
    fs::write(path, body).unwrap();
    let later = SystemTime::now() + Duration::from_secs(60 * minutes);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(later).unwrap();
}

#[test]
fn archives_that_zip_and_7z_change_in_place_unpack_to_what_was_packed() {
    let mut mount = builder().start();
    let source = mount.scratch().join("source");
    make_tree(&source);
    let more = mount.scratch().join("more.bin");
    fs::write(&more, crate::support::pattern(400_000, 1)).unwrap();
    let zip = |args: &[&str], what: &Path, from: &Path| {
        let mut command = tool("zip");
        command.current_dir(from).arg("-q").args(args);
        run(command.arg(mount.path("a.zip")).arg(what))
    };
    let seven = |args: &[&str], archive: &Path, what: Option<&Path>, from: &Path| {
        let mut command = tool("7z");
        command.current_dir(from).args(args).args(["-bd", "-bso0"]);
        run(command.arg(archive).args(what))
    };
    let archive = mount.path("a.7z");
    zip(&["-r"], Path::new("."), &source);
    seven(&["a", "-mx1"], &archive, Some(Path::new(".")), &source);
    // A file more, another one instead of it, and it goes.
    let aside = mount.scratch().to_owned();
    for (body, minutes) in [(&b"first"[..], 1), (b"second", 2)] {
        write_later(&aside.join("one"), body, minutes);
        zip(&["-u"], Path::new("one"), &aside);
        zip(&["-g"], Path::new("more.bin"), &aside);
        seven(&["u", "-mx1"], &archive, Some(Path::new("one")), &aside);
        seven(
            &["u", "-mx1"],
            &archive,
            Some(Path::new("more.bin")),
            &aside,
        );
    }
    zip(&["-d"], Path::new("one"), &aside);
    zip(&["-d"], Path::new("more.bin"), &aside);
    seven(&["d"], &archive, Some(Path::new("one")), &aside);
    seven(&["d"], &archive, Some(Path::new("more.bin")), &aside);
    mount.remount();
    run(tool("unzip").arg("-tq").arg(mount.path("a.zip")));
    let mut test = tool("7z");
    run(test.args(["t", "-bso0"]).arg(&archive));
    for (name, unpacked) in [("a.zip", "of-zip"), ("a.7z", "of-7z")] {
        let folder = mount.path(unpacked);
        let mut unpack = match name {
            "a.zip" => tool("unzip"),
            _ => tool("7z"),
        };
        match name {
            "a.zip" => unpack
                .arg("-q")
                .arg(mount.path(name))
                .arg("-d")
                .arg(&folder),
            _ => unpack
                .args(["x", "-bd", "-bso0"])
                .arg(format!("-o{}", folder.display()))
                .arg(mount.path(name)),
        };
        run(&mut unpack);
        run(tool("diff").arg("-r").arg(&source).arg(&folder));
    }
    let left = mount.keys().into_iter().filter(|key| !key.contains('/'));
    assert_eq!(left.collect::<Vec<_>>(), ["a.7z", "a.zip"]);
    println!(
        "suite archives: a zip and a 7z archive changed 6 times in place, unpacked without a difference"
    );
}
