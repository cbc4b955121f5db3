//! Attention alone, a small GPT for characters, GPT-2 and BERT.

use gradus::nn::{Attention, GELU, GELUTanh, KvCache, LayerNorm, MultiHeadAttention};
use gradus::prelude::*;

#[derive(Module, Clone)]
pub struct MhaBlock {
    attention: MultiHeadAttention,
}

impl MhaBlock {
    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(MhaBlock { attention: MultiHeadAttention::new(256, 8).build(rng)? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.attention.forward(x)
    }
}

/// `x + attention(norm(x))`, then `x + down(gelu(up(norm(x))))`; causal.
#[derive(Module, Clone)]
struct GptBlock {
    ln1: LayerNorm,
    attention: MultiHeadAttention,
    ln2: LayerNorm,
    up: Dense,
    down: Dense,
}

impl GptBlock {
    fn new(d: usize, heads: usize, bias: bool, rng: &mut impl Rng) -> Result<Self> {
        Ok(GptBlock {
            ln1: LayerNorm::new(d).bias(bias).build()?,
            attention: MultiHeadAttention::new(d, heads).bias(bias).causal(true).build(rng)?,
            ln2: LayerNorm::new(d).bias(bias).build()?,
            up: Dense::new(d, 4 * d).bias(bias).build(rng)?,
            down: Dense::new(4 * d, d).bias(bias).build(rng)?,
        })
    }

    fn rest(&self, x: Tensor) -> Result<Tensor> {
        let y = GELUTanh.forward(&self.up.forward(&self.ln2.forward(&x)?)?)?;
        Ok(x + self.down.forward(&y)?)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.rest(x + self.attention.forward(&self.ln1.forward(x)?)?)
    }

    fn continued(&self, x: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        self.rest(x + self.attention.continued(&self.ln1.forward(x)?, cache)?)
    }
}

#[derive(Module, Clone)]
pub struct GptChar {
    wte: Embedding,
    wpe: Embedding,
    blocks: Vec<GptBlock>,
    ln_f: LayerNorm,
    head: Dense,
}

impl GptChar {
    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        let (d, heads) = (128, 4);
        Ok(GptChar {
            wte: Embedding::new(65, d).build(rng)?,
            wpe: Embedding::new(128, d).build(rng)?,
            blocks: (0..4).map(|_| GptBlock::new(d, heads, false, rng)).collect::<Result<_>>()?,
            ln_f: LayerNorm::new(d).bias(false).build()?,
            head: Dense::new(d, 65).bias(false).build(rng)?,
        })
    }

    pub fn forward(&self, ids: &Tensor<i64>) -> Result<Tensor> {
        let mut x = self.wte.forward(ids)? + self.wpe.weight.narrow(0, 0, ids.shape()[1])?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&self.ln_f.forward(&x)?)
    }
}

/// GPT-2 small; the head is the token embedding.
#[derive(Module, Clone)]
pub struct Gpt2 {
    wte: Embedding,
    wpe: Embedding,
    blocks: Vec<GptBlock>,
    ln_f: LayerNorm,
}

impl Gpt2 {
    pub const VOCABULARY: usize = 50257;

    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        let d = 768;
        Ok(Gpt2 {
            wte: Embedding::new(Self::VOCABULARY, d).build(rng)?,
            wpe: Embedding::new(1024, d).build(rng)?,
            blocks: (0..12).map(|_| GptBlock::new(d, 12, true, rng)).collect::<Result<_>>()?,
            ln_f: LayerNorm::new(d).build()?,
        })
    }

    /// An empty cache for each block, with room for so many positions.
    pub fn caches(&self, positions: usize) -> Vec<KvCache> {
        vec![KvCache::with_capacity(positions); self.blocks.len()]
    }

    /// The logits of the position after these, which continue those in the caches.
    pub fn next(&self, ids: &Tensor<i64>, caches: &mut [KvCache]) -> Result<Tensor> {
        let (start, len) = (caches[0].len(), ids.shape()[1]);
        let mut x = self.wte.forward(ids)? + self.wpe.weight.narrow(0, start, len)?;
        for (block, cache) in self.blocks.iter().zip(caches) {
            x = block.continued(&x, cache)?;
        }
        self.ln_f.forward(&x.select(1, -1)?)?.linear(&self.wte.weight, None)
    }
}

/// A layer with its norms behind the additions.
#[derive(Module, Clone)]
struct BertLayer {
    q: Dense,
    k: Dense,
    v: Dense,
    proj: Dense,
    ln1: LayerNorm,
    up: Dense,
    down: Dense,
    ln2: LayerNorm,
}

impl BertLayer {
    const HEADS: usize = 12;

    fn new(d: usize, rng: &mut impl Rng) -> Result<Self> {
        let mut square = || Dense::new(d, d).build(rng);
        let (q, k, v, proj) = (square()?, square()?, square()?, square()?);
        Ok(BertLayer {
            q,
            k,
            v,
            proj,
            ln1: LayerNorm::new(d).eps(1e-12).build()?,
            up: Dense::new(d, 4 * d).build(rng)?,
            down: Dense::new(4 * d, d).build(rng)?,
            ln2: LayerNorm::new(d).eps(1e-12).build()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, len, d) = (x.shape()[0], x.shape()[1], x.shape()[2]);
        let heads = |f: &Dense| -> Result<Tensor> {
            f.forward(x)?.reshape([batch, len, Self::HEADS, d / Self::HEADS])?.transpose(1, 2)
        };
        let (q, k, v) = (heads(&self.q)?, heads(&self.k)?, heads(&self.v)?);
        let y = q.scaled_dot_product_attention(&k, &v, &Attention::new())?;
        let y = y.transpose(1, 2)?.reshape([batch, len, d])?;
        let x = self.ln1.forward(&(x + self.proj.forward(&y)?))?;
        let y = self.down.forward(&GELU.forward(&self.up.forward(&x)?)?)?;
        self.ln2.forward(&(x + y))
    }
}

/// The encoder of BERT-base; all tokens are of type 0.
#[derive(Module, Clone)]
pub struct Bert {
    word: Embedding,
    position: Embedding,
    kind: Embedding,
    ln: LayerNorm,
    layers: Vec<BertLayer>,
}

impl Bert {
    pub const VOCABULARY: usize = 30522;

    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        let d = 768;
        Ok(Bert {
            word: Embedding::new(Self::VOCABULARY, d).build(rng)?,
            position: Embedding::new(512, d).build(rng)?,
            kind: Embedding::new(2, d).build(rng)?,
            ln: LayerNorm::new(d).eps(1e-12).build()?,
            layers: (0..12).map(|_| BertLayer::new(d, rng)).collect::<Result<_>>()?,
        })
    }

    pub fn forward(&self, ids: &Tensor<i64>) -> Result<Tensor> {
        let positions = self.position.weight.narrow(0, 0, ids.shape()[1])?;
        let x = self.word.forward(ids)? + positions + self.kind.weight.select(0, 0)?;
        let mut x = self.ln.forward(&x)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}
