//! Forward passes without a backward leave nothing behind. A test of its own: it reads counters of the whole process.

use gradus::autograd::grad;
use gradus::nn::recompute;
use gradus::prelude::*;

#[test]
fn ten_thousand_forwards_leave_memory_flat() {
    let mut rng = gradus::rng(0);
    let model: (Dense, Dense) =
        (Dense::new(16, 32).build(&mut rng).unwrap(), Dense::new(32, 4).build(&mut rng).unwrap());
    let x = Tensor::randn([8, 16], &mut rng).unwrap();
    let pass = |kind: usize| {
        let tape = Tape::new(0);
        let net = if kind > 0 { tape.watch(&model) } else { model.clone() };
        let y = match kind {
            2 => recompute(&net, [&x], |net, [x]| net.forward(x)).unwrap(),
            _ => net.forward(&x).unwrap(),
        };
        assert_eq!(y.is_recorded(), kind > 0);
        if kind == 3 {
            // A recorded gradient stands on the tape that holds what it was computed from.
            let slope = grad(&y.square().sum(), &[&net.0.weight]).unwrap();
            assert!(slope[0].is_recorded());
        }
    };
    (0..4).for_each(pass);
    let before = gradus::memory::stats();
    for i in 0..10_000 {
        pass(i % 4);
    }
    let after = gradus::memory::stats();
    assert_eq!(after.live, before.live);
    assert_eq!(after.peak, before.peak);
    assert_eq!(after.system_allocations, before.system_allocations);
}
