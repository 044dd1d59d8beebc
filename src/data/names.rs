//! What samples are called in messages and predictions, in a few bytes a sample: names are written when asked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The names of a data set's samples.
#[derive(Debug)]
pub(super) enum Names {
    /// A file each.
    Files(Paths),
    /// Lines of a file, from 1: `file:line`.
    Lines { file: PathBuf, lines: Vec<u32> },
    /// Parts of a file, numbered from 0: `file[number]`.
    Numbered(PathBuf),
}

impl Names {
    /// A sample's name.
    pub fn name(&self, sample: usize) -> String {
        match self {
            Self::Files(files) => files.path(sample).display().to_string(),
            Self::Lines { file, lines } => format!("{}:{}", file.display(), lines[sample]),
            Self::Numbered(file) => format!("{}[{sample}]", file.display()),
        }
    }

    /// The file that a sample lies in.
    pub fn file(&self, sample: usize) -> PathBuf {
        match self {
            Self::Files(files) => files.path(sample),
            Self::Lines { file, .. } | Self::Numbered(file) => file.clone(),
        }
    }
}

/// A list of paths. Those that follow one another in the same folder share its name.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths {
    /// Folders with their last `/`, each with the first path in it.
    folders: Vec<(usize, Box<[u8]>)>,
    /// Names one behind the other, and where each ends.
    names: Vec<u8>,
    ends: Vec<usize>,
}

impl Paths {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn push(&mut self, path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        let (folder, name) = bytes.split_at(bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |place| place + 1));
        if self.folders.last().is_none_or(|(_, last)| **last != *folder) {
            self.folders.push((self.len(), folder.into()));
        }
        self.names.extend_from_slice(name);
        self.ends.push(self.names.len());
    }

    /// A path as it was pushed.
    pub fn path(&self, place: usize) -> PathBuf {
        let folder = &self.folders[self.folders.partition_point(|(first, _)| *first <= place) - 1].1;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        OsStr::from_bytes(&[folder, &self.names[start..self.ends[place]]].concat()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_to_the_byte() {
        let given = ["a/b/1.png", "a/b/2.png", "3.png", "/", "a/b/4.png", "./x//y", "x/./y", "..", "a/b/", ""];
        let mut paths = Paths::default();
        given.iter().for_each(|path| paths.push(Path::new(path)));
        let back: Vec<PathBuf> = (0..paths.len()).map(|place| paths.path(place)).collect();
        assert_eq!(back.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), given);
        assert_eq!(paths.folders.len(), 9, "two files lie in the folder of the one before");
    }
}
