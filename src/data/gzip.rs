//! Reading gzip (RFC 1952) as a stream, in bounded memory.
//!
//! The inflating itself is [`miniz_oxide`]'s; this file adds the envelope: header, checksum, length, members.

use std::io::{self, BufRead, Read};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// The two bytes that every gzip file begins with.
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The most bytes that one compressed byte can inflate to: a match of 258 bytes takes at least two bits.
pub const MAX_RATIO: u64 = 1032;

/// Inflates a gzip stream while it is read.
///
/// It holds one window of 32 KiB however long the stream is, so a small file that inflates to gigabytes costs only
/// what its reader asks for. The end of the stream is reached (`read` returns 0) only after checksum and length of every member
/// have been found right and nothing but further members followed.
///
/// # Errors
/// `read` returns [`io::ErrorKind::InvalidData`] for bytes that aren't a whole and sound gzip stream and
/// [`io::ErrorKind::UnexpectedEof`] for one that ends early, besides what the inner reader returns.
///
/// ```
/// use gradus::data::gzip::GzipReader;
/// use std::io::Read;
/// // `printf hi | gzip -n`
/// let packed = [31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 203, 200, 4, 0, 172, 42, 147, 216, 2, 0, 0, 0];
/// let mut text = String::new();
/// GzipReader::new(&packed[..]).read_to_string(&mut text)?;
/// assert_eq!(text, "hi");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct GzipReader<R> {
    inner: R,
    inflater: Box<InflateState>,
    state: State,
    crc: Crc32,
    /// Bytes that the current member has inflated to, modulo 2³² as in its trailer.
    length: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before the first member.
    Start,
    /// Inside a member's compressed data.
    Body,
    /// Behind a member's trailer: another member or the end follows.
    Between,
    End,
}

impl<R: BufRead> GzipReader<R> {
    /// A reader of the gzip stream that `inner` stands at the start of.
    pub fn new(inner: R) -> Self {
        let inflater = Box::new(InflateState::new(DataFormat::Raw));
        GzipReader { inner, inflater, state: State::Start, crc: Crc32::new(), length: 0 }
    }

    /// The next `N` bytes of the envelope.
    fn take<const N: usize>(&mut self, crc: &mut Crc32) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ends_early(),
            _ => e,
        })?;
        crc.update(&bytes);
        Ok(bytes)
    }

    fn header(&mut self, first: bool) -> io::Result<()> {
        const HEADER_CRC: u8 = 0x02;
        const EXTRA: u8 = 0x04;
        const NAME: u8 = 0x08;
        const COMMENT: u8 = 0x10;
        const RESERVED: u8 = 0xe0;

        let mut crc = Crc32::new();
        let magic: [u8; 2] = self.take(&mut crc)?;
        if magic != MAGIC {
            return Err(corrupt(if first {
                format!("not a gzip stream: it begins with {magic:02x?}, expected {MAGIC:02x?}")
            } else {
                "bytes follow the end of the gzip stream".into()
            }));
        }
        let [method, flags, ..]: [u8; 8] = self.take(&mut crc)?;
        if method != 8 || flags & RESERVED != 0 {
            return Err(corrupt(format!(
                "unknown gzip compression: method {method}, flags {flags:#04x}; expected method 8 (deflate)"
            )));
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes(self.take(&mut crc)?);
            for _ in 0..length {
                self.take::<1>(&mut crc)?;
            }
        }
        for text in [NAME, COMMENT] {
            while flags & text != 0 && self.take(&mut crc)? != [0] {}
        }
        let sum = crc.value() as u16;
        if flags & HEADER_CRC != 0 && u16::from_le_bytes(self.take(&mut crc)?) != sum {
            return Err(corrupt("the checksum of the gzip header is wrong".into()));
        }
        self.inflater.reset(DataFormat::Raw);
        (self.crc, self.length) = (Crc32::new(), 0);
        Ok(())
    }

    fn trailer(&mut self) -> io::Result<()> {
        let found = self.crc.value();
        let mut unused = Crc32::new();
        let stated = u32::from_le_bytes(self.take(&mut unused)?);
        if stated != found {
            return Err(corrupt(format!(
                "the gzip checksum is wrong: the stream states {stated:08x}, its data give {found:08x}"
            )));
        }
        let stated = u32::from_le_bytes(self.take(&mut unused)?);
        if stated != self.length {
            return Err(corrupt(format!(
                "the gzip length is wrong: the stream states {stated} bytes and holds {}",
                self.length
            )));
        }
        Ok(())
    }

    /// Inflates into `out` and returns how many bytes it wrote; 0 may also mean that the member has ended.
    fn body(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.inner.fill_buf()?;
            let at_end = input.is_empty();
            let step = inflate(&mut self.inflater, input, out, MZFlush::None);
            self.inner.consume(step.bytes_consumed);
            let written = step.bytes_written;
            self.crc.update(&out[..written]);
            self.length = self.length.wrapping_add(written as u32);
            match step.status {
                Ok(MZStatus::StreamEnd) => {
                    self.trailer()?;
                    self.state = State::Between;
                    return Ok(written);
                }
                Ok(_) | Err(MZError::Buf) if written > 0 => return Ok(written),
                Ok(_) | Err(MZError::Buf) if at_end => return Err(ends_early()),
                Ok(_) => {}
                Err(_) => return Err(corrupt("the compressed data are corrupt".into())),
            }
        }
    }
}

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Start => {
                    self.header(true)?;
                    self.state = State::Body;
                }
                State::Body => match self.body(out)? {
                    0 => {}
                    n => return Ok(n),
                },
                State::Between if self.inner.fill_buf()?.is_empty() => self.state = State::End,
                State::Between => {
                    self.header(false)?;
                    self.state = State::Body;
                }
                State::End => return Ok(0),
            }
        }
    }
}

