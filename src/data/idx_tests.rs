use super::*;
use crate::data::gzip::pack;

fn idx_bytes(code: u8, dims: &[u32], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, code, dims.len() as u8];
    dims.iter().for_each(|d| out.extend(d.to_be_bytes()));
    out.extend(payload);
    out
}

/// The message of the `Error::Format` that parsing must return.
fn refused(bytes: &[u8]) -> String {
    match parse(bytes, "file.idx").unwrap_err() {
        e @ Error::Format { .. } => e.to_string(),
        e => panic!("expected Error::Format, got {e:?}"),
    }
}

#[test]
fn every_type_and_rank() {
    let cases = [
        (0x08, vec![7, 255], Values::U8(vec![7, 255])),
        (0x09, vec![7, 255], Values::I8(vec![7, -1])),
        (0x0b, vec![1, 0, 255, 255], Values::I16(vec![256, -1])),
        (0x0c, vec![0, 0, 1, 0, 255, 255, 255, 254], Values::I32(vec![256, -2])),
        (0x0d, [1.5f32, -2.0].map(f32::to_be_bytes).concat(), Values::F32(vec![1.5, -2.0])),
        (0x0e, [1.5f64, -2.0].map(f64::to_be_bytes).concat(), Values::F64(vec![1.5, -2.0])),
    ];
    for (code, payload, values) in cases {
        for shape in [vec![2u32], vec![1, 2], vec![1, 1, 2, 1, 1]] {
            let file = idx_bytes(code, &shape, &payload);
            let want =
                Idx { shape: shape.iter().map(|&d| d as usize).collect(), values: values.clone() };
            assert_eq!(parse(&file, "x").unwrap(), want);
            assert_eq!(parse(&pack::stored(&file), "x").unwrap(), want, "packed");
        }
    }
    assert_eq!(parse(&idx_bytes(8, &[], &[5]), "x").unwrap().values, Values::U8(vec![5]));
    let none = parse(&idx_bytes(8, &[0, 28, 28], &[]), "x").unwrap();
    assert_eq!((none.shape, none.values), (vec![0, 28, 28], Values::U8(vec![])));
}

#[test]
fn wrong_magic() {
    for bad in [&b"PK\x03\x04 zip"[..], &[0, 0, 0x0a, 1, 0, 0, 0, 0], &[0, 1, 8, 0, 3]] {
        let message = refused(bad);
        assert!(message.starts_with("file.idx: not an IDX file: it begins with"), "{message}");
    }
}

#[test]
fn every_truncation_and_any_surplus() {
    let file = idx_bytes(0x0c, &[2, 3], &[9; 24]);
    for n in 0..file.len() {
        let message = refused(&file[..n]);
        assert!(message.contains("cut short"), "{n} bytes: {message}");
        let message = refused(&pack::stored(&file[..n]));
        assert!(message.contains("cut short"), "{n} bytes, packed: {message}");
    }
    let longer = [&file[..], &[0]].concat();
    let message = refused(&longer);
    assert!(message.contains("bytes left over") && message.contains("37"), "{message}");
    assert!(refused(&pack::stored(&longer)).contains("bytes left over"));
}

#[test]
fn a_damaged_gzip_stream_is_named() {
    let mut packed = pack::stored(&idx_bytes(8, &[4], &[1, 2, 3, 4]));
    assert!(refused(&packed[..packed.len() - 9]).contains("ends early"));
    let at = packed.len() - 6;
    packed[at] ^= 4;
    assert!(refused(&packed).contains("checksum"));
}

#[test]
fn sizes_that_overflow_or_cannot_be_there_are_refused_at_once() {
    let huge = u32::MAX;
    assert!(refused(&idx_bytes(0x0e, &[huge; 3], &[])).contains("too many bytes"));
    assert!(refused(&idx_bytes(8, &[huge; 255], &[])).contains("too many bytes"));
    // 16 TB stated: were it allocated before the check, the test would die here.
    assert!(refused(&idx_bytes(8, &[huge, 1000], &[0; 100])).contains("cut short"));
    let packed = refused(&pack::stored(&idx_bytes(8, &[huge, 1000], &[0; 100])));
    assert!(packed.contains("more than a gzip file of"), "{packed}");
}

#[test]
fn a_gzip_bomb_stops_at_the_stated_size() {
    // 26 MB of zeros behind a header that states 4 bytes.
    let packed = pack::bomb(&idx_bytes(8, &[4], &[]), 100_000);
    assert!(packed.len() < 200_000);
    let mut source = &packed[..];
    let e = decode_plain(GzipReader::new(&mut source), Size::Unknown, Path::new("b"));
    assert!(e.unwrap_err().to_string().contains("bytes left over"));
    assert!(source.len() > 100_000, "the rest of the stream was not even read");
}

/// Endless zeros that stop after `left` bytes, and the largest buffer that anyone offered to them ahead of need.
struct Meter {
    given: usize,
    left: usize,
    worst: usize,
}

impl Read for Meter {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.worst = self.worst.max(buf.len().saturating_sub(self.given));
        let n = buf.len().min(self.left).min(10_000);
        buf[..n].fill(0);
        (self.given, self.left) = (self.given + n, self.left - n);
        Ok(n)
    }
}

#[test]
fn memory_grows_with_what_arrives_and_not_with_what_is_stated() {
    let mut meter = Meter { given: 0, left: 5_000_000, worst: 0 };
    let e = read_payload(&mut meter, 1 << 40, "2⁴⁰ of u8", Path::new("m")).unwrap_err();
    assert!(e.to_string().contains("only 5000000 follow"), "{e}");
    assert!(meter.worst <= 1 << 20, "a buffer {} bytes ahead of the data", meter.worst);
    let mut meter = Meter { given: 0, left: 5_000_000, worst: 0 };
    let data = read_payload(&mut meter, 5_000_000, "", Path::new("m")).unwrap();
    assert_eq!((data.len(), data.capacity()), (5_000_000, 5_000_000));
}

#[test]
fn no_damage_makes_it_panic_or_allocate_wildly() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(1);
    let plain = idx_bytes(0x0b, &[3, 2], &[5; 12]);
    let files = [plain.clone(), pack::stored(&plain), pack::bomb(&plain[..12], 3)];
    let mut refused = 0;
    for round in 0..30_000 {
        let mut file = files[round % files.len()].clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..file.len());
            match rng.random_range(0..4) {
                0 => file[at] = rng.random(),
                1 => file[at] ^= 1 << rng.random_range(0..8),
                2 => file.insert(at, rng.random()),
                _ => file.truncate(at.max(1)),
            }
        }
        match parse(&file, "damaged") {
            Ok(idx) => assert!(idx.shape.iter().product::<usize>() < 10_000),
            Err(Error::Format { .. }) => refused += 1,
            Err(e) => panic!("expected Error::Format, got {e:?}"),
        }
    }
    assert!(refused > 20_000, "only {refused}");
}

#[test]
fn missing_file_and_folder_are_io_errors_with_the_path() {
    for path in [Path::new("no/such/file.idx").to_path_buf(), std::env::temp_dir()] {
        let e = read(&path).unwrap_err();
        assert!(matches!(e, Error::Io { .. }), "{e:?}");
        assert!(e.to_string().starts_with(&path.display().to_string()), "{e}");
    }
}
