use super::*;

fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = vec![];
    // A tiny input buffer makes every state cross a refill.
    GzipReader::new(io::BufReader::with_capacity(3, bytes)).read_to_end(&mut out)?;
    Ok(out)
}

#[test]
fn crc_of_the_check_string() {
    let mut crc = Crc32::new();
    crc.update(b"123456789");
    assert_eq!(crc.value(), 0xcbf4_3926, "the check value of the CRC-32 catalogue");
}

#[test]
fn stored_compressed_and_concatenated_streams() {
    let data: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    for n in [0, 1, 0xffff, 0x10000, data.len()] {
        assert_eq!(unpack(&pack::stored(&data[..n])).unwrap(), &data[..n]);
    }
    let zeros = unpack(&pack::bomb(b"x", 1000)).unwrap();
    assert_eq!(zeros.len(), 2 + 258_000);
    assert!(zeros[0] == b'x' && zeros[1..].iter().all(|&b| b == 0));
    let two = [pack::stored(b"one "), pack::stored(b"two")].concat();
    assert_eq!(unpack(&two).unwrap(), b"one two");
}

#[test]
fn optional_header_fields_are_skipped() {
    let mut packed = pack::stored(b"data");
    packed[3] = 0x04 | 0x08 | 0x10 | 0x02;
    let fields = b"\x03\0abcname\0comment\0";
    packed.splice(10..10, *fields);
    let mut crc = Crc32::new();
    crc.update(&packed[..10 + fields.len()]);
    let sum = crc.value() as u16;
    packed.splice(10 + fields.len()..10 + fields.len(), sum.to_le_bytes());
    assert_eq!(unpack(&packed).unwrap(), b"data");
    packed[12] ^= 1;
    assert!(unpack(&packed).unwrap_err().to_string().contains("header"));
}

#[test]
fn every_truncation_and_every_flipped_byte_is_noticed() {
    let good = pack::bomb(b"0123456789", 5);
    for n in 0..good.len() {
        let e = unpack(&good[..n]).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof, "cut at {n}: {e}");
    }
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0x80;
        // Time stamp, extra flags and system say nothing about the data, nor do the padding bits behind the
        // head of the stored block (byte 10) and behind the last symbol.
        let free = (4..=10).contains(&i) || i == good.len() - 9;
        assert_eq!(unpack(&bad).is_ok(), free, "flipping byte {i}");
    }
}

#[test]
fn wrong_checksum_length_and_trailing_bytes_say_so() {
    let good = pack::stored(b"some data");
    for (at, word) in [(8, "checksum"), (4, "length")] {
        let mut bad = good.clone();
        let at = bad.len() - at;
        bad[at] ^= 1;
        let e = unpack(&bad).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidData);
        assert!(e.to_string().contains(word), "{e}");
    }
    let e = unpack(&[good, vec![0, 0]].concat()).unwrap_err();
    assert!(e.to_string().contains("follow the end"), "{e}");
}
