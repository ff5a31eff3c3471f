// SPDX-License-Identifier: MIT OR Apache-2.0
//! man/*.3 are made from include/*.h, which are made from src/ffi, and are committed. Here each is made anew and compared; `make
//! headers` (UPDATE_HEADERS=1) writes it instead.
//!
//! A header is a comment that explains it, then declarations, each behind its comment. The page has the former under DESCRIPTION and the
//! sections that its headings name, and the latter under TYPES AND CONSTANTS and FUNCTIONS. `make install` makes a page that refers to
//! this one for each function that stands under NAME.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs, mem};

/// A page, and the header it is made from.
const PAGES: &[(&str, &str)] = &[
    ("palloc", "palloc.h"),
    ("finwo_palloc", "finwo/palloc.h"),
    ("palloc_version", "palloc_version.h"),
    ("buflib", "buflib.h"),
    ("core_alloc", "core_alloc.h"),
    ("rockbox_buflib", "rockbox/buflib.h"),
    ("rockbox_core_alloc", "rockbox/core_alloc.h"),
    ("rockbox_chunk_alloc", "rockbox/chunk_alloc.h"),
    ("vmem", "vmem.h"),
];

/// No line of a declaration is longer, so that it fits on a terminal of 80 columns.
const WIDTH: usize = 72;

#[test]
fn man_pages_are_up_to_date() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let date = date(&fs::read_to_string(root.join("CHANGELOG.md")).unwrap());
    let mut stale = String::new();
    for (page, header) in PAGES {
        let path = root.join("man").join(format!("{page}.3"));
        let want = render(page, header, &fs::read_to_string(root.join("include").join(header)).unwrap(), &date);
        if env::var_os("UPDATE_HEADERS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &want).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != want {
            write!(stale, " {}", path.display()).unwrap();
        }
    }
    assert!(stale.is_empty(), "man pages are stale, run `make headers`:{stale}");
    let pages = fs::read_dir(root.join("man")).unwrap().count();
    assert_eq!(pages, PAGES.len(), "a page in man/ is made from nothing");
}

/// The date of this version, as its heading in CHANGELOG.md has it: "## VERSION (YEAR-MONTH-DAY".
fn date(changes: &str) -> String {
    let heading = concat!("## ", env!("CARGO_PKG_VERSION"), " (");
    let date = changes.lines().find_map(|line| line.strip_prefix(heading)?.get(..10)).unwrap_or_default();
    let digits = date.split('-').map(|part| part.parse::<u32>().map_or(0, |_| part.len()));
    assert_eq!(digits.collect::<Vec<_>>(), [4, 2, 2], "CHANGELOG.md has no line \"{heading}YEAR-MONTH-DAY\"");
    date.to_owned()
}

/// A comment, without its marks, and what it stands before; nothing if another comment follows.
#[derive(Default)]
struct Item {
    comment: Vec<String>,
    code: Vec<String>,
}

impl Item {
    /// The name of the function that it declares.
    fn function(&self) -> Option<&str> {
        self.code.first().and_then(|line| function_name(line))
    }
}

/// The comments at file scope with the declarations behind them. A declaration without a comment belongs to the one before it, unless
/// its name was declared already.
fn items(header: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut lines = header.lines().peekable();
    let mut behind_comment = false;
    while let Some(line) = lines.next() {
        if line.starts_with("/*") {
            let mut comment = Vec::new();
            let mut line = line.trim_start_matches("/*").to_owned();
            while !line.contains("*/") {
                comment.push(line);
                let next = lines.next().unwrap();
                line = next.strip_prefix(" *").filter(|_| next != " */").unwrap_or(next).to_owned();
            }
            comment.push(line.replace("*/", ""));
            let strip = |line: String| line.strip_prefix(' ').map_or(line.clone(), str::to_owned).trim_end().to_owned();
            let mut comment: Vec<String> = comment.into_iter().map(strip).collect();
            let start = comment.iter().position(|line| !line.is_empty()).unwrap_or(0);
            comment.drain(..start);
            while comment.last().is_some_and(String::is_empty) {
                comment.pop();
            }
            items.push(Item { comment, code: Vec::new() });
            behind_comment = true;
            continue;
        }
        if line.starts_with('#') {
            if line.starts_with("#define ") && behind_comment && items.len() > 2 {
                items.last_mut().unwrap().code.push(line.to_owned());
            }
            continue;
        }
        if line.is_empty() || line.starts_with("extern \"C\"") || line.starts_with('}') {
            behind_comment &= !line.is_empty();
            continue;
        }
        // A declaration, up to its semicolon, or up to its closing brace.
        let mut code = vec![line.to_owned()];
        let inline = line.starts_with("static");
        while !(if inline { code.last().unwrap() == "}" } else { is_complete(&code) }) {
            code.push(lines.next().unwrap().to_owned());
        }
        if inline {
            code = vec![line.trim_start_matches("static inline ").to_owned() + ";"];
        }
        let item = Item { comment: Vec::new(), code };
        let known = item.function().is_some_and(|name| items.iter().any(|other| other.function() == Some(name)));
        let hidden =
            item.code[0].contains("_layout_is_") || item.code[0].contains("_(") || item.code[0].contains("print_ {");
        if hidden && behind_comment {
            items.pop();
        } else if !known && !hidden {
            let last = items.last_mut().unwrap();
            let separate = last.function().is_some() && item.function().is_none();
            if separate { items.push(item) } else { last.code.extend(item.code) }
        }
        behind_comment = false;
    }
    items
}

