//! The header of a safetensors file: a strict reader of just its grammar, and the writer.
//!
//! ```text
//! header   = { entry, … }                       then spaces
//! entry    = "__metadata__": { string: string, … }
//!          | string: { "dtype": string, "shape": [integer, …], "data_offsets": [integer, integer] }
//! ```
//!
//! The grammar has no recursion and neither has the reader, so no nesting can exhaust the stack.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use crate::element::DType;

/// One tensor as the header describes it.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// Where its bytes stand behind the header.
    pub(super) begin: u64,
    pub(super) end: u64,
}

pub(super) type Metadata = BTreeMap<String, String>;

const METADATA: &str = "__metadata__";

/// The tensors in the order of their bytes, and the metadata. `data` is how many bytes follow the header: the tensors must fill
/// them without a gap or an overlap. The error says what is wrong, and where.
pub(super) fn parse(header: &[u8], data: u64) -> Result<(Vec<Entry>, Metadata), String> {
    let text = std::str::from_utf8(header)
        .map_err(|e| format!("the header is not UTF-8 (at its byte {})", e.valid_up_to()))?;
    let mut r = Reader { text, at: 0 };
    let (mut entries, mut metadata) = (Vec::new(), None);
    let mut names = HashSet::new();
    if !text.starts_with('{') {
        return Err("the header does not begin with {".into());
    }
    r.object(|r, key| {
        if key == METADATA {
            let mut map = Metadata::new();
            r.object(|r, key| match map.insert(key, r.string()?) {
                Some(_) => Err(r.wrong("the metadata has a key twice")),
                None => Ok(()),
            })?;
            return match metadata.replace(map) {
                Some(_) => Err(format!("{METADATA} stands twice in the header")),
                None => Ok(()),
            };
        }
        if !names.insert(key.clone()) {
            return Err(format!("the tensor {} stands twice in the header", quoted(&key)));
        }
        entries.push(r.entry(key)?);
        Ok(())
    })?;
    r.space();
    if r.at < text.len() {
        return Err(r.wrong("the header goes on after its object"));
    }
    entries.sort_by_key(|e: &Entry| (e.begin, e.end));
    check_spans(&entries, data)?;
    Ok((entries, metadata.unwrap_or_default()))
}

/// Each tensor must begin where the one before ended, and the last end with the file.
fn check_spans(entries: &[Entry], data: u64) -> Result<(), String> {
    let mut at = 0;
    for e in entries {
        let name = quoted(&e.name);
        if e.end < e.begin {
            return Err(format!(
                "the tensor {name} ends ({}) before it begins ({})",
                e.end, e.begin
            ));
        }
        if e.end > data {
            return Err(format!(
                "the tensor {name} ends at byte {} of the data, but there are {data} bytes",
                e.end
            ));
        }
        let bytes = (e.shape.iter())
            .try_fold(size_of(e.dtype), |n, &d| n.checked_mul(d as u64))
            .filter(|&n| n <= isize::MAX as u64)
            .ok_or_else(|| format!("the size of the tensor {name} overflows: {:?}", e.shape))?;
        if bytes != e.end - e.begin {
            return Err(format!(
                "the tensor {name} of {} {:?} takes {bytes} bytes, but the header gives it {}",
                e.dtype,
                e.shape,
                e.end - e.begin
            ));
        }
        if e.begin != at {
            let what = if e.begin > at { "a gap" } else { "an overlap" };
            return Err(format!(
                "{what} before the tensor {name}: it begins at byte {} of the data, the one before ends at {at}",
                e.begin
            ));
        }
        at = e.end;
    }
    if at != data {
        return Err(format!("the tensors take {at} bytes, but {data} follow the header"));
    }
    Ok(())
}

/// The header of these tensors, padded with spaces so that the data begin at a multiple of 8.
pub(super) fn format(entries: &[Entry], metadata: &Metadata) -> String {
    let mut s = String::from("{");
    if !metadata.is_empty() {
        let pairs: Vec<String> =
            metadata.iter().map(|(k, v)| format!("{}:{}", json(k), json(v))).collect();
        let _ = write!(s, "\"{METADATA}\":{{{}}},", pairs.join(","));
    }
    for e in entries {
        let shape: Vec<String> = e.shape.iter().map(usize::to_string).collect();
        let _ = write!(
            s,
            "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},",
            json(&e.name),
            code(e.dtype),
            shape.join(","),
            e.begin,
            e.end
        );
    }
    if s.ends_with(',') {
        s.pop();
    }
    s.push('}');
    s.extend(std::iter::repeat_n(' ', s.len().next_multiple_of(8) - s.len()));
    s
}

/// Whether a tensor may have this name.
pub(super) fn is_reserved(name: &str) -> bool {
    name == METADATA
}

const CODES: [(&str, DType, u64); 6] = [
    ("F64", DType::F64, 8),
    ("I64", DType::I64, 8),
    ("F32", DType::F32, 4),
    ("I32", DType::I32, 4),
    ("U8", DType::U8, 1),
    ("BOOL", DType::Bool, 1),
];

fn code(dtype: DType) -> &'static str {
    CODES.iter().find(|c| c.1 == dtype).map_or("", |c| c.0)
}

