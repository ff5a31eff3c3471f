// SPDX-License-Identifier: MIT OR Apache-2.0
//! include/*.h are made from src/ffi/*.rs and are committed, so that a C programmer needs no cbindgen. Here each is made anew and
//! compared; `make headers` (UPDATE_HEADERS=1) writes it instead.
//!
//! A header is: guard, prologue (headers/NAME.prologue.h: the manual and the includes), what cbindgen makes of src/ffi/NAME.rs with
//! headers/NAME.toml, and headers/NAME.epilogue.h where there is one (macros and inline functions). Behind the guard comes
//! headers/NAME.implementation.h, for a header that can be included once more to the effect of a macro.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, mem};

/// NAME of the source, and the header made from it.
const HEADERS: &[(&str, &str)] = &[
    ("version", "include/palloc_version.h"),
    ("palloc", "include/palloc.h"),
    ("palloc_fd", "include/finwo/palloc.h"),
    ("vmem", "include/vmem.h"),
    ("buflib", "include/buflib.h"),
    ("core_alloc", "include/core_alloc.h"),
    ("rockbox_buflib", "include/rockbox/buflib.h"),
    ("rockbox_core_alloc", "include/rockbox/core_alloc.h"),
    ("rockbox_chunk_alloc", "include/rockbox/chunk_alloc.h"),
];

/// The exports of buflib that read no free memory of a pool, so that BUFLIB_DEBUG needs no wrapper for them.
const READS_NO_BLOCK: &[&str] = &[
    "buflib_available",
    "buflib_get_data",
    "buflib_next",
    "buflib_ops_locked",
    "buflib_set_panic_handler",
    "core_available",
    "core_ctx",
    "core_next",
];

/// Comments are wrapped so that no line is longer.
const WIDTH: usize = 100;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn headers_are_up_to_date() {
    let mut stale = String::new();
    for (name, header) in HEADERS {
        let path = root().join(header);
        let want = render(name, header);
        let have = fs::read_to_string(&path).unwrap_or_default();
        if have == want {
            continue;
        }
        if env::var_os("UPDATE_HEADERS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, want).unwrap();
            continue;
        }
        let line = have.lines().zip(want.lines()).take_while(|(a, b)| a == b).count();
        let nth = |text: &str| text.lines().nth(line).unwrap_or("(end of file)").to_owned();
        write!(stale, "\n{header}:{}:\n  is:        {}\n  should be: {}", line + 1, nth(&have), nth(&want)).unwrap();
    }
    assert!(stale.is_empty(), "headers are stale, run `make headers`{stale}");
}

