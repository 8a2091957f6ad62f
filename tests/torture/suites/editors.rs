//! Editors, which replace a file by a new one or rewrite it, each in its way.

use std::fs;

use crate::support::Amount;
use crate::support::suite::{builder, run, tool};

#[test]
fn vim_and_sed_edit_files_in_place_and_leave_nothing_beside_them() {
    let mount = builder().start();
    let rounds = Amount::of(3, 30);
    let mut ways = 0;
    let backups = ["yes", "no", "auto"].map(|way| format!("set backupcopy={way}"));
    for (number, way) in backups.iter().enumerate() {
        let name = format!("vim{number}.txt");
        let mut want = String::from("line 0\nlast\n");
        fs::write(mount.path(&name), &want).unwrap();
        for round in 0..rounds {
            let change = format!("%s/line {round}/line {}/", round + 1);
            let mut command = tool("vim");
            command.args(["-u", "NONE", "-i", "NONE", "-N", "-es"]);
            for text in [way, "set swapfile writebackup fsync", &change, "wq"] {
                command.args(["-c", text]);
            }
            run(command.arg(mount.path(&name)));
            want = want.replace(&format!("line {round}"), &format!("line {}", round + 1));
            assert_eq!(mount.object(&name).unwrap(), want.as_bytes(), "{way}");
        }
        ways += 1;
    }
    fs::write(mount.path("sed.txt"), "round 0\n").unwrap();
    for round in 0..rounds {
        let change = format!("s/round {round}/round {}/", round + 1);
        run(tool("sed").args(["-i", &change]).arg(mount.path("sed.txt")));
    }
    let want = format!("round {rounds}\n");
    assert_eq!(fs::read_to_string(mount.path("sed.txt")).unwrap(), want);
    assert_eq!(mount.object("sed.txt").unwrap(), want.as_bytes());
    let keys = ["sed.txt", "vim0.txt", "vim1.txt", "vim2.txt"];
    mount.wait_for_keys("no swap or backup file", |left| left == keys);
    println!("suite vim: {ways} ways of writing x {rounds} edits; sed -i: {rounds} edits");
}
