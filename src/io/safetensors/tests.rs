use super::*;
use crate::prelude::*;
use ::safetensors as reference;

/// A file with this header and so many bytes of data, all 0.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut f = (header.len() as u64).to_le_bytes().to_vec();
    f.extend(header.as_bytes());
    f.extend(std::iter::repeat_n(0, data));
    f
}

fn message(bytes: &[u8]) -> String {
    match from_bytes(bytes) {
        Err(Error::Format { message, .. }) => message,
        other => panic!("not a format error: {other:?}"),
    }
}

fn sample() -> TensorMap {
    let mut map = TensorMap::new();
    map.insert("conv.weight", Tensor::<f32>::from_fn([2, 3], |i| i as f32 - 2.5).unwrap());
    map.insert("ünï \"q\" \\ \n\u{1}", Tensor::from([f64::NAN, -0.0, f64::INFINITY]));
    map.insert("ids", Tensor::from([i64::MIN, -1, i64::MAX]));
    map.insert("small", Tensor::from([i32::MIN, 7]));
    map.insert("bytes", Tensor::from([0u8, 255, 3]));
    map.insert("mask", Tensor::from([true, false, true]));
    map.insert("scalar", Tensor::scalar(4.5f32));
    map.insert("empty", Tensor::<f32>::zeros([2, 0]).unwrap());
    map.insert("", Tensor::from([1.0f32]));
    map.metadata.insert("format".into(), "pt".into());
    map.metadata.insert("odd \"key\"".into(), "line\nfeed 😀".into());
    map
}