#[test]
fn every_header_has_a_source() {
    fn visit(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { visit(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    visit(&root().join("include"), &mut found);
    for path in found.iter().filter(|path| !path.ends_with("palloc.hpp")) {
        assert!(
            HEADERS.iter().any(|(_, header)| root().join(header) == *path),
            "{}: made from nothing",
            path.display()
        );
    }
}

/// The names that src/ffi/NAME.rs exports.
fn exports(name: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(root().join(format!("src/ffi/{name}.rs"))).unwrap();
    let mut found = BTreeSet::new();
    let mut lines = source.lines();
    while lines.by_ref().any(|line| line.starts_with("#[unsafe(no_mangle)]")) {
        let item = lines.by_ref().find(|line| !line.starts_with('#') && !line.starts_with("//")).unwrap();
        let mut name = item.split(&[' ', '(', ':']).skip_while(|word| !["fn", "static", "mut"].contains(word));
        let name = name.find(|word| !["fn", "static", "mut"].contains(word)).unwrap();
        if !item.starts_with("extern \"Rust\"") {
            found.insert(name.to_owned());
        }
    }
    found
}

/// The name by which a C program calls an exported function: some headers have macros for it.
fn called<'a>(name: &'a str, header: &'a str) -> &'a str {
    let define = |line: &'a str| line.strip_prefix("#define ")?.strip_suffix(name)?.strip_suffix(' ');
    header.lines().find_map(define).unwrap_or(name)
}

/// The names that C code uses: those that it calls, passes on, assigns to or takes the address of. Names in comments, in strings and in
/// prototypes do not count.
fn used_names(code: &str) -> BTreeSet<String> {
    let code = code.replace("'\"'", "' '").replace("\\\\", "").replace("\\\"", "");
    let mut plain = String::new();
    let mut rest = &code[..];
    while let Some(at) = rest.find(['"', '/']) {
        plain += &rest[..at];
        rest = &rest[at..];
        let end = if let Some(comment) = rest.strip_prefix("/*") {
            comment.find("*/").map(|end| end + 4)
        } else if let Some(string) = rest.strip_prefix('"') {
            string.find(['"', '\n']).map(|end| end + 2)
        } else {
            Some(1)
        };
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    plain += rest;
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    // A prototype is at the left margin, or indented and begins with a type; what is used is in a body.
    let lines = plain.lines().filter(|line| line.starts_with([' ', '\t', '#']));
    let lines = lines.filter(|line| !line.trim_start().starts_with("extern "));
    lines.flat_map(|line| line.split(|c| !is_name(c)).map(str::to_owned)).collect()
}

/// The names of each version in the map are sorted.
#[test]
fn the_export_map_is_sorted() {
    let map = fs::read_to_string(root().join("packaging/libpalloc.map")).unwrap();
    let mut last = "";
    for line in map.lines() {
        let name = line.strip_prefix("    ").and_then(|line| line.strip_suffix(';'));
        let name = name.filter(|&name| name != "*").unwrap_or("");
        assert!(name.is_empty() || last < name, "packaging/libpalloc.map: {name} stands behind {last}");
        last = name;
    }
    assert!(map.contains("palloc_init;"), "the map was not read");
}

/// cbindgen copies numbers, so each flag is one in src/ffi/palloc.rs; const asserts there compare these with the engine's. Here those who name
/// flags by hand.
#[test]
fn flags_are_the_same_everywhere() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (header, gdb, python) =
        (read("include/palloc.h"), read("packaging/palloc-gdb.py"), read("packaging/python/palloc.py"));
    let mut flags = 0;
    for line in header.lines().filter_map(|line| line.strip_prefix("#define PALLOC_")) {
        let Some((name, Ok(value))) = line.split_once(' ').map(|(name, value)| (name, value.parse::<u32>())) else {
            continue;
        };
        let (of_init, all) = (["DYNAMIC", "SYNC", "READONLY", "FORCE", "SHARED"], ["DEFAULT", "SNAPSHOT_CLONE"]);
        if of_init.contains(&name) {
            assert!(gdb.contains(&format!("{value}: \"PALLOC_{name}\"")), "packaging/palloc-gdb.py has no {name}");
            flags += value;
        } else if !all.contains(&name) {
            continue;
        }
        assert!(python.contains(&format!("\n{name} = {value}\n")), "packaging/python/palloc.py has no {name}");
    }
    assert_eq!(flags, 31, "a new flag of palloc_init belongs into this test");
}

/// palloc.hpp is written by hand: it calls each function of palloc.h and of the growing arena, or its head names it among those that have no
/// name there.
#[test]
fn a_new_function_is_in_palloc_hpp_or_left_out_by_name() {
    let hpp = fs::read_to_string(root().join("include/palloc.hpp")).unwrap();
    let (_, left_out) = hpp.split_once("have no name here:").expect("the head has the list");
    let (left_out, _) = left_out.split_once(" *   vmem.h ").expect("the head has the list");
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).map(str::to_owned).collect()
    };
    let (mut used, left_out) = (used_names(&hpp), words(left_out));
    // The names that inline functions call.
    for inline in ["headers/palloc.epilogue.h", "headers/vmem.epilogue.h"] {
        used.append(&mut used_names(&fs::read_to_string(root().join(inline)).unwrap()));
    }
    let arena = exports("vmem").into_iter().filter(|name| name.starts_with("vmem_grow_"));
    let faults: Vec<_> = exports("palloc")
        .into_iter()
        .chain(arena)
        .filter(|name| used.contains(name) == left_out.contains(name))
        .collect();
    assert!(faults.is_empty(), "include/palloc.hpp: neither a member nor left out by name, or both: {faults:?}");
}

/// Whoever adds a function learns here which files still lack it. CONTRIBUTING.md has the steps.
#[test]
fn a_new_function_is_in_every_file() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let mut faults = String::new();
    for entry in fs::read_dir(root().join("src/ffi")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        if !HEADERS.iter().any(|(known, _)| *known == name) && !exports(&name).is_empty() {
            writeln!(faults, "tests/headers.rs: HEADERS lacks src/ffi/{name}.rs").unwrap();
        }
    }
    let (map, abi) = (read("packaging/libpalloc.map"), read("packaging/libpalloc.abi"));
    let mut tests = read("headers/vmem.epilogue.h"); // the names that inline functions call
    for entry in fs::read_dir(root().join("c_tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| ["c", "h", "sh"].iter().any(|known| extension == *known)) {
            tests += &fs::read_to_string(path).unwrap();
        }
    }
    // Each function of palloc.h that takes a medium or a transaction is called with NULL once.
    let palloc = read("src/ffi/palloc.rs");
    for function in palloc.split("#[unsafe(no_mangle)]").skip(1) {
        let Some((name, parameters)) = function.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')) else {
            continue;
        };
        let first = parameters.trim_start().split([',', ')']).next().unwrap();
        if (first.ends_with(" palloc_t") || first.ends_with(" palloc_tx")) && !tests.contains(&format!("{name}(NULL")) {
            writeln!(faults, "c_tests/ (no test calls it with NULL): lacks {name} of src/ffi/palloc.rs").unwrap();
        }
    }
    let tests = used_names(&tests);
    let mut all = BTreeSet::new();
    for (source, header) in HEADERS {
        let text = read(header);
        for name in exports(source) {
            let mut lacks = |lacking: bool, what: &str| {
                if lacking {
                    writeln!(faults, "{what}: lacks {name} of src/ffi/{source}.rs").unwrap();
                }
            };
            let words: BTreeSet<&str> = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).collect();
            lacks(!words.contains(&*name), &format!("{header} (`make headers`)"));
            lacks(!map.contains(&format!(" {name};")), "packaging/libpalloc.map");
            lacks(!abi.contains(&format!("'{name}'")), "packaging/libpalloc.abi (`make abi`)");
            let called = called(&name, &text);
            let is_renamed = name.starts_with("palloc_fd_") || name.starts_with("rockbox_");
            lacks(
                is_renamed && called == name,
                &format!("headers/{source}.epilogue.h (no #define of the documented name)"),
            );
            if ["buflib", "core_alloc", "rockbox_buflib", "rockbox_core_alloc", "rockbox_chunk_alloc"].contains(source)
            {
                let wrapped = text.contains(&format!("#define {name} {name}_debug_\n"));
                lacks(
                    wrapped == READS_NO_BLOCK.contains(&&*name),
                    &format!("headers/{source}.epilogue.h (for BUFLIB_DEBUG)"),
                );
            }
            lacks(!tests.contains(called), "c_tests/ (no test uses it)");
            all.insert(name);
        }
    }
    for name in map.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(';')).filter(|name| *name != "*")
    {
        if !all.contains(name) {
            writeln!(faults, "packaging/libpalloc.map: has {name}, which nothing in src/ffi exports").unwrap();
        }
    }
    assert!(all.len() > 100 && all.contains("core_ctx"), "src/ffi was not read");
    assert!(faults.is_empty(), "\n{faults}");
}