/// The header without what it has for BUFLIB_DEBUG: the same functions once more, wrapped.
fn without_debugging(header: &str) -> String {
    let (mut out, mut depth) = (String::new(), 0);
    for line in header.lines() {
        if line == "#ifdef BUFLIB_DEBUG" || (depth > 0 && line.starts_with("#if")) {
            depth += 1;
        }
        if depth == 0 {
            writeln!(out, "{line}").unwrap();
        } else if line == "#endif" {
            depth -= 1;
        }
    }
    out
}

fn is_complete(code: &[String]) -> bool {
    let count = |c: char| code.iter().map(|line| line.matches(c).count()).sum::<usize>();
    code.last().unwrap().ends_with(';') && count('{') == count('}')
}

fn render(page: &str, header: &str, text: &str, date: &str) -> String {
    // The part behind the guard is for files that define a macro.
    let items = items(&without_debugging(text.split_once("\n#ifdef __cplusplus\n}\n").unwrap().0));
    // The second comment says where the header comes from; the third is the manual.
    let manual = &items[2].comment;
    // palloc_version.h has macros right behind it.
    let version_macros = Item { comment: Vec::new(), code: items[2].code.clone() };
    // The name of a function in programs, if a macro maps it to another one.
    let mut text_names = Vec::new();
    for item in &items[3..] {
        for define in item.code.iter().filter_map(|line| line.strip_prefix("#define ")) {
            if let Some((name, function)) =
                define.split_once(' ').filter(|(name, _)| name.starts_with(char::is_lowercase))
            {
                text_names.push((function.to_owned(), name.to_owned()));
            }
        }
    }
    let documented = |line: &str| {
        words(line, |word, _, _| text_names.iter().find(|(function, _)| function == word).map(|(_, name)| name.clone()))
    };
    let items: Vec<Item> = items[3..]
        .iter()
        .filter(|item| {
            item.code.is_empty()
                || !text_names.iter().any(|(_, name)| item.code[0].contains(&format!("define {name} ")))
        })
        .map(|item| Item {
            comment: item.comment.iter().map(|line| documented(line)).collect(),
            code: item.code.iter().map(|line| documented(line)).collect(),
        })
        .collect();

    let functions: Vec<&str> =
        items.iter().flat_map(|item| item.code.iter()).filter_map(|line| function_name(line)).collect();
    let names: BTreeSet<String> =
        functions.iter().map(|name| (*name).to_owned()).chain(Some(page.to_owned())).collect();
    let mut paragraphs = manual.iter().position(String::is_empty).unwrap_or(manual.len());
    let head = manual[..paragraphs].join(" ");
    paragraphs += usize::from(paragraphs < manual.len());
    let (_, summary) = head.split_once(": ").unwrap();
    let (summary, rest) = summary.split_once(". ").unwrap_or((summary.trim_end_matches('.'), ""));

    let mut out = String::new();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, ".\\\" SPDX-License-Identifier: MIT OR Apache-2.0").unwrap();
    writeln!(out, ".\\\" Made by `make headers` from include/{header}; changes belong into its sources.").unwrap();
    writeln!(out, ".nr HY 0\n.TH {} 3 {date} \"libpalloc {version}\" \"libpalloc\"\n.nh\n.ad l", page.to_uppercase())
        .unwrap();
    let mut listed: Vec<&str> = vec![page];
    listed.extend(functions.iter().filter(|name| **name != page));
    writeln!(out, ".SH NAME\n{} \\- {}", listed.join(", "), inline(summary, &BTreeSet::new())).unwrap();
    writeln!(out, ".SH LIBRARY\nlibpalloc (\\-lpalloc)").unwrap();
    writeln!(out, ".SH SYNOPSIS\n.nf\n.B #include <{header}>\n.PP").unwrap();
    for item in items.iter().filter(|item| item.function().is_some()) {
        for line in &item.code {
            signature(&mut out, line);
        }
    }
    writeln!(out, ".fi\n.SH DESCRIPTION").unwrap();
    if !rest.is_empty() {
        writeln!(out, "{}", inline(rest, &names)).unwrap();
    }
    let mut sections = Sections { description: out, example: String::new(), behind: String::new() };
    sections.manual(&manual[paragraphs..], &names);
    let Sections { description: mut out, example, behind } = sections;

    let types = std::iter::once(&version_macros)
        .chain(&items)
        .filter(|item| item.function().is_none() && !item.code.iter().all(|line| is_own_macro(line)));
    for (n, item) in types.enumerate() {
        if n == 0 {
            writeln!(out, ".SH TYPES AND CONSTANTS").unwrap();
        }
        writeln!(out, ".PP\n.EX").unwrap();
        fit(&item.code).iter().for_each(|line| writeln!(out, "{}", verbatim(line)).unwrap());
        writeln!(out, ".EE").unwrap();
        if !item.comment.is_empty() {
            writeln!(out, ".RS 4").unwrap();
            body(&mut out, &item.comment, &names);
            writeln!(out, ".RE").unwrap();
        }
    }
    writeln!(out, ".SH FUNCTIONS").unwrap();
    for item in &items {
        if item.code.is_empty() {
            writeln!(out, ".PP").unwrap();
            body(&mut out, &item.comment, &names);
        } else if item.function().is_some() {
            writeln!(out, ".PP\n.nf").unwrap();
            item.code.iter().for_each(|line| signature(&mut out, line));
            writeln!(out, ".fi\n.RS 4").unwrap();
            body(&mut out, &item.comment, &names);
            writeln!(out, ".RE").unwrap();
        }
    }
    writeln!(out, ".SH RETURN VALUE").unwrap();
    for item in items.iter().filter(|item| item.function().is_some()) {
        let functions: Vec<&str> = item.code.iter().filter_map(|line| function_name(line)).collect();
        let mut returns = returns(&item.comment);
        if returns.is_empty() && item.code[0].starts_with("VMemResult ") {
            returns = "VMemResult_Success, or VMemResult_Error on failure.".to_owned();
        }
        if !returns.is_empty() {
            writeln!(out, ".TP\n.BR {} ()\n{}", functions.join(" \"(), \" "), inline(&returns, &names)).unwrap();
        }
    }
    if out.ends_with(".SH RETURN VALUE\n") {
        writeln!(out, "That of the function of\n.BR buflib (3)\nthat FUNCTIONS names.").unwrap();
    }
    let fails = items.iter().any(|item| item.comment.iter().any(|line| line.contains("Fails iff")));
    if fails && !behind.contains(".SH ERRORS\n") {
        writeln!(out, ".SH ERRORS\n\"Fails iff\", under FUNCTIONS, lists all the cases in which a function fails.")
            .unwrap();
    }
    out += &behind;
    assert!(!example.is_empty(), "{header} has no example");
    write!(out, ".SH EXAMPLES\n{example}").unwrap();
    let others = PAGES.iter().filter(|(other, _)| *other != page).map(|(other, _)| format!(".BR {other} (3)"));
    writeln!(out, ".SH SEE ALSO\n{}", others.collect::<Vec<_>>().join(",\n")).unwrap();
    // No space where there is some already.
    let is_space = |line: &str| [".PP", ".SH", ".SS", ".RS"].iter().any(|space| line.starts_with(space));
    let mut lines: Vec<&str> = Vec::new();
    for line in out.lines() {
        if line.starts_with(".IP") && lines.last() == Some(&".PP") {
            lines.pop();
        }
        if line != ".PP" || lines.last().is_none_or(|last| !is_space(last)) {
            lines.push(line);
        }
    }
    fold(&lines)
}

