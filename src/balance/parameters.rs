//! The parameters of all methods, one row each: flag and allowed values. Rejects a parameter that the chosen method does not
//! read.

use super::methods::Method;
use crate::data::ranges::number;
use crate::error::{Error, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

macro_rules! parameters {
    ($(#[doc = $help:literal] $name:ident $field:ident $range:ident;)*) => {
        /// A parameter by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Parameter {
            $(#[doc = $help] $name,)*
        }

        /// All parameters, `None` for the default. A method reads the parameters that its row in
        /// [`METHODS`](super::METHODS) names.
        #[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Parameters {
            $(
                #[doc = $help]
                #[arg(long, value_name = "NUMBER", value_parser = $range)]
                #[arg(help = concat!($help, " [default: the method's]").trim_start())]
                pub $field: Option<f64>,
            )*
        }

        impl Parameter {
            /// All parameters.
            pub const ALL: [Parameter; [$(stringify!($name)),*].len()] = [$(Parameter::$name),*];

            /// The flag that sets it.
            pub fn flag(self) -> String {
                let field = match self {
                    $(Parameter::$name => stringify!($field),)*
                };
                format!("--{}", field.replace('_', "-"))
            }
        }

        impl Parameters {
            /// Sets a parameter.
            ///
            /// # Errors
            /// A value outside the parameter's range, with what was expected.
            pub fn set(&mut self, parameter: Parameter, value: f64) -> Result<()> {
                let text = value.to_string();
                match parameter {
                    $(Parameter::$name => $range(&text).map(|value| self.$field = Some(value)),)*
                }
                .map_err(|expected| Error::Usage(format!("{} {value}: {expected}", parameter.flag())))
            }

            /// The value that was set for a parameter, if any.
            pub fn given(&self, parameter: Parameter) -> Option<f64> {
                match parameter {
                    $(Parameter::$name => self.$field,)*
                }
            }
        }
    };
}

parameters! {
    /// Divisor in the softmax of a method: larger makes weights more equal
    Temperature balance_temperature positive;
    /// Radius of CAGrad's ball around the mean gradient, as a share of its norm
    C balance_c not_negative;
    /// Divisor of CAGrad's direction: 0 for 1, 1 for 1 + c², 2 for 1 + c
    Rescale balance_rescale choice;
    /// Strength with which a method favours tasks that fall behind
    Alpha balance_alpha not_negative;
    /// Share of a method's moving average that stays from step to step; in GradVac the share that the newest value takes
    Beta balance_beta below_1;
    /// Learning rate of a method's own weights
    Lr balance_lr positive;
    /// Weight decay of a method's own weights
    Decay balance_decay not_negative;
    /// Smoothness of STCH's maximum: larger makes weights more equal
    Mu balance_mu positive;
    /// Epochs of equal weights before STCH begins
    Warmup balance_warmup whole;
    /// Share of its own progress that PCD guarantees to every other task
    Tau balance_tau share;
    /// Exponent of the losses in tempered uncertainty weighting: 1 is the closed form, 0 leaves them out, and below 0 larger losses weigh more
    Exponent balance_exponent finite;
    /// Exponent of the gradients' lengths in tempered uncertainty weighting: 1 makes them equal, 0 leaves them out
    GradientExponent balance_gradient_exponent not_negative;
    /// Largest weight divided by the smallest
    Cap balance_cap at_least_1;
    /// Pull towards equal weights in MoDo
    Rho balance_rho not_negative;
    /// Pull towards the mean gradient in SDMGrad
    Lambda balance_lambda not_negative;
    /// Momentum of SDMGrad's inner descent
    Momentum balance_momentum below_1;
    /// Steps of SDMGrad's inner descent
    Iterations balance_iterations up_to_1000;
    /// Share of the epochs for which auto tries each method
    Trial balance_trial open_share;
    /// Share of the previous step's weights that stays, around any method (CR-MOGM)
    Smooth balance_smooth below_1;
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |n: &f64| *n > 0.0 && n.is_finite(), "a number above 0")
}

fn finite(text: &str) -> Result<f64, String> {
    number(text, |n: &f64| n.is_finite(), "a number")
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |n: &f64| *n >= 0.0 && n.is_finite(), "a number of at least 0")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..=1.0).contains(n), "a share from 0 to 1")
}

fn open_share(text: &str) -> Result<f64, String> {
    number(text, |n: &f64| *n > 0.0 && *n < 1.0, "a share between 0 and 1")
}

fn below_1(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..1.0).contains(n), "a number from 0 to below 1")
}

fn at_least_1(text: &str) -> Result<f64, String> {
    number(text, |n: &f64| *n >= 1.0 && n.is_finite(), "a number of at least 1")
}

fn up_to_1000(text: &str) -> Result<f64, String> {
    number(text, |n: &f64| n.fract() == 0.0 && (1.0..=1000.0).contains(n), "a whole number from 1 to 1000")
}

fn choice(text: &str) -> Result<f64, String> {
    number(text, |n| [0.0, 1.0, 2.0].contains(n), "0, 1 or 2")
}

fn whole(text: &str) -> Result<f64, String> {
    let most = f64::from(u32::MAX);
    number(text, |n: &f64| n.fract() == 0.0 && (1.0..=most).contains(n), "a whole number above 0")
}

impl Parameters {
    /// The same for one of the methods that auto tries.
    pub fn of_a_candidate(&self) -> Parameters {
        Parameters { balance_trial: None, ..self.clone() }
    }

    /// # Errors
    /// A parameter that the method does not read, or a value outside its range.
    pub fn check(&self, method: &Method) -> Result<()> {
        let given = Parameter::ALL.into_iter().filter_map(|p| Some((p, self.given(p)?)));
        given.clone().try_for_each(|(parameter, value)| Parameters::default().set(parameter, value))?;
        let unread = |p: &Parameter| *p != Parameter::Smooth && method.default(*p).is_none();
        let Some(parameter) = given.map(|(parameter, _)| parameter).find(unread) else {
            return Ok(());
        };
        let flags: Vec<String> = method.reads.iter().map(|(parameter, _)| parameter.flag()).collect();
        let reads = if flags.is_empty() { "none of its own".to_owned() } else { flags.join(", ") };
        let (name, flag) = (method.name, parameter.flag());
        Err(Error::Usage(format!("--balance {name} does not read {flag}; the parameters it reads: {reads}")))
    }
}
