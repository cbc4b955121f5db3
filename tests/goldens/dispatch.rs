//! The table of operators: the reference kit's name and attributes, and the call that gradus offers for it.

use gradus::prelude::*;
use gradus::{Index, Slice};
use serde_json::Value;

use crate::case::{Case, Inputs, Output, Outputs};

pub fn number(v: &Value) -> f64 {
    match v {
        Value::String(s) => s.parse().unwrap(),
        v => v.as_f64().unwrap(),
    }
}

pub fn int(v: &Value) -> isize {
    v.as_i64().unwrap() as isize
}

pub fn ints(v: &Value) -> Vec<isize> {
    v.as_array().unwrap().iter().map(int).collect()
}

fn sizes(v: &Value) -> Vec<usize> {
    ints(v).into_iter().map(|i| i as usize).collect()
}

fn keepdim(a: &Value) -> bool {
    a["keepdim"].as_bool().unwrap_or(false)
}

/// The axes of a reduction; none given means all.
fn axes(a: &Value, rank: usize) -> Vec<isize> {
    if a["axes"].is_null() { (0..rank as isize).collect() } else { ints(&a["axes"]) }
}

/// `None` if gradus has no such operator.
pub fn run<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    let one = |r: Result<Tensor<T>>| r.map(|y| vec![("y".to_string(), Output::Float(y))]);
    if let Some(y) =
        elementwise(case, i).or_else(|| reductions(case, i)).or_else(|| shapes(case, i))
    {
        return Some(one(y));
    }
    if let Some(y) = layers(case, i).or_else(|| penalties(case, i)) {
        return Some(one(y));
    }
    if let Some(y) = crate::conv::run(case, i) {
        return Some(y);
    }
    if let Some(y) = crate::norm::run(case, i) {
        return Some(y);
    }
    if let Some(y) = crate::rnn::run(case, i) {
        return Some(y);
    }
    if let Some(y) = crate::attention::run(case, i) {
        return Some(y);
    }
    crate::losses::run(case, i).or_else(|| several(case, i))
}

fn elementwise<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Tensor<T>>> {
    let a = &case.attrs;
    let of = |k: &str| T::of(number(&a[k]));
    if ["add", "sub", "mul", "div", "maximum", "minimum", "pow"].contains(&&*case.op) {
        let (x, y) = (i.get("a"), i.get("b"));
        return Some(match &*case.op {
            "add" => x.try_add(y),
            "sub" => x.try_sub(y),
            "mul" => x.try_mul(y),
            "div" => x.try_div(y),
            "maximum" => x.maximum(y),
            "minimum" => x.minimum(y),
            _ => x.pow(y),
        });
    }
    if case.op == "where" {
        return Some(i.bools["cond"].select_where(i.get("a"), i.get("b")));
    }
    if case.family != "elementwise" {
        return None;
    }
    let x = i.get("x");
    Some(Ok(match &*case.op {
        "neg" => -x,
        "abs" => x.abs(),
        "exp" => x.exp(),
        "sin" => x.sin(),
        "cos" => x.cos(),
        "tan" => x.tan(),
        "tanh" => x.tanh(),
        "sigmoid" => x.sigmoid(),
        "relu" => x.relu(),
        "silu" => x.silu(),
        "expm1" => x.exp_m1(),
        "erf" => x.erf(),
        "square" => x.square(),
        "log_sigmoid" => x.log_sigmoid(),
        "mish" => x.mish(),
        "hardswish" => x.hardswish(),
        "hardsigmoid" => x.hardsigmoid(),
        "selu" => x.selu(),
        "relu6" => x.relu6(),
        "softsign" => x.softsign(),
        "log" => x.ln(),
        "sqrt" => x.sqrt(),
        "rsqrt" => x.rsqrt(),
        "reciprocal" => x.reciprocal(),
        "log1p" => x.ln_1p(),
        "leaky_relu" => x.leaky_relu(of("negative_slope")),
        "elu" => x.elu(of("alpha")),
        "gelu" if a["approximate"] == "tanh" => x.gelu_tanh(),
        "gelu" => x.gelu(),
        "softplus" => x.softplus(of("beta"), of("threshold")),
        "clamp" => {
            let bound = |k: &str, none: f64| if a[k].is_null() { T::of(none) } else { of(k) };
            x.clamp(bound("min", f64::NEG_INFINITY), bound("max", f64::INFINITY))
        }
        "pow_scalar" => x.powf(of("exponent")),
        "add_scalar" => x + of("value"),
        "mul_scalar" => x * of("value"),
        "rsub_scalar" => x.rsub_scalar(of("value")),
        "rdiv_scalar" => x.rdiv_scalar(of("value")),
        "dropout_eval" => {
            return Some(Dropout::new(number(&a["p"])).and_then(|d| Layer::forward(&d, x)));
        }
        _ => return None,
    }))
}

