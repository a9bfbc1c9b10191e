//! The flags of `compare`.

use super::run_flags::{SET_PER_RUN, Shared, Typed};
use super::{check_length, inputs, resolve};
use crate::compare::{self, Jobs, METHOD, Request};
use crate::config::{Choices, PLACE, TrainConfig};
use crate::data::ranges::{count, whole};
use crate::error::{Error, Result};
use crate::executor::DeviceChoice;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct CompareArgs {
    /// Balancing methods to compare, named as in --balance [default: fixed and the default of `train`]
    #[arg(long, value_name = "METHOD,…", value_delimiter = ',')]
    methods: Vec<String>,
    /// Seeds; every setting is trained once with each seed
    #[arg(long, value_name = "NUMBER,…", value_delimiter = ',', value_parser = whole::<u64>, default_value = "0,1,2")]
    seeds: Vec<u64>,
    /// Folder for the runs and the tables; repeating the command continues from its contents
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Runs at a time [default: one per four cores; on a GPU 1]
    #[arg(long, value_name = "RUNS", value_parser = count::<usize>)]
    jobs: Option<usize>,
    /// Skip the single models and compare all methods with equal weights (`fixed`)
    #[arg(long)]
    no_single: bool,
    /// Check everything and list the runs that would be trained, but train none and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not train: compare the finished runs in these folders
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with_all = ["methods", "seeds", "jobs", "no_single", "dry_run", "config"])]
    runs: Vec<PathBuf>,
    /// Start with the choices of an args.yaml (or of the run in this folder); flags override them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    run: Typed<Shared>,
}

impl CompareArgs {
    /// Trains and compares, or only compares finished runs.
    pub(super) fn compare(self) -> Result<()> {
        let typed = &self.run.choices;
        match self.runs.as_slice() {
            [] => self.train(),
            runs => {
                // Inference is measured by this command.
                let device = |key: &str| key == "device" || key == "threads";
                if let Some(other) = typed.each().find(|choice| !choice.keys().all(device)) {
                    let flags = other.flags().join(", ");
                    return Err(Error::Usage(format!("--runs trains nothing: leave out {flags}")));
                }
                runs.iter().try_for_each(|run| inputs::RUNS.check(Some(run)))?;
                let mut config = TrainConfig::default();
                typed.apply(&mut config)?;
                compare::tabulate(runs, &self.out, &DeviceChoice::parse(&config.device, config.threads)?)
            }
        }
    }

    fn train(&self) -> Result<()> {
        let typed = &self.run.choices;
        check_length(typed)?;
        for (key, instead) in SET_PER_RUN {
            if typed.has(key) {
                let flag = Choices::one(key, "").flags().join("");
                return Err(Error::Usage(format!("{flag} cannot be set for a whole comparison: {instead}")));
            }
        }
        let (mut shared, mut balancing) = (typed.clone(), Choices::default());
        for choice in typed.each() {
            let is_of_balancing = |key: &str| Choices::is_of_balancing(key);
            if choice.keys().any(is_of_balancing) {
                choice.keys().for_each(|key| shared.remove(key));
                balancing = balancing.over(choice);
            }
        }
        inputs::CONFIG.check(self.config.as_deref())?;
        let mut file = self.config.as_deref().map(Choices::read).transpose()?.unwrap_or_default();
        let own: Vec<String> = file.keys().map(str::to_owned).collect();
        let of_one_run = |key: &&String| SET_PER_RUN.iter().any(|own| own.0 == key.as_str());
        let defaults = Choices::of(&TrainConfig::default())?;
        let mut removed = Vec::new();
        for key in own.iter().filter(|key| of_one_run(key) || Choices::is_of_balancing(key)) {
            // The place of a run is never taken, and `resolve` says so.
            if !PLACE.contains(&key.as_str()) {
                let is_changed = file.text(key) != defaults.text(key) && !typed.has(key);
                removed.extend(is_changed.then(|| Choices::one(key, "")));
                file.remove(key);
            }
        }
        let base = resolve(&shared, file, &removed, "--config")?;
        let workers = typed.has("workers").then_some(base.workers);
        let request = Request {
            methods: self.methods()?,
            seeds: self.seeds.clone(),
            out: self.out.clone(),
            single: !self.no_single,
            dry_run: self.dry_run,
            balancing,
            base,
        };
        compare::compare(request, &Jobs { jobs: self.jobs, workers })
    }

    fn methods(&self) -> Result<Vec<String>> {
        if self.methods.iter().any(String::is_empty) {
            let report =
                "--methods: expected the names of methods with a comma between each two, as in --methods fixed,mgda";
            return Err(Error::Usage(report.into()));
        }
        if !self.methods.is_empty() {
            return Ok(self.methods.clone());
        }
        let default = Choices::of(&TrainConfig::default())?.text(METHOD);
        let mut methods = vec![compare::EQUAL_WEIGHTS.to_owned()];
        methods.extend(default.filter(|default| *default != methods[0]));
        Ok(methods)
    }
}
