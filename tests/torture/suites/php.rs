//! PHP: uploads of a form, and archives that are changed in place.

use std::fs;

use crate::support::servers::free_ports;
use crate::support::suite::{builder, run, tool};
use crate::support::web_server::WebServer;
use crate::support::{Amount, pattern};

/// Takes the file of a form as applications do.
const UPLOAD: &str = r#"<?php
error_reporting(E_ALL);
set_error_handler(function ($no, $text) { throw new Exception($text); });
$target = getenv('UPLOADS') . '/' . basename($_FILES['file']['name']);
if ($_FILES['file']['error'] !== UPLOAD_ERR_OK) throw new Exception('upload');
if (!move_uploaded_file($_FILES['file']['tmp_name'], $target)) throw new Exception('move');
chmod($target, 0644);
clearstatcache();
echo filesize($target), ' ', hash_file('sha256', $target);
"#;

/// Makes an archive of files in `$argv[1]`, changes it in place, and unpacks it.
const ARCHIVE: &str = r#"<?php
error_reporting(E_ALL);
set_error_handler(function ($no, $text) { throw new Exception($text); });
function must($done) { if ($done === false) throw new Exception('failed'); return $done; }
[$_, $root, $count] = $argv;
$path = "$root/archive.zip";
$want = [];
$zip = new ZipArchive();
if ($zip->open($path, ZipArchive::CREATE) !== true) throw new Exception('create');
for ($i = 0; $i < $count; $i++) {
    $want["f$i"] = random_bytes(1 + ($i * 7919) % 60000);
    must($zip->addFromString("f$i", $want["f$i"]));
}
file_put_contents("$root/beside.bin", $want['beside.bin'] = random_bytes(200000));
must($zip->addFile("$root/beside.bin", 'beside.bin'));
must($zip->close());
for ($round = 0; $round < 5; $round++) {
    if ($zip->open($path) !== true) throw new Exception('open');
    must($zip->deleteName("f$round"));
    unset($want["f$round"]);
    $want["new$round"] = random_bytes(30000);
    must($zip->addFromString("new$round", $want["new$round"]));
    must($zip->close());
}
if ($zip->open($path, ZipArchive::RDONLY | ZipArchive::CHECKCONS) !== true) throw new Exception('check');
must($zip->numFiles === count($want));
must($zip->extractTo("$root/unpacked"));
must($zip->close());
foreach ($want as $name => $bytes) must(file_get_contents("$root/unpacked/$name") === $bytes);
$left = array_values(array_diff(scandir($root), ['.', '..']));
if ($left !== ['archive.zip', 'beside.bin', 'unpacked']) throw new Exception(implode(' ', $left));
echo count($want);
"#;

#[test]
fn what_a_form_uploads_to_php_is_in_the_bucket() {
    let mount = builder().start();
    let script = mount.scratch().join("upload.php");
    fs::write(&script, UPLOAD).unwrap();
    fs::create_dir(mount.path("tmp")).unwrap();
    let count = Amount::of(5, 50);
    // PHP keeps what arrives on another disk, and copies, or beside it, and renames.
    for (way, temporary) in [
        ("copied", mount.scratch().to_owned()),
        ("renamed", mount.path("tmp")),
    ] {
        let folder = mount.path(way);
        fs::create_dir(&folder).unwrap();
        let [port] = free_ports();
        let server = WebServer::start("php", port, |command| {
            command
                .env("UPLOADS", &folder)
                .args(["-d", "upload_max_filesize=64M", "-d", "post_max_size=64M"])
                .args(["-d", "display_errors=1"])
                .arg("-d")
                .arg(format!("upload_tmp_dir={}", temporary.display()))
                .args(["-S", &format!("127.0.0.1:{port}")])
                .arg(&script);
        });
        for number in 0..count {
            let bytes = pattern(number * number * 100_000 + number, 1);
            let name = format!("{number}.bin");
            let told = server.upload("/", &name, &bytes).unwrap();
            let want = format!("{} {}", bytes.len(), crate::support::sha256(&bytes));
            assert_eq!(told, want, "{way} {name}");
            let object = mount.object(&format!("{way}/{name}")).unwrap();
            assert!(object == bytes, "{way} {name}");
        }
    }
    assert_eq!(fs::read_dir(mount.path("tmp")).unwrap().count(), 0);
    println!(
        "suite php: {count} uploads copied and {count} renamed by move_uploaded_file, all in the bucket"
    );
}

#[test]
fn php_changes_a_zip_archive_in_place() {
    let mut mount = builder().start();
    let script = mount.scratch().join("archive.php");
    fs::write(&script, ARCHIVE).unwrap();
    let count = Amount::of("30", "500");
    let told = run(tool("php").arg(&script).arg(&mount.root).arg(count));
    mount.remount();
    run(tool("unzip").args(["-tq"]).arg(mount.path("archive.zip")));
    println!("suite php: ZipArchive changed 5 times in place, its {told} files are right");
}