/// The sentences of a function's comment about its result, and its values on failure.
fn returns(comment: &[String]) -> String {
    let text = comment.join("\n");
    let (mut out, mut failure) = (Vec::new(), Vec::new());
    for paragraph in text.split("\n\n") {
        let paragraph = paragraph.split("\n- ").next().unwrap().replace('\n', " ");
        let sentences = paragraph.replace(". ", ".\n");
        out.extend(
            sentences
                .lines()
                .filter(|line| {
                    line.starts_with("Returns ")
                        || line.starts_with("If") && line.contains(" returns ")
                        || line.contains(" and returns ") && !line.ends_with("to the system.")
                })
                .map(|line| line.strip_suffix(" Fails iff:").unwrap_or(line).to_owned()),
        );
        if let Some((value, _)) = paragraph.split_once("Fails iff (").and_then(|(_, rest)| rest.split_once(')')) {
            failure.push(value.to_owned());
        }
    }
    for line in text.lines().filter(|line| !line.contains("Fails iff (")) {
        let Some((_, value)) = line.rsplit_once(": -") else { continue };
        let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        if digits > 0 && (value[digits..].is_empty() || value[digits..].starts_with([',', ';', '.'])) {
            failure.push(format!("-{}", &value[..digits]));
        }
    }
    if !failure.is_empty() {
        out.push(format!("On failure: {}.", failure.join("; ")));
    }
    out.join(" ")
}

