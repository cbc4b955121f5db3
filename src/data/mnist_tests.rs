use std::fs;
use std::io::Write;

use super::*;
use crate::data::gzip::pack;
use crate::data::temp::TempDir;

fn idx_file(dims: &[usize], byte: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut out = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|&d| out.extend((d as u32).to_be_bytes()));
    out.extend((0..dims.iter().product()).map(byte));
    out
}

/// A folder with a small, correct set: 5 and 3 images, image i filled with i, its label i.
fn small_set() -> TempDir {
    let dir = TempDir::new();
    for (n, images, labels) in [(5, FILES[0], FILES[1]), (3, FILES[2], FILES[3])] {
        fs::write(dir.join(images), idx_file(&[n, 28, 28], |i| (i / 784) as u8)).unwrap();
        fs::write(dir.join(labels), idx_file(&[n], |i| i as u8)).unwrap();
    }
    dir
}

/// Message of the `Error::Format` that loading must return after one file was replaced.
fn refused(file: usize, content: &[u8]) -> String {
    let dir = small_set();
    fs::write(dir.join(FILES[file]), content).unwrap();
    match load(&dir).unwrap_err() {
        Error::Format { path, message } => {
            assert_eq!(path, dir.join(FILES[file]));
            message
        }
        e => panic!("expected Error::Format, got {e:?}"),
    }
}

#[test]
fn plain_and_packed_files_in_any_mixture() {
    let dir = small_set();
    for packed in FILES.iter().map(Some).chain([None]) {
        let Mnist { train, test } = load(&dir).unwrap();
        assert_eq!((train.len(), test.len(), train.num_classes()), (5, 3, 10));
        let all = test.all();
        assert_eq!(all.inputs.shape(), [3, 1, 28, 28]);
        assert_eq!(all.labels.to_vec(), [0, 1, 2]);
        assert_eq!(all.inputs.get([2, 0, 27, 27]).unwrap(), 2.0 / 255.0);
        if let Some(name) = packed {
            let plain = fs::read(dir.join(name)).unwrap();
            fs::write(dir.join(format!("{name}.gz")), pack::stored(&plain)).unwrap();
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    for name in FILES {
        let dir = small_set();
        fs::remove_file(dir.join(name)).unwrap();
        let e = load(&dir).unwrap_err();
        assert!(matches!(&e, Error::Io { path, .. } if *path == dir.join(name)), "{e:?}");
        assert!(e.to_string().ends_with("no such file, nor with .gz"), "{e}");
    }
}

#[test]
fn images_and_labels_that_differ_in_number() {
    let message = refused(1, &idx_file(&[6], |_| 0));
    assert!(message.starts_with("holds 6 labels, but "), "{message}");
    assert!(message.ends_with("train-images-idx3-ubyte holds 5 images"), "{message}");
    assert!(refused(3, &idx_file(&[2], |_| 0)).starts_with("holds 2 labels"));
}

#[test]
fn labels_above_nine_and_of_another_rank() {
    assert_eq!(refused(1, &idx_file(&[5], |i| 7 + i as u8)), "label 3 is 10, expected 0 to 9");
    let message = refused(3, &idx_file(&[3, 1], |_| 0));
    assert_eq!(message, "holds an array of shape [3, 1], expected labels [n]");
}

#[test]
fn images_of_another_size_or_type_and_no_images() {
    for dims in [&[5, 32, 32][..], &[5, 784], &[5], &[]] {
        let message = refused(0, &idx_file(dims, |_| 0));
        assert!(message.ends_with("expected images [n, 28, 28]"), "{message}");
    }
    let mut floats = idx_file(&[1], |_| 0);
    floats[2] = 0x0d;
    floats.extend([0; 3]);
    assert_eq!(refused(1, &floats), "holds f32, expected u8 elements");
    let dir = small_set();
    fs::write(dir.join(FILES[2]), idx_file(&[0, 28, 28], |_| 0)).unwrap();
    fs::write(dir.join(FILES[3]), idx_file(&[0], |_| 0)).unwrap();
    assert!(load(&dir).unwrap_err().to_string().ends_with("holds no images"));
}

#[test]
fn truncated_files_and_files_of_another_format() {
    let labels = idx_file(&[5], |_| 0);
    assert!(refused(1, &labels[..labels.len() - 1]).starts_with("cut short"));
    let packed = pack::stored(&labels);
    assert!(refused(1, &packed[..packed.len() - 4]).contains("ends early"));
    assert!(refused(0, b"<html>404 Not Found</html>").starts_with("not an IDX file"));
}

#[test]
fn drawn_digits_differ_between_training_and_test() {
    let Mnist { train, test } = digits(30, 20, 5).unwrap();
    assert_eq!((train.len(), test.len(), test.num_classes()), (30, 20, 10));
    let first = |d: &Dataset| d.take(20).unwrap().all().inputs.to_vec();
    assert_ne!(first(&train), first(&test));
    assert_eq!(
        first(&test),
        first(&digits(1, 20, 5).unwrap().test),
        "whatever the number for training"
    );
    assert!(matches!(digits(0, 20, 5), Err(Error::Argument { .. })));
    assert!(matches!(digits(20, 0, 5), Err(Error::Argument { .. })));
}

#[test]
fn the_cache_folder_follows_the_variables() {
    let set = |pairs: &'static [(&str, &str)]| {
        move |name: &str| pairs.iter().find(|p| p.0 == name).map(|p| PathBuf::from(p.1))
    };
    assert_eq!(cache_in(Kind::Mnist, set(&[])), None);
    #[cfg(not(windows))]
    {
        let both = set(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]);
        assert_eq!(cache_in(Kind::Mnist, both).unwrap(), Path::new("/c/gradus/mnist"));
        let relative = set(&[("XDG_CACHE_HOME", "c"), ("HOME", "/h")]);
        let fashion = cache_in(Kind::Fashion, relative).unwrap();
        assert_eq!(fashion, Path::new("/h/.cache/gradus/fashion-mnist"));
    }
    #[cfg(windows)]
    {
        let local = set(&[("LOCALAPPDATA", "C:\\l")]);
        assert_eq!(cache_in(Kind::Mnist, local).unwrap(), Path::new("C:\\l\\gradus\\mnist"));
    }
}