fn reductions<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Tensor<T>>> {
    if !["reductions", "softmax"].contains(&&*case.family) {
        return None;
    }
    let (a, x) = (&case.attrs, i.get("x"));
    let keep = keepdim(a);
    let axes = || axes(a, x.rank());
    let correction = || a["correction"].as_u64().unwrap() as usize;
    Some(match &*case.op {
        "sum" => x.sum_axes(axes(), keep),
        "mean" => x.mean_axes(axes(), keep),
        "amax" => x.amax(axes(), keep),
        "amin" => x.amin(axes(), keep),
        "logsumexp" => x.logsumexp(axes(), keep),
        "var" => x.var_axes(axes(), correction(), keep),
        "std" => x.std_axes(axes(), correction(), keep),
        "prod" => x.prod_axes(int(&a["axis"]), keep),
        "max_all" => x.max(),
        "min_all" => x.min(),
        "cumsum" => x.cumsum(int(&a["axis"])),
        "softmax" => x.softmax(int(&a["axis"])),
        "log_softmax" => x.log_softmax(int(&a["axis"])),
        _ => return None,
    })
}

fn shapes<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Tensor<T>>> {
    let a = &case.attrs;
    match &*case.op {
        "concat" => return Some(Tensor::concat(&i.all("x"), int(&a["axis"]))),
        "stack" => return Some(Tensor::stack(&i.all("x"), int(&a["axis"]))),
        "matmul" => return Some(i.get("a").matmul(i.get("b"))),
        "einsum" => return Some(Tensor::einsum(a["equation"].as_str().unwrap(), &i.all("x"))),
        _ if case.family != "shape" => return None,
        _ => {}
    }
    let x = i.get("x");
    let dims = || ints(&a["dims"]);
    Some(match &*case.op {
        "reshape" => x.reshape(&ints(&a["shape"])[..]),
        "transpose" => x.transpose(dims()[0], dims()[1]),
        "permute" => x.permute(dims()),
        "expand" => {
            // -1 keeps a size.
            let given = ints(&a["shape"]);
            let pad = given.len() - x.rank();
            let keep =
                |(k, &d): (usize, &isize)| if d < 0 { x.shape()[k - pad] } else { d as usize };
            x.expand(given.iter().enumerate().map(keep).collect::<Vec<_>>())
        }
        "squeeze" if a["axis"].is_null() => x.squeeze(..),
        "squeeze" => {
            // An axis of another size stays, in the reference.
            let axis = int(&a["axis"]);
            let at = if axis < 0 { axis + x.rank() as isize } else { axis };
            if x.shape()[at as usize] == 1 { x.squeeze(axis) } else { Ok(x.clone()) }
        }
        "unsqueeze" => x.unsqueeze(int(&a["axis"])),
        "slice" => {
            let mut all = vec![Index::from(..); x.rank()];
            for s in a["slices"].as_array().unwrap() {
                let end = if s["stop"].is_null() { isize::MAX } else { int(&s["stop"]) };
                let start = if s["start"].is_null() { 0 } else { int(&s["start"]) };
                let step = if s["step"].is_null() { 1 } else { int(&s["step"]) };
                all[int(&s["axis"]) as usize] = Slice::from(start..end).step(step).into();
            }
            x.slice(all)
        }
        "pad" if a["mode"] == "constant" => {
            let pads: Vec<_> =
                a["pads"].as_array().unwrap().iter().map(|p| (int(&p[0]), int(&p[1]))).collect();
            x.pad(&pads, T::of(number(&a["value"])))
        }
        "gather" => x.gather(int(&a["axis"]), &i.ints["index"]),
        "index_select" => x.index_select(int(&a["axis"]), &i.ints["index"]),
        "scatter_add" => x.scatter_add(int(&a["axis"]), &i.ints["index"], i.get("src")),
        "masked_fill" => x.masked_fill(&i.bools["mask"], T::of(number(&a["value"]))),
        "flip" => x.flip(ints(&a["axes"])),
        "roll" => ints(&a["shifts"])
            .into_iter()
            .zip(ints(&a["axes"]))
            .try_fold(x.clone(), |x, (by, axis)| x.roll(by, axis)),
        "tril" => x.tril(int(&a["diagonal"])),
        "triu" => x.triu(int(&a["diagonal"])),
        _ => return None,
    })
}

