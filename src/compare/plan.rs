//! The runs of a comparison: every setting with every seed, each as a full configuration with its own folder. A folder that holds
//! a run with other choices is refused before anything is trained.

use super::results::{changes_no_figure, differing, read_config};
use super::setting::{METHOD, SINGLE};
use crate::config::{Choices, TrainConfig};
use crate::error::{Error, Result, shown};
use crate::evaluate::file_name;
use crate::train;
use std::path::{Path, PathBuf};

/// A request for a comparison.
pub struct Request {
    /// The choices that all runs share.
    pub base: TrainConfig,
    /// Typed balancing choices besides the method. Each applies to the methods that read it.
    pub balancing: Choices,
    /// The names of the balancing methods, one per joint setting.
    pub methods: Vec<String>,
    /// Seeds; each setting has one run per seed.
    pub seeds: Vec<u64>,
    /// The folder for plans, runs and tables.
    pub out: PathBuf,
    /// Whether each task is also trained alone.
    pub single: bool,
    /// Whether the runs are only listed.
    pub dry_run: bool,
}

/// One run.
#[derive(Clone, Debug)]
pub struct PlannedRun {
    /// The name of its folder, `<setting>-seed<S>`.
    pub name: String,
    /// Name of the setting.
    pub setting: String,
    /// The full configuration.
    pub config: TrainConfig,
}

/// Progress of a planned run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is nothing to continue from.
    New,
    /// It was interrupted and has a checkpoint.
    Begun,
    /// Its last epoch is done.
    Finished,
}

impl PlannedRun {
    /// Its folder.
    pub fn folder(&self) -> PathBuf {
        self.config.project.join(&self.name)
    }

    /// Determines the progress from the run's folder.
    pub fn stage(&self) -> Stage {
        let folder = self.folder();
        match (train::is_finished(&folder), train::has_state(&folder)) {
            (true, _) => Stage::Finished,
            (_, true) => Stage::Begun,
            _ => Stage::New,
        }
    }

    /// Checks that the run in this folder was made with the same choices.
    fn check_folder(&self) -> Result<()> {
        let folder = self.folder();
        if !folder.join("args.yaml").is_file() {
            return Ok(());
        }
        let differences = differing(&read_config(&folder)?, &self.config, changes_no_figure)?;
        match differences.into_iter().next() {
            None => Ok(()),
            Some((key, [old, new])) => Err(Error::Usage(format!(
                "{}: this run was made with {key} {old}, and now {key} is {new}: give the choices it was made with, or another --out",
                shown(&folder)
            ))),
        }
    }
}

/// Plans the runs for these tasks: single models first, then the methods in the given order, each with all seeds.
///
/// # Errors
/// A method is unknown or named twice, seeds are missing or repeated, there is only one task, no method reads a choice, or a
/// folder is in the way or holds a run with other choices.
pub fn plan(request: &Request, tasks: &[String]) -> Result<Vec<PlannedRun>> {
    check(request)?;
    if let [task] = tasks {
        return Err(Error::Usage(format!(
            "`{task}` is the only task: there is nothing to compare; expected a data set with at least two"
        )));
    }
    let joint = joint_settings(request)?;
    let mut settings = Vec::new();
    if request.single {
        settings
            .extend(tasks.iter().map(|task| (format!("{SINGLE}-{}", file_name(task)), single(&request.base, task))));
    }
    settings.extend(joint);
    let mut runs = Vec::new();
    for (setting, config) in settings {
        for &seed in &request.seeds {
            let name = format!("{setting}-seed{seed}");
            let config = TrainConfig { seed, name: name.clone(), project: request.out.join("train"), ..config.clone() };
            config.check()?;
            runs.push(PlannedRun { name, setting: setting.clone(), config });
        }
    }
    runs.iter().try_for_each(PlannedRun::check_folder)?;
    Ok(runs)
}

/// Checks the seeds and methods, without the data set.
///
/// # Errors
/// A method or seed that [`plan`] refuses.
pub fn check(request: &Request) -> Result<()> {
    check_seeds(&request.seeds)?;
    joint_settings(request).map(drop)
}