#[test]
fn find_looks_in_the_folder_then_the_cache_then_fetches_then_draws() {
    let no_fetch = |_, _: &Path| -> Result<(), String> { panic!("not to be fetched") };
    let (folder, cache) = (small_set(), small_set());
    let cached = || Some(cache.to_path_buf());
    let (found, source) = find_in(Kind::Mnist, Some(&folder), cached(), 0, no_fetch).unwrap();
    assert_eq!((found.train.len(), source), (5, Source::Folder(folder.to_path_buf())));
    let (_, source) = find_in(Kind::Mnist, None, cached(), 0, no_fetch).unwrap();
    assert_eq!(source, Source::Cache(cache.to_path_buf()));

    // A folder that was asked for is never replaced by another source, nor is a damaged cache.
    let empty = TempDir::new();
    assert!(find_in(Kind::Mnist, Some(&empty), cached(), 0, no_fetch).is_err());
    fs::write(cache.join(FILES[1]), b"?").unwrap();
    assert!(find_in(Kind::Mnist, None, cached(), 0, no_fetch).is_err());

    let fetched = |_, dir: &Path| {
        for name in FILES {
            fs::copy(folder.join(name), dir.join(name)).unwrap();
        }
        Ok(())
    };
    let (_, source) = find_in(Kind::Mnist, None, Some(empty.to_path_buf()), 0, fetched).unwrap();
    assert_eq!(source, Source::Downloaded(empty.to_path_buf()));

    let offline = |kind, _: &Path| Err(format!("no network for {kind}"));
    let nowhere = TempDir::new();
    let (drawn, source) =
        find_in(Kind::Fashion, None, Some(nowhere.to_path_buf()), 3, offline).unwrap();
    assert_eq!((drawn.train.len(), drawn.test.len()), DRAWN);
    let line = source.to_string();
    assert_eq!(line, "no network for Fashion-MNIST; using digits drawn by the program instead");
    let (_, source) = find_in(Kind::Mnist, None, None, 3, no_fetch).unwrap();
    assert!(source.to_string().contains("no cache folder"), "{source}");
}

/// The folder that a variable names, or a line that says that nothing was tested.
fn real(variable: &str) -> Option<Mnist> {
    let Some(dir) = std::env::var_os(variable) else {
        // Not through eprintln!, which the test harness swallows.
        let line =
            format!("NOT RUN: set {variable} to the folder of the real files to test with them\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return None;
    };
    Some(load(Path::new(&dir)).unwrap())
}

fn check_real(mnist: &Mnist, counts: [usize; 10], mean: f32) {
    assert_eq!((mnist.train.len(), mnist.test.len()), (60_000, 10_000));
    assert_eq!(mnist.train.class_counts(), counts);
    let found = mnist.train.mean_std().0[0];
    assert!((found - mean).abs() < 1e-4, "mean {found}, expected {mean}");
}

#[test]
fn the_real_mnist() {
    if let Some(mnist) = real("GRADUS_MNIST_DIR") {
        let counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949];
        check_real(&mnist, counts, 0.1307);
        assert_eq!(mnist.test.class_counts()[..3], [980, 1135, 1032]);
    }
}

#[test]
fn the_real_fashion_mnist() {
    if let Some(mnist) = real("GRADUS_FASHION_MNIST_DIR") {
        check_real(&mnist, [6000; 10], 0.2860);
        assert_eq!(mnist.test.class_counts(), [1000; 10]);
    }
}
