//! logrotate, while a program has the log open.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::support::Amount;
use crate::support::suite::{builder, run, tool};

/// What the files of former rounds hold, the oldest first.
fn rotated(folder: &Path, rounds: usize) -> Vec<u8> {
    let mut found = Vec::new();
    for number in (1..=rounds).rev() {
        let plain = folder.join(format!("app.log.{number}"));
        let packed = folder.join(format!("app.log.{number}.gz"));
        match packed.exists() {
            true => found.extend(run(tool("gzip").arg("-dc").arg(packed)).into_bytes()),
            false => found.extend(fs::read(plain).unwrap()),
        }
    }
    found
}

#[test]
fn logrotate_keeps_every_line_whether_it_copies_and_truncates_or_renames() {
    let mut mount = builder().start();
    let rounds = Amount::of(4, 30);
    for way in [
        "copytruncate",
        "create",
        "copytruncate compress",
        "create compress delaycompress",
    ] {
        let name = way.replace(' ', "-");
        let folder = mount.path(&name);
        fs::create_dir(&folder).unwrap();
        let log = folder.join("app.log");
        let config = mount.scratch().join("logrotate.conf");
        let state = mount.scratch().join(format!("{name}.state"));
        let rotate = rounds + 1;
        let log_path = log.display();
        // A config that others may write to is refused.
        fs::write(
            &config,
            format!(
                "{log_path} {{\n su root root\n rotate {rotate}\n {}\n}}\n",
                way.replace(' ', "\n ")
            ),
        )
        .unwrap();
        let open = || {
            File::options()
                .append(true)
                .create(true)
                .open(&log)
                .unwrap()
        };
        let mut writer = open();
        let mut written = Vec::new();
        for round in 0..rounds {
            for line in 0..200 {
                let line = format!("{way} {round} {line}\n");
                writer.write_all(line.as_bytes()).unwrap();
                written.extend_from_slice(line.as_bytes());
            }
            run(tool("logrotate")
                .arg("-f")
                .arg("-s")
                .arg(&state)
                .arg(&config));
            if way.starts_with("create") {
                writer = open();
            }
        }
        writer.write_all(b"the end\n").unwrap();
        written.extend_from_slice(b"the end\n");
        drop(writer);
        mount.remount();
        let mut found = rotated(&folder, rounds);
        found.extend(fs::read(&log).unwrap());
        assert!(
            found == written,
            "{way}: {} of {} bytes",
            found.len(),
            written.len()
        );
    }
    println!("suite logrotate: 4 ways x {rounds} rotations of a log that is open, no line lost");
}
