//! ResNet-18 for small images and ResNet-50 for large ones (He et al., 2016).

use gradus::prelude::*;

/// A convolution without bias, padded so that stride 1 keeps the size, and its norm, with a ReLU or without.
#[derive(Module, Clone)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm2d,
}

impl ConvNorm {
    fn new(
        c_in: usize,
        c_out: usize,
        size: usize,
        stride: usize,
        relu: bool,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let conv = Conv2d::new(c_in, c_out, size).stride(stride).padding(size / 2).bias(false);
        Ok(ConvNorm { conv: conv.build(rng)?, norm: BatchNorm2d::new(c_out).relu(relu).build()? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x)?)
    }
}

/// Convolutions with a ReLU after each: after the last, it follows the addition of the input, or of a 1x1 convolution of it where the shape changes.
#[derive(Module, Clone)]
struct Block {
    convs: Vec<ConvNorm>,
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn new(
        convs: Vec<ConvNorm>,
        (c_in, c_out, stride): (usize, usize, usize),
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let shortcut = if stride != 1 || c_in != c_out {
            Some(ConvNorm::new(c_in, c_out, 1, stride, false, rng)?)
        } else {
            None
        };
        Ok(Block { convs, shortcut })
    }

    /// Two 3x3 convolutions.
    fn basic(c_in: usize, c_out: usize, stride: usize, rng: &mut impl Rng) -> Result<Self> {
        let convs = vec![
            ConvNorm::new(c_in, c_out, 3, stride, true, rng)?,
            ConvNorm::new(c_out, c_out, 3, 1, true, rng)?,
        ];
        Block::new(convs, (c_in, c_out, stride), rng)
    }

    /// 1x1 down to `mid` channels, 3x3, 1x1 up to four times as many.
    fn bottleneck(c_in: usize, mid: usize, stride: usize, rng: &mut impl Rng) -> Result<Self> {
        let convs = vec![
            ConvNorm::new(c_in, mid, 1, 1, true, rng)?,
            ConvNorm::new(mid, mid, 3, stride, true, rng)?,
            ConvNorm::new(mid, 4 * mid, 1, 1, true, rng)?,
        ];
        Block::new(convs, (c_in, 4 * mid, stride), rng)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (last, rest) = self.convs.split_last().expect("a block has convolutions");
        let mut y = x.clone();
        for conv in rest {
            y = conv.forward(&y)?;
        }
        let y = last.conv.forward(&y)?;
        match &self.shortcut {
            Some(shortcut) => last.norm.forward_plus(&y, &shortcut.forward(x)?),
            None => last.norm.forward_plus(&y, x),
        }
    }
}

#[derive(Module, Clone)]
pub struct ResNet18 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    fc: Dense,
}

impl ResNet18 {
    /// For images of 32x32: the stem neither strides nor pools.
    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        let stem = ConvNorm::new(3, 64, 3, 1, true, rng)?;
        let (mut blocks, mut c_in) = (Vec::new(), 64);
        for (c_out, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
            blocks.push(Block::basic(c_in, c_out, stride, rng)?);
            blocks.push(Block::basic(c_out, c_out, 1, rng)?);
            c_in = c_out;
        }
        Ok(ResNet18 { stem, blocks, fc: Dense::new(512, 10).build(rng)? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.stem.forward(x)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.fc.forward(&x.mean_axes([2, 3], false)?)
    }
}

#[derive(Module, Clone)]
pub struct ResNet50 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    fc: Dense,
}

impl ResNet50 {
    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        let stem = ConvNorm::new(3, 64, 7, 2, true, rng)?;
        let (mut blocks, mut c_in) = (Vec::new(), 64);
        for (mid, count, stride) in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)] {
            for i in 0..count {
                blocks.push(Block::bottleneck(c_in, mid, if i == 0 { stride } else { 1 }, rng)?);
                c_in = 4 * mid;
            }
        }
        Ok(ResNet50 { stem, blocks, fc: Dense::new(2048, 1000).build(rng)? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(x)?;
        let mut x = x.max_pool2d(Pool2d::new(3).stride(2).padding(1))?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.fc.forward(&x.mean_axes([2, 3], false)?)
    }
}
