//! The options that several rules have under one name, written once: `options!(AdamaxRule: betas eps);` gives `Adamax` the methods
//! `betas` and `eps`.

macro_rules! options {
    ($rule:ty: $($option:ident)*) => {
        impl Optimizer<$rule> {
            $(options!(@$option);)*
        }
    };
    (@betas) => {
        /// How slowly the two running means forget.
        pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
            (self.rule.beta1, self.rule.beta2) = (beta1, beta2);
            self
        }
    };
    (@eps) => {
        /// What is added to the divisor, against division by zero.
        pub fn eps(mut self, eps: f64) -> Self {
            self.rule.eps = eps;
            self
        }
    };
    (@weight_decay) => {
        /// Coupled weight decay λ (an L2 penalty): `λ·p` is added to the gradient.
        pub fn weight_decay(mut self, weight_decay: f64) -> Self {
            self.rule.weight_decay = weight_decay;
            self
        }
    };
    (@maximize) => {
        /// Climbs instead of descending.
        pub fn maximize(mut self) -> Self {
            self.rule.maximize = true;
            self
        }
    };
}

pub(super) use options;
