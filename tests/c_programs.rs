// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C programs of c_tests/, which speak TAP, and of examples_c/, which have to succeed: compiled, linked with a static library of
//! the same profile as this program, and run, each as one test. (c_tests/run.sh, which `make check` uses, runs the same ones with the
//! libraries as they are delivered.) A name given on the command line selects the programs that contain it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

const TIME_LIMIT: Duration = Duration::from_secs(300);
const LIBS: &[&str] = &["-lpthread", "-lm", "-ldl"];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // `--list --format terse` and `--exact NAME --nocapture` are what nextest says.
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-') && *arg != "terse").collect();
    let matches = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| if has("--exact") { name == *filter } else { name.contains(*filter) })
    };
    let mut programs =
        if has("--ignored") || env::var_os("SKIP_C_PROGRAMS").is_some() { Vec::new() } else { programs() };
    let all = programs.len();
    programs.retain(|(name, _)| matches(name));
    if has("--list") {
        programs.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }

    println!("\nrunning {} tests", programs.len());
    let start = Instant::now();
    let mut failures = Vec::new();
    for (name, source) in &programs {
        match run(source) {
            Ok(note) => println!("test {name} ... ok{note}"),
            Err(why) => {
                println!("test {name} ... FAILED");
                failures.push((name, why));
            }
        }
    }
    for (name, why) in &failures {
        println!("\n---- {name} ----\n{why}");
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        programs.len() - failures.len(),
        failures.len(),
        all - programs.len(),
        start.elapsed().as_secs_f64()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Name and source of each program: the directories are the list.
fn programs() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for dir in ["c_tests", "examples_c"] {
        for entry in fs::read_dir(root().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "c") {
                found.push((format!("{dir}/{}", path.file_stem().unwrap().to_str().unwrap()), path));
            }
        }
    }
    found.sort();
    found
}

/// Builds and runs a program. Returns what to print behind its "ok", or why it failed.
fn run(source: &Path) -> Result<String, String> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = dir.path().join("program");
    compile(source, &program)?;

    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let (output, errors) = (dir.path().join("output"), dir.path().join("errors"));
    let mut child = under_runner(&program)
        .current_dir(&empty)
        .env("TEST_DATA", root().join("c_tests/golden"))
        .stdin(Stdio::null())
        .stdout(File::create(&output).unwrap())
        .stderr(File::create(&errors).unwrap())
        .spawn()
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > TIME_LIMIT => {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let (output, errors) = (text(output), text(errors));
    let verdict = match (source.parent().unwrap().ends_with("c_tests"), status.success()) {
        (true, success) => judge_tap(&output, success),
        (false, true) => Ok(String::new()),
        (false, false) => Err(String::new()),
    };
    verdict.map_err(|why| format!("{why}{status}\n{output}{errors}"))
}

/// Every point has to be ok, and as many as planned.
fn judge_tap(output: &str, success: bool) -> Result<String, String> {
    let count = |start: &str| output.lines().filter(|line| line.starts_with(start)).count();
    let (ok, not_ok) = (count("ok "), count("not ok "));
    let skipped = output.lines().filter(|line| line.starts_with("ok ") && line.contains(" # SKIP")).count();
    let plan = output.lines().find_map(|line| line.strip_prefix("1..")?.parse::<usize>().ok());
    match plan {
        _ if not_ok > 0 => Err(format!("{not_ok} points failed; ")),
        _ if !success => Err(String::new()),
        None => Err("ended without a plan; ".to_owned()),
        Some(plan) if plan != ok || plan == 0 => Err(format!("planned {plan} points, but {ok} came; ")),
        Some(_) if skipped > 0 => Ok(format!(" ({} points, {skipped} skipped)", ok - skipped)),
        Some(_) => Ok(format!(" ({ok} points)")),
    }
}

/// The static library, in a directory of its own; one that was made after this program is made of the same sources.
fn static_library() -> Result<PathBuf, String> {
    let this = env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).and_then(Path::file_name).unwrap().to_str().unwrap();
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("c_programs");
    let library = dir.join(env!("BUILD_TARGET")).join(profile).join("libpalloc.a");
    let made = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    if made(&library).is_ok_and(|time| time > made(&this).unwrap()) {
        return Ok(library);
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root()).args(["rustc", "--quiet", "--lib", "--locked", "--crate-type", "staticlib"]);
    cargo.args(["--target", env!("BUILD_TARGET"), "--profile", if profile == "debug" { "dev" } else { profile }]);
    let output = cargo.arg("--target-dir").arg(&dir).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    // Cargo leaves a library alone that it finds up to date.
    let now = File::options().append(true).open(&library).and_then(|file| file.set_modified(SystemTime::now()));
    now.map(|()| library).map_err(|error| error.to_string())
}

/// The same flags as in c_tests/lib.sh.
fn compile(source: &Path, program: &Path) -> Result<(), String> {
    let library = static_library()?;
    let compiler = cc::Build::new()
        .host(env!("BUILD_HOST"))
        .target(env!("BUILD_TARGET"))
        .opt_level(1)
        .debug(true)
        .cargo_metadata(false)
        .try_get_compiler()
        .map_err(|error| error.to_string())?;
    let mut command = compiler.to_command();
    command
        .args(["-std=c99", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64"])
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(root().join("include"));
    if source.parent().unwrap().ends_with("c_tests") {
        let support = fs::read_dir(root().join("c_tests/support")).unwrap().map(|entry| entry.unwrap().path());
        command.args(support.filter(|path| path.extension().is_some_and(|extension| extension == "c")));
    }
    command.arg(source).arg(library).args(LIBS).arg("-o").arg(program);
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Programs for another machine run under what cargo uses for them.
fn under_runner(program: &Path) -> Command {
    let target = env!("BUILD_TARGET").to_uppercase().replace('-', "_");
    match env::var(format!("CARGO_TARGET_{target}_RUNNER")) {
        Ok(runner) if !runner.trim().is_empty() => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().unwrap());
            command.args(words).arg(program);
            command
        }
        _ => Command::new(program),
    }
}
