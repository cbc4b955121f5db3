//! Recurrent layers.

use gradus::nn::{RecurrentBuilder, RecurrentWeights};
use gradus::prelude::*;

use crate::case::{Case, Inputs, Outputs};

/// `None` if gradus has no such operator.
pub fn run<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    match &*case.op {
        "rnn_tanh" | "rnn_relu" | "gru" | "lstm" => Some(layer(case, i)),
        _ => None,
    }
}

/// The recorded inputs as the layer's parameters.
fn fill<T: Float>(weights: &mut [RecurrentWeights<T>], directions: usize, i: &Inputs<T>) {
    for (k, w) in weights.iter_mut().enumerate() {
        let way = format!("l{}{}", k / directions, ["", "_reverse"][k % directions]);
        let given =
            |name: &str| i.maybe(&format!("{name}_{way}")).map(|t| Param::computed(t.clone()));
        w.weight_ih = given("weight_ih").unwrap();
        w.weight_hh = given("weight_hh").unwrap();
        w.bias_ih = given("bias_ih");
        w.bias_hh = given("bias_hh");
        w.weight_hr = given("weight_hr");
    }
}

fn layer<T: Float>(case: &Case, i: &Inputs<T>) -> Result<Outputs<T>> {
    let a = &case.attrs;
    let size = |k: &str| a[k].as_u64().unwrap_or(0) as usize;
    let flag = |k: &str| a[k].as_bool().unwrap_or(false);
    fn with<L>(b: RecurrentBuilder<L>, case: &Case) -> RecurrentBuilder<L> {
        let flag = |k: &str| case.attrs[k].as_bool().unwrap_or(false);
        b.layers(case.attrs["num_layers"].as_u64().unwrap() as usize)
            .bidirectional(flag("bidirectional"))
            .bias(flag("bias"))
            .batch_first(flag("batch_first"))
    }
    let (inputs, hidden) = (size("input_size"), size("hidden_size"));
    let directions = if flag("bidirectional") { 2 } else { 1 };
    let (x, h0) = (i.get("x"), i.maybe("h0"));
    let rng = &mut gradus::rng(0);
    let named = |name: &str, t: Tensor<T>| (name.to_string(), t.into());
    let (y, h) = match &*case.op {
        "lstm" => {
            let b = LSTM::<T>::new(inputs, hidden).proj_size(size("proj_size"));
            let mut m = with(b, case).build(rng)?;
            fill(m.weights_mut(), directions, i);
            let (y, (h, c)) = m.forward_with(x, h0.zip(i.maybe("c0")))?;
            return Ok(vec![named("y", y), named("h_n", h), named("c_n", c)]);
        }
        "gru" => {
            let mut m = with(GRU::<T>::new(inputs, hidden), case).build(rng)?;
            fill(m.weights_mut(), directions, i);
            m.forward_with(x, h0)?
        }
        op => {
            let b = RNN::<T>::new(inputs, hidden);
            let b = if op == "rnn_relu" { b.relu() } else { b };
            let mut m = with(b, case).build(rng)?;
            fill(m.weights_mut(), directions, i);
            m.forward_with(x, h0)?
        }
    };
    Ok(vec![named("y", y), named("h_n", h)])
}
