//! The list of all balancing methods: name, help text, parameters with defaults, and constructor.

use super::cagrad::Rescale;
use super::closed_form::ClosedForm;
use super::db::Db;
use super::dwa::Dwa;
use super::excess::Excess;
use super::famo::Famo;
use super::fixed::Fixed;
use super::gradnorm::GradNorm;
use super::gradvac::GradVac;
use super::learned::{Learned, Objective};
use super::modo::Modo;
use super::parameters::{Parameter, Parameters};
use super::pcd::Pcd;
use super::pcgrad::PcGrad;
use super::random::Random;
use super::sdmgrad::{Descent, SdmGrad};
use super::smooth::Smooth;
use super::stch::Stch;
use super::tempered::{Temper, Tempered};
use super::{
    Balance, Masked, Rule, aligned, cagrad, dualproj, fairgrad, geometric, imtl_g, log_loss, mgda, nash, upgrad, uw_so,
};
use crate::error::{Error, Result};
use crate::tasks::{Likelihood, Task};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::fmt;

/// A balancing method as `--balance` offers it.
pub struct Method {
    /// The name that `--balance` accepts.
    pub name: &'static str,
    /// Other names that `--balance` accepts for the method.
    pub aliases: &'static [&'static str],
    /// One line of help.
    pub help: &'static str,
    /// The parameters that the method reads, each with its default.
    pub reads: &'static [(Parameter, f64)],
    start: fn(&Start) -> Box<dyn Rule>,
}

/// The tasks and choices that a method starts with.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Each task's likelihood: its loss is the negative logarithm of this. One per task.
    pub likelihoods: &'a [Likelihood],
    /// The weights that the user chose, one per task. Only `fixed` uses them.
    pub task_weights: &'a [f32],
    /// The seed of random numbers.
    pub seed: u64,
    /// The task that the others must not disturb, for `pcd`.
    pub primary: Option<usize>,
    /// The parameters that the user chose.
    pub parameters: &'a Parameters,
}

/// A setup together with the method that starts with it.
struct Start<'a> {
    setup: Setup<'a>,
    method: &'static Method,
}

impl Start<'_> {
    fn tasks(&self) -> usize {
        self.setup.likelihoods.len()
    }

    /// The value of a parameter that the method reads.
    fn value(&self, parameter: Parameter) -> f64 {
        let default = self.method.default(parameter).expect("a method asks for the parameters of its own row");
        self.setup.parameters.given(parameter).unwrap_or(default)
    }

    fn learned(&self, objective: impl Fn(Likelihood) -> Objective) -> Box<dyn Rule> {
        let objectives = self.setup.likelihoods.iter().map(|likelihood| objective(*likelihood));
        Box::new(Learned::new(objectives, self.value(Parameter::Lr)))
    }
}

