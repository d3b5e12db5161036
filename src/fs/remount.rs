//! Changing what the kernel allows on a mount that is there.

use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount_remount};

use super::mountinfo::{FS_TYPE, find_mount};

/// Applies words such as `ro` and `noexec` to a mount of ours; flags that no word
/// concerns stay. Gives the words that a mount keeps for its whole life and has
/// not got: they were left alone.
pub fn remount<'w>(dir: &Path, words: &[&'w str]) -> io::Result<Vec<&'w str>> {
    let mount = find_mount(dir)?.filter(|mount| mount.fs_type == FS_TYPE);
    let mount = mount.ok_or_else(|| {
        let message = format!("{} is not a mount of cidfs", dir.display());
        io::Error::new(io::ErrorKind::NotFound, message)
    })?;
    let has: Vec<&str> = mount.options.split(',').collect();
    let (mut flags, mut left) = (MountFlags::empty(), Vec::new());
    for word in &has {
        apply(&mut flags, word);
    }
    for word in words {
        if !apply(&mut flags, word) && !has.contains(word) {
            left.push(*word);
        }
    }
    mount_remount(dir, flags, c"")?;
    Ok(left)
}

/// Puts a word into flags; tells whether it is about one.
fn apply(flags: &mut MountFlags, word: &str) -> bool {
    let (flag, on) = match word {
        "ro" | "rw" => (MountFlags::RDONLY, word == "ro"),
        "nosuid" | "suid" => (MountFlags::NOSUID, word == "nosuid"),
        "nodev" | "dev" => (MountFlags::NODEV, word == "nodev"),
        "noexec" | "exec" => (MountFlags::NOEXEC, word == "noexec"),
        "noatime" | "atime" => (MountFlags::NOATIME, word == "noatime"),
        "nodiratime" | "diratime" => (MountFlags::NODIRATIME, word == "nodiratime"),
        "relatime" | "norelatime" => (MountFlags::RELATIME, word == "relatime"),
        "strictatime" | "nostrictatime" => (MountFlags::STRICTATIME, word == "strictatime"),
        "sync" | "async" => (MountFlags::SYNCHRONOUS, word == "sync"),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "nosymfollow" | "symfollow" => (MountFlags::NOSYMFOLLOW, word == "nosymfollow"),
        _ => return false,
    };
    // Of the three about access times one holds.
    let times = MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME;
    if on && times.contains(flag) {
        flags.remove(times);
    }
    flags.set(flag, on);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &str) -> MountFlags {
        let mut flags = MountFlags::empty();
        words.split(',').for_each(|word| {
            apply(&mut flags, word);
        });
        flags
    }

    #[test]
    fn the_last_word_counts_and_the_others_stay() {
        let before = "rw,nosuid,nodev,relatime,user_id=0";
        let kept = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RELATIME;
        assert_eq!(flags(before), kept);
        let made = flags(&format!("{before},ro"));
        assert_eq!(made, kept | MountFlags::RDONLY);
        assert_eq!(flags(&format!("{before},ro,rw")), kept);
        let timed = flags("relatime,noatime,suid");
        assert_eq!(timed, MountFlags::NOATIME);
    }
}
