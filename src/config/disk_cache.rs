//! Where file contents are cached on disk, and how many of them.

use std::path::{Path, PathBuf};

use super::{ByteSize, NO_PATH, Options, Wrong, limits, service};

/// Below the directory that systemd gives a service, where other things are too.
const OF_SERVICE: &str = "blocks";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCacheConfig {
    /// Absolute.
    pub dir: PathBuf,
    pub limit_bytes: u64,
}

impl DiskCacheConfig {
    pub(super) fn resolve(options: &Options) -> Result<Option<Self>, Wrong> {
        let of_service = service::cache_dir().map(|dir| dir.join(OF_SERVICE));
        let mountpoint = options.mountpoint.as_deref();
        let given = options.cache.clone();
        Self::choose(given, of_service, options.cache_size, mountpoint)
    }

    fn choose(
        given: Option<PathBuf>,
        of_service: Option<PathBuf>,
        size: Option<ByteSize>,
        mountpoint: Option<&Path>,
    ) -> Result<Option<Self>, Wrong> {
        let limit_bytes = limits::cache_size(size)?;
        let dir = match given {
            Some(none) if none == Path::new(NO_PATH) => None,
            Some(dir) if mountpoint.is_some_and(|it| dir.starts_with(it)) => {
                let why = "is below the mountpoint: choose a directory of a local disk";
                return Err(("cache", why.to_owned()));
            }
            Some(dir) => Some(dir),
            None => of_service,
        };
        Ok(dir.map(|dir| Self { dir, limit_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_where_it_is_asked_for_and_a_service_has_one() {
        let of_service = || Some(PathBuf::from("/var/cache/mediafs/a/blocks"));
        let choose = |given: Option<&str>, of_service, size: Option<u64>| {
            let given = given.map(PathBuf::from);
            let size = size.map(ByteSize);
            DiskCacheConfig::choose(given, of_service, size, Some(Path::new("/srv/media")))
        };
        let dir = |found: Result<Option<DiskCacheConfig>, Wrong>| {
            found.unwrap().map(|it| it.dir.display().to_string())
        };
        assert_eq!(dir(choose(None, None, None)), None);
        assert_eq!(
            dir(choose(Some("/c"), of_service(), None)),
            Some("/c".into())
        );
        assert_eq!(dir(choose(Some("none"), of_service(), None)), None);
        let found = choose(None, of_service(), Some(1 << 30)).unwrap().unwrap();
        assert_eq!(Some(found.dir), of_service());
        assert_eq!(found.limit_bytes, 1 << 30);
        let wrong = |found: Result<_, Wrong>| found.unwrap_err().0;
        // Another command reads the settings of a service.
        assert_eq!(dir(choose(None, None, Some(1 << 30))), None);
        assert_eq!(wrong(choose(Some("/c"), None, Some(1000))), "cache-size");
        assert_eq!(wrong(choose(Some("/srv/media/c"), None, None)), "cache");
    }
}