/// Whether the line defines a macro that is for the headers only.
fn is_own_macro(line: &str) -> bool {
    line.strip_prefix("#define ").is_some_and(|rest| rest.split(['(', ' ']).next().unwrap().ends_with('_'))
}

/// The page, with its running text in lines of at most 80 columns.
fn fold(lines: &[&str]) -> String {
    let (mut out, mut verbatim) = (String::new(), false);
    for line in lines {
        match *line {
            ".EX" | ".nf" => verbatim = true,
            ".EE" | ".fi" => verbatim = false,
            _ => {}
        }
        if verbatim || line.starts_with('.') || line.len() <= 80 {
            writeln!(out, "{line}").unwrap();
            continue;
        }
        for row in wrap(line, 80, "", |_| true) {
            // No word that begins a line is taken for a request.
            writeln!(out, "{}{row}", if row.starts_with(['.', '\'']) { "\\&" } else { "" }).unwrap();
        }
    }
    out
}

fn function_name(line: &str) -> Option<&str> {
    let (head, _) = line.split_once('(')?;
    let name = head.rsplit([' ', '*']).next()?;
    (!line.starts_with([' ', '#']) && !line.starts_with("typedef") && !name.is_empty() && !name.ends_with('_'))
        .then_some(name)
}

/// The manual of a header, by where its parts go.
struct Sections {
    description: String,
    example: String,
    /// Sections that stand behind FUNCTIONS.
    behind: String,
}

