//! Fetching the files of MNIST and Fashion-MNIST, their size and SHA-256 checked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;

use super::mnist::{FILES, Kind};
use crate::error::{Error, Result};

/// How long it may take to find the server, how long to connect, and how long until its answer begins.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long one file may take; the largest is 26 MB.
const TIMEOUT_BODY: Duration = Duration::from_secs(600);

/// What a file must turn out to be.
#[derive(Clone, Copy)]
struct Expected {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

/// The four files, packed.
fn expected(kind: Kind) -> [Expected; 4] {
    let sums = match kind {
        Kind::Mnist => [
            (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ],
        Kind::Fashion => [
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ],
    };
    std::array::from_fn(|i| Expected { name: FILES[i], bytes: sums[i].0, sha256: sums[i].1 })
}

/// Public mirrors, in the order in which they are tried.
fn mirrors(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Mnist => &[
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ],
        Kind::Fashion => &[
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ],
    }
}

/// Fetches the four files into `dir`, which is made if need be; those that are already there and right are kept.
///
/// `base_url` is the address that `train-images-idx3-ubyte.gz` and so on stand under; without it public mirrors are
/// asked over HTTPS. Each file arrives under another name, and gets its own only after its size and SHA-256 were found
/// right: an interrupted download leaves nothing half. With the feature `download`.
///
/// ```no_run
/// use gradus::data::mnist::{self, Kind};
/// mnist::download(Kind::Fashion, "data/fashion".as_ref(), None)?;
/// let fashion = mnist::load("data/fashion")?;
/// # Ok::<(), gradus::Error>(())
/// ```
///
/// # Errors
/// [`Error::Download`] if a file doesn't arrive or is not the one it should be; [`Error::Io`] if the folder can't be written.
pub fn download(kind: Kind, dir: &Path, base_url: Option<&str>) -> Result<()> {
    match base_url {
        Some(base) => download_files(&expected(kind), dir, &[base]),
        None => download_files(&expected(kind), dir, mirrors(kind)),
    }
}

fn download_files(files: &[Expected], dir: &Path, bases: &[&str]) -> Result<()> {
    fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.into(), source })?;
    let agent = agent();
    for file in files {
        let name = format!("{}.gz", file.name);
        let target = dir.join(&name);
        if is_right(&target, file) {
            continue;
        }
        let mut result = Ok(());
        for base in bases {
            let url = format!("{}/{name}", base.trim_end_matches('/'));
            result = fetch(&agent, &url, &target, file);
            // What the disk refuses, another mirror can't mend.
            if !matches!(result, Err(Error::Download { .. })) {
                break;
            }
        }
        result?;
    }
    Ok(())
}

fn agent() -> Agent {
    Agent::config_builder()
        .timeout_resolve(Some(TIMEOUT))
        .timeout_connect(Some(TIMEOUT))
        .timeout_recv_response(Some(TIMEOUT))
        .timeout_recv_body(Some(TIMEOUT_BODY))
        .user_agent(concat!("gradus/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// Whether the file is there already with the right content.
fn is_right(path: &Path, expected: &Expected) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    if file.metadata().map_or(true, |m| m.len() != expected.bytes) {
        return false;
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hex(hash) == expected.sha256,
            Ok(n) => hash.update(&buffer[..n]),
            Err(_) => return false,
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// One file: into a temporary one beside the target, checked, renamed.
fn fetch(agent: &Agent, url: &str, target: &Path, expected: &Expected) -> Result<()> {
    let refuse = |message: String| Error::Download { url: url.into(), message };
    // A redirection must not lead from https to http.
    let secure = url.starts_with("https:");
    let mut config = agent.get(url).config().https_only(secure);
    if ["http://127.0.0.1:", "http://localhost:"].iter().any(|own| url.starts_with(own)) {
        // A proxy from the environment would ask its own machine instead of this one.
        config = config.proxy(None);
    }
    let request = config.build();
    let response = request.call().map_err(|e| refuse(one_line(&e)))?;
    if let Some(n) = response.body().content_length()
        && n != expected.bytes
    {
        return Err(refuse(format!("the file has {n} bytes, expected {}", expected.bytes)));
    }
    let mut body = response.into_body().into_reader();
    let mut temporary = Temporary::beside(target)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                let broken = format!("broke off after {length} of {} bytes: {e}", expected.bytes);
                return Err(refuse(broken));
            }
        };
        length += n as u64;
        if length > expected.bytes {
            return Err(refuse(format!("more than the expected {} bytes arrive", expected.bytes)));
        }
        hash.update(&buffer[..n]);
        temporary.write(&buffer[..n])?;
    }
    if length < expected.bytes {
        return Err(refuse(format!("broke off after {length} of {} bytes", expected.bytes)));
    }
    let found = hex(hash);
    if found != expected.sha256 {
        let message = format!("its SHA-256 is {found}, expected {}", expected.sha256);
        return Err(refuse(message));
    }
    temporary.rename(target)
}

/// The words of an HTTP error, on one line.
fn one_line(e: &ureq::Error) -> String {
    match e {
        ureq::Error::StatusCode(code) => format!("the server answers with status {code}"),
        ureq::Error::HostNotFound => "host not found; is there a network?".into(),
        e => e.to_string().replace('\n', " "),
    }
}

/// A file that vanishes unless it is renamed.
struct Temporary {
    path: PathBuf,
    /// `None` once it was renamed.
    file: Option<File>,
}

impl Temporary {
    fn beside(target: &Path) -> Result<Self> {
        // Programs, and threads of one program, that fetch the same file at once don't meet in one temporary file.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut path = target.to_path_buf().into_os_string();
        path.push(format!(".{}-{n}.part", std::process::id()));
        let path = PathBuf::from(path);
        match OpenOptions::new().write(true).create(true).truncate(true).open(&path) {
            Ok(file) => Ok(Temporary { path, file: Some(file) }),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut file = self.file.as_ref().expect("open until it is renamed");
        file.write_all(bytes).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// Writes through to the disk and gives the file its name.
    fn rename(mut self, target: &Path) -> Result<()> {
        let file = self.file.as_ref().expect("open until it is renamed");
        let io_error = |source| Error::Io { path: target.into(), source };
        file.sync_all().map_err(io_error)?;
        fs::rename(&self.path, target).map_err(io_error)?;
        self.file = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Closed first: some systems don't remove open files.
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
