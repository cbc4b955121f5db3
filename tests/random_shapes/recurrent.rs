//! Recurrent layers: the gradients of the sequence and of the first state.

use super::check;
use super::draw::*;
use gradus::prelude::*;

/// \[steps, batch, 3\] and twice \[directions, batch, 2\].
fn sequences<const DIRECTIONS: usize>(rng: &mut R) -> [Shape; 3] {
    let n = size(0, rng);
    let state = vec![DIRECTIONS, n, 2];
    [vec![size(1, rng), n, 3], state.clone(), state]
}

/// All that a layer gives.
fn joined(y: &X, h: &X, more: &X) -> Result<X> {
    let flat = [y, h, more].map(|t| t.reshape([t.len()]));
    let [y, h, more] = flat;
    Tensor::concat(&[&y?, &h?, &more?], 0)
}

#[test]
fn layers() {
    check(&[
        row("rnn", sequences::<1>, |[x, h, c], k| {
            let layer = RNN::new(3, 2).build(&mut gradus::rng(k as u64))?;
            let (y, h) = layer.forward_with(x, Some(h))?;
            joined(&y, &h, c)
        }),
        row("gru", sequences::<1>, |[x, h, c], k| {
            let layer = GRU::new(3, 2).build(&mut gradus::rng(k as u64))?;
            let (y, h) = layer.forward_with(x, Some(h))?;
            joined(&y, &h, c)
        }),
        row("lstm", sequences::<1>, |[x, h, c], k| {
            let layer = LSTM::new(3, 2).build(&mut gradus::rng(k as u64))?;
            let (y, (h, c)) = layer.forward_with(x, Some((h, c)))?;
            joined(&y, &h, &c)
        }),
        row("lstm in both directions", sequences::<2>, |[x, h, c], k| {
            let layer = LSTM::new(3, 2).bidirectional(true).build(&mut gradus::rng(k as u64))?;
            let (y, (h, c)) = layer.forward_with(x, Some((h, c)))?;
            joined(&y, &h, &c)
        }),
    ]);
}
