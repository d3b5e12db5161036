//! Mount options, as `-o` and fstab give them.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{FETCH_DEADLINE, MOUNT_THREADS, READAHEAD_BYTES};

/// How a mount behaves. The fields are what the `-o` words of the same names set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// Other users may enter (`allow_other`).
    pub allow_other: bool,
    /// Only root and the owner may enter (`allow_root`).
    pub allow_root: bool,
    /// Owner shown (`uid=`); the mounter by default.
    pub uid: u32,
    /// Group shown (`gid=`).
    pub gid: u32,
    /// Bits taken from the modes of files (`fmask=`, or `umask=`).
    pub fmask: u16,
    /// Bits taken from the modes of directories (`dmask=`, or `umask=`).
    pub dmask: u16,
    /// Files without a stored mode are executable (`exec_files`).
    pub executable: bool,
    /// `ro` or `rw`, whichever was said last: writable where the source is.
    pub access: Option<Access>,
    /// Words for the kernel: `noexec`, `nosuid`, `nodev`, `suid`, `dev`, `noatime` ….
    pub kernel: Vec<KernelFlag>,
    /// Readahead of the mount in bytes (`readahead=`), where this process may set it.
    pub readahead_bytes: u64,
    /// Longest wait of a program (`deadline=` in seconds).
    pub deadline: Duration,
    /// Threads that take requests (`threads=`).
    pub threads: usize,
    /// Shown as the device in the mount table (`fsname=`).
    pub fsname: String,
    /// Directory whose file system `statfs` describes: the repository.
    pub space_of: Option<PathBuf>,
}

/// Whether a mount is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `ro`: nothing of it.
    ReadOnly,
    /// `rw`: what can be; refused where nothing can.
    Write,
}

/// A flag that the kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KernelFlag {
    Exec,
    NoExec,
    Suid,
    NoSuid,
    Dev,
    NoDev,
    Atime,
    NoAtime,
    Sync,
    Async,
    DirSync,
}

/// An option that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("unknown mount option {0}")]
    Unknown(String),
    /// Its value is not valid.
    #[error("mount option {name}: {value} is not {wanted}")]
    Value {
        /// The option.
        name: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// It asks for what cannot be.
    #[error("mount option {0}: everything that this mount shows is immutable")]
    ReadOnly(String),
}

impl Default for MountOptions {
    fn default() -> Self {
        // SAFETY: these two calls read this process's ids and cannot fail.
        #[allow(unsafe_code)]
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        Self {
            allow_other: false,
            allow_root: false,
            uid,
            gid,
            fmask: 0,
            dmask: 0,
            executable: false,
            access: None,
            kernel: Vec::new(),
            readahead_bytes: READAHEAD_BYTES,
            deadline: FETCH_DEADLINE,
            threads: default_threads(),
            fsname: "cidfs".into(),
            space_of: None,
        }
    }
}

impl KernelFlag {
    /// What a flag is about: of two about the same only one can hold.
    fn subject(self) -> &'static str {
        match self {
            Self::Exec | Self::NoExec => "exec",
            Self::Suid | Self::NoSuid => "suid",
            Self::Dev | Self::NoDev => "dev",
            Self::Atime | Self::NoAtime => "atime",
            Self::Sync | Self::Async => "sync",
            Self::DirSync => "dirsync",
        }
    }
}

fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.clamp(*MOUNT_THREADS.start(), *MOUNT_THREADS.end())
}

impl MountOptions {
    /// Reads what is said for a mount of `source`, and refuses `rw` where all
    /// of that is immutable.
    pub fn parse_for(source: &str, words: &str) -> Result<Self, OptionError> {
        let options = Self::parse(words)?;
        let first = source.split('/').find(|part| !part.is_empty());
        let writable = matches!(first, None | Some("mfs"));
        if options.access == Some(Access::Write) && !writable {
            return Err(OptionError::ReadOnly("rw".into()));
        }
        Ok(options)
    }