impl Method {
    /// Finds a method by its name or an alias, in any case.
    ///
    /// # Errors
    /// No method has this name.
    pub fn named(word: &str) -> Result<&'static Method> {
        let is_named =
            |method: &&Method| [method.name].iter().chain(method.aliases).any(|name| name.eq_ignore_ascii_case(word));
        Method::all().find(is_named).ok_or_else(|| {
            let names: Vec<&str> = Method::all().map(|method| method.name).collect();
            Error::Usage(format!("--balance {word}: expected one of {}", names.join(", ")))
        })
    }

    /// The command-line parser of method names, which also lists all methods in the help.
    pub fn parser() -> impl TypedValueParser<Value = &'static Method> {
        let word = |method: &'static Method| PossibleValue::new(method.name).help(method.help).aliases(method.aliases);
        PossibleValuesParser::new(Method::all().map(word)).try_map(|word| Method::named(&word))
    }

    /// All values of `--balance`: [`METHODS`] and [`AUTO`].
    fn all() -> impl Iterator<Item = &'static Method> {
        METHODS.iter().chain([&AUTO])
    }

    /// The methods that a run with this choice may train with: this one, or those that [`AUTO`] tries.
    pub fn candidates(&'static self) -> Vec<&'static Method> {
        match self.name == AUTO.name {
            true => METHODS.iter().filter(|method| CANDIDATES.contains(&method.name)).collect(),
            false => vec![self],
        }
    }

    /// The default of a parameter that the method reads.
    pub fn default(&self, parameter: Parameter) -> Option<f64> {
        self.reads.iter().find(|(read, _)| *read == parameter).map(|(_, default)| *default)
    }

    /// A new state for `tasks` with default parameters and seed 0. `weights` holds one weight per task for `fixed`. The first
    /// task is the primary one for `pcd`.
    ///
    /// # Errors
    /// The same as [`Method::start`].
    pub fn for_tasks(&'static self, tasks: &[Task], weights: &[f32]) -> Result<Box<dyn Balance>> {
        let likelihoods: Vec<Likelihood> = tasks.iter().map(|task| task.spec.likelihood()).collect();
        self.start(Setup {
            likelihoods: &likelihoods,
            task_weights: weights,
            seed: 0,
            primary: (self.name == PCD).then_some(0),
            parameters: &Parameters::default(),
        })
    }

    /// A new state of the method, with smoothing if the parameters ask for it.
    ///
    /// # Errors
    /// The method does not read a given parameter, a value is out of range, or the method is [`AUTO`], which only chooses between
    /// others.
    pub fn start(&'static self, setup: Setup) -> Result<Box<dyn Balance>> {
        setup.parameters.check(self)?;
        if self.name == AUTO.name {
            let names = CANDIDATES.join(", ");
            return Err(Error::Usage(format!(
                "--balance {self} tries several methods within a run: name one of them: {names}"
            )));
        }
        let start = Start { setup, method: self };
        let tasks = start.tasks();
        if setup.primary.is_some() != (self.name == PCD) {
            return Err(Error::Usage(match setup.primary {
                Some(_) => format!("--primary-task only works with --balance {PCD}, and --balance is {}", self.name),
                None => format!("--balance {PCD} needs --primary-task NAME: the task that the others must not disturb"),
            }));
        }
        let rule = (self.start)(&start);
        let rule = match setup.parameters.balance_smooth {
            Some(alpha) => Box::new(Smooth::new(tasks, alpha, rule)),
            None => rule,
        };
        Ok(Box::new(Masked::new(tasks, rule)))
    }
}

/// Writes a method as its name in files, and reads it back.
pub mod by_name {
    use super::Method;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the method's name.
    ///
    /// # Errors
    /// The writer fails.
    pub fn serialize<S: Serializer>(method: &&'static Method, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(method.name)
    }

    /// Reads a method by its name or an alias.
    ///
    /// # Errors
    /// No method has this name.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'static Method, D::Error> {
        Method::named(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Method) -> bool {
        self.name == other.name
    }
}

impl Eq for Method {}

const PCD: &str = "pcd";
const LEARNING_RATE: (Parameter, f64) = (Parameter::Lr, 0.025);

/// The methods that [`AUTO`] tries.
const CANDIDATES: [&str; 3] = ["uncertainty-tempered", "fixed", "cagrad"];

/// The share of a run's epochs for which [`AUTO`] tries each method.
pub const TRIAL_SHARE: f64 = 0.1;

/// Tries a few methods in the run's first epochs and continues with the best.
pub static AUTO: Method = Method {
    name: "auto",
    aliases: &[],
    help: "Tries a few methods over the first epochs and continues with the one whose validation metrics are best",
    reads: &[(Parameter::Trial, TRIAL_SHARE)],
    start: |_| unreachable!("a run starts one of the candidates"),
};

