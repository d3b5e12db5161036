//! The mounts of this program that the kernel knows.

use std::path::PathBuf;

use super::{Check, in_time};
use crate::config::DOCTOR_WAIT;
use crate::fs::{is_stale, our_mounts};

const GROUP: &str = "mounts";

pub(super) async fn checks() -> Vec<Check> {
    let mounts = match our_mounts() {
        Ok(mounts) => mounts,
        Err(error) => {
            let next = "is /proc mounted?";
            return vec![Check::fail(GROUP, "table", error, next)];
        }
    };
    if mounts.is_empty() {
        return vec![Check::ok(GROUP, "mount", "none now")];
    }
    let mut checks = Vec::new();
    for mount in mounts {
        let dir = mount.dir.clone();
        checks.push(state(mount.dir, in_time(move || is_stale(&dir)).await));
    }
    checks
}

/// `stale` is `None` where the mount gave no answer.
fn state(dir: PathBuf, stale: Option<bool>) -> Check {
    let shown = dir.display();
    match stale {
        Some(false) => Check::ok(GROUP, "mount", format!("{shown} answers")),
        Some(true) => Check::fail(
            GROUP,
            "mount",
            format!("{shown} is stale: its daemon was killed"),
            format!("cidfs umount {shown}, or mount there again"),
        ),
        None => Check::fail(
            GROUP,
            "mount",
            format!("{shown} gave no answer in {} s", DOCTOR_WAIT.as_secs()),
            format!("cidfs umount --lazy {shown}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_stale_mount_and_a_silent_one_fail_and_say_how_to_end_them() {
        assert_eq!(state("/m".into(), Some(false)).status, Status::Ok);
        let stale = state("/m".into(), Some(true));
        assert_eq!(stale.status, Status::Fail);
        assert!(stale.next.unwrap().starts_with("cidfs umount /m"));
        assert_eq!(state("/m".into(), None).status, Status::Fail);
    }
}
