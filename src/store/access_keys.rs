//! Credentials that another program's settings have, in place of the AWS chain's.

use std::fmt;

/// What requests are signed with. Its Debug shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKeys {
    pub access_key: String,
    pub secret_key: String,
    pub session_token: Option<String>,
}

/// Who signs requests, as another program's settings say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenKeys {
    Keys(AccessKeys),
    /// The AWS profile of this name.
    Profile(String),
    /// Nothing: the AWS chain has them.
    None,
}

/// Has access keys, and may have others the next time it is asked.
pub trait KeySource: fmt::Debug + Send + Sync {
    /// Errors: in words, without a secret.
    fn read(&self) -> Result<GivenKeys, String>;
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKeys(***)")
    }
}
