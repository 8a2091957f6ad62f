//! The life of a kernel session: a mount that outlives the daemons that serve it.
//!
//! A mount lives as long as one copy of its /dev/fuse descriptor is open. While no
//! daemon reads it, requests wait in the kernel; applications see a pause. So the
//! descriptor is kept by a process that does not die with the daemon: systemd's
//! file-descriptor store, or the `supervisor`, which speaks the same protocol
//! (`fd_store`).
//!
//! ```text
//!            mount(2), FUSE_INIT            kill -9, upgrade, watchdog
//!   daemon 1 ─────────────────▶ serves ─────────────────▶ dead
//!      │ copy of the descriptor            │ session file, journal, stages
//!      ▼                                   ▼
//!   fd store ──────────────────────────▶ daemon 2: claim, resume, RESEND, serves
//! ```
//!
//! **Begin** (`fuse_session`, `fuse_init`). The daemon mounts and hands a copy of the
//! descriptor to the store. The kernel sends FUSE_INIT once in the life of a mount,
//! and fuser insists on one. So FUSE_INIT is read here, recorded byte for byte, and
//! given to fuser through a socket pair; then the device takes the socket's place.
//! All threads share one description: with `clone_fd` each clone has a processing list
//! of its own, which the kernel aborts when the daemon dies.
//!
//! **Serve** (`session_state`). Each inode that the kernel learns of, each handle and
//! each change of an open file's stage is in the session file before the answer that
//! makes it true. The file must outlive the daemon, not the machine: it is not synced.
//!
//! **Die.** Whatever the reason, the process must end although the kernel may hold one
//! of its threads: a notification waits for a directory lock of an application whose
//! call waits for the daemon. Such writes are made by the `notifier`, a process that
//! nobody waits for. A predecessor that is dead but held in the kernel loses its spool
//! lock to its successor (`spool_lock`).
//!
//! **Claim** (`inherited`). A daemon that starts with a descriptor in its environment
//! takes the spool's lock, reads the session file, and compares bucket, prefix,
//! mountpoint and device. What does not match, or is damaged, is not resumed: the mount
//! is detached and made again, the log says why, and programs with open files get
//! ENOTCONN. A damaged record costs the file that it was about, never other bytes.
//!
//! **Resume.** In this order: journal and stages; the inode table; open files and
//! handles; the recorded FUSE_INIT to fuser; FUSE_NOTIFY_RESEND (Linux 6.9), which puts
//! every request that the dead daemon took and did not answer back on the queue, marked
//! as resent. A resent request may have been carried out: create, mkdir, unlink, rename
//! and append look first (`Delivery::Resent`). Programs wait meanwhile, so nothing is made for
//! each name that the kernel knows: the session file is checked on one core while another
//! takes its records in (`record_log::whole`), a name stays as small as it was read until
//! somebody asks for it (`namespace::restore`), and no file is rewritten. An older kernel
//! cannot resend: the calls in flight return EINTR. S3 is not asked before the first
//! answer: an outage does not keep a successor from serving.
//!
//! **Requests of the dead daemon at S3** may still be carried out. Each carried the
//! version that it was based on; a change that would bring such a version back waits
//! until that request can no longer land (`store::unanswered`).
//!
//! **End.** The daemon unmounts, drains, and takes the descriptor from the store. If no
//! successor comes although applications wait, the notifier aborts the connection
//! after a bound, and they get ENOTCONN instead of hanging.
//!
//! Sources: linux/fuse.h; sd_notify(3), FDSTORE; libfuse's notes on
//! FUSE_NOTIFY_RESEND.

pub mod access;
pub mod fd_store;
pub mod fuse_init;
pub mod fuse_session;
pub mod inherited;
pub mod spool_lock;
pub mod supervisor;
pub mod supervisor_watchdog;
