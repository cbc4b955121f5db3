//! Convolutions as layers, forward and transposed, and windows as columns.

mod forward;
mod transposed;
mod unfold;

pub use forward::{
    Conv, Conv1d, Conv1dBuilder, Conv2d, Conv2dBuilder, Conv3d, Conv3dBuilder, ConvBuilder,
};
pub use transposed::{
    ConvTranspose, ConvTranspose1d, ConvTranspose1dBuilder, ConvTranspose2d,
    ConvTranspose2dBuilder, ConvTranspose3d, ConvTranspose3dBuilder, ConvTransposeBuilder,
};
pub use unfold::Fold;

use crate::error::{Error, Result};

/// The names that errors show, of a layer and of its operation, by the number of axes.
const NAMES: [[&str; 2]; 4] =
    [["Conv", "conv"], ["Conv1d", "conv1d"], ["Conv2d", "conv2d"], ["Conv3d", "conv3d"]];
const TRANSPOSED: [[&str; 2]; 4] = [
    ["ConvTranspose", "conv_transpose"],
    ["ConvTranspose1d", "conv_transpose1d"],
    ["ConvTranspose2d", "conv_transpose2d"],
    ["ConvTranspose3d", "conv_transpose3d"],
];

fn check_groups(name: &'static str, groups: usize, inputs: usize, outputs: usize) -> Result<()> {
    if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
        return Err(Error::argument(
            name,
            format!("groups={groups} must divide the {inputs} inputs and the {outputs} outputs"),
        ));
    }
    Ok(())
}

fn check_windows(
    name: &'static str,
    kernel: &[usize],
    stride: &[usize],
    dilation: &[usize],
) -> Result<()> {
    for (what, sizes) in [("kernel", kernel), ("stride", stride), ("dilation", dilation)] {
        if sizes.contains(&0) {
            return Err(Error::argument(
                name,
                format!("{what} {sizes:?} must be at least 1 on each axis"),
            ));
        }
    }
    Ok(())
}
