//! The schedules of learning rates.

use gradus::optim::schedule::{
    Constant, Cosine, CosineRestarts, Cyclic, CyclicMode, Exponential, Linear, MultiStep, OneCycle,
    Plateau, PlateauMode, Polynomial, StepDecay, Threshold,
};
use gradus::prelude::*;
use serde_json::Value;

use crate::case::{Case, Inputs, Outputs};
use crate::dispatch::{int, ints, number};

pub fn run<T: Float>(case: &Case, _: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    Some(rates(case)?.map(|rates| {
        let y: Vec<T> = rates.into_iter().map(T::of).collect();
        vec![("y".to_string(), Tensor::from(&y[..]).into())]
    }))
}

fn rates(case: &Case) -> Option<Result<Vec<f64>>> {
    if case.attrs["scheduler"] == "reduce_on_plateau" {
        // The metric in f64: in f32 other comparisons could come out true.
        return Some(plateau(&case.attrs, &case.input_f64("metric")));
    }
    let steps = int(&case.attrs["steps"]) as usize;
    Some(schedule(&case.attrs)?.map(|s| (0..steps).map(|t| s.lr(t)).collect()))
}

/// The schedule of a case, if gradus has it.
fn schedule(a: &Value) -> Option<Result<Box<dyn Schedule>>> {
    let (lr, h) = (number(&a["lr"]), &a["hyper"]);
    let get = |k: &str, d: f64| if h[k].is_null() { d } else { number(&h[k]) };
    let count = |k: &str, d: usize| if h[k].is_null() { d } else { int(&h[k]) as usize };
    let name = a["scheduler"].as_str()?;
    let made = || -> Result<Option<Box<dyn Schedule>>> {
        Ok(Some(match name {
            "step" => Box::new(StepDecay::new(lr, count("step_size", 1), get("gamma", 0.1))?),
            "multistep" => {
                let milestones: Vec<usize> =
                    ints(&h["milestones"]).into_iter().map(|m| m as usize).collect();
                Box::new(MultiStep::new(lr, milestones, get("gamma", 0.1))?)
            }
            "exponential" => Box::new(Exponential::new(lr, get("gamma", 0.1))?),
            "cosine" => Box::new(Cosine::new(lr, count("T_max", 1))?.min(get("eta_min", 0.0))),
            "cosine_warm_restarts" => Box::new(
                CosineRestarts::new(lr, count("T_0", 1))?
                    .mult(count("T_mult", 1))?
                    .min(get("eta_min", 0.0)),
            ),
            "linear" => Box::new(Linear::new(
                lr,
                get("start_factor", 1.0 / 3.0),
                get("end_factor", 1.0),
                count("total_iters", 5),
            )?),
            "constant" => Box::new(
                Constant::new(lr)?.factor(get("factor", 1.0 / 3.0), count("total_iters", 5))?,
            ),
            "polynomial" => {
                Box::new(Polynomial::new(lr, count("total_iters", 5), get("power", 1.0))?)
            }
            "linear_warmup_cosine" => {
                let (w, total) = (count("warmup_steps", 0), count("total_steps", 1));
                let cosine = Cosine::new(lr, total - w)?.min(get("eta_min", 0.0));
                Box::new(cosine.until(total - w).warmup(w))
            }
            "linear_warmup_decay" => {
                let (w, total) = (count("warmup_steps", 0), count("total_steps", 1));
                Box::new(Linear::new(lr, 1.0, 0.0, total - w)?.warmup(w))
            }
            "one_cycle" => {
                let mut s = OneCycle::new(get("max_lr", lr), count("total_steps", 1))?
                    .pct_start(get("pct_start", 0.3))?
                    .div_factors(get("div_factor", 25.0), get("final_div_factor", 1e4))?;
                if h["anneal_strategy"] == "linear" {
                    s = s.linear();
                }
                if h["three_phase"] == true {
                    s = s.three_phase();
                }
                Box::new(s)
            }
            "cyclic" => {
                let up = count("step_size_up", 2000);
                let mode = match h["mode"].as_str().unwrap_or("triangular") {
                    "triangular" => CyclicMode::Triangular,
                    "triangular2" => CyclicMode::Triangular2,
                    _ => CyclicMode::ExpRange(get("gamma", 1.0)),
                };
                let s = Cyclic::new(get("base_lr", lr), get("max_lr", lr), up)?;
                Box::new(s.down(count("step_size_down", up))?.mode(mode))
            }
            _ => return Ok(None),
        }))
    };
    made().transpose()
}

fn plateau(a: &Value, metric: &[f64]) -> Result<Vec<f64>> {
    let h = &a["hyper"];
    let get = |k: &str, d: f64| if h[k].is_null() { d } else { number(&h[k]) };
    let threshold = get("threshold", 1e-4);
    let mut p = Plateau::new(number(&a["lr"]))?
        .mode(if h["mode"] == "max" { PlateauMode::Max } else { PlateauMode::Min })
        .factor(get("factor", 0.1))?
        .patience(get("patience", 10.0) as usize)
        .threshold(match h["threshold_mode"] == "abs" {
            true => Threshold::Absolute(threshold),
            false => Threshold::Relative(threshold),
        })
        .cooldown(get("cooldown", 0.0) as usize)
        .min_lr(get("min_lr", 0.0))
        .eps(get("eps", 1e-8));
    Ok(metric
        .iter()
        .map(|&m| {
            let now = p.lr();
            p.step(m);
            now
        })
        .collect())
}
