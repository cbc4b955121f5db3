//! Files that are either the old one or the new one, never half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Writes a file by way of a temporary one in the same folder, which takes the file's name when all of it is on the disk. On an
/// error the temporary file is removed and the old file is as it was.
pub(crate) fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    // Through a symbolic link the file itself is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let io = |source: std::io::Error| {
        // "No such file" of a file to be written is about its folder.
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists());
        let source = match folder {
            Some(folder) => std::io::Error::new(
                source.kind(),
                format!("the folder {} does not exist; create it first", folder.display()),
            ),
            None => source,
        };
        let empty = path.as_os_str().is_empty();
        Error::Io { path: if empty { "(an empty path)".into() } else { path.into() }, source }
    };
    let temporary = beside(&target).map_err(io)?;
    fill(&temporary, content).and_then(|()| fs::rename(&temporary, &target)).map_err(|e| {
        // It is the first error that counts.
        let _ = fs::remove_file(&temporary);
        io(e)
    })?;
    sync_folder(&target);
    Ok(())
}

/// A name in the same folder that no other save uses.
fn beside(target: &Path) -> std::io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = target.file_name() else {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "not the name of a file",
        ));
    };
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{n}.tmp", std::process::id()));
    Ok(target.with_file_name(temporary))
}

fn fill(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).open(path)?);
    content(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// Makes the new name survive a power cut. Not every system can; the content is safe already.
fn sync_folder(target: &Path) {
    if let Some(folder) = target.parent()
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("gradus-atomic-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = folder("failed");
        let path = dir.join("a.bin");
        write(&path, |w| w.write_all(b"old")).unwrap();
        let e = write(&path, |w| {
            w.write_all(&[7; 100_000])?;
            Err(std::io::Error::other("the disk is full"))
        })
        .unwrap_err();
        assert!(matches!(&e, Error::Io { path: p, .. } if *p == path));
        assert!(e.to_string().ends_with("the disk is full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        write(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there() {
        let path = std::env::temp_dir().join("gradus-no-such-folder/x.bin");
        assert!(matches!(write(&path, |_| Ok(())), Err(Error::Io { .. })));
        let e = write(Path::new(""), |_| Ok(())).unwrap_err();
        assert_eq!(e.to_string(), "(an empty path): not the name of a file");
        let e = write(Path::new("no/such/folder/x"), |_| Ok(())).unwrap_err().to_string();
        assert_eq!(
            e,
            "no/such/folder/x: the folder no/such/folder does not exist; create it first"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_stays_one() {
        let dir = folder("link");
        let (file, link) = (dir.join("file"), dir.join("link"));
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        fs::remove_dir_all(dir).unwrap();
    }
}
