//! What an edit sends, and parts that memory does not hold.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{behind_a_proxy, no_upload_is_left};
use crate::support::data::{MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Mount, Server, pattern, sys};

#[test]
fn an_append_an_edit_and_a_cut_send_a_few_mib_whatever_the_part_size() {
    let proxy = Proxy::before(Server::shared());
    let mount = Mount::builder()
        .set("--endpoint-url", &proxy.endpoint)
        .args(["--part-size", "16MiB"])
        .start();
    let mut body = pattern(50 * MIB + 4321, 1);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    let change = |change: &dyn Fn(&File)| {
        let before = proxy.lengths("UploadPart").len();
        let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
        change(&file);
        sys::close(file).unwrap();
        proxy.lengths("UploadPart").split_off(before)
    };

    let end = body.len() as u64;
    let sent = change(&|file| file.write_all_at(b"appended", end).unwrap());
    body.extend(b"appended");
    assert_same_bytes(&mount.object("f").unwrap(), &body, "appended");
    assert_eq!(sent.len(), 1);
    assert!(sent[0] < MIB, "{sent:?}");

    // Near the start, near each other, and near the end.
    let edits = [MIB, 20 * MIB, 23 * MIB, body.len() - 100];
    let sent = change(&|file| {
        for at in edits {
            file.write_all_at(b"edited", at as u64).unwrap();
        }
    });
    for at in edits {
        body[at..at + 6].copy_from_slice(b"edited");
    }
    assert_same_bytes(&mount.object("f").unwrap(), &body, "edited");
    assert!(sent.iter().sum::<usize>() < 20 * MIB, "{sent:?}");

    let sent = change(&|file| file.set_len(33 * MIB as u64 + 7).unwrap());
    body.truncate(33 * MIB + 7);
    assert_same_bytes(&mount.object("f").unwrap(), &body, "cut");
    assert_eq!(sent, Vec::<usize>::new());
    no_upload_is_left(&mount);
}

#[test]
fn a_part_longer_than_the_part_size_is_sent_as_it_is_read() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let mut body = pattern(40 * MIB, 1);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    // Cut in two, one of them would be below 5 MiB.
    let mut edit = pattern(9 * MIB + 5, 2);
    for fault in [None, Some(Fault::LoseAnswer), Some(Fault::FlipRequest)] {
        let before = proxy.lengths("UploadPart").len();
        if let Some(fault) = fault {
            proxy.fail("UploadPart", fault, 1);
        }
        edit.reverse();
        let mut want = body.clone();
        want[11 * MIB..20 * MIB + 5].copy_from_slice(&edit);
        let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
        file.write_all_at(&edit, 11 * MIB as u64).unwrap();
        match sys::close(file) {
            Ok(()) => body = want,
            // The server has compared the checksum.
            outcome => {
                assert_eq!(fault, Some(Fault::FlipRequest));
                assert_eq!(sys::errno(outcome), libc::EIO);
            }
        }
        assert_same_bytes(&mount.object("f").unwrap(), &body, "edited");
        let sent = proxy.lengths("UploadPart").split_off(before);
        assert!(sent.iter().all(|len| *len == edit.len()), "{sent:?}");
    }
}
