//! The instruction sets that kernels are compiled for: their names, and a type that proves that this machine has one.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::OnceLock;

/// The name of an instruction set, whether or not this machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsaName {
    /// Four lanes as an array; runs on any machine.
    Portable,
    /// aarch64's vectors of 128 bits.
    Neon,
    /// x86-64's vectors of 256 bits, with FMA and BMI2.
    Avx2,
    /// x86-64's vectors of 512 bits (F, VL, DQ and BW).
    Avx512,
}

impl IsaName {
    const ALL: [IsaName; 4] = [IsaName::Portable, IsaName::Neon, IsaName::Avx2, IsaName::Avx512];

    /// Its name in the environment variable and in files.
    pub fn word(self) -> &'static str {
        match self {
            IsaName::Portable => "portable",
            IsaName::Neon => "neon",
            IsaName::Avx2 => "avx2",
            IsaName::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for IsaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An instruction set that this machine has. Only detection creates one, so code that has an `Isa` may run its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa(IsaName);

impl Isa {
    /// The environment variable that selects an instruction set other than the widest.
    pub const VARIABLE: &str = "POLYHEAD_ISA";

    /// The instruction set that every machine has.
    pub const PORTABLE: Isa = Isa(IsaName::Portable);

    /// The instruction set that kernels use: the one named by [`Isa::VARIABLE`], otherwise the widest that this machine has.
    ///
    /// # Errors
    /// The variable holds an unknown name, or an instruction set that this machine lacks.
    pub fn chosen() -> Result<Isa> {
        match std::env::var_os(Isa::VARIABLE).filter(|word| !word.is_empty()) {
            Some(word) => Isa::named(&word.to_string_lossy(), &Isa::available()),
            None => Ok(Isa::detect()),
        }
    }

    /// The result of [`Isa::chosen`] at the first call, for code that decodes images and cannot fail. The program already refuses
    /// an invalid variable at its start; here the widest is used instead.
    pub fn of_process() -> Isa {
        static CHOSEN: OnceLock<Isa> = OnceLock::new();
        *CHOSEN.get_or_init(|| Isa::chosen().unwrap_or_else(|_| Isa::detect()))
    }

    fn named(word: &str, available: &[Isa]) -> Result<Isa> {
        let refuse = |why: String| Err(Error::Usage(format!("{}={word}: {why}", Isa::VARIABLE)));
        let Some(name) = IsaName::ALL.into_iter().find(|name| name.word() == word) else {
            return refuse(format!("expected one of {}", list(&IsaName::ALL)));
        };
        match available.iter().find(|isa| isa.0 == name) {
            Some(&isa) => Ok(isa),
            None => {
                let names: Vec<IsaName> = available.iter().map(|isa| isa.0).collect();
                refuse(format!("this machine has no {name}; it has {}", list(&names)))
            }
        }
    }

    /// Its name, which can be stored in files.
    pub fn name(self) -> IsaName {
        self.0
    }

    /// The widest instruction set that this machine has.
    pub fn detect() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa::PORTABLE)
    }

    /// All instruction sets that this machine has, narrowest first; tests run with each of them.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Isa::PORTABLE];
        // NEON is part of every aarch64.
        #[cfg(target_arch = "aarch64")]
        all.push(Isa(IsaName::Neon));
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2");
            if avx2 {
                all.push(Isa(IsaName::Avx2));
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                all.push(Isa(IsaName::Avx512));
            }
        }
        all
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn list(names: &[IsaName]) -> String {
    names.iter().map(|name| name.word()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_sets_have_one_name_in_the_variable_and_in_files() {
        let all = IsaName::ALL.map(Isa);
        for isa in all {
            assert_eq!(Isa::named(isa.name().word(), &all).unwrap(), isa);
            assert_eq!(serde_json::to_value(isa.name()).unwrap(), isa.name().word());
        }
        assert!(Isa::available().is_sorted());
        assert_eq!(Isa::available()[0], Isa::PORTABLE);
    }

    #[test]
    fn unknown_and_missing_instruction_sets_are_refused() {
        let refusal = |word, available: &[Isa]| {
            let error = Isa::named(word, available).unwrap_err();
            (error.exit_code(), error.to_string())
        };
        let unknown = "POLYHEAD_ISA=AVX: expected one of portable, neon, avx2, avx512";
        assert_eq!(refusal("AVX", &IsaName::ALL.map(Isa)), (2, unknown.to_owned()));
        let lacking = "POLYHEAD_ISA=avx512: this machine has no avx512; it has portable, avx2";
        assert_eq!(refusal("avx512", &[Isa::PORTABLE, Isa(IsaName::Avx2)]), (2, lacking.to_owned()));
    }

    #[test]
    fn the_environment_decides_for_code_that_cannot_fail_too() {
        assert_eq!(Isa::of_process(), Isa::chosen().unwrap());
    }
}
