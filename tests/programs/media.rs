//! ffmpeg, which moves the index of a film to its front when all is written.

use std::fs;
use std::path::Path;

use crate::support::Amount;
use crate::support::suite::{builder, run, tool};

fn encode(target: &Path) {
    let seconds = Amount::of(2, 20);
    let picture = format!("testsrc=duration={seconds}:size=640x360:rate=25");
    let sound = format!("sine=frequency=440:duration={seconds}");
    let mut command = tool("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]);
    command.args(["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound]);
    command.args(["-c:v", "mpeg4", "-b:v", "8M", "-c:a", "aac"]);
    command.args([
        "-threads",
        "1",
        "-fflags",
        "+bitexact",
        "-flags",
        "+bitexact",
    ]);
    run(command.args(["-movflags", "+faststart"]).arg(target));
}

#[test]
fn a_film_with_its_index_in_front_is_the_same_as_on_a_local_disk() {
    let mut mount = builder().start();
    let local = mount.scratch().join("film.mp4");
    encode(&local);
    encode(&mount.path("film.mp4"));
    let want = fs::read(&local).unwrap();
    let at = |name: &[u8]| want.windows(4).position(|four| four == name).unwrap();
    assert!(at(b"moov") < at(b"mdat"), "the index is in front");
    assert!(mount.object("film.mp4").unwrap() == want);
    mount.remount();
    let mut check = tool("ffmpeg");
    check.args(["-nostdin", "-v", "error", "-xerror", "-i"]);
    run(check.arg(mount.path("film.mp4")).args(["-f", "null", "-"]));
    // In place: the index goes to the front of a file that is there.
    let mut copy = tool("ffmpeg");
    copy.args(["-nostdin", "-v", "error", "-i"])
        .arg(mount.path("film.mp4"));
    run(copy
        .args(["-c", "copy", "-movflags", "+faststart"])
        .arg(mount.path("copy.mp4")));
    run(tool("ffprobe")
        .args(["-v", "error"])
        .arg(mount.path("copy.mp4")));
    println!(
        "suite ffmpeg: {} bytes with faststart, the same as on a local disk",
        want.len()
    );
}
