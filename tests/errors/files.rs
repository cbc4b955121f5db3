//! Files that are damaged, that lie, that belong to something else, or that cannot be written.

use std::fs;

use gradus::data::{idx, mnist};
use gradus::prelude::*;

use crate::Folder;

/// The words with the folder's name left out.
fn plain<T>(dir: &Folder, r: gradus::Result<T>) -> String {
    match r {
        Ok(_) => "nothing: it went through".into(),
        Err(e) => e
            .to_string()
            .replace(&format!("{}/", dir.0.display()), "")
            .replace(&dir.0.display().to_string(), "DIR"),
    }
}

fn check(wrong: &[(String, &str)]) {
    let differing: Vec<_> = wrong
        .iter()
        .filter(|(got, want)| got != want)
        .map(|(got, want)| format!("expected {want}\n     got {got}"))
        .collect();
    assert!(differing.is_empty(), "{} differ\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn idx_files() {
    let dir = Folder::new("idx");
    let read = |bytes: &[u8]| {
        let path = dir.0.join("a.idx");
        fs::write(&path, bytes).expect("a temporary file");
        plain(&dir, idx::read(&path))
    };
    check(&[
        (read(&[]), "a.idx: the IDX header: cut short"),
        (read(&[0, 0, 8]), "a.idx: the IDX header: cut short"),
        (
            read(&[1, 2, 3, 4, 5]),
            "a.idx: not an IDX file: it begins with 01 02 03 04, expected 00 00, an element type (08, 09, 0b, 0c, 0d or 0e) and the rank",
        ),
        (
            read(b"<html>not found</html>"),
            "a.idx: not an IDX file: it begins with 3c 68 74 6d, expected 00 00, an element type (08, 09, 0b, 0c, 0d or 0e) and the rank",
        ),
        (
            read(&[0, 0, 8, 1, 0, 0, 0, 9, 1, 2]),
            "a.idx: cut short: the header states 9 of u8, 17 bytes in all, and the file has 10",
        ),
        (
            read(&[0, 0, 8, 1, 0, 0, 0, 1, 1, 2]),
            "a.idx: bytes left over: the header states 1 of u8, 9 bytes in all, and the file has 10",
        ),
        (
            read(&[0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255]),
            "a.idx: the header states 4294967295 × 4294967295 of u8: too many bytes",
        ),
        (
            read(&[&[0u8, 0, 14, 3][..], &[255; 12]].concat()),
            "a.idx: the header states 4294967295 × 4294967295 × 4294967295 of f64: too many bytes",
        ),
        (read(&[0x1f, 0x8b, 8, 0]), "a.idx: the IDX header: the gzip stream ends early"),
        (
            plain(&dir, idx::read(dir.0.join("none"))),
            "none: No such file or directory (os error 2)",
        ),
        (plain(&dir, idx::read(&dir.0)), "DIR: Is a directory (os error 21)"),
        (plain(&dir, mnist::load(&dir.0)), "train-images-idx3-ubyte: no such file, nor with .gz"),
        (
            plain(&dir, mnist::load(dir.0.join("missing"))),
            "missing/train-images-idx3-ubyte: no such file, nor with .gz",
        ),
    ]);
}

#[test]
fn mnist_files_that_do_not_go_together() {
    let dir = Folder::new("mnist");
    let put = |name: &str, head: &[u8], dims: &[u32], body: usize, value: u8| {
        let dims: Vec<u8> = dims.iter().flat_map(|d| d.to_be_bytes()).collect();
        fs::write(dir.0.join(name), [head, &dims, &vec![value; body]].concat())
            .expect("a temporary file");
    };
    let images = |name: &str, n: u32| put(name, &[0, 0, 8, 3], &[n, 28, 28], n as usize * 784, 0);
    let labels = |name: &str, n: u32, v: u8| put(name, &[0, 0, 8, 1], &[n], n as usize, v);
    images("train-images-idx3-ubyte", 3);
    labels("train-labels-idx1-ubyte", 2, 0);
    images("t10k-images-idx3-ubyte", 2);
    labels("t10k-labels-idx1-ubyte", 2, 1);
    let unequal = plain(&dir, mnist::load(&dir.0));
    labels("train-labels-idx1-ubyte", 3, 10);
    let label = plain(&dir, mnist::load(&dir.0));
    labels("train-images-idx3-ubyte", 3, 0);
    labels("train-labels-idx1-ubyte", 3, 0);
    let swapped = plain(&dir, mnist::load(&dir.0));
    images("train-images-idx3-ubyte", 0);
    labels("train-labels-idx1-ubyte", 0, 0);
    let none = plain(&dir, mnist::load(&dir.0));
    check(&[
        (
            unequal,
            "train-labels-idx1-ubyte: holds 2 labels, but train-images-idx3-ubyte holds 3 images",
        ),
        (label, "train-labels-idx1-ubyte: label 0 is 10, expected 0 to 9"),
        (
            swapped,
            "train-images-idx3-ubyte: holds an array of shape [3], expected images [n, 28, 28]",
        ),
        (none, "train-images-idx3-ubyte: holds no images"),
    ]);
}

#[test]
fn checkpoints() {
    let dir = Folder::new("checkpoint");
    let mut rng = gradus::rng(0);
    let mut dense = |i, o| Dense::new(i, o).build(&mut rng).expect("a layer");
    let pair: (Dense, Dense) = (dense(3, 4), dense(4, 2));
    let mut other: (Dense, Dense, Dense) = (dense(3, 5), dense(4, 2), dense(2, 2));
    let path = dir.0.join("pair.safetensors");
    pair.save(&path).expect("a folder that can be written");
    let before = other.0.weight.to_vec();
    let foreign = plain(&dir, other.load(&path));
    assert_eq!(other.0.weight.to_vec(), before);
    let bytes = fs::read(&path).expect("the file");
    let mut load = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a temporary file");
        plain(&dir, other.load(&path))
    };
    let mut long = bytes.clone();
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let tape = Tape::new(0);
    let mut copy = tape.watch(&pair);
    check(&[
        (
            foreign,
            "pair.safetensors: not a checkpoint of this model; missing: 2.weight, 2.bias; different: 0.weight: the model has f32 [5, 3], the file f32 [4, 3], 0.bias: the model has f32 [5], the file f32 [4]",
        ),
        (load(&[]), "pair.safetensors: 0 bytes are too few for a safetensors file"),
        (
            load(&bytes[..bytes.len() - 1]),
            "pair.safetensors: the tensor \"1.weight\" ends at byte 104 of the data, but there are 103 bytes",
        ),
        (
            load(&bytes[..40]),
            "pair.safetensors: the header has 256 bytes, but the file only 32 more",
        ),
        (
            load(&long),
            "pair.safetensors: not a safetensors file, or a damaged one: its header would have 18446744073709551615 bytes, more than the 100000000 allowed",
        ),
        (
            load(&header(
                r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
            )),
            "pair.safetensors: the size of the tensor \"a\" overflows: [4611686018427387904, 4]",
        ),
        (
            load(&header(r#"{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}"#)),
            "pair.safetensors: the tensor \"a\" ends at byte 4000000 of the data, but there are 0 bytes",
        ),
        (
            load(&header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#)),
            "pair.safetensors: the tensor \"a\" ends (4) before it begins (8)",
        ),
        (load(&header("[[[[")), "pair.safetensors: the header does not begin with {"),
        (
            plain(&dir, pair.save(dir.0.join("no/such/folder.safetensors"))),
            "no/such/folder.safetensors: the folder no/such does not exist; create it first",
        ),
        (plain(&dir, pair.save(&dir.0)), "DIR: Is a directory (os error 21)"),
        (plain(&dir, pair.save("")), "(an empty path): not the name of a file"),
        (
            plain(&dir, pair.clone().load(dir.0.join("none.safetensors"))),
            "none.safetensors: No such file or directory (os error 2)",
        ),
        (
            plain(&dir, copy.load_bytes(&bytes)),
            "load: this model is the copy that tape.watch returned; load into the model itself",
        ),
    ]);
}
