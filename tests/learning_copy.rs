//! A small transformer learns to repeat what it was shown, and then does so word by word.

use gradus::nn::{LearnedPositions, TransformerEncoder};
use gradus::prelude::*;

const WORDS: usize = 8;
const LENGTH: usize = 5;
const WIDTH: usize = 32;

#[derive(Module, Clone)]
struct Copier {
    words: Param,
    positions: LearnedPositions,
    trunk: TransformerEncoder,
    head: Dense,
}

impl Copier {
    fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Copier {
            words: Param::new(Tensor::normal([WORDS, WIDTH], 0.0, 0.3, rng)?),
            positions: LearnedPositions::new(2 * LENGTH, WIDTH)
                .init(Init::Normal { mean: 0.0, std: 0.3 })
                .build(rng)?,
            trunk: TransformerEncoder::new(WIDTH, 2, 1)
                .dim_feedforward(32)
                .norm_first(true)
                .final_norm(true)
                .dropout(0.0)
                .build(rng)?,
            head: Dense::new(WIDTH, WORDS).build(rng)?,
        })
    }

    /// Vectors of words \[batch, n\] whose first stands at position `start`.
    fn embedded(&self, words: &Tensor<i64>, start: usize) -> Result<Tensor> {
        let (b, n) = (words.shape()[0], words.shape()[1]);
        let x = self.words.index_select(0, &words.reshape([b * n])?)?.reshape([b, n, WIDTH])?;
        self.positions.forward_at(&x, start)
    }

    /// For each position the scores of the word that follows.
    fn forward(&self, words: &Tensor<i64>) -> Result<Tensor> {
        let x = self.embedded(words, 0)?;
        self.head.forward(&self.trunk.forward_with(&x, &Attend::new().causal(true))?)
    }
}

/// Random words twice in a row: \[batch, 2·LENGTH\].
fn sequences(batch: usize, rng: &mut impl Rng) -> Result<Tensor<i64>> {
    let half: Tensor<i64> = Tensor::rand([batch, LENGTH], rng)?.mul_scalar(WORDS as f32).cast();
    Tensor::concat(&[&half, &half], 1)
}

#[test]
fn a_transformer_learns_to_copy() -> Result<()> {
    let mut rng = gradus::rng(1);
    let mut model = Copier::new(&mut rng)?;
    let mut adam = Adam::new(4e-3);
    let mut last = f32::INFINITY;
    for step in 0..250 {
        let x = sequences(32, &mut rng)?;
        let (input, next) = (x.narrow(1, 0, 2 * LENGTH - 1)?, x.narrow(1, LENGTH, LENGTH)?);
        let tape = Tape::new(step);
        let net = tape.watch(&model);
        // Only the second half can be known.
        let scores = net.forward(&input)?.narrow(1, LENGTH - 1, LENGTH)?;
        let loss =
            scores.reshape([32 * LENGTH, WORDS])?.cross_entropy(&next.reshape([32 * LENGTH])?)?;
        last = loss.item()?;
        adam.step(&mut model, &loss.backward()?)?;
    }
    // Guessing would give ln 8 = 2.08.
    assert!(last < 0.05, "the loss is still {last}");

    // Shown half of new sequences, it says the other half, a word at a time from what it has cached.
    let x = sequences(20, &mut rng)?;
    let mut caches = model.trunk.caches();
    let mut words = x.narrow(1, 0, LENGTH)?;
    let (mut said, mut at) = (Vec::new(), 0);
    for _ in 0..LENGTH {
        let y = model.trunk.continued(&model.embedded(&words, at)?, &mut caches)?;
        at += words.shape()[1];
        let newest = y.narrow(1, words.shape()[1] - 1, 1)?;
        words = model.head.forward(&newest)?.argmax(2, false)?;
        said.push(words.clone());
    }
    let said = Tensor::concat(&said.iter().collect::<Vec<_>>(), 1)?;
    assert_eq!(said, x.narrow(1, LENGTH, LENGTH)?);
    Ok(())
}
