//! mediafs: an S3 bucket as an application's media directory.
//!
//! Layers from the top down. A module uses what stands on lines below its own,
//! never a sibling; `tests/tidy.rs` checks it.
//!
//! ```text
//! main
//! cli                                     one file a subcommand; the topics of `mediafs help`
//! csi   doctor   migrate   setup          volumes of Kubernetes; checks; a bucket and a directory
//!                                         compared; making ready
//! session                                 a mount from start to end: compose, takeover, watchdog, drain
//! config   fuse                           settings with their origins; FUSE requests and replies
//! ops                                     system calls, one file each; renames
//! writeback                               what is uploaded and deleted when
//! files                                   what is open: stages, layers, handles
//! namespace   read_path   write_path      names; blocks; stages and uploads
//! session_state                           what the kernel was told, for a successor
//! overlay                                 an old directory below the bucket, and its import
//! journal                                 what the spool holds, for the start after a crash
//! error   vocabulary                      errors above the store; plain types of several layers
//! record_log   store   telemetry          files of records; S3 requests; logs
//! private                                 files and directories of this user alone
//! failpoint   task                        where a crash test kills; what a panic ends
//! backoff   latency                       pauses between attempts; how long things take
//! ```
//!
//! Invariants:
//! - One file is one object under prefix + path; nothing else is in the bucket
//!   but markers of empty directories, and scratch objects while they are needed.
//! - Bytes leave the spool when S3 has confirmed them, never before.
//! - An object is visible whole or not at all.
//! - No read mixes two versions of an object.
//! - Every change is sent with the version that it is based on.
//! - No FUSE thread waits for S3; no lock but those named in `files` is held across a request.
//!
//! Glossary:
//! - *block*: a range of an object in the read cache.
//! - *part*: a range of a file that is uploaded by one request of a multipart upload.
//! - *stage*: local bytes of a file that S3 does not have yet, in a file of the spool.
//! - *seal*: to fix the bytes of a stage for an upload; later writes go to a new
//!   stage above it.
//! - *lower layer*: what shows where a stage has no bytes: nothing, an object, or a
//!   sealed stage.
//! - *spool*: the local directory of one mount: stages, journal, session file, lost+found.
//! - *journal*: the log of what the spool holds and of renames and deletes that are
//!   not finished; synced before a call that depends on it returns.
//! - *session*: the life of one FUSE connection; it may outlive a daemon.
//! - *session file*: the log of what the kernel was told (inodes, handles); not synced.
//! - *predecessor*, *successor*: the daemon that served the session before, or after.
//! - *takeover*: a successor resumes the session of its predecessor.
//! - *supervisor*: the process that keeps the FUSE descriptor and starts the daemon
//!   again where there is no systemd.
//! - *notifier*: the helper process that writes notifications, which may wait in the kernel.
//! - *marker*: the zero-byte object `dir/` of an empty directory.
//! - *hidden*: a key that cannot be shown as a file.
//! - *old directory*: what an overlay shows below the bucket until all of it is there.
//! - *whiteout*: the record that a name of the old directory does not count any more.
//! - *pin*: a reference to an inode that keeps it in the table.
//! - *condition*: the ETag, or the absence, that a change expects of a key.
//! - *superseded*: a sealed stage that a later one replaces before it was sent.
//! - *delete queue*: objects that are removed here and not yet deleted in S3.
//! - *lost+found*: where bytes go that cannot be uploaded, each with its reason.
//! - *failpoint*: a named place between two steps where a crash test kills the daemon.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod backoff;
pub mod cli;
pub mod config;
pub mod csi;
mod doctor;
pub mod error;
pub mod failpoint;
mod files;
pub mod fuse;
pub mod journal;
mod latency;
mod migrate;
pub mod namespace;
pub mod ops;
mod overlay;
pub mod private;
pub mod read_path;
pub mod record_log;
pub mod session;
pub mod session_state;
mod setup;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod vocabulary;
pub mod write_path;
mod writeback;
