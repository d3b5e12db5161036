//! `mount.cidfs`: how mount(8) and fstab call us.
//!
//! `mount.fuse` calls `cidfs SOURCE DIR -o …` for the type fuse.cidfs.
//!
//! `mount.cidfs SOURCE DIR [-sfnvrw] [-N namespace] [-t type] [-o options]`.
//! Among the options, `repo=` names the repository (there is no HOME at boot)
//! and `source=` a source of blocks; what concerns mount(8) and init alone is
//! kept from the mount.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::args::{Cli, Command, Common};
use super::failure::Failure;
use super::mount::Mount;
use crate::control::OperationError;

/// Tells whether a program's arguments are those of a helper of mount(8): by its
/// name, or since `mount.fuse` calls the program of a type with source and
/// directory, of a remount too (the source is then what the mount table says).
pub(super) fn is_called(arguments: &[OsString]) -> bool {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    let source = arguments.get(1).map(|source| source.as_encoded_bytes());
    let by_fuse = source.is_some_and(|source| source == b"cidfs" || source.starts_with(b"/"));
    name.is_some_and(|name| name == "mount.cidfs") || by_fuse
}

/// Reads the arguments of `mount.cidfs` as those of `cidfs mount`.
pub(super) fn parse(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    let mut places = Vec::new();
    let mut words = Words::default();
    let mut common = Common::default();
    let mut rest = arguments.into_iter().skip(1);
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy().into_owned();
        let Some(flags) = text.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            places.push(text);
            continue;
        };
        for (index, flag) in flags.char_indices() {
            match flag {
                'o' | 't' | 'N' => {
                    let inside = flags.get(index + 1..).unwrap_or_default();
                    let value = if inside.is_empty() {
                        rest.next().map(|next| next.to_string_lossy().into_owned())
                    } else {
                        Some(inside.to_owned())
                    };
                    let value = value.ok_or_else(|| usage(&format!("-{flag} wants a value")))?;
                    if flag == 'o' {
                        words.take(&value);
                    }
                    break;
                }
                'v' => common.verbose = common.verbose.saturating_add(1),
                // Sloppy, no mtab, read-write where possible: nothing changes for us.
                's' | 'n' => {}
                'w' => words.take("rw"),
                'r' => words.take("ro"),
                // A dry run.
                'f' => words.dry_run = true,
                _ => return Err(usage(&format!("unknown flag -{flag}"))),
            }
        }
    }
    if places.len() != 2 {
        return Err(usage("give SOURCE and DIR"));
    }
    if words.dry_run {
        return Err(Failure::Quiet(0));
    }
    common.repo = words.repo;
    if !words.remount {
        // mount(8) adds it where nothing else is said.
        words.options.retain(|word| word != "rw");
    }
    let mount = Mount {
        places,
        foreground: false,
        options: words.options,
        sources: words.sources,
        remount: words.remount,
    };
    Ok(Cli {
        common,
        command: Command::Mount(mount),
    })
}

fn usage(what: &str) -> Failure {
    OperationError::invalid(format!("mount.cidfs: {what}"))
        .hint("mount.cidfs SOURCE DIR -o repo=DIR[,options]")
        .into()
}

/// What `-o` says, sorted.
#[derive(Default)]
struct Words {
    repo: Option<PathBuf>,
    sources: Vec<String>,
    options: Vec<String>,
    dry_run: bool,
    remount: bool,
}

impl Words {
    fn take(&mut self, list: &str) {
        for word in list.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("repo", dir)) => self.repo = Some(dir.into()),
                Some(("source", spec)) => self.sources.push(spec.to_owned()),
                // mount(8) adds the user's name.
                Some(("user" | "comment", _)) => {}
                _ if word == "remount" => self.remount = true,
                _ => self.options.push(word.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Common, Mount) {
        let arguments = text.split(' ').map(OsString::from).collect();
        match parse(arguments).unwrap() {
            Cli {
                common,
                command: Command::Mount(mount),
            } => (common, mount),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_fstab_says_becomes_a_mount() {
        let (common, mount) = parsed(
            "mount.cidfs /ipfs/bafy /mnt -o rw,noauto,user=me,repo=/var/lib/cidfs,source=a.car,allow_other",
        );
        assert_eq!(common.repo, Some("/var/lib/cidfs".into()));
        assert_eq!(mount.places, ["/ipfs/bafy", "/mnt"]);
        assert_eq!(mount.sources, ["a.car"]);
        assert_eq!(mount.options, ["noauto", "allow_other"]);
    }

    #[test]
    fn a_remount_keeps_the_words_for_the_kernel() {
        let (_, mount) = parsed("cidfs cidfs /mnt -o rw,nosuid,remount,ro");
        assert!(mount.remount);
        assert_eq!(mount.options, ["rw", "nosuid", "ro"]);
        for (called, wanted) in [
            (&["mount.cidfs", "x", "/mnt"][..], true),
            (&["/usr/bin/cidfs", "cidfs", "/mnt"], true),
            (&["cidfs", "/ipfs/bafy", "/mnt", "-o", "ro"], true),
            (&["cidfs", "mount", "/mnt"], false),
            (&["cidfs", "--json", "status"], false),
            (&["cidfs"], false),
        ] {
            let arguments: Vec<_> = called.iter().map(OsString::from).collect();
            assert_eq!(is_called(&arguments), wanted, "{called:?}");
        }
    }

    #[test]
    fn flags_of_mount_may_stand_anywhere_and_together() {
        let (common, mount) = parsed("mount.cidfs -sv / -t fuse.cidfs /mnt -nooro");
        assert_eq!(common.verbose, 1);
        assert_eq!(mount.places, ["/", "/mnt"]);
        assert_eq!(mount.options, ["oro"]);
    }

    #[test]
    fn a_missing_directory_and_unknown_flags_are_usage_errors() {
        for bad in [
            "mount.cidfs /",
            "mount.cidfs / /mnt -x",
            "mount.cidfs / /mnt -o",
        ] {
            let arguments = bad.split(' ').map(OsString::from).collect();
            let failure = parse(arguments).unwrap_err();
            assert!(
                matches!(&failure, Failure::Error(error) if error.kind.exit_code() == 2),
                "{bad}: {failure:?}"
            );
        }
    }
}
