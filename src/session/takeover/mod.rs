//! Another daemon goes on with the mount of one that has ended.

pub mod fd_store;
pub mod fuse_init;
pub mod fuse_session;
pub mod inherited;
pub mod spool_lock;
pub mod supervisor;
pub mod supervisor_watchdog;