/// Bytes of one element.
pub(super) fn size_of(dtype: DType) -> u64 {
    CODES.iter().find(|c| c.1 == dtype).map_or(1, |c| c.2)
}

/// A name for a message: quoted, and cut short if it is long.
fn quoted(name: &str) -> String {
    match name.char_indices().nth(60) {
        None => format!("{name:?}"),
        Some((i, _)) => format!("{:?}…", &name[..i]),
    }
}

/// A JSON string.
fn json(text: &str) -> String {
    let mut s = String::with_capacity(text.len() + 2);
    s.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => s.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(s, "\\u{:04x}", c as u32);
            }
            c => s.push(c),
        }
    }
    s.push('"');
    s
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &str) -> String {
        format!("{what} (at byte {} of the header)", self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Whether the next sign is this one; if so, it is passed.
    fn take(&mut self, c: u8) -> bool {
        self.space();
        let is = self.peek() == Some(c);
        self.at += is as usize;
        is
    }

    fn expect(&mut self, c: u8) -> Result<(), String> {
        if self.take(c) { Ok(()) } else { Err(self.wrong(&format!("expected {}", c as char))) }
    }

    /// `{ key: …, … }`: `value` reads what follows the colon.
    fn object(
        &mut self,
        mut value: impl FnMut(&mut Self, String) -> Result<(), String>,
    ) -> Result<(), String> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            value(self, key)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn entry(&mut self, name: String) -> Result<Entry, String> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        let told = quoted(&name);
        self.object(|r, key| {
            let twice = match key.as_str() {
                "dtype" => {
                    let code = r.string()?;
                    let known = CODES.iter().find(|c| c.0 == code).ok_or_else(|| {
                        format!(
                            "the tensor {told} has the dtype {}; known are F32, F64, I32, I64, U8 and BOOL",
                            quoted(&code)
                        )
                    })?;
                    dtype.replace(known.1).is_some()
                }
                "shape" => shape.replace(r.integers()?).is_some(),
                "data_offsets" => offsets.replace(r.integers()?).is_some(),
                other => return Err(r.wrong(&format!("the tensor {told} has an unknown field {}", quoted(other)))),
            };
            if twice { Err(r.wrong(&format!("the tensor {told} has the field {key} twice"))) } else { Ok(()) }
        })?;
        let lacks = |field| format!("the tensor {told} has no {field}");
        let dtype = dtype.ok_or_else(|| lacks("dtype"))?;
        let shape: Vec<u64> = shape.ok_or_else(|| lacks("shape"))?;
        let offsets: Vec<u64> = offsets.ok_or_else(|| lacks("data_offsets"))?;
        let [begin, end] = offsets[..] else {
            return Err(format!(
                "the tensor {told} has {} data_offsets instead of 2",
                offsets.len()
            ));
        };
        let shape = shape.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| format!("the size of the tensor {told} overflows"))?;
        Ok(Entry { name, dtype, shape, begin, end })
    }

    fn integers(&mut self) -> Result<Vec<u64>, String> {
        self.expect(b'[')?;
        let mut v = Vec::new();
        if self.take(b']') {
            return Ok(v);
        }
        loop {
            v.push(self.integer()?);
            if self.take(b']') {
                return Ok(v);
            }
            self.expect(b',')?;
        }
    }

    fn integer(&mut self) -> Result<u64, String> {
        self.space();
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = &self.text[start..self.at];
        let plain = !digits.is_empty() && (digits == "0" || !digits.starts_with('0'));
        if !plain || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(self.wrong("expected an integer that is not negative"));
        }
        digits.parse().map_err(|_| self.wrong("an integer has too many digits"))
    }

    fn string(&mut self) -> Result<String, String> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.wrong("expected a string"));
        }
        self.at += 1;
        let mut s = String::new();
        loop {
            // Up to the next sign that means something; all of those are ASCII, so the cut is between characters.
            let rest = &self.text[self.at..];
            let n = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < b' ');
            let n = n.ok_or_else(|| self.wrong("a string has no end"))?;
            s.push_str(&rest[..n]);
            self.at += n + 1;
            match rest.as_bytes()[n] {
                b'"' => return Ok(s),
                b'\\' => s.push(self.escape()?),
                _ => return Err(self.wrong("a string has a control character in it")),
            }
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<char, String> {
        let c = self.peek();
        self.at += 1;
        Ok(match c {
            Some(c @ (b'"' | b'\\' | b'/')) => c as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 1;
                return Err(self.wrong("a string has an unknown escape"));
            }
        })
    }

    /// Four hexadecimal digits, or a surrogate pair of them.
    fn unicode(&mut self) -> Result<char, String> {
        let wrong = "a string has a \\u that is no character";
        let mut units = [self.hex()?, 0];
        let mut n = 1;
        if (0xD800..0xDC00).contains(&units[0]) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            units[1] = self.hex()?;
            n = 2;
        }
        let mut chars = char::decode_utf16(units[..n].iter().copied());
        match (chars.next(), chars.next()) {
            (Some(Ok(c)), None) => Ok(c),
            _ => Err(self.wrong(wrong)),
        }
    }

    fn hex(&mut self) -> Result<u16, String> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|d| u16::from_str_radix(d, 16).ok());
        let unit = unit.ok_or_else(|| self.wrong("\\u needs four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }
}
