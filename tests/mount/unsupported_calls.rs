//! Calls that a bucket has nothing for: the right errno, and no word in the log.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use crate::support::programs::run_python;
use crate::support::{Mount, sys};

/// Each line a call and the errno that it must give, or 0.
const CALLS: &str = "
import ctypes, errno, fcntl, os, sys
root = sys.argv[1]
path = root + '/f'
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(path, os.O_RDWR)
folder = os.open(root, os.O_RDONLY)
failed = []
def check(what, wanted, call):
    try:
        call()
        found = 0
    except OSError as error:
        found = error.errno
    if found not in wanted:
        failed.append((what, found, wanted))
def raw(name, *args):
    ctypes.set_errno(0)
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), name)
long = ctypes.c_long
for _ in range(3):
    check('link', [errno.EPERM], lambda: os.link(path, root + '/g'))
    check('link of what is gone', [errno.ENOENT], lambda: os.link(root + '/none', root + '/g'))
    check('link onto a name', [errno.EEXIST], lambda: os.link(path, root + '/f2'))
    # TCGETS, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FICLONE-like, nonsense.
    for number in [0x5401, 0x80086601, 0x40086602, 0x801c581f, 0x12345678, 0x4004ff01]:
        for at in [fd, folder]:
            check(hex(number), [errno.ENOTTY, errno.EOPNOTSUPP],
                  lambda: fcntl.ioctl(at, number, bytearray(64)))
    check('FICLONE', [errno.EOPNOTSUPP, errno.EXDEV], lambda: fcntl.ioctl(fd, 0x40049409, fd))
    check('FIBMAP', [errno.EINVAL, 0, errno.ENOTTY], lambda: fcntl.ioctl(fd, 1, bytearray(4)))
    check('SEEK_DATA', [0], lambda: os.lseek(fd, 0, os.SEEK_DATA))
    check('SEEK_HOLE', [0], lambda: os.lseek(fd, 0, os.SEEK_HOLE))
    check('O_TMPFILE', [errno.EOPNOTSUPP], lambda: os.open(root, os.O_TMPFILE | os.O_RDWR, 0o600))
    for mode in [8, 32, 64, 1 | 8]:
        check('fallocate %d' % mode, [errno.EOPNOTSUPP, errno.EINVAL],
              lambda: raw('fallocate', fd, mode, long(0), long(4096)))
    check('RENAME_WHITEOUT', [errno.EINVAL],
          lambda: raw('renameat2', -100, path.encode(), -100, (root + '/w').encode(), 4))
    check('trusted xattr', [errno.EOPNOTSUPP], lambda: os.setxattr(path, 'trusted.x', b'1'))
    check('system xattr', [errno.EOPNOTSUPP, errno.EINVAL], lambda: os.setxattr(path, 'system.posix_acl_access', b'1'))
    check('poll', [0], lambda: __import__('select').select([fd], [fd], [], 0))
    check('locks', [0], lambda: fcntl.lockf(fd, fcntl.LOCK_EX))
    check('syncfs', [0], lambda: raw('syncfs', fd))
    check('access', [0], lambda: os.stat(path) and None)
    check('swapon', [errno.EINVAL, errno.EPERM], lambda: raw('swapon', path.encode(), 0))
    check('quotactl', [errno.ENOSYS, errno.ENOTBLK, errno.EINVAL, errno.ESRCH, errno.EOPNOTSUPP, errno.ENODEV],
          lambda: raw('quotactl', 0x80000800 - (1 << 32), path.encode(), 0, 0))
    check('name_to_handle', [0, errno.EOPNOTSUPP], lambda: raw('name_to_handle_at', -100, path.encode(),
          (ctypes.c_int * 40)(128), ctypes.byref(ctypes.c_int()), 0))
    for kind in [0o010000, 0o140000, 0o020000, 0o060000]:
        wanted = [0] if sys.argv[2] == 'stored' else [errno.EPERM]
        name = root + '/special%o' % kind
        check('mknod %o' % kind, wanted, lambda: os.mknod(name, kind | 0o600, os.makedev(1, 3)))
        if os.path.lexists(name):
            os.unlink(name)
print(failed)
";

#[test]
fn each_has_its_errno_and_none_is_a_warning() {
    for attributes in ["fixed", "stored"] {
        let mount = Mount::builder().args(["--attributes", attributes]).start();
        fs::write(mount.path("f"), b"bytes").unwrap();
        fs::write(mount.path("f2"), b"bytes").unwrap();
        let before = mount.log();
        let failed = run_python(CALLS, &[&mount.root, attributes.as_ref()]);
        assert_eq!(failed.trim(), "[]", "{attributes}: call, errno, expected");
        let log = mount.log();
        let said = log.strip_prefix(&before).unwrap();
        let words: Vec<_> = said
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"))
            .collect();
        assert!(words.is_empty(), "{attributes}: {words:#?}");
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"bytes");
        assert!(!fs::metadata(mount.path("f")).unwrap().file_type().is_fifo());
        sys::close(fs::File::open(mount.path("f")).unwrap()).unwrap();
    }
}