fn render(name: &str, header: &str) -> String {
    let guard: String = header.trim_start_matches("include/").to_uppercase().replace(['/', '.'], "_");
    // Each part has a line about the licence, and so has the header.
    let part = |suffix: &str| {
        let text = fs::read_to_string(root().join(format!("headers/{name}.{suffix}.h")));
        text.map(|text| text.strip_prefix("/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n").unwrap().to_owned())
    };
    let mut prologue = part("prologue").unwrap();
    for (key, value) in [
        ("@VERSION@", env!("CARGO_PKG_VERSION")),
        ("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR")),
        ("@MINOR@", env!("CARGO_PKG_VERSION_MINOR")),
        ("@PATCH@", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        prologue = prologue.replace(key, value);
    }
    let epilogue = part("epilogue").map_or(String::new(), |text| format!("\n{text}"));
    let implementation = part("implementation").map_or(String::new(), |text| format!("\n{text}"));
    let declarations = tidy(&generate(name));
    format!(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n\
         /* Made by `make headers` from src/ffi/{name}.rs and headers/{name}.*; changes belong there. */\n\
         #ifndef LIBPALLOC_{guard}\n#define LIBPALLOC_{guard}\n\n\
         {prologue}\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n\
         {declarations}{epilogue}\n\
         #ifdef __cplusplus\n}}\n#endif\n\n\
         #endif\n{implementation}"
    )
}

