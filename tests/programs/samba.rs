//! A Samba share of the mount.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::pattern;
use crate::support::servers::free_ports;
use crate::support::suite::make_tree;
use crate::support::suite::{builder, run, tool};
use crate::support::web_server::WebServer;

/// Everything is in a folder of its own, and guests are root.
fn configuration(folder: &Path, share: &Path) -> String {
    let here = folder.display();
    let places = ["lock", "state", "cache", "private", "pid"].map(|kind| {
        let option = match kind {
            "private" => "private dir".to_owned(),
            kind => format!("{kind} directory"),
        };
        format!("{option} = {here}/{kind}\n")
    });
    format!(
        "[global]\nserver role = standalone server\ninterfaces = 127.0.0.1\n\
         bind interfaces only = yes\ndisable netbios = yes\nmap to guest = bad user\n\
         guest account = root\nload printers = no\nlog file = {here}/log\n{}ncalrpc dir = {here}/rpc\n\
         [media]\npath = {}\nguest ok = yes\nread only = no\nforce user = root\n",
        places.concat(),
        share.display()
    )
}

#[test]
fn what_samba_clients_put_get_rename_and_remove_is_so_on_the_mount() {
    let mut mount = builder().start();
    let folder = mount.scratch().join("samba");
    for kind in ["", "lock", "state", "cache", "private", "pid", "rpc"] {
        fs::create_dir(folder.join(kind)).unwrap();
    }
    let config = folder.join("smb.conf");
    fs::write(&config, configuration(&folder, &mount.root)).unwrap();
    let [port] = free_ports();
    let server = WebServer::start("smbd", port, |command| {
        command.args(["--foreground", "--debug-stdout"]);
        command.args(["-p", &port.to_string(), "-s"]).arg(&config);
        command.stdout(fs::File::create(folder.join("told")).unwrap());
    });
    let client = |script: &str, from: &Path| {
        let mut command: Command = tool("smbclient");
        command
            .current_dir(from)
            .args(["//127.0.0.1/media", "-N", "-U", "guest%", "-s"]);
        command.arg(&config).args(["-p", &port.to_string(), "-c"]);
        run(command.arg(script))
    };
    let source = mount.scratch().join("source");
    make_tree(&source);
    fs::write(source.join("long.bin"), pattern(20_000_000, 1)).unwrap();
    client("prompt; recurse; mput *", &source);
    run(tool("diff").arg("-r").arg(&source).arg(&mount.root));
    let back = mount.scratch().join("back");
    fs::create_dir(&back).unwrap();
    client("prompt; recurse; mget *", &back);
    run(tool("diff").arg("-r").arg(&source).arg(&back));
    client(
        "rename long.bin d0/renamed.bin; rename d1 moved; mkdir new; put long.bin new/again.bin; del new/again.bin; rmdir new",
        &source,
    );
    drop(server);
    mount.remount();
    let moved = fs::read(mount.path("d0/renamed.bin")).unwrap();
    assert!(moved == pattern(20_000_000, 1));
    assert!(!mount.path("long.bin").exists() && !mount.path("new").exists());
    run(tool("diff")
        .arg("-r")
        .arg(source.join("d1"))
        .arg(mount.path("moved")));
    println!("suite samba: a tree put, got back, renamed and removed by a client, no difference");
}
