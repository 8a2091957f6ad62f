//! Whether what is no file is the same on both sides: symlinks, FIFOs, sockets, directories.

use rustix::fs::FileType;

use super::checkpoint::{Equal, With};
use super::described;
use super::entry::{Object, Stat};
use super::judge::{Judge, Verdict};
use super::plan_counts::Work;
use super::proof::Proof;
use crate::store::{ETag, GetRequest};
use crate::vocabulary::Kind;

impl Judge {
    /// Whether a FIFO or a socket is one in the bucket too.
    pub async fn compare_special(&self, path: &str) -> Verdict {
        let here = match self.tree.kind(path) {
            Ok(here) => here,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        match (self.attributes_of(path).await, here) {
            (Err(why), _) => Verdict::Failed(why),
            (Ok((_, there)), FileType::Fifo) if there.kind == Kind::Fifo => {
                Verdict::Equal(Proof::Empty)
            }
            (Ok((_, there)), FileType::Socket) if there.kind == Kind::Socket => {
                Verdict::Equal(Proof::Empty)
            }
            (Ok(_), _) => Verdict::Different("it has another type there".to_owned()),
        }
    }

    /// Whether a directory has what its marker tells, with what it has. Errors: the disk's.
    pub async fn compare_directory(
        &self,
        path: &str,
        marker: &Object,
    ) -> std::io::Result<(Verdict, Stat)> {
        let stat = self.tree.directory(path).await?;
        let equal = self.equal(&stat, marker);
        let checkpoint = self.checkpoint.as_ref();
        if equal.with == With::Attributes && checkpoint.is_some_and(|it| it.is_equal(path, &equal))
        {
            return Ok((Verdict::Equal(Proof::Checkpoint), stat));
        }
        let verdict = match self.attributes_of(path).await {
            Err(why) => Verdict::Failed(why),
            Ok((_, there)) => {
                let none = there.xattrs.clone();
                match described::difference(self.settings.work, &stat, &none, &there) {
                    None => Verdict::Equal(Proof::Empty),
                    Some(why) => Verdict::Different(why),
                }
            }
        };
        // An export notes it once it has given the directory its time again.
        if let (Verdict::Equal(_), Work::Import, Some(checkpoint)) =
            (&verdict, self.settings.work, checkpoint)
        {
            checkpoint.note_equal(path, equal);
        }
        Ok((verdict, stat))
    }

    /// Whether the store was found to have this directory, as it is, without a marker.
    pub async fn is_without_marker(&self, path: &str) -> bool {
        let (Some(checkpoint), Ok(stat)) = (&self.checkpoint, self.tree.directory(path).await)
        else {
            return false;
        };
        checkpoint.is_equal(path, &Equal::without_marker(&stat))
    }

    /// Whether a symlink is one in the bucket too, which leads to the same.
    pub async fn compare_link(&self, path: &str, object: &Object) -> Verdict {
        let target = match self.tree.link(path) {
            Ok(target) => target,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        if target.len() as u64 != object.size_bytes {
            return Verdict::Different("its target differs".to_owned());
        }
        match self.attributes_of(path).await {
            Ok((etag, stored)) if etag.as_str() == object.etag && stored.kind == Kind::Symlink => {}
            Ok(_) => return Verdict::Different("it is no symlink there".to_owned()),
            Err(why) => return Verdict::Failed(why),
        }
        if ETag::of_bytes(&target).as_str() == object.etag {
            return Verdict::Equal(Proof::Md5);
        }
        let request = GetRequest {
            key: self.key_of(path),
            range: None,
            if_match: Some(ETag::new(&object.etag)),
            sink: None,
        };
        match self.store.get(request).await {
            Ok(answer) if answer.body == target => Verdict::Equal(Proof::Read),
            Ok(_) => Verdict::Different("its target differs".to_owned()),
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }
}