fn layers<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Tensor<T>>> {
    Some(match &*case.op {
        "linear" => i.get("x").linear(i.get("weight"), i.maybe("bias")),
        _ => return None,
    })
}

fn penalties<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Tensor<T>>> {
    let a = &case.attrs;
    Some(match &*case.op {
        "l1_penalty" => L1::new(number(&a["lambda"])).of(&i.all("w")),
        "l2_penalty" => L2::new(number(&a["lambda"]) * number(&a["factor"])).of(&i.all("w")),
        "elastic_net_penalty" => {
            ElasticNet::new(number(&a["lambda"]), number(&a["l1_ratio"])).of(&i.all("w"))
        }
        _ => return None,
    })
}

fn sum<T: Float>(parts: impl Iterator<Item = Result<Tensor<T>>>) -> Result<Tensor<T>> {
    let mut total: Option<Tensor<T>> = None;
    for p in parts {
        let p = p?;
        total = Some(match total {
            None => p,
            Some(t) => t.try_add(&p)?,
        });
    }
    Ok(total.unwrap())
}

/// Operators with several outputs, or with none that is a tensor operation.
fn several<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    let a = &case.attrs;
    let named = |name: &str, y: Output<T>| (name.to_string(), y);
    Some(match &*case.op {
        "max_dim" | "min_dim" => {
            let (x, axis, keep) = (i.get("x"), int(&a["axis"]), keepdim(a));
            let both =
                if case.op == "max_dim" { x.max_axis(axis, keep) } else { x.min_axis(axis, keep) };
            both.map(|(v, k)| vec![named("values", v.into()), named("indices", Output::Int(k))])
        }
        "argmax" | "argmin" => {
            let x = i.get("x");
            let (x, axis) = match a["axis"].is_null() {
                true => (x.flatten(..).unwrap(), 0),
                false => (x.clone(), int(&a["axis"])),
            };
            let keep = keepdim(a);
            let k = if case.op == "argmax" { x.argmax(axis, keep) } else { x.argmin(axis, keep) };
            k.map(|k| vec![named("y", Output::Int(k))])
        }
        "split" => i.get("x").split(&sizes(&a["sizes"]), int(&a["axis"])).map(|parts| {
            parts.into_iter().enumerate().map(|(k, p)| named(&format!("y{k}"), p.into())).collect()
        }),
        "clip_grad_norm" | "clip_grad_value" => clip(case, i),
        "optimizer" => return crate::optim::run(case, i),
        "scheduler" => return crate::schedulers::run(case, i),
        _ => return None,
    })
}

/// Gradients with the given values, made by a loss that has them, then clipped.
fn clip<T: Float>(case: &Case, i: &Inputs<T>) -> Result<Outputs<T>> {
    let a = &case.attrs;
    let model: Vec<Param<T>> = i.all("g").into_iter().map(|g| Param::new(g.zeros_like())).collect();
    let mut grads = sum_of_products(&model, &i.all("g"))?;
    let mut out = Vec::new();
    if case.op == "clip_grad_norm" {
        let norm = grads.clip_norm_p(number(&a["max_norm"]), number(&a["norm_type"]))?;
        out.push(("total_norm".to_string(), Tensor::scalar(T::of(norm)).into()));
    } else {
        grads.clip_value(number(&a["clip_value"]))?;
    }
    for (k, p) in model.iter().enumerate() {
        out.push((format!("g{k}"), grads.get(p).unwrap().clone().into()));
    }
    Ok(out)
}

fn sum_of_products<T: Float>(model: &Vec<Param<T>>, g: &[&Tensor<T>]) -> Result<Gradients> {
    let tape = Tape::new(0);
    let net = tape.watch(model);
    sum(net.iter().zip(g).map(|(p, g)| Ok(p.try_mul(g)?.sum())))?.backward()
}
