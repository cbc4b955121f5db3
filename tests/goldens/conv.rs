//! Convolution, pooling, and padding by what is already there.

use gradus::nn::{ConvParams, ConvTransposeParams, PadMode, Pool};
use gradus::prelude::*;
use serde_json::Value;

use crate::case::{Case, Inputs, Outputs};

/// One number for all axes, or a list with one for each.
fn sizes<const D: usize>(v: &Value) -> [usize; D] {
    let one = |v: &Value| v.as_u64().unwrap() as usize;
    match v.as_array() {
        None => [one(v); D],
        Some(all) if all.len() == 1 => [one(&all[0]); D],
        Some(all) => std::array::from_fn(|i| one(&all[i])),
    }
}

fn flag(a: &Value, name: &str, otherwise: bool) -> bool {
    a[name].as_bool().unwrap_or(otherwise)
}

fn conv<const D: usize>(a: &Value) -> ConvParams<D> {
    let p = ConvParams::new()
        .stride(sizes::<D>(&a["stride"]))
        .dilation(sizes::<D>(&a["dilation"]))
        .groups(a["groups"].as_u64().unwrap() as usize);
    match a["padding"].as_str() {
        Some("same") => p.padding(Padding::Same),
        Some(_) => p,
        None => p.padding(sizes::<D>(&a["padding"])),
    }
}

fn transposed<const D: usize>(a: &Value) -> ConvTransposeParams<D> {
    ConvTransposeParams::new()
        .stride(sizes::<D>(&a["stride"]))
        .padding(sizes::<D>(&a["padding"]))
        .output_padding(sizes::<D>(&a["output_padding"]))
        .dilation(sizes::<D>(&a["dilation"]))
        .groups(a["groups"].as_u64().unwrap() as usize)
}

fn pool<const D: usize>(a: &Value) -> Pool<D> {
    let mut p = Pool::new(sizes::<D>(&a["kernel"]))
        .ceil_mode(flag(a, "ceil_mode", false))
        .count_include_pad(flag(a, "count_include_pad", true));
    if !a["stride"].is_null() {
        p = p.stride(sizes::<D>(&a["stride"]));
    }
    if !a["padding"].is_null() {
        p = p.padding(sizes::<D>(&a["padding"]));
    }
    if !a["dilation"].is_null() {
        p = p.dilation(sizes::<D>(&a["dilation"]));
    }
    match a["divisor_override"].as_u64() {
        Some(d) => p.divisor_override(d as usize),
        None => p,
    }
}

pub fn run<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    let a = &case.attrs;
    let ours = ["conv", "pool"].contains(&&*case.family) || case.op == "pad";
    if !ours {
        return None;
    }
    let x = i.get("x");
    let with = || (i.get("weight"), i.maybe("bias"));
    let size = &a["output_size"];
    let y = match &*case.op {
        "conv1d" => x.conv1d(with().0, with().1, conv(a)),
        "conv2d" => x.conv2d(with().0, with().1, conv(a)),
        "conv3d" => x.conv3d(with().0, with().1, conv(a)),
        "conv_transpose1d" => x.conv_transpose1d(with().0, with().1, transposed(a)),
        "conv_transpose2d" => x.conv_transpose2d(with().0, with().1, transposed(a)),
        "conv_transpose3d" => x.conv_transpose3d(with().0, with().1, transposed(a)),
        "max_pool1d" => x.max_pool1d(pool::<1>(a)),
        "max_pool2d" => x.max_pool2d(pool::<2>(a)),
        "max_pool3d" => x.max_pool3d(pool::<3>(a)),
        "avg_pool1d" => x.avg_pool1d(pool::<1>(a)),
        "avg_pool2d" => x.avg_pool2d(pool::<2>(a)),
        "avg_pool3d" => x.avg_pool3d(pool::<3>(a)),
        "adaptive_avg_pool1d" => x.adaptive_avg_pool1d(sizes::<1>(size)[0]),
        "adaptive_avg_pool2d" => x.adaptive_avg_pool2d(sizes::<2>(size)),
        "adaptive_avg_pool3d" => x.adaptive_avg_pool3d(sizes::<3>(size)),
        "adaptive_max_pool1d" => x.adaptive_max_pool1d(sizes::<1>(size)[0]).map(|y| y.0),
        "adaptive_max_pool2d" => x.adaptive_max_pool2d(sizes::<2>(size)).map(|y| y.0),
        "pad" if a["mode"] != "constant" => {
            let side = |v: &Value| v.as_i64().unwrap() as isize;
            let pads: Vec<_> =
                a["pads"].as_array().unwrap().iter().map(|p| (side(&p[0]), side(&p[1]))).collect();
            let mode = match a["mode"].as_str().unwrap() {
                "reflect" => PadMode::Reflect,
                "replicate" => PadMode::Replicate,
                _ => PadMode::Circular,
            };
            x.pad_mode(&pads, mode)
        }
        _ => return None,
    };
    Some(y.map(|y| vec![("y".to_string(), y.into())]))
}
