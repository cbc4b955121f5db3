//! Handwritten digits that the program draws itself: a data set that is always there.
//!
//! Each image is written afresh: one of several hands of its digit (`strokes`), every point of it moved a little, turned,
//! slanted, stretched, distorted elastically and placed (`warp`), and drawn with a random pen under noise (`ink`). The images have
//! MNIST's form: 28 × 28 bytes, light ink on dark paper.
//!
//! How hard they are: a linear classifier trained on 50,000 of them names 86 % of 5,000 others (MNIST: 94 %), a small
//! convolutional network (8 and 16 channels, 6 epochs) trained on 8,000 names 97.7 % (MNIST: 97.4 %).

mod ink;
mod strokes;
mod warp;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::kernel::par;

/// Pixels per side of an image.
pub const SIDE: usize = 28;

/// Images and their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits {
    /// `n` × 28 × 28 bytes; 0 is the background.
    pub images: Vec<u8>,
    /// The digit that each image shows, 0 to 9.
    pub labels: Vec<u8>,
}

/// Draws `n` digits.
///
/// The same seed gives the same bytes, whatever the number of threads. Image `i` depends on the seed and on `i` alone, so that a
/// longer set begins with the shorter one. 60,000 images take about a second on one core.
///
/// # Panics
/// If `n` images are more than memory can address, as a `Vec` of that size would.
///
/// ```
/// use gradus::data::digits;
/// let some = digits::generate(100, 42);
/// assert_eq!((some.images.len(), some.labels.len()), (100 * 28 * 28, 100));
/// assert_eq!(digits::generate(10, 42).images, some.images[..10 * 28 * 28]);
/// ```
pub fn generate(n: usize, seed: u64) -> Digits {
    /// What one image takes, measured; it only decides whether threads are worth their cost.
    const NS_PER_PIXEL: f64 = 20.0;
    let pixels = n.checked_mul(SIDE * SIDE).expect("the images fit into memory's address range");
    let labels = (0..n).map(|i| rng_of(seed, i).random_range(0..10)).collect();
    let mut images = vec![0; pixels];
    par::for_each_chunk_mut(&mut images, SIDE * SIDE, NS_PER_PIXEL, |i, pixels| {
        let mut rng = rng_of(seed, i);
        let digit = rng.random_range(0..10);
        let mut strokes = strokes::write(digit, &mut rng);
        warp::warp(&mut strokes, &mut rng);
        ink::draw(&strokes, pixels, &mut rng);
    });
    Digits { images, labels }
}

/// The generator of image `i`, which draws the label first.
fn rng_of(seed: u64, i: usize) -> Xoshiro256PlusPlus {
    // An odd factor maps different i to different states; seed_from_u64 then scrambles them.
    let stream = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Xoshiro256PlusPlus::seed_from_u64(seed ^ stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_bytes_on_any_number_of_threads() {
        let before = par::num_threads();
        par::set_num_threads(1);
        let one = generate(300, 7);
        par::set_num_threads(4);
        let four = generate(300, 7);
        par::set_num_threads(before);
        assert_eq!(one, four);
        assert_ne!(one.images, generate(300, 8).images);
    }

    #[test]
    fn all_digits_come_about_equally_often_and_leave_ink_and_paper() {
        let set = generate(2000, 1);
        let mut counts = [0; 10];
        set.labels.iter().for_each(|&l| counts[l as usize] += 1);
        assert!(counts.iter().all(|c| (140..260).contains(c)), "{counts:?}");
        for (i, image) in set.images.chunks(SIDE * SIDE).enumerate() {
            let inked = image.iter().filter(|&&p| p > 100).count();
            assert!((15..400).contains(&inked), "image {i} has {inked} inked pixels");
        }
    }

    #[test]
    fn images_of_one_digit_differ_and_none_comes_twice() {
        let set = generate(1000, 3);
        let mut images: Vec<_> = set.images.chunks(SIDE * SIDE).collect();
        images.sort();
        assert!(images.windows(2).all(|w| w[0] != w[1]));
    }

    /// The sums of the images of each digit, divided by their number.
    fn means(set: &Digits) -> Vec<Vec<f32>> {
        let mut sums = vec![vec![0.0; SIDE * SIDE]; 10];
        let mut counts = [0.0; 10];
        for (image, &label) in set.images.chunks(SIDE * SIDE).zip(&set.labels) {
            counts[label as usize] += 1.0;
            sums[label as usize].iter_mut().zip(image).for_each(|(s, &p)| *s += f32::from(p));
        }
        for (sum, count) in sums.iter_mut().zip(counts) {
            sum.iter_mut().for_each(|s| *s /= count);
        }
        sums
    }

    #[test]
    fn the_nearest_mean_image_is_often_the_right_one_and_often_not() {
        let means = means(&generate(3000, 1));
        let test = generate(1000, 2);
        let right = test.images.chunks(SIDE * SIDE).zip(&test.labels).filter(|(image, label)| {
            let distance = |mean: &[f32]| -> f32 {
                image.iter().zip(mean).map(|(&p, m)| (f32::from(p) - m).powi(2)).sum()
            };
            let nearest = (0..10)
                .min_by(|&a, &b| distance(&means[a]).total_cmp(&distance(&means[b])))
                .expect("ten digits");
            nearest == usize::from(**label)
        });
        let percent = right.count() / 10;
        assert!((50..85).contains(&percent), "{percent} %");
    }

    #[test]
    fn no_images_at_all() {
        assert_eq!(generate(0, 1), Digits { images: vec![], labels: vec![] });
    }
}