fn generate(name: &str) -> String {
    let config = cbindgen::Config::from_file(root().join(format!("headers/{name}.toml"))).unwrap();
    let source = root().join(format!("src/ffi/{name}.rs"));
    let mut text = Vec::new();
    cbindgen::Builder::new().with_config(config).with_src(source).generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

/// Turns each comment that cbindgen made of a doc comment into plain C.
fn tidy(generated: &str) -> String {
    let mut out = String::new();
    let mut comment: Option<Vec<&str>> = None;
    for line in generated.trim().lines() {
        let text = line.trim();
        match &mut comment {
            None if text == "/*" => comment = Some(Vec::new()),
            None => writeln!(out, "{}", line.trim_end()).unwrap(),
            Some(lines) if text == "*/" => {
                let indent = line.len() - line.trim_start().len() - 1;
                write_comment(&mut out, indent, &plain(lines, WIDTH - indent - " * ".len()));
                comment = None;
            }
            Some(lines) => lines.push(line),
        }
    }
    out
}

fn write_comment(out: &mut String, indent: usize, lines: &[String]) {
    let indent = " ".repeat(indent);
    match lines {
        [] => {}
        [line] if indent.len() + line.len() + "/*  */".len() <= WIDTH => writeln!(out, "{indent}/* {line} */").unwrap(),
        lines => {
            writeln!(out, "{indent}/*").unwrap();
            for line in lines {
                writeln!(out, "{}", format!("{indent} * {line}").trim_end()).unwrap();
            }
            writeln!(out, "{indent} */").unwrap();
        }
    }
}

/// Markdown to text of at most `width` columns: paragraphs and lists are wrapped, tables aligned, code indented, and the section
/// "Safety", which is for Rust, left out.
fn plain(markdown: &[&str], width: usize) -> Vec<String> {
    let margin =
        markdown.iter().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len());
    let margin = margin.min().unwrap_or(0);
    let mut out = Text { lines: Vec::new(), words: String::new(), table: Vec::new(), width };
    let (mut code, mut skip) = (false, false);
    for line in markdown {
        let line = line.get(margin..).unwrap_or("").trim_end();
        if line.starts_with("```") {
            out.flush();
            code = !code;
        } else if code {
            out.lines.push(format!("    {line}"));
        } else if let Some(heading) = line.strip_prefix("# ") {
            out.flush();
            skip = heading == "Safety";
            out.words = if skip { String::new() } else { format!("{heading}:") };
        } else if skip {
        } else if line.is_empty() {
            out.flush();
            out.lines.push(String::new());
        } else if let Some(row) = line.strip_prefix('|') {
            let cells: Vec<String> = row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            if cells.iter().any(|cell| !cell.chars().all(|c| c == '-')) {
                out.table.push(cells);
            }
        } else {
            if line.starts_with("- ") {
                out.flush();
            }
            let line = line.trim_start().replace("[`", "`").replace("`]", "`");
            out.words += if out.words.is_empty() { "" } else { " " };
            out.words += &line;
        }
    }
    out.flush();
    while out.lines.last().is_some_and(String::is_empty) {
        out.lines.pop();
    }
    out.lines
}

struct Text {
    lines: Vec<String>,
    /// The paragraph or list item that is being read.
    words: String,
    /// The table that is being read; the first row is its heading.
    table: Vec<Vec<String>>,
    width: usize,
}

impl Text {
    fn flush(&mut self) {
        let words = mem::take(&mut self.words);
        let hanging = if words.starts_with("- ") { "  " } else { "" };
        let mut line = String::new();
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            if line.len() > hanging.len() && line.len() + 1 + word.len() > self.width {
                self.lines.push(mem::replace(&mut line, hanging.to_owned()));
            }
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line += word;
        }
        if !line.is_empty() {
            self.lines.push(line);
        }
        let table = mem::take(&mut self.table);
        let columns = table.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| table.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
        for (i, row) in table.iter().enumerate() {
            let mut line = String::new();
            let mut rule = String::new();
            for column in 0..columns {
                let cell = row.get(column).map_or("", String::as_str);
                write!(line, "  {cell:width$}", width = width(column)).unwrap();
                write!(rule, "  {}", "-".repeat(width(column))).unwrap();
            }
            self.lines.push(line.trim_end().to_owned());
            if i == 0 {
                self.lines.push(rule);
            }
        }
    }
}
