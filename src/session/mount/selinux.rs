//! The SELinux context that every file of a mount has.

use std::path::Path;

/// Mounted where SELinux is on. Source: selinux(8).
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// What the kernel is told: nothing where it has no SELinux, and would refuse it.
pub fn context(given: Option<&str>) -> Option<String> {
    let given = given?.trim_matches('"');
    if Path::new(SELINUX).exists() {
        return Some(given.to_owned());
    }
    tracing::info!("this machine has no SELinux: --context is ignored");
    None
}

/// As an option of the file system. In quotes, since a range of categories has commas.
pub fn option(context: &str) -> String {
    format!("context=\"{}\"", context.replace('"', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_quoted() {
        let given = "system_u:object_r:httpd_sys_content_t:s0:c1,c2";
        assert_eq!(option(given), format!("context=\"{given}\""));
        if !Path::new(SELINUX).exists() {
            assert_eq!(context(Some(given)), None);
        }
    }
}
