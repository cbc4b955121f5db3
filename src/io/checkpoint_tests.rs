use super::*;
use crate::prelude::*;

#[derive(Clone)]
struct Net {
    weight: Param,
    mean: Buffer,
    steps: Buffer<i64>,
    inner: Vec<Param<f64>>,
}

impl Module for Net {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.field("weight", &self.weight);
        v.field("mean", &self.mean);
        v.field("steps", &self.steps);
        v.field("inner", &self.inner);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        v.field("weight", &mut self.weight);
        v.field("mean", &mut self.mean);
        v.field("steps", &mut self.steps);
        v.field("inner", &mut self.inner);
    }
}

fn net(x: f32) -> Net {
    Net {
        weight: Param::new(Tensor::from([[x, 2.0], [3.0, 4.0]])),
        mean: Buffer::new(Tensor::from([x])),
        steps: Buffer::new(Tensor::scalar(x as i64)),
        inner: vec![Param::new(Tensor::from([x as f64])), Param::new(Tensor::from([1.0, 2.0]))],
    }
}

#[test]
fn round_trip_by_path() {
    let bytes = net(7.0).to_bytes().unwrap();
    let map = safetensors::from_bytes(&bytes).unwrap();
    let names: Vec<&str> = map.names().collect();
    assert_eq!(names, ["inner.0", "inner.1", "mean", "steps", "weight"]);
    let mut other = net(1.0);
    let id = other.weight.id();
    other.load_bytes(&bytes).unwrap();
    assert_eq!(other.weight.to_vec(), [7.0, 2.0, 3.0, 4.0]);
    assert_eq!((other.mean.get().to_vec(), other.steps.get().to_vec()), (vec![7.0], vec![7]));
    assert_eq!(other.inner[0].to_vec(), [7.0]);
    assert_eq!(other.weight.id(), id);
}

#[test]
fn all_that_does_not_fit_is_told_at_once_and_nothing_changes() {
    let mut map = net(7.0).to_map().unwrap();
    map.remove("mean");
    map.remove("inner.0");
    map.insert("bias", Tensor::from([1.0f32]));
    map.insert("weight", Tensor::from([1.0f32]));
    map.insert("inner.1", Tensor::from([1.0f32, 2.0]));
    let mut model = net(1.0);
    let e = model.load_map(&map).unwrap_err();
    assert_eq!(
        e.to_string(),
        "(tensors): not a checkpoint of this model; missing: mean, inner.0; unexpected: bias; \
         different: weight: the model has f32 [2, 2], the file f32 [1], \
         inner.1: the model has f64 [2], the file f32 [2]"
    );
    assert_eq!((model.weight.to_vec()[0], model.steps.get().to_vec()), (1.0, vec![1]));
}

#[test]
fn tied_parameters_are_stored_once() {
    let w: Param = Param::new(Tensor::from([1.0, 2.0]));
    let model = (w.clone(), Param::new(Tensor::from([0.0f32])), w);
    let map = model.to_map().unwrap();
    assert_eq!(map.names().collect::<Vec<_>>(), ["0", "1"]);

    let v: Param = Param::new(Tensor::from([5.0, 6.0]));
    let mut other = (v.clone(), Param::new(Tensor::from([9.0f32])), v);
    other.load_map(&map).unwrap();
    assert_eq!((other.0.to_vec(), other.2.to_vec()), (vec![1.0, 2.0], vec![1.0, 2.0]));

    // Under the other name, or under both if they agree.
    let mut second = map.clone();
    second.insert("2", Tensor::from([3.0f32, 4.0]));
    let e = other.load_map(&second).unwrap_err();
    assert!(e.to_string().contains("2: tied to 0 in the model, other values in the file"), "{e}");
    second.remove("0");
    other.load_map(&second).unwrap();
    assert_eq!((other.0.to_vec(), other.2.to_vec()), (vec![3.0, 4.0], vec![3.0, 4.0]));
    second.insert("0", Tensor::from([3.0f32, 4.0]));
    other.load_map(&second).unwrap();
    second.remove("0");
    second.remove("2");
    let e = other.load_map(&second).unwrap_err();
    assert!(matches!(e, Error::Checkpoint { missing, .. } if missing == ["0"]));
}

#[test]
fn a_model_without_a_name_and_one_with_a_name_twice() {
    let mut p: Param = Param::new(Tensor::from([1.0]));
    let bytes = Param::new(Tensor::from([2.0f32])).to_bytes().unwrap();
    p.load_bytes(&bytes).unwrap();
    assert_eq!(p.to_vec(), [2.0]);

    struct Twice(Param, Param);
    impl Module for Twice {
        fn visit(&self, v: &mut Visitor<'_>) {
            v.field("w", &self.0);
            v.field("w", &self.1);
        }
        fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
            v.field("w", &mut self.0);
            v.field("w", &mut self.1);
        }
    }
    let e = Twice(p.clone(), Param::new(Tensor::from([1.0f32]))).to_bytes().unwrap_err();
    assert_eq!(e.to_string(), "save: two parameters or buffers have the path w");
}

#[test]
fn the_watched_copy_is_not_the_place_to_load_into() {
    let model = net(1.0);
    let mut copy = Tape::new(0).watch(&model);
    let e = copy.load_bytes(&model.to_bytes().unwrap()).unwrap_err();
    assert!(e.to_string().contains("load into the model itself"), "{e}");
}

#[test]
fn files_are_replaced_as_a_whole() {
    let dir = std::env::temp_dir().join(format!("gradus-checkpoint-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("net.safetensors");
    net(3.0).save(&path).unwrap();
    net(4.0).save(&path).unwrap();
    let mut model = net(1.0);
    model.load(&path).unwrap();
    assert_eq!(model.weight.to_vec()[0], 4.0);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    std::fs::write(&path, b"not a model").unwrap();
    assert!(matches!(model.load(&path), Err(Error::Format { .. })));
    assert_eq!(model.weight.to_vec()[0], 4.0);
    std::fs::remove_dir_all(dir).unwrap();
}
