//! Fields that most inodes lack.

use crate::vocabulary::Overrides;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use super::dir::DirState;

/// Takes room only once it is written to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rare<T>(Option<Box<T>>);

/// What is shown of a value that was never written to.
pub trait Unset: Default + 'static {
    fn unset() -> &'static Self;
}

impl Unset for DirState {
    fn unset() -> &'static Self {
        static UNSET: LazyLock<DirState> = LazyLock::new(DirState::default);
        &UNSET
    }
}

impl Unset for Overrides {
    fn unset() -> &'static Self {
        static UNSET: LazyLock<Overrides> = LazyLock::new(Overrides::default);
        &UNSET
    }
}

impl<T> Rare<T> {
    /// To take something away: what was never written to has nothing.
    pub fn if_set(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    pub fn is_unset(&self) -> bool {
        self.0.is_none()
    }
}

impl<T> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self(Some(Box::new(value)))
    }
}

impl<T: Unset> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::unset())
    }
}

impl<T: Unset> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
