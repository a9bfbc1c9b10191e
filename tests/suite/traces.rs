//! Files and folders that a command may leave behind: half-written data sets of interrupted commands, and the folders of dry runs.

use crate::cli::{SMALL, digits, path, polyhead, said, succeed, text};
use crate::step::Folder;
use crate::system::{Running, ended, signal, wait_for};
use std::path::Path;
use std::process::Stdio;

/// The sorted names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn partial(folder: &Folder, out: &str) -> Vec<String> {
    let start = format!(".{out}.partial-");
    names(&folder.path).into_iter().filter(|name| name.starts_with(&start)).collect()
}

/// Starts a command that writes `out`, and waits until it has begun to write.
fn begun(folder: &Folder, args: &[&str], out: &str) -> Running {
    let mut command = polyhead();
    let mut child = Running::new(command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    // Its own, and not one that a killed process left. With something inside, it is locked, too.
    let own = format!(".{out}.partial-{}-", child.id());
    wait_for("a partial folder", || {
        let inside =
            |name: &String| std::fs::read_dir(folder.path.join(name)).is_ok_and(|mut all| all.next().is_some());
        assert!(child.try_wait().unwrap().is_none(), "{args:?} ended before it could be stopped");
        partial(folder, out).iter().any(|name| name.starts_with(&own) && inside(name))
    });
    child
}

#[test]
fn an_interrupted_data_set_leaves_nothing_behind() {
    let folder = Folder::new("interrupted");
    let out = path(&folder, "set");
    for name in ["INT", "TERM"] {
        let mut child = begun(&folder, &["data", "digits", &out], "set");
        signal(&child, &[name]);
        let code = ended(&mut child).code();
        let said = text(&child.output().stderr);
        assert_eq!(code, Some(130), "{said}");
        assert!(said.contains("removing what is written so far"), "{said}");
        assert!(names(&folder.path).is_empty(), "{name}: {:?}", names(&folder.path));
    }
    succeed(&["data", "digits", &out]);
    let convert = ["data", "convert", &out, "--to", "jsonl", "--copy", "--out", &path(&folder, "copy")];
    let mut child = begun(&folder, &convert, "copy");
    signal(&child, &["TERM"]);
    assert_eq!(ended(&mut child).code(), Some(130));
    assert_eq!(names(&folder.path), ["set"]);
}

#[test]
fn the_next_command_removes_what_a_killed_one_left_and_nothing_of_a_live_one() {
    let folder = Folder::new("killed");
    let out = path(&folder, "set");
    let mut killed = begun(&folder, &["data", "digits", &out], "set");
    signal(&killed, &["KILL"]);
    ended(&mut killed);
    let left = partial(&folder, "set");
    assert_eq!(left.len(), 1);
    // A process that lives holds its folder. It is stopped so that it does not end.
    let mut live = begun(&folder, &["data", "digits", &out, "--seed", "1"], "set");
    signal(&live, &["STOP"]);
    let stopped = partial(&folder, "set");
    assert_eq!(stopped.len(), 1, "the live process has removed the other's folder: {stopped:?}");
    assert!(!left.contains(&stopped[0]));
    let said = said(&["data", "digits", &out]);
    assert!(!said.contains("was killed"), "{said}");
    assert_eq!(partial(&folder, "set"), stopped);
    signal(&live, &["KILL", "CONT"]);
    ended(&mut live);
    std::fs::remove_dir_all(&out).unwrap();
    let said = crate::cli::said(&["data", "digits", &out]);
    assert!(said.contains(&format!("{} was left unfinished by a process that was killed", stopped[0])), "{said}");
    assert_eq!(names(&folder.path), ["set"]);
}

#[test]
fn a_dry_run_leaves_no_folder() {
    let folder = Folder::new("dry");
    let data = digits(&folder, 8);
    let dry = |project: &str| said(&[&["train", &data, "--dry-run", "--project", project], &SMALL[..]].concat());
    dry(&path(&folder, "new/project"));
    assert_eq!(names(&folder.path), ["digits"]);
    // A folder that was there stays, and so does what lies in it.
    std::fs::create_dir_all(folder.path.join("old/project")).unwrap();
    dry(&path(&folder, "old/project"));
    dry(&path(&folder, "old/project/inner"));
    assert_eq!(
        (names(&folder.path), names(&folder.path.join("old"))),
        (vec!["digits".into(), "old".into()], vec!["project".into()])
    );
    assert!(names(&folder.path.join("old/project")).is_empty());
}
