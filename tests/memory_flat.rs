//! Forward passes without a backward leave nothing behind. A test of its own: it reads counters of the whole process.

use gradus::prelude::*;

#[test]
fn ten_thousand_forwards_leave_memory_flat() {
    let mut rng = gradus::rng(0);
    let model: (Dense, Dense) =
        (Dense::new(16, 32).build(&mut rng).unwrap(), Dense::new(32, 4).build(&mut rng).unwrap());
    let x = Tensor::randn([8, 16], &mut rng).unwrap();
    let pass = |watched: bool| {
        let tape = Tape::new(0);
        let net = if watched { tape.watch(&model) } else { model.clone() };
        let y = net.forward(&x).unwrap();
        assert_eq!(y.is_recorded(), watched);
    };
    pass(true);
    pass(false);
    let before = gradus::memory::stats();
    for i in 0..10_000 {
        pass(i % 2 == 0);
    }
    let after = gradus::memory::stats();
    assert_eq!(after.live, before.live);
    assert_eq!(after.peak, before.peak);
    assert_eq!(after.system_allocations, before.system_allocations);
}