fn corrupt(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn ends_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the gzip stream ends early")
}

/// The CRC-32 of gzip (reflected polynomial 0xEDB88320), eight bytes a step.
struct Crc32(u32);

/// `TABLES[k][b]`: what byte `b` contributes when `k` more bytes follow it in the step.
static TABLES: [[u32; 256]; 8] = {
    let mut t = [[0; 256]; 8];
    let mut b = 0;
    while b < 256 {
        let mut crc = b as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
            bit += 1;
        }
        t[0][b] = crc;
        b += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut b = 0;
        while b < 256 {
            let crc: u32 = t[k - 1][b];
            t[k][b] = (crc >> 8) ^ t[0][(crc & 0xff) as usize];
            b += 1;
        }
        k += 1;
    }
    t
};

impl Crc32 {
    fn new() -> Self {
        Crc32(!0)
    }

    fn update(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for c in chunks {
            let x = u64::from_le_bytes(*c) ^ u64::from(self.0);
            self.0 = (0..8).fold(0, |crc, k| crc ^ TABLES[7 - k][(x >> (8 * k)) as usize & 0xff]);
        }
        for b in rest {
            self.0 = (self.0 >> 8) ^ TABLES[0][((self.0 ^ u32::from(*b)) & 0xff) as usize];
        }
    }

    fn value(&self) -> u32 {
        !self.0
    }
}

/// Packs bytes as gzip, in stored (uncompressed) blocks or as long runs; for the tests of this floor.
#[cfg(test)]
pub(crate) mod pack {
    use super::*;

    pub fn stored(data: &[u8]) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let mut blocks = data.chunks(0xffff).peekable();
        if data.is_empty() {
            out.extend([1, 0, 0, 0xff, 0xff]);
        }
        while let Some(block) = blocks.next() {
            out.push(blocks.peek().is_none() as u8);
            out.extend((block.len() as u16).to_le_bytes());
            out.extend((!(block.len() as u16)).to_le_bytes());
            out.extend(block);
        }
        let mut crc = Crc32::new();
        crc.update(data);
        out.extend(crc.value().to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out
    }

    /// `head`, then `matches` × 258 zeros in a fixed-Huffman block: about 13 bits for 258 bytes.
    pub fn bomb(head: &[u8], matches: usize) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 0];
        let head = [head, &[0]].concat();
        out.extend((head.len() as u16).to_le_bytes());
        out.extend((!(head.len() as u16)).to_le_bytes());
        out.extend(&head);
        let mut bits = vec![true, true, false];
        for _ in 0..matches {
            // Length code 285 is 11000101, distance code 0 is 00000, both from the most significant bit.
            bits.extend([1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0].map(|b| b == 1));
        }
        bits.extend([false; 7]);
        for byte in bits.chunks(8) {
            out.push(byte.iter().enumerate().map(|(i, b)| (*b as u8) << i).sum());
        }
        let mut crc = Crc32::new();
        crc.update(&head);
        (0..matches).for_each(|_| crc.update(&[0; 258]));
        out.extend(crc.value().to_le_bytes());
        out.extend(((head.len() + matches * 258) as u32).to_le_bytes());
        out
    }
}

#[cfg(test)]
#[path = "gzip_tests.rs"]
mod tests;