#[test]
fn a_lying_header_is_told_apart() {
    let t = |fields: &str| format!("{{\"a\":{{{fields}}}}}");
    let ok = "\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]";
    assert_eq!(from_bytes(&file(&t(ok), 8)).unwrap().get::<f32>("a").unwrap().to_vec(), [0.0, 0.0]);
    assert!(from_bytes(&file("{}", 0)).unwrap().is_empty());
    assert!(from_bytes(&file(" \t{}", 0)).is_err());
    let deep = "[".repeat(100_000);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "0 bytes are too few"),
        (vec![0; 7], "7 bytes are too few"),
        (
            u64::MAX.to_le_bytes().to_vec(),
            "header would have 18446744073709551615 bytes, more than",
        ),
        (100_000_001u64.to_le_bytes().to_vec(), "more than the 100000000 allowed"),
        (
            100_000_000u64.to_le_bytes().to_vec(),
            "the header has 100000000 bytes, but the file only 0 more",
        ),
        (file("", 0), "does not begin with {"),
        (file("[]", 0), "does not begin with {"),
        (file("{", 0), "expected a string (at byte 1"),
        (file("{} x", 0), "goes on after its object (at byte 3"),
        (file("{\"a\"}", 0), "expected : (at byte 4"),
        (file("{\"a\":1}", 0), "expected { (at byte 5"),
        (file("{\"a", 0), "a string has no end"),
        (file("{\"\\q\":1}", 0), "unknown escape"),
        (file("{\"\\", 0), "unknown escape"),
        (file("{\"\\u12\":1}", 0), "four hexadecimal digits"),
        (file("{\"\\ud800\":1}", 0), "\\u that is no character"),
        (file("{\"\\ud800\\u0041\":1}", 0), "\\u that is no character"),
        (file("{\"a\nb\":1}", 0), "control character"),
        (file("{\"a\":{},}", 0), "the tensor \"a\" has no dtype"),
        (file(&t(&format!("{ok},")), 8), "expected a string"),
        (file(&t("\"dtype\":\"F32\",\"data_offsets\":[0,8]"), 8), "\"a\" has no shape"),
        (file(&t("\"dtype\":\"F32\",\"shape\":[2]"), 8), "\"a\" has no data_offsets"),
        (
            file(&t("\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]"), 8),
            "the dtype \"F33\"; known are F32",
        ),
        (
            file(&t("\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]"), 8),
            "the dtype \"BF16\"; known are",
        ),
        (file(&t("\"dtype\":4,\"shape\":[2],\"data_offsets\":[0,8]"), 8), "expected a string"),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]"), 8),
            "an integer that is not negative",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]"), 8),
            "an integer that is not negative",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[2e0],\"data_offsets\":[0,8]"), 8),
            "an integer that is not negative",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[02],\"data_offsets\":[0,8]"), 8),
            "an integer that is not negative",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[[2]],\"data_offsets\":[0,8]"), 8),
            "an integer that is not negative",
        ),
        (
            file(
                &t("\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,8]"),
                8,
            ),
            "too many digits",
        ),
        (
            file(
                &t("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]"),
                8,
            ),
            "the size of the tensor \"a\" overflows",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,8]"), 8),
            "the size of the tensor \"a\" overflows",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]"), 8),
            "3 data_offsets instead of 2",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[]"), 8),
            "0 data_offsets instead of 2",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]"), 8),
            "ends (0) before it begins (8)",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"), 7),
            "ends at byte 8 of the data, but there are 7",
        ),
        (
            file(
                &t(
                    "\"dtype\":\"F32\",\"shape\":[1000000000000],\"data_offsets\":[0,4000000000000]",
                ),
                8,
            ),
            "but there are 8 bytes",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]"), 8),
            "f32 [3] takes 12 bytes, but the header gives it 8",
        ),
        (
            file(&t("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]"), 9),
            "a gap before the tensor \"a\"",
        ),
        (file(&t(ok), 9), "the tensors take 8 bytes, but 9 follow"),
        (file("{}", 1), "the tensors take 0 bytes, but 1 follow"),
        (file(&t(&format!("{ok},\"shape\":[2]")), 8), "the field shape twice"),
        (file(&t(&format!("{ok},\"dtype\":\"F32\"")), 8), "the field dtype twice"),
        (file(&t(&format!("{ok},\"x\":[2]")), 8), "unknown field \"x\""),
        (file(&format!("{{\"a\":{{{ok}}},\"a\":{{{ok}}}}}"), 8), "\"a\" stands twice"),
        (file(&format!("{{\"a\":{{{ok}}},\"\\u0061\":{{{ok}}}}}"), 8), "\"a\" stands twice"),
        (
            file(&format!("{{\"a\":{{{ok}}},\"b\":{{{ok}}}}}"), 8),
            "an overlap before the tensor \"b\"",
        ),
        (file("{\"__metadata__\":{\"k\":1}}", 0), "expected a string"),
        (file("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0), "the metadata has a key twice"),
        (file("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "__metadata__ stands twice"),
        (file(&format!("{{\"a\":{deep}"), 0), "expected {"),
        (file(&format!("{{\"a\":{{\"shape\":{deep}"), 0), "an integer that is not negative"),
        (file(&"{\"a\":".repeat(100_000), 0), "unknown field \"a\""),
        (
            file(&t("\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]").clone(), 0),
            "but there are 0 bytes",
        ),
    ];
    for (bytes, part) in cases {
        let got = message(&bytes);
        assert!(got.contains(part), "{got:?} does not say {part:?}");
    }
    let mut not_utf8 = file("{\"a\":1}", 0);
    not_utf8[10] = 0xff;
    assert_eq!(message(&not_utf8), "the header is not UTF-8 (at its byte 2)");
    let mut two = file(&t("\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]"), 1);
    *two.last_mut().unwrap() = 2;
    assert!(message(&two).contains("an element that is no bool"), "{}", message(&two));
}

#[test]
fn every_type_survives() {
    let bytes = to_bytes(&sample()).unwrap();
    let back = from_bytes(&bytes).unwrap();
    assert_eq!(back.names().collect::<Vec<_>>(), sample().names().collect::<Vec<_>>());
    assert_eq!(back.metadata, sample().metadata);
    assert_eq!(back.get::<i64>("ids").unwrap().to_vec(), [i64::MIN, -1, i64::MAX]);
    assert_eq!(back.get::<bool>("mask").unwrap().to_vec(), [true, false, true]);
    assert_eq!(back.get::<f32>("empty").unwrap().shape(), [2, 0]);
    assert_eq!(back.get::<f32>("scalar").unwrap().item().unwrap(), 4.5);
    assert!(back.get::<f64>("scalar").is_none());
    assert_eq!(to_bytes(&back).unwrap(), bytes, "NaN and -0.0 keep their bits");
}

#[test]
fn the_data_are_aligned() {
    let bytes = to_bytes(&sample()).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(n % 8, 0);
    let (_, header) = reference::SafeTensors::read_metadata(&bytes).unwrap();
    for info in header.tensors().values() {
        let size = info.dtype.bitsize() / 8;
        assert_eq!(info.data_offsets.0 % size, 0);
    }
}

#[test]
fn the_reference_reads_what_we_write() {
    let map = sample();
    let bytes = to_bytes(&map).unwrap();
    let theirs = reference::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), map.len());
    for (name, value) in map.iter() {
        let t = theirs.tensor(name).unwrap();
        assert_eq!(t.shape(), value.shape());
        let mut expected = Vec::new();
        value.write_to(&mut expected).unwrap();
        assert_eq!(t.data(), expected, "{name}");
    }
    let (_, header) = reference::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["odd \"key\""], "line\nfeed 😀");
}

