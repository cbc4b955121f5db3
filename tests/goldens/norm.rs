//! Normalisation and embedding.

use gradus::prelude::*;

use crate::case::{Case, Inputs, Outputs};

pub fn run<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    let a = &case.attrs;
    if case.op == "batch_norm" {
        return Some(batch_norm(case, i));
    }
    if case.op == "embedding" {
        let padding = a["padding_idx"].as_i64().map(|p| p as isize);
        let y = i.get("weight").embedding(&i.ints["index"], padding);
        return Some(y.map(|y| vec![("y".to_string(), y.into())]));
    }
    if case.family != "norm" {
        return None;
    }
    let (x, weight, bias, eps) =
        (i.get("x"), i.maybe("weight"), i.maybe("bias"), a["eps"].as_f64().unwrap());
    let shape = || -> Vec<usize> {
        let sizes = a["normalized_shape"].as_array().unwrap();
        sizes.iter().map(|v| v.as_u64().unwrap() as usize).collect()
    };
    let y = match &*case.op {
        "layer_norm" => x.layer_norm(shape(), weight, bias, eps),
        "rms_norm" => x.rms_norm(shape(), weight, eps),
        "group_norm" => x.group_norm(a["num_groups"].as_u64().unwrap() as usize, weight, bias, eps),
        "instance_norm" => x.instance_norm(weight, bias, eps),
        _ => return None,
    };
    Some(y.map(|y| vec![("y".to_string(), y.into())]))
}

/// Through the tensor's method, with the running averages as the layer moves them.
fn batch_norm<T: Float>(case: &Case, i: &Inputs<T>) -> Result<Outputs<T>> {
    let a = &case.attrs;
    let (x, weight, bias, eps) =
        (i.get("x"), i.maybe("weight"), i.maybe("bias"), a["eps"].as_f64().unwrap());
    let running = i.maybe("running_mean").zip(i.maybe("running_var"));
    let named = |name: &str, y: Tensor<T>| (name.to_string(), y.into());
    if let (Some((mean, var)), false) = (running, a["training"].as_bool().unwrap()) {
        let y = x.batch_norm_with(mean, var, weight, bias, eps)?;
        return Ok(vec![named("y", y)]);
    }
    let (y, stats) = x.batch_norm(weight, bias, eps)?;
    let mut out = vec![named("y", y)];
    if let Some((mean, var)) = running {
        let m = a["momentum"].as_f64().unwrap();
        let moved = |old: &Tensor<T>, new: &Tensor<T>| {
            old.mul_scalar(T::of(1.0 - m)).try_add(&new.mul_scalar(T::of(m)))
        };
        out.push(named("running_mean", moved(mean, &stats.mean)?));
        out.push(named("running_var", moved(var, &stats.var_unbiased())?));
        check_layer(case, i, &out)?;
    }
    Ok(out)
}

/// The layer gives the same, its averages included.
fn check_layer<T: Float>(case: &Case, i: &Inputs<T>, want: &Outputs<T>) -> Result<()> {
    use gradus::nn::BatchNorm;
    fn run<const D: usize, T: Float>(case: &Case, i: &Inputs<T>) -> Result<[Tensor<T>; 3]> {
        let a = &case.attrs;
        let x = i.get("x").detach();
        let mut layer: BatchNorm<D, T> = BatchNorm::new(x.shape()[1])
            .eps(a["eps"].as_f64().unwrap())
            .momentum(a["momentum"].as_f64().unwrap())
            .affine(i.maybe("weight").is_some())
            .build()?;
        for (name, p) in [("weight", &mut layer.weight), ("bias", &mut layer.bias)] {
            if let (Some(p), Some(v)) = (p, i.maybe(name)) {
                p.set(v.clone());
            }
        }
        let (mean, var) =
            (layer.running_mean.as_ref().unwrap(), layer.running_var.as_ref().unwrap());
        mean.set(i.get("running_mean").clone());
        var.set(i.get("running_var").clone());
        let y = Tape::new(0).watch(&layer).forward(&x)?;
        Ok([y, mean.get(), var.get()])
    }
    let got = match i.get("x").rank() {
        4 => run::<2, T>(case, i)?,
        5 => run::<3, T>(case, i)?,
        _ => run::<1, T>(case, i)?,
    };
    for (got, (name, want)) in got.iter().zip(want) {
        let crate::case::Output::Float(want) = want else { continue };
        let same = got.iter().zip(want.iter()).all(|(a, b)| (a - b).as_f64().abs() < 1e-6);
        assert!(same, "{}: the layer's {name} is {got}, not {want}", case.id);
    }
    Ok(())
}
