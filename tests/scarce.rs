//! Operations that would need more memory than there is return an error instead of ending the process.

use gradus::prelude::*;

/// A TiB of numbers.
const MANY: usize = 1 << 38;

/// Whether this system hands out a TiB: then nothing is lacking, and writing to it would end badly.
fn plenty() -> bool {
    Tensor::<f32>::zeros([MANY]).is_ok()
}

/// An expanded view, which costs nothing; a copy of it cannot succeed.
fn expanded(x: &Tensor) -> Result<Tensor> {
    x.unsqueeze(0)?.expand([MANY / 2, 2])
}

#[test]
fn a_view_that_must_be_copied_says_that_memory_is_lacking() -> Result<()> {
    if plenty() {
        return Ok(());
    }
    let x = Tensor::from([1.0, 2.0]);
    let flat = expanded(&x)?.reshape([MANY]);
    assert!(matches!(flat, Err(Error::Overflow { op: "reshape", .. })));
    assert!(matches!(x.repeat(&[MANY / 2]), Err(Error::Overflow { .. })));
    let recorded = Tape::new(0).leaf(&x);
    assert!(matches!(expanded(&recorded)?.reshape([MANY]), Err(Error::Overflow { .. })));
    Ok(())
}
