//! What is asked to be added, with the names that it gets.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::Measure;
use super::options::AddOptions;
use super::recipe::Recipe;
use super::refused::{AddError, AddRefused};
use crate::unixfs::walk::{Step, Walk, WalkError};

/// Something to add.
pub struct Input<'r> {
    content: Content<'r>,
    name: Option<Vec<u8>>,
}

enum Content<'r> {
    Path(PathBuf),
    Reader(Box<dyn Read + 'r>),
}

impl<'r> Input<'r> {
    /// A local path, called by its last part.
    pub fn path(path: &Path) -> Self {
        Self {
            content: Content::Path(path.to_owned()),
            name: None,
        }
    }

    /// A stream, called by the option `stdin-name`, or else by its CID.
    pub fn reader(reader: impl Read + 'r) -> Self {
        Self {
            content: Content::Reader(Box::new(reader)),
            name: None,
        }
    }

    /// The same under another name.
    pub fn called(self, name: &[u8]) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..self
        }
    }
}

/// An input, named and ready to be read.
pub(super) enum Source<'r> {
    Walk(Walk),
    Reader(Vec<u8>, Box<dyn Read + 'r>),
}

/// Names the inputs, sorts them, drops repeated ones.
pub(super) fn prepare<'r>(
    inputs: Vec<Input<'r>>,
    options: &AddOptions,
    recipe: &Recipe,
) -> Result<VecDeque<Source<'r>>, AddError> {
    // Where a name came from; a stream comes from nowhere.
    let mut taken: HashMap<Vec<u8>, PathBuf> = HashMap::new();
    let mut named = Vec::new();
    for input in inputs {
        let (name, folder, source) = match input.content {
            Content::Path(path) => {
                let (path, own) = resolve(&path, options)?;
                let name = input.name.unwrap_or(own);
                let folder = path.parent().map(Path::to_owned).unwrap_or_default();
                check_directory(&path, options)?;
                let named = !options.wrap_with_directory;
                let walk = Walk::new(path, name.clone(), recipe.walk.clone(), named);
                (name, folder, Source::Walk(walk))
            }
            Content::Reader(reader) => {
                let given = options.stdin_name.as_ref().map(|n| n.clone().into_bytes());
                let name = input.name.or(given).unwrap_or_default();
                (
                    name.clone(),
                    PathBuf::from("-"),
                    Source::Reader(name, reader),
                )
            }
        };
        match taken.get(&name) {
            Some(first) if *first == folder => continue,
            Some(first) => {
                return Err(AddError::Refused(AddRefused::SameName {
                    name: String::from_utf8_lossy(&name).into_owned(),
                    first: first.clone(),
                    second: folder,
                }));
            }
            None => drop(taken.insert(name.clone(), folder)),
        }
        named.push((name, source));
    }
    if named.is_empty() {
        return Err(AddError::Refused(AddRefused::Nothing));
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(named.into_iter().map(|(_, source)| source).collect())
}

/// Adds up what the walks meet.
pub(super) fn measure(inputs: Vec<Input<'_>>, options: &AddOptions, recipe: &Recipe) -> Measure {
    let mut found = Measure::default();
    for source in prepare(inputs, options, recipe).unwrap_or_default() {
        let Source::Walk(mut walk) = source else {
            continue;
        };
        while let Ok(Some(step)) = walk.advance() {
            if let Step::File { path, .. } = step {
                let stat = fs::metadata(&path);
                found.files += 1;
                found.bytes = found
                    .bytes
                    .saturating_add(stat.map_or(0, |stat| stat.len()));
            }
        }
    }
    found
}

/// The path to walk and the name that it has.
fn resolve(path: &Path, options: &AddOptions) -> Result<(PathBuf, Vec<u8>), AddError> {
    let io = |source| {
        AddError::Walk(WalkError::Io {
            path: path.to_owned(),
            source,
        })
    };
    let mut clean = clean(path);
    let here = clean.as_os_str().is_empty();
    if here || options.dereference_args || options.dereference_symlinks {
        let start = if here { Path::new(".") } else { &clean };
        clean = fs::canonicalize(start).map_err(io)?;
    }
    let name = match clean.file_name() {
        Some(name) => name.as_bytes().to_owned(),
        // `..` and `/` have no name of their own.
        None => {
            let real = fs::canonicalize(&clean).map_err(io)?;
            real.file_name()
                .map(|n| n.as_bytes().to_owned())
                .unwrap_or_default()
        }
    };
    Ok((clean, name))
}

/// Drops `.` and takes `..` back by the letters, as Go's `filepath.Clean`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => drop(out.pop()),
            Component::ParentDir if out.has_root() => {}
            Component::ParentDir
            | Component::Normal(_)
            | Component::RootDir
            | Component::Prefix(_) => out.push(part),
        }
    }
    out
}

fn check_directory(path: &Path, options: &AddOptions) -> Result<(), AddError> {
    let stat = fs::symlink_metadata(path).map_err(|source| {
        AddError::Walk(WalkError::Io {
            path: path.to_owned(),
            source,
        })
    })?;
    if stat.is_dir() && !options.recursive {
        return Err(AddError::Refused(AddRefused::Directory(path.to_owned())));
    }
    let metadata =
        options.preserve_mode || options.preserve_mtime || options.mode != 0 || options.mtime != 0;
    if stat.is_dir() && options.only_hash && metadata {
        return Err(AddError::Refused(AddRefused::OnlyHashMetadata));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_the_letters() {
        for (path, wanted) in [
            ("a/./b/../c", "a/c"),
            ("./a/", "a"),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("a/..", ""),
            (".", ""),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(wanted), "{path}");
        }
    }
}