impl Sections {
    fn manual(&mut self, lines: &[String], names: &BTreeSet<String>) {
        let mut behind = false;
        let mut lines = lines;
        while let Some(first) = lines.first() {
            if first.is_empty() {
                lines = &lines[1..];
                continue;
            }
            let indented = first.starts_with(' ');
            let is_code = first.trim_start().starts_with("#include");
            let end = if is_code {
                lines.iter().position(|line| line.trim() == "}" && indent(line) == indent(first)).unwrap() + 1
            } else {
                lines.iter().position(String::is_empty).unwrap_or(lines.len())
            };
            let (part, rest) = lines.split_at(end);
            lines = rest;
            let out = if behind { &mut self.behind } else { &mut self.description };
            if is_code {
                writeln!(self.example, ".PP\n.EX").unwrap();
                part.iter().for_each(|line| {
                    writeln!(self.example, "{}", verbatim(line.get(indent(first)..).unwrap_or(""))).unwrap()
                });
                writeln!(self.example, ".EE").unwrap();
            } else if indented {
                definitions(out, part, names);
            } else if part.len() == 1 && !first.ends_with(['.', ':']) {
                let section = match first.as_str() {
                    "Errors" => "ERRORS",
                    "Threads" => "THREADS",
                    "Origin" => "HISTORY",
                    _ => "",
                };
                behind = !section.is_empty();
                if behind {
                    writeln!(self.behind, ".SH {section}").unwrap();
                } else {
                    writeln!(self.description, ".SS {first}").unwrap();
                }
            } else if first.starts_with("A program") {
                writeln!(self.example, "{}", inline(&part.join("\n"), names)).unwrap();
            } else if let Some(rest) = first.strip_prefix("Threads: ") {
                let mut text = vec![rest[..1].to_uppercase() + &rest[1..]];
                text.extend_from_slice(&part[1..]);
                writeln!(self.behind, ".SH THREADS").unwrap();
                body(&mut self.behind, &text, names);
            } else {
                writeln!(out, ".PP").unwrap();
                body(out, part, names);
            }
        }
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Indented text of the manual: a list of terms, each with its explanation behind two spaces or more, or plain paragraphs.
fn definitions(out: &mut String, lines: &[String], names: &BTreeSet<String>) {
    let term = |line: &str| {
        let text = line.trim_start();
        let gap = text.find("  ")?;
        Some((indent(line), text[..gap].to_owned(), text[gap..].trim_start().to_owned()))
    };
    if term(&lines[0]).is_none() {
        writeln!(out, ".PP").unwrap();
        return body(out, &lines.iter().map(|line| line.trim_start().to_owned()).collect::<Vec<_>>(), names);
    }
    let base = indent(&lines[0]);
    let mut nested = false;
    for line in lines {
        match term(line) {
            Some((at, term, text)) if at <= base + 2 => {
                if (at > base) != nested {
                    writeln!(out, "{}", if nested { ".RE" } else { ".RS" }).unwrap();
                    nested = !nested;
                }
                writeln!(out, ".TP\n.B {}\n{}", verbatim(&term), inline(&text, names)).unwrap();
            }
            _ => {
                if nested && indent(line) <= base + 4 {
                    writeln!(out, ".RE\n.PP").unwrap();
                    nested = false;
                }
                writeln!(out, "{}", inline(line.trim_start(), names)).unwrap();
            }
        }
    }
    if nested {
        writeln!(out, ".RE").unwrap();
    }
}

/// Paragraphs, lists, tables and code of a comment.
fn body(out: &mut String, lines: &[String], names: &BTreeSet<String>) {
    let mut in_list = false;
    let mut i = 0;
    while i < lines.len() {
        let line = &lines[i];
        let rule = lines.get(i + 1).filter(|rule| rule.trim_start().starts_with("--"));
        if line.is_empty() {
            if lines.get(i + 1).is_some_and(|next| !next.starts_with(' ')) {
                writeln!(out, ".PP").unwrap();
            }
            in_list = false;
        } else if let Some(rule) = rule {
            let columns: Vec<usize> = rule
                .char_indices()
                .filter(|(at, c)| *c == '-' && !rule[..*at].ends_with('-'))
                .map(|(at, _)| at)
                .collect();
            let end = lines[i..].iter().position(String::is_empty).map_or(lines.len(), |n| i + n);
            let cells = |row: &str| -> Vec<String> {
                let ends = columns.iter().skip(1).copied().chain(Some(row.len()));
                columns
                    .iter()
                    .zip(ends)
                    .map(|(at, end)| row.get(*at..end.min(row.len())).unwrap_or("").trim().to_owned())
                    .collect()
            };
            // A list, as a row is too long for a terminal: the first column, then the others behind their headings.
            let heading = cells(line);
            for row in lines[i + 2..end].iter().map(|row| cells(row)) {
                let rest: Vec<String> =
                    heading.iter().zip(&row).skip(1).map(|(head, cell)| format!("{head}: {cell}")).collect();
                writeln!(out, ".TP\n{} {}\n{}.", heading[0], row[0], inline(&rest.join("; "), names)).unwrap();
            }
            i = end;
            continue;
        } else if let Some(entry) = line.strip_prefix("- ") {
            writeln!(out, ".IP \\(bu 2\n{}", inline(entry, names)).unwrap();
            in_list = true;
        } else if line.starts_with("  ") && !in_list {
            let end = lines[i..]
                .iter()
                .position(|line| !line.is_empty() && !line.starts_with(' '))
                .map_or(lines.len(), |n| i + n);
            writeln!(out, ".PP\n.RS 4\n.EX").unwrap();
            let code = &lines[i..end];
            let end_of_code = code.iter().rposition(|line| !line.is_empty()).unwrap() + 1;
            code[..end_of_code]
                .iter()
                .for_each(|line| writeln!(out, "{}", verbatim(line.get(2..).unwrap_or(""))).unwrap());
            writeln!(out, ".EE\n.RE\n.PP").unwrap();
            i = end;
            continue;
        } else {
            if in_list && !line.starts_with(' ') {
                writeln!(out, ".PP").unwrap();
                in_list = false;
            }
            writeln!(out, "{}", inline(line.trim_start(), names)).unwrap();
        }
        i += 1;
    }
}

/// Declarations of types and constants, in lines that fit.
fn fit(code: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    let mut lines = code.iter();
    while let Some(line) = lines.next() {
        let margin = &line[..indent(line)];
        // A comment behind a declaration stays there if it fits.
        let (declaration, comment) = match line.split_once("/*") {
            Some((code, text)) if code.trim().is_empty() || line.len() > WIDTH => (code.trim_end(), Some(text)),
            _ => (line.as_str(), None),
        };
        if let Some(first) = comment {
            let mut text = first.to_owned();
            while !text.contains("*/") {
                text = text + " " + lines.next().unwrap().trim_start().trim_start_matches("* ");
            }
            let rows = wrap(text.replace("*/", "").trim(), WIDTH - margin.len() - "/*  */".len(), "", |_| true);
            if let [row] = &rows[..] {
                out.push(format!("{margin}/* {row} */"));
            } else {
                out.push(format!("{margin}/*"));
                out.extend(rows.iter().map(|row| format!("{margin} * {row}")));
                out.push(format!("{margin} */"));
            }
        }
        if !declaration.is_empty() || comment.is_none() {
            let rows = wrap(declaration, WIDTH - 2, &format!("{margin}    "), |word| word.ends_with([',', '|']));
            out.push(rows.join(if declaration.starts_with('#') { " \\\n" } else { "\n" }));
        }
    }
    out
}

/// Breaks a text into lines that fit, behind words that may be the last of a line; all but the first begin with `start`.
fn wrap(text: &str, width: usize, start: &str, last: impl Fn(&str) -> bool) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut part = String::new();
    let mut words = text.split_inclusive(' ').peekable();
    while let Some(word) = words.next() {
        part += word;
        if last(word.trim_end()) || words.peek().is_none() {
            let row = rows.last_mut().unwrap();
            if !row.is_empty() && row.len() + part.trim_end().len() > width {
                row.truncate(row.trim_end().len());
                rows.push(start.to_owned());
            }
            *rows.last_mut().unwrap() += &mem::take(&mut part);
        }
    }
    rows
}

/// A declaration, bold with its parameters in italics, in lines that fit.
fn signature(out: &mut String, line: &str) {
    for row in wrap(line, WIDTH, "    ", |word| word.ends_with(',')) {
        let text = words(&row, |word, before, after| {
            let parameter =
                after.starts_with([',', ')']) && before.contains(['(', ',', ' ']) && before.ends_with([' ', '*']);
            (parameter && word != "void").then(|| format!("\\fI{word}\\fB"))
        });
        writeln!(out, "\\fB{text}\\fP").unwrap();
    }
}

/// Replaces words: `new` is called with the word, and the text before and behind it.
fn words(text: &str, new: impl Fn(&str, &str, &str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if is_word(c) {
            let end = text[at..].find(|c| !is_word(c)).map_or(text.len(), |n| at + n);
            let word = &text[at..end];
            out += &new(word, &text[..at], &text[end..]).unwrap_or_else(|| word.to_owned());
            at = end;
        } else {
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

/// Text as it is, for troff.
fn verbatim(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// Running text: `code` in italics, functions and manual pages in bold.
fn inline(text: &str, names: &BTreeSet<String>) -> String {
    let lines = text.lines().map(|line| {
        let mut out = String::new();
        for (n, part) in line.split('`').enumerate() {
            if n % 2 == 1 {
                write!(out, "\\fI{}\\fP", verbatim(part)).unwrap();
                continue;
            }
            let part = part.replace('\\', "\\e").replace('^', "\\(ha").replace('~', "\\(ti");
            let part = part.replace(" -", " \\-").replace("(-", "(\\-");
            let part = if part.starts_with('-') { format!("\\{part}") } else { part };
            out += &words(&part, |word, before, after| {
                let page = after.strip_prefix('(').and_then(|rest| rest.find(')').map(|n| &rest[..n]));
                let page = page.is_some_and(|section| section.len() == 1 && "1234567".contains(section));
                let known = names.contains(word) && !after.starts_with(".h") && !before.ends_with(['-', '/', '<']);
                let named = known && (word.contains('_') || !before.ends_with("struct "));
                (page || named).then(|| format!("\\fB{word}\\fP"))
            });
        }
        if out.starts_with(['.', '\'']) { format!("\\&{out}") } else { out }
    });
    lines.collect::<Vec<_>>().join("\n")
}
