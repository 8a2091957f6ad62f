//! SQLite with its rollback journal: transactions of two processes, a writer
//! that is killed in the middle of one, and the database as S3 has it.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::Amount;
use crate::support::programs::{python, succeeds};
use crate::support::suite::builder;

/// What every program here begins with.
const OPEN: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=600, isolation_level=None)
assert db.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
"#;

/// Two accounts, whose sum no transaction changes, and a log of the transfers.
const CREATE: &str = r#"
db.executescript("""
    BEGIN;
    CREATE TABLE account (name TEXT PRIMARY KEY, amount INTEGER);
    CREATE TABLE transfer (id INTEGER PRIMARY KEY, writer TEXT, filler BLOB);
    INSERT INTO account VALUES ('left', 1000), ('right', 1000);
    COMMIT;
""")
"#;

/// Transfers that commit, and every tenth that is rolled back.
const TRANSFER: &str = r#"
writer, count = sys.argv[2], int(sys.argv[3])
for number in range(count):
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE account SET amount = amount - 1 WHERE name = 'left'")
    db.execute("INSERT INTO transfer (writer, filler) VALUES (?, randomblob(3000))", (writer,))
    db.execute("UPDATE account SET amount = amount + 1 WHERE name = 'right'")
    db.execute("ROLLBACK" if number % 10 == 9 else "COMMIT")
"#;

/// Spills half a transaction into the file, says so, and waits to be killed.
const HALF: &str = r#"
db.execute("PRAGMA cache_size=1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE account SET amount = 0")
for number in range(200):
    db.execute("INSERT INTO transfer (writer, filler) VALUES ('killed', randomblob(3000))")
print("half", flush=True)
sys.stdin.read()
"#;

const CHECK: &str = r#"
assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
amounts = dict(db.execute("SELECT * FROM account"))
assert sum(amounts.values()) == 2000, amounts
count = db.execute("SELECT count(*) FROM transfer").fetchone()[0]
assert amounts["right"] == 1000 + count, (amounts, count)
assert not db.execute("SELECT 1 FROM transfer WHERE writer = 'killed'").fetchone()
print(count)
"#;

#[test]
fn a_database_with_a_rollback_journal_keeps_whole_transactions_only() {
    let mut mount = builder().start();
    let database = mount.path("app.db");
    let program = |text: &str| {
        let mut command = Command::new(python());
        command.args(["-c", &format!("{OPEN}{text}")]);
        command
    };
    let checked = |path| succeeds(program(CHECK).arg(path)).trim().to_owned();
    succeeds(program(CREATE).arg(&database));
    let each: u64 = Amount::of(50, 500);
    let writers = ["one", "two"].map(|writer| {
        let mut command = program(TRANSFER);
        command.arg(&database).args([writer, &each.to_string()]);
        command.spawn().unwrap()
    });
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let committed = (2 * (each - each / 10)).to_string();
    assert_eq!(checked(&database), committed);

    let mut killed = program(HALF);
    killed.arg(&database).stdin(Stdio::piped());
    let mut killed = killed.stdout(Stdio::piped()).spawn().unwrap();
    let mut half = [0; 4];
    std::io::Read::read_exact(killed.stdout.as_mut().unwrap(), &mut half).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(mount.path("app.db-journal").exists());
    assert_eq!(checked(&database), committed);
    assert!(!mount.path("app.db-journal").exists());

    mount.remount();
    assert_eq!(checked(&database), committed);
    mount.wait_for_keys("the database alone", |keys| keys == ["app.db"]);
    let copy = mount.scratch().join("copy.db");
    fs::write(&copy, mount.object("app.db").unwrap()).unwrap();
    assert_eq!(checked(&copy), committed);
    println!("suite sqlite: {committed} transactions of 2 processes, integrity_check ok");
}