/// All methods, the default first.
pub static METHODS: &[Method] = &[
    Method {
        name: "uncertainty-tempered",
        aliases: &[],
        help: "Weights are proportional to one over the square root of the gradient's length; the largest is at most 4 times the smallest",
        reads: &[(Parameter::Exponent, 0.0), (Parameter::GradientExponent, 0.5), (Parameter::Cap, 4.0)],
        start: |start| {
            let temper = Temper {
                exponent: start.value(Parameter::Exponent),
                gradient_exponent: start.value(Parameter::GradientExponent),
                cap: start.value(Parameter::Cap),
            };
            Box::new(Tempered::new(start.tasks(), temper))
        },
    },
    Method {
        name: "uncertainty-closed-form",
        aliases: &["uncertainty"],
        help: "Uncertainty weighting in closed form: each weight is proportional to one over the moving average of the loss",
        reads: &[],
        start: |start| Box::new(ClosedForm::new(start.tasks())),
    },
    Method {
        name: "uncertainty-learned",
        aliases: &[],
        help: "Learned log-variances, the Gaussian form for every task",
        reads: &[LEARNING_RATE],
        start: |start| start.learned(|_| Objective::Gaussian),
    },
    Method {
        name: "uncertainty-kind",
        aliases: &[],
        help: "Learned log-variances, the form of each task according to its kind",
        reads: &[LEARNING_RATE],
        start: |start| start.learned(Objective::of),
    },
    Method {
        name: "uncertainty-bounded",
        aliases: &[],
        help: "Learned scales with a regulariser that keeps the total above zero and the weights smaller",
        reads: &[LEARNING_RATE],
        start: |start| start.learned(|_| Objective::Bounded),
    },
    Method {
        name: "fixed",
        aliases: &[],
        help: "The weights given with --task-weight",
        reads: &[],
        start: |start| Box::new(Fixed(start.setup.task_weights.to_vec())),
    },
    Method {
        name: "uw-so",
        aliases: &[],
        help: "Soft optimal uncertainty weighting: the softmax of the inverse losses",
        reads: &[(Parameter::Temperature, 1.0)],
        start: |start| Box::new(uw_so::rule(start.value(Parameter::Temperature))),
    },
    Method {
        name: "imtl-l",
        aliases: &[],
        help: "A learned scale per loss that brings all weighted losses to one",
        reads: &[LEARNING_RATE],
        start: |start| start.learned(|_| Objective::Impartial),
    },
    Method {
        name: "geometric",
        aliases: &[],
        help: "The geometric mean of the losses",
        reads: &[],
        start: |_| Box::new(geometric::rule()),
    },
    Method {
        name: "log",
        aliases: &[],
        help: "The sum of the losses' logarithms",
        reads: &[],
        start: |_| Box::new(log_loss::rule()),
    },
    Method {
        name: "dwa",
        aliases: &[],
        help: "Dynamic weight average: tasks whose loss falls slowly from epoch to epoch weigh more",
        reads: &[(Parameter::Temperature, 2.0)],
        start: |start| Box::new(Dwa::new(start.tasks(), start.value(Parameter::Temperature))),
    },
    Method {
        name: "random",
        aliases: &[],
        help: "Random weights, drawn in every step",
        reads: &[],
        start: |start| Box::new(Random::new(start.setup.seed)),
    },
    Method {
        name: "stch",
        aliases: &[],
        help: "Smooth Tchebycheff: the task that is furthest from its start weighs most",
        reads: &[(Parameter::Mu, 1.0), (Parameter::Warmup, 1.0)],
        start: |start| Box::new(Stch::new(start.tasks(), start.value(Parameter::Mu), start.value(Parameter::Warmup))),
    },
    Method {
        name: "famo",
        aliases: &[],
        help: "All losses fall at one relative rate; runs each batch forward a second time",
        reads: &[LEARNING_RATE, (Parameter::Decay, 1e-3)],
        start: |start| Box::new(Famo::new(start.tasks(), start.value(Parameter::Lr), start.value(Parameter::Decay))),
    },
    Method {
        name: "mgda",
        aliases: &[],
        help: "The shortest convex combination of the gradients, which conflicts with none",
        reads: &[],
        start: |_| Box::new(mgda::rule()),
    },
    Method {
        name: "cagrad",
        aliases: &[],
        help: "Near the mean gradient, the direction that helps the worst task most",
        reads: &[(Parameter::C, 0.4), (Parameter::Rescale, 0.0)],
        start: |start| {
            let rescale = start.value(Parameter::Rescale);
            let rescale = match (rescale == 1.0, rescale == 2.0) {
                (true, _) => Rescale::Square,
                (_, true) => Rescale::Sum,
                (false, false) => Rescale::None,
            };
            Box::new(cagrad::rule(start.value(Parameter::C), rescale))
        },
    },
    Method {
        name: "imtl-g",
        aliases: &[],
        help: "The direction with equal projections on all gradients",
        reads: &[],
        start: |_| Box::new(imtl_g::rule()),
    },
    Method {
        name: "nash",
        aliases: &[],
        help: "Nash-MTL: the bargaining solution, in which every task gains the same in proportion",
        reads: &[],
        start: |_| Box::new(nash::rule()),
    },
    Method {
        name: "fairgrad",
        aliases: &[],
        help: "Alpha-fair progress, from the sum of gradients to the worst task first",
        reads: &[(Parameter::Alpha, 2.0)],
        start: |start| Box::new(fairgrad::rule(start.value(Parameter::Alpha))),
    },
    Method {
        name: "aligned",
        aliases: &[],
        help: "Aligned-MTL: the gradients' principal components are made equally long",
        reads: &[],
        start: |_| Box::new(aligned::rule()),
    },
    Method {
        name: "upgrad",
        aliases: &[],
        help: "Each gradient is projected on the directions that conflict with none, then summed",
        reads: &[],
        start: |_| Box::new(upgrad::rule()),
    },
    Method {
        name: "dualproj",
        aliases: &[],
        help: "The sum of gradients is projected on the directions that conflict with none",
        reads: &[],
        start: |_| Box::new(dualproj::rule()),
    },
    Method {
        name: "pcgrad",
        aliases: &[],
        help: "Gradient surgery: removes from each gradient the parts that conflict with the others, in random order",
        reads: &[],
        start: |start| Box::new(PcGrad::new(start.setup.seed)),
    },
    Method {
        name: "gradvac",
        aliases: &[],
        help: "Gradient vaccine: turns each gradient until its cosines reach their usual values",
        reads: &[(Parameter::Beta, 0.5)],
        start: |start| Box::new(GradVac::new(start.tasks(), start.value(Parameter::Beta), start.setup.seed)),
    },
    Method {
        name: "gradnorm",
        aliases: &[],
        help: "Learned weights that make gradients alike and tasks learn at one rate",
        reads: &[(Parameter::Alpha, 1.5), LEARNING_RATE],
        start: |start| {
            Box::new(GradNorm::new(start.tasks(), start.value(Parameter::Alpha), start.value(Parameter::Lr)))
        },
    },
    Method {
        name: "db",
        aliases: &[],
        help: "DB-MTL: logarithms of the losses, all gradients as long as the longest",
        reads: &[(Parameter::Beta, 0.9)],
        start: |start| Box::new(Db::new(start.tasks(), start.value(Parameter::Beta))),
    },
    Method {
        name: PCD,
        aliases: &[],
        help: "The primary task leads, and every other makes at least a little progress",
        reads: &[(Parameter::Tau, 0.02), (Parameter::Beta, 0.999)],
        start: |start| {
            let primary = start.setup.primary.expect("a start without it is refused");
            Box::new(Pcd::new(start.tasks(), primary, start.value(Parameter::Tau), start.value(Parameter::Beta)))
        },
    },
    Method {
        name: "excess",
        aliases: &[],
        help: "Tasks that are far from the best they could reach weigh more and more",
        reads: &[(Parameter::Lr, 0.01)],
        start: |start| Box::new(Excess::new(start.tasks(), start.value(Parameter::Lr))),
    },
    Method {
        name: "modo",
        aliases: &[],
        help: "MGDA's weights by one step of descent on two batches; needs --accumulate 2 or more",
        reads: &[(Parameter::Lr, 0.001), (Parameter::Rho, 0.1)],
        start: |start| Box::new(Modo::new(start.tasks(), start.value(Parameter::Lr), start.value(Parameter::Rho))),
    },
    Method {
        name: "sdmgrad",
        aliases: &[],
        help: "MGDA's weights by descent on two batches, pulled towards the mean; needs --accumulate 2 or more",
        reads: &[
            (Parameter::Lr, 10.0),
            (Parameter::Momentum, 0.5),
            (Parameter::Iterations, 20.0),
            (Parameter::Lambda, 0.3),
        ],
        start: |start| {
            let descent = Descent {
                learning_rate: start.value(Parameter::Lr),
                momentum: start.value(Parameter::Momentum),
                iterations: start.value(Parameter::Iterations) as usize,
                lambda: start.value(Parameter::Lambda),
            };
            Box::new(SdmGrad::new(start.tasks(), descent))
        },
    },
];