fn check_seeds(seeds: &[u64]) -> Result<()> {
    if seeds.is_empty() {
        return Err(Error::Usage("--seeds: expected at least one number, as in --seeds 0,1,2".into()));
    }
    match seeds.iter().enumerate().find(|(index, seed)| seeds[..*index].contains(seed)) {
        Some((_, seed)) => Err(Error::Usage(format!("--seeds: {seed} is given twice; expected different numbers"))),
        None => Ok(()),
    }
}

/// One task alone. Its weight is one, whatever the other choices.
fn single(base: &TrainConfig, task: &str) -> TrainConfig {
    let lr_heads = base.lr_heads.iter().filter(|(name, _)| name == task).cloned().collect();
    let equal = Choices::one(METHOD, super::setting::EQUAL_WEIGHTS);
    let mut config = TrainConfig { task: vec![task.to_owned()], lr_heads, ..base.clone() };
    equal.apply(&mut config).unwrap_or_else(|e| unreachable!("the method of equal weights exists: {e}"));
    config
}

/// One configuration per method, labelled by the method's name, with the typed balancing choices that it reads.
fn joint_settings(request: &Request) -> Result<Vec<(String, TrainConfig)>> {
    let mut settings: Vec<(String, TrainConfig)> = Vec::new();
    if request.methods.is_empty() {
        return Err(Error::Usage("--methods: expected at least one, as in --methods fixed".into()));
    }
    for method in &request.methods {
        let mut config = request.base.clone();
        Choices::one(METHOD, method).apply(&mut config).map_err(|e| in_methods(&e))?;
        config.check()?;
        let word = Choices::of(&config)?.text(METHOD).unwrap_or_default();
        if settings.iter().any(|(other, _)| *other == word) {
            return Err(Error::Usage(format!("--methods: {word} is given twice; expected different methods")));
        }
        settings.push((word, config));
    }
    for choice in request.balancing.each() {
        let mut refusal = None;
        let mut taken = false;
        for (_, config) in &mut settings {
            let mut with = config.clone();
            match choice.apply(&mut with).and_then(|()| with.check()) {
                Ok(()) => (*config, taken) = (with, true),
                Err(e) => refusal = Some(e),
            }
        }
        if let Some(error) = refusal.filter(|_| !taken) {
            return Err(error);
        }
    }
    Ok(settings)
}

/// Rewrites an error about `--balance` to name `--methods` instead.
fn in_methods(error: &Error) -> Error {
    Error::Usage(error.to_string().replace(&format!("--{METHOD}"), "--methods"))
}

/// Writes each run's choices as a file for `polyhead train --config`.
///
/// # Errors
/// A file cannot be written.
pub fn write_plans(out: &Path, runs: &[PlannedRun]) -> Result<()> {
    let folder = plans(out);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let files: Vec<PathBuf> = runs.iter().map(|run| format!("{}.yaml", run.name).into()).collect();
    train::remove_half_written(&folder, &files)?;
    for run in runs {
        let text = crate::reading::yaml::write(&run.config)
            .map_err(|e| Error::Usage(format!("the run's choices cannot be written: {e}")))?;
        crate::files::write_synced(&plan_file(out, run), text.as_bytes())?;
    }
    Ok(())
}

fn plans(out: &Path) -> PathBuf {
    out.join("plans")
}

