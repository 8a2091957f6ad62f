//! The default encryption of a bucket.

use std::sync::Arc;

use anyhow::{Context, bail};
use async_trait::async_trait;

use super::bucket::{Bucket, changed, known};
use super::plan::{Found, Task};
use crate::store::s3::settings::{self, Encryption, Setting};

/// Of new objects.
#[derive(Debug)]
pub struct DefaultEncryption(pub Arc<Bucket>, pub Encryption);

impl DefaultEncryption {
    fn shown(encryption: &Encryption) -> String {
        match &encryption.kms_key {
            Some(key) => format!("{} with key {key}", encryption.algorithm),
            None => encryption.algorithm.clone(),
        }
    }
}

#[async_trait(?Send)]
impl Task for DefaultEncryption {
    fn name(&self) -> &'static str {
        "default encryption"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        /// What AWS has where nobody has set anything.
        const WEAKEST: &str = "AES256";
        let Self(bucket, wanted) = self;
        let text = Self::shown(wanted);
        let asked = settings::encryption(&bucket.s3).await;
        Ok(match known(asked, "s3:GetEncryptionConfiguration", &text) {
            Ok(Some(found)) if found == *wanted => Found::Done(text),
            Ok(Some(found)) if wanted.kms_key.is_none() && found.algorithm == wanted.algorithm => {
                Found::Done(Self::shown(&found))
            }
            Ok(Some(found)) if found.algorithm != WEAKEST => {
                let lines = vec![format!("- {}", Self::shown(&found)), format!("+ {text}")];
                Found::Conflict("it is another".to_owned(), lines)
            }
            Ok(_) => Found::ToDo(text),
            Err(found) => found,
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let Self(bucket, wanted) = self;
        let before = settings::encryption(&bucket.s3).await?;
        let put = settings::set_encryption(&bucket.s3, wanted).await;
        changed(put, "s3:PutEncryptionConfiguration")?;
        let Err(refused) = bucket.takes_an_object().await else {
            return Ok(());
        };
        let undone = match &before {
            Setting::Is(before) => settings::set_encryption(&bucket.s3, before).await,
            _ => settings::remove_encryption(&bucket.s3).await,
        };
        undone.with_context(|| format!("with it the store takes no object ({}), and it cannot be taken back: remove the default encryption of the bucket", refused.detail))?;
        bail!(
            "with it the store takes no object ({}): it is as it was before",
            refused.detail
        )
    }
}