    /// Reads comma-separated words over the defaults. Words that concern
    /// `mount` and init alone (`x-…`, `nofail`, `_netdev`, `user` …) are kept
    /// from the kernel.
    pub fn parse(words: &str) -> Result<Self, OptionError> {
        let mut options = Self::default();
        for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word.split_once('=') {
                Some((name, value)) => options.set(name, value)?,
                None => options.flag(word)?,
            }
        }
        Ok(options)
    }

    fn flag(&mut self, word: &str) -> Result<(), OptionError> {
        use KernelFlag as Flag;
        let flag = match word {
            "allow_other" | "allow_root" | "exec_files" => {
                self.allow_other |= word == "allow_other";
                self.allow_root |= word == "allow_root";
                self.executable |= word == "exec_files";
                return Ok(());
            }
            "ro" | "rw" => {
                self.access = Some(if word == "ro" {
                    Access::ReadOnly
                } else {
                    Access::Write
                });
                return Ok(());
            }
            // Always so.
            "default_permissions" => return Ok(()),
            // For mount(8) and init.
            "defaults" | "auto" | "noauto" | "nofail" | "_netdev" | "user" | "nouser" | "users"
            | "owner" | "group" | "relatime" | "norelatime" | "strictatime" | "nostrictatime" => {
                return Ok(());
            }
            // Of every file system, and without an effect on this one: access times
            // of directories and versions are not kept, and there is no device.
            "diratime" | "nodiratime" | "lazytime" | "nolazytime" | "iversion" | "noiversion"
            | "silent" | "loud" | "nomand" | "symfollow" | "discard" | "nodiscard" => {
                return Ok(());
            }
            word if word.starts_with("x-") || word.starts_with("X-") => return Ok(()),
            "exec" => Flag::Exec,
            "noexec" => Flag::NoExec,
            "suid" => Flag::Suid,
            "nosuid" => Flag::NoSuid,
            "dev" => Flag::Dev,
            "nodev" => Flag::NoDev,
            "atime" => Flag::Atime,
            "noatime" => Flag::NoAtime,
            "sync" => Flag::Sync,
            "async" => Flag::Async,
            "dirsync" => Flag::DirSync,
            _ => return Err(OptionError::Unknown(word.into())),
        };
        // The last word counts: the kernel takes no contradictions.
        self.kernel.retain(|had| had.subject() != flag.subject());
        self.kernel.push(flag);
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        match name {
            "uid" => self.uid = number(name, value)?,
            "gid" => self.gid = number(name, value)?,
            "fmask" => self.fmask = octal(name, value)?,
            "dmask" => self.dmask = octal(name, value)?,
            "umask" => {
                self.fmask = octal(name, value)?;
                self.dmask = self.fmask;
            }
            "readahead" => self.readahead_bytes = number(name, value)?,
            "deadline" => self.deadline = Duration::from_secs(number::<u32>(name, value)?.into()),
            "threads" => self.threads = number::<usize>(name, value)?.clamp(1, 64),
            "fsname" => self.fsname = value.into(),
            name if name.starts_with("x-") || name == "comment" => {}
            _ => return Err(OptionError::Unknown(name.into())),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, OptionError> {
    let wanted = "a number in range";
    let error = || OptionError::Value {
        name: name.into(),
        value: value.into(),
        wanted,
    };
    value.parse().map_err(|_| error())
}

fn octal(name: &str, value: &str) -> Result<u16, OptionError> {
    let wanted = "an octal mask from 0 to 777";
    match u16::from_str_radix(value, 8) {
        Ok(mask) if mask <= 0o777 => Ok(mask),
        _ => Err(OptionError::Value {
            name: name.into(),
            value: value.into(),
            wanted,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_fstab_are_kept_from_the_kernel() {
        let words = "defaults,noauto,nofail,_netdev,x-systemd.automount,user,ro,noexec";
        let options = MountOptions::parse(words).unwrap();
        assert_eq!(options.kernel, [KernelFlag::NoExec]);
    }

    #[test]
    fn values_are_read_and_bad_ones_named() {
        let options = MountOptions::parse("uid=7,gid=8,umask=027,deadline=5,allow_other").unwrap();
        assert_eq!((options.uid, options.gid), (7, 8));
        assert_eq!((options.fmask, options.dmask), (0o27, 0o27));
        assert_eq!(options.deadline, Duration::from_secs(5));
        assert!(options.allow_other);
        for bad in ["uid=me", "fmask=9", "fmask=7777", "bogus", "bogus=1"] {
            let text = MountOptions::parse(bad).unwrap_err().to_string();
            assert!(text.contains(bad.split('=').next().unwrap()), "{text}");
        }
    }

    #[test]
    fn writing_is_for_what_can_be_written() {
        for source in ["/", "/mfs", "/mfs/a/b", "//mfs/"] {
            let options = MountOptions::parse_for(source, "rw").unwrap();
            assert_eq!(options.access, Some(Access::Write), "{source}");
        }
        for source in ["/ipfs/bafy", "/ipns/a.b", "/ipfs", "/mfsx"] {
            let refused = MountOptions::parse_for(source, "rw").unwrap_err();
            assert_eq!(refused, OptionError::ReadOnly("rw".into()), "{source}");
            assert!(MountOptions::parse_for(source, "ro,suid").is_ok());
        }
    }

    #[test]
    fn the_last_word_of_two_that_exclude_each_other_counts() {
        let options = MountOptions::parse("nosuid,rw,dev,suid,ro,nodev,dirsync").unwrap();
        assert_eq!(options.access, Some(Access::ReadOnly));
        let kept = [KernelFlag::Suid, KernelFlag::NoDev, KernelFlag::DirSync];
        assert_eq!(options.kernel, kept);
        assert_eq!(MountOptions::parse("").unwrap().access, None);
    }
}