/// The file with a run's choices.
pub fn plan_file(out: &Path, run: &PlannedRun) -> PathBuf {
    plans(out).join(format!("{}.yaml", run.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn request(methods: &[&str], seeds: &[u64]) -> Request {
        Request {
            base: TrainConfig { lr_heads: vec![("a".into(), 2.0)], ..Recipe::QuickStart.config() },
            balancing: Choices::default(),
            methods: methods.iter().map(|m| (*m).to_owned()).collect(),
            seeds: seeds.to_vec(),
            out: std::env::temp_dir().join(format!("polyhead-plan-{}-nowhere", std::process::id())),
            single: true,
            dry_run: false,
        }
    }

    fn tasks() -> Vec<String> {
        ["a", "b/c"].map(str::to_owned).to_vec()
    }

    fn refused(request: &Request, tasks: &[String]) -> String {
        let error = plan(request, tasks).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        error.to_string()
    }

    #[test]
    fn every_setting_has_a_run_for_each_seed() {
        let runs = plan(&request(&["fixed", "uncertainty-learned"], &[0, 7]), &tasks()).unwrap();
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names[..2], ["single-a-seed0", "single-a-seed7"]);
        assert!(names[2].starts_with("single-b_c-") && names[3].ends_with("-seed7"), "{names:?}");
        assert_eq!((names[4], names.len()), ("fixed-seed0", 8));
        let [a, bc, joint] = [0, 2, 5].map(|index| &runs[index].config);
        assert_eq!((a.task.as_slice(), &a.lr_heads), (&["a".to_owned()][..], &vec![("a".to_owned(), 2.0)]));
        assert_eq!((bc.task.as_slice(), bc.lr_heads.len()), (&["b/c".to_owned()][..], 0));
        assert_eq!((joint.task.len(), joint.lr_heads.len(), joint.seed), (0, 1, 7));
        let mut without = request(&["fixed"], &[0]);
        without.single = false;
        assert_eq!(plan(&without, &tasks()).unwrap().len(), 1);
    }

    #[test]
    fn a_choice_of_balancing_goes_to_the_methods_that_take_it() {
        let mut asked = request(&["fixed", "uncertainty-learned"], &[0]);
        asked.balancing = Choices::one("task_weights", "a=2");
        let runs = plan(&asked, &tasks()).unwrap();
        let weights =
            |setting: &str| runs.iter().find(|run| run.setting == setting).unwrap().config.task_weights.clone();
        assert_eq!(weights("fixed"), [("a".to_owned(), 2.0)]);
        assert!(weights("uncertainty-learned").is_empty() && weights("single-a").is_empty());
        asked.methods = vec!["uncertainty-learned".into()];
        assert!(refused(&asked, &tasks()).contains("--task-weight only works with"));
    }

    #[test]
    fn a_request_that_cannot_be_planned_is_refused() {
        assert!(refused(&request(&["fixd"], &[0]), &tasks()).contains("--methods fixd: expected"));
        assert!(refused(&request(&["fixed", "fixed"], &[0]), &tasks()).contains("fixed is given twice"));
        assert!(refused(&request(&["fixed"], &[]), &tasks()).contains("--seeds: expected at least one"));
        assert!(refused(&request(&["fixed"], &[3, 1, 3]), &tasks()).contains("3 is given twice"));
        assert!(refused(&request(&["fixed"], &[0]), &["a".to_owned()]).contains("nothing to compare"));
        let mut none = request(&[], &[0]);
        none.single = false;
        assert!(refused(&none, &tasks()).contains("--methods: expected at least one"));
    }

    #[test]
    fn a_folder_with_a_run_of_other_choices_is_refused() {
        let mut asked = request(&["fixed"], &[0]);
        asked.out = std::env::temp_dir().join(format!("polyhead-plan-{}", std::process::id()));
        let runs = plan(&asked, &tasks()).unwrap();
        let run = &runs[2];
        std::fs::create_dir_all(run.folder()).unwrap();
        let args = |config: &TrainConfig| {
            std::fs::write(run.folder().join("args.yaml"), crate::reading::yaml::write(config).unwrap()).unwrap();
        };
        args(&run.config);
        assert_eq!(run.stage(), Stage::New);
        // Choices that only affect how a run is carried out may change.
        asked.base.threads = 3;
        plan(&asked, &tasks()).unwrap();
        asked.base.lr0 = 0.5;
        let said = refused(&asked, &tasks());
        assert!(said.contains("fixed-seed0") && said.contains("lr0 0.002, and now lr0 is 0.5"), "{said}");
        asked.base.lr0 = run.config.lr0;
        asked.base.patience = 3;
        assert!(refused(&asked, &tasks()).contains("patience"));
        std::fs::remove_dir_all(&asked.out).unwrap();
    }
}
