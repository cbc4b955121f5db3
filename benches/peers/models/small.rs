//! A perceptron, the convolutional network of MNIST, a character model with an LSTM.

use gradus::prelude::*;

#[derive(Module, Clone)]
pub struct Mlp {
    fc1: Dense,
    fc2: Dense,
    fc3: Dense,
}

impl Mlp {
    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Mlp {
            fc1: Dense::new(784, 256).build(rng)?,
            fc2: Dense::new(256, 128).build(rng)?,
            fc3: Dense::new(128, 10).build(rng)?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.fc1.forward(x)?.relu();
        let x = self.fc2.forward(&x)?.relu();
        self.fc3.forward(&x)
    }
}

#[derive(Module, Clone)]
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Dense,
    fc2: Dense,
}

impl Cnn {
    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Self {
            conv1: Conv2d::new(1, 32, 3).relu(true).build(rng)?,
            conv2: Conv2d::new(32, 64, 3).relu(true).build(rng)?,
            fc1: Dense::new(1600, 128).build(rng)?,
            fc2: Dense::new(128, 10).build(rng)?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv1.forward(x)?.max_pool2d(2)?;
        let x = self.conv2.forward(&x)?.max_pool2d(2)?;
        let x = self.fc1.forward(&x.flatten(1..)?)?.relu();
        self.fc2.forward(&x)
    }
}

#[derive(Module, Clone)]
pub struct LstmChar {
    emb: Embedding,
    lstm: LSTM,
    head: Dense,
}

impl LstmChar {
    pub fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Self {
            emb: Embedding::new(65, 64).build(rng)?,
            lstm: LSTM::new(64, 256).layers(2).batch_first(true).build(rng)?,
            head: Dense::new(256, 65).build(rng)?,
        })
    }

    pub fn forward(&self, x: &Tensor<i64>) -> Result<Tensor> {
        self.head.forward(&self.lstm.forward(&self.emb.forward(x)?)?)
    }
}
