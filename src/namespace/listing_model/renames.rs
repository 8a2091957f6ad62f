//! Files and a directory that get other names.

use super::*;
use crate::store::{CopyRequest, ETag, FoldDirectories, ListRequest, ListedObject, Placement};

impl World {
    /// What the store has under one key gets another.
    async fn copy_key(&self, source: Key, target: Key) -> ETag {
        let request = CopyRequest {
            source,
            source_if_match: None,
            size_bytes: 1,
            target,
            condition: WriteCondition::Always,
            replace_headers: None,
            placement: Placement::default(),
        };
        self.queue.copy(request).await.unwrap().etag
    }

    /// As `ops::rename::file` has it.
    async fn rename(&self, from: &str, to: &str) {
        let [(old_dir, old), (new_dir, new)] = [from, to].map(parts);
        let old_parent = self.directory(old_dir).await.unwrap();
        let new_parent = self.directory(new_dir).await.unwrap();
        let made = self.made.lock().remove(from).unwrap();
        let _turn = made.upload.clone().lock_owned().await;
        self.begin(from);
        self.begin(to);
        let source = self.names.lookup(&old_parent, &old).await.unwrap();
        let version = source.state().remote.clone().unwrap();
        let key = self.names.child_key(old_parent.ino, &old).unwrap();
        let target = self.names.child_key(new_parent.ino, &new).unwrap();
        let etag = self.copy_key(key.clone(), target).await;
        let copy = ObjectVersion {
            etag,
            ..version.clone()
        };
        let entry = Some(Entry::File(copy.clone()));
        self.names.record(new_parent.ino, &new, entry);
        entry_added(&self.names, &new_parent).await;
        let removed = before_entry_removed(&self.names, &old_parent, &old);
        removed.await.unwrap();
        let pending = DeletePending::of_version(key, Some(version.etag));
        self.queue.delete_later(pending).unwrap();
        self.names.record(old_parent.ino, &old, None);
        source.state().remote = Some(copy);
        source.state().checked_at = Some(Instant::now());
        let table = self.names.table();
        table.rename(source.ino, new_parent.ino, &new).unwrap();
        self.made.lock().insert(to.to_owned(), made.clone());
        self.end(from, false);
        self.end(to, true);
    }

    /// As `ops::rename::directory` has it, once nothing in it is being uploaded.
    async fn move_directory(&self) {
        let now = *self.moved_to.lock();
        let [from, to] = [now, 1 - now].map(|at| MOVES_IN[at]);
        let (old_parent, new_parent) = (self.directory(from).await, self.directory(to).await);
        let (old_parent, new_parent) = (old_parent.unwrap(), new_parent.unwrap());
        let dir = self.directory(MOVING).await.unwrap();
        let of_files = FILES.map(|file| self.made.lock().get(&format!("{MOVING}/{file}")).cloned());
        for made in of_files.iter().flatten() {
            drop(made.upload.lock().await);
        }
        let name = Name::from_segment(MOVING).unwrap();
        let (old, new) = (format!("p/{from}/{MOVING}/"), format!("p/{to}/{MOVING}/"));
        let request = ListRequest::page(old.as_str(), FoldDirectories::No, None);
        let objects = self.queue.list(request).await.unwrap().objects;
        let places = [from, to].map(|at| format!("{at}/{MOVING}"));
        places.iter().for_each(|place| self.begin(place));
        let mut copies = HashMap::new();
        for object in &objects {
            let target = object.key.as_str().replacen(&old, &new, 1);
            let copy = self.copy_key(object.key.clone(), Key::new(target)).await;
            copies.insert(object.etag.clone(), copy);
        }
        let removed = before_entry_removed(&self.names, &old_parent, &name);
        removed.await.unwrap();
        for _ in 0..2 {
            dir.state().dir.forget_listing();
            for (_, child) in self.names.table().children(dir.ino) {
                let mut state = child.state();
                state.checked_at = Some(Instant::now());
                if let Some(version) = &mut state.remote
                    && let Some(copy) = copies.get(&version.etag)
                {
                    version.etag = copy.clone();
                }
            }
            let table = self.names.table();
            table.rename(dir.ino, new_parent.ino, &name).unwrap();
        }
        *self.moved_to.lock() = 1 - now;
        let version = |it: &ListedObject| Some(it.etag.clone());
        let pending = objects
            .iter()
            .map(|it| DeletePending::of_version(it.key.clone(), version(it)));
        let pending: Vec<DeletePending> = pending.collect();
        let originals = self.queue.enqueue_held(&pending).unwrap();
        self.names.record(old_parent.ino, &name, None);
        let entry = Some(Entry::Directory);
        self.names.record(new_parent.ino, &name, entry);
        entry_added(&self.names, &new_parent).await;
        originals.delete_now().await.unwrap();
        drop(originals);
        self.end(&places[0], false);
        self.end(&places[1], true);
    }

    /// Renames a file in one directory or into another, or the directory that moves.
    pub(super) async fn change_name(self: &Arc<Self>, random: &mut Rng) {
        let mut locks = Vec::new();
        for dir in DIRS {
            locks.push(self.locks[dir].lock().await);
        }
        if random.bool() {
            return self.move_directory().await;
        }
        let mut path = || {
            let dir = random.choice(DIRS).unwrap();
            format!("{dir}/{}", random.choice(FILES).unwrap())
        };
        let (from, to) = (path(), path());
        let can_be = self.known(&from).is_there && self.known(parts(&to).0).is_there;
        if can_be && !self.known(&to).is_there {
            self.rename(&from, &to).await;
        }
    }
}