#[test]
fn we_read_what_the_reference_writes() {
    let floats: Vec<u8> = [1.0f32, -2.0, 3.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = |dtype, shape: &[usize], data| {
        reference::tensor::TensorView::new(dtype, shape.to_vec(), data).unwrap()
    };
    let tensors = [
        ("b/é\"", view(reference::Dtype::F32, &[3, 1], &floats[..])),
        ("a", view(reference::Dtype::U8, &[2], &floats[..2])),
        ("m", view(reference::Dtype::BOOL, &[], &[1])),
    ];
    let words = std::collections::HashMap::from([("k".to_string(), "tab\t".to_string())]);
    let bytes = reference::serialize(tensors, Some(words)).unwrap();
    let map = from_bytes(&bytes).unwrap();
    assert_eq!(map.len(), 3);
    assert_eq!(map.get::<f32>("b/é\"").unwrap().to_vec(), [1.0, -2.0, 3.5]);
    assert_eq!(map.get::<f32>("b/é\"").unwrap().shape(), [3, 1]);
    assert_eq!(map.get::<u8>("a").unwrap().to_vec(), floats[..2]);
    assert!(map.get::<bool>("m").unwrap().item().unwrap());
    assert_eq!(map.metadata["k"], "tab\t");
}

/// Never a panic; and what is accepted must be accepted by the reference as well.
#[test]
fn random_damage_never_panics() {
    use rand::RngExt;
    let good = to_bytes(&sample()).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut rng = crate::rng(1);
    let signs = b"{}[]\":,\\0123456789-.eEuFI \n\x00\xff";
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.random_range(1..4) {
            let end = if rng.random_bool(0.9) { header } else { bytes.len() };
            let at = rng.random_range(0..end);
            if bytes.is_empty() {
                break;
            }
            let at = at.min(bytes.len() - 1);
            match rng.random_range(0..5) {
                0 => bytes[at] = rng.random(),
                1 => bytes[at] = signs[rng.random_range(0..signs.len())],
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, signs[rng.random_range(0..signs.len())]),
                _ => bytes.truncate(at + 1),
            }
        }
        match from_bytes(&bytes) {
            Ok(_) => {
                accepted += 1;
                let theirs = reference::SafeTensors::deserialize(&bytes);
                assert!(theirs.is_ok(), "{theirs:?}: {:?}", String::from_utf8_lossy(&bytes));
            }
            Err(Error::Format { .. }) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(accepted > 100 && refused > 10_000, "{accepted} {refused}");
}

#[test]
fn files() {
    let dir = std::env::temp_dir().join(format!("gradus-safetensors-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("x.safetensors");
    assert!(matches!(read(&path), Err(Error::Io { .. })));
    assert!(matches!(read(&dir), Err(Error::Io { .. })));
    write(&path, &sample()).unwrap();
    assert_eq!(read(&path).unwrap().len(), sample().len());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let e = read(&path).unwrap_err();
    assert!(matches!(&e, Error::Format { path: p, .. } if *p == path), "{e}");
    std::fs::remove_dir_all(dir).unwrap();
    let mut map = TensorMap::new();
    map.insert("__metadata__", Tensor::from([1.0f32]));
    assert!(matches!(to_bytes(&map), Err(Error::Argument { .. })));
}
