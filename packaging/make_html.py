#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the documentation as one site: README.md, docs/*.md and the manual pages, with a search that needs no server.

    make_html.py DIRECTORY [TREE]

It knows the Markdown and the troff that stand in this tree. Files that a document refers to are shown as text. Fails if a link leads
nowhere, and names it. Needs Python 3.8 and nothing else.
"""
import html
import json
import os
import re
import shutil
import sys

TREE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENTS = ["README.md", "docs/GUIDE.md", "docs/FORMAT.md", "docs/DURABILITY.md", "docs/PERFORMANCE.md", "docs/COMPAT.md",
             "docs/PLATFORMS.md", "docs/PACKAGING.md", "docs/TESTING.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
OTHERS = ["CODE_OF_CONDUCT.md", "docs/RELEASE.md"]
# Headers have their manual as a page.
HEADERS = {"include/finwo/palloc.h": "finwo_palloc.3.html", "include/rockbox/buflib.h": "rockbox_buflib.3.html",
           "include/rockbox/core_alloc.h": "rockbox_core_alloc.3.html", "include/rockbox/chunk_alloc.h": "rockbox_chunk_alloc.3.html",
           **{f"include/{name}.h": f"{name}.3.html" for name in ("palloc", "palloc_version", "buflib", "core_alloc", "vmem")}}

STYLE = """
:root { color-scheme: light dark; --line: #8884; --code: #8882; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; display: grid; grid-template-columns: 15rem minmax(0, 1fr); }
nav { padding: 1.5rem 1rem; border-right: 1px solid var(--line); min-height: 100vh; position: sticky; top: 0; align-self: start; box-sizing: border-box; }
nav a { display: block; padding: .1rem .5rem; text-decoration: none; color: inherit; border-radius: .3rem; }
nav a:hover, nav a.here { background: var(--code); } nav p { margin: 1rem .5rem .2rem; opacity: .65; font-size: .85rem; }
nav input { width: 100%; box-sizing: border-box; padding: .4rem .6rem; font: inherit; border: 1px solid #8888; border-radius: .4rem; }
main { padding: 1.5rem 2rem 4rem; max-width: 60rem; } a { color: #2970d6; }
pre, code { font: .88em/1.45 ui-monospace, monospace; } code { background: var(--code); padding: .1em .25em; border-radius: .25em; }
pre { background: var(--code); padding: .8rem 1rem; overflow-x: auto; border-radius: .4rem; } pre code { background: none; padding: 0; font-size: 1em; }
table { border-collapse: collapse; display: block; overflow-x: auto; } td, th { border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; vertical-align: top; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.2rem; } .in { margin-left: 2rem; } dd { margin: 0 0 .5rem 2rem; } img { max-width: 100%; }
#found:not(:empty) { border-bottom: 2px solid var(--line); margin-bottom: 1.5rem; } #found p { margin: .2rem 0 1rem; font-size: .9rem; } mark { background: #fd08; color: inherit; }
@media (max-width: 45rem) { body { display: block; } nav { position: static; min-height: 0; border: 0; } }
"""

# A hit has all words; those in a title count most.
SEARCH = """
const field = document.getElementById('search'), found = document.getElementById('found');
const escaped = text => text.replace(/[&<>]/g, c => '&#' + c.charCodeAt(0) + ';');
function search() {
    const words = field.value.toLowerCase().split(/\\s+/).filter(word => word);
    const hits = !words.length ? [] : INDEX.map(([address, page, title, text]) => {
        const head = (page + ' ' + title).toLowerCase(), all = head + ' ' + text.toLowerCase();
        if (!words.every(word => all.includes(word))) return null;
        const score = words.reduce((sum, word) => sum + (title.toLowerCase().split(/[^a-z0-9_]+/).includes(word) ? 20 : title.toLowerCase().split(/[^a-z0-9]+/).includes(word) ? 10 : head.includes(word) ? 5 : 1), 0);
        return { score, address, page, title, text };
    }).filter(hit => hit).sort((a, b) => b.score - a.score);
    const marked = new RegExp('(' + words.map(word => word.replace(/[^a-z0-9_]/g, '\\\\$&')).join('|') + ')', 'i');
    found.innerHTML = !words.length ? '' : '<h2>' + hits.length + ' found</h2>' + hits.slice(0, 40).map(hit => {
        const at = Math.max(0, hit.text.toLowerCase().indexOf(words[0]) - 80);
        const text = hit.text.slice(at, at + 240).split(marked).map((part, n) => n % 2 ? `<mark>${escaped(part)}</mark>` : escaped(part)).join('');
        return `<a href="${hit.address}">${escaped(hit.page)}: ${escaped(hit.title)}</a><p>${at ? '… ' : ''}${text}</p>`;
    }).join('');
}
field.addEventListener('input', search);
field.value = new URLSearchParams(location.search).get('q') || '';
search();
"""


class Page:
    def __init__(self, source, address, title):
        self.source, self.address, self.title = source, address, title
        self.body, self.sections, self.anchors = "", [], set()

    def section(self, title, anchor=None):
        """A part that the search finds; returns its anchor, as GitHub makes them."""
        anchor = anchor or re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        base, n = anchor, 0
        while anchor in self.anchors:
            n += 1
            anchor = f"{base}-{n}"
        self.anchors.add(anchor)
        self.sections.append((anchor, title, len(self.body)))
        return anchor


def address_of(source):
    if source == "README.md":
        return "index.html"
    if source in HEADERS:
        return HEADERS[source]
    name = os.path.basename(source)
    return name[:-3] + ".html" if name.endswith(".md") else source.replace("/", "_") + ".html"


class Site:
    def __init__(self, tree):
        self.tree, self.pages, self.files, self.images, self.broken = tree, [], {}, {}, []
        present = [source for source in DOCUMENTS + OTHERS if source in DOCUMENTS or os.path.exists(os.path.join(tree, source))]
        for source in present:
            text = self.read(source)
            page = Page(source, address_of(source), re.search(r"^# (.*)$", text, re.M).group(1))
            self.pages.append(page)
        for source in sorted(os.path.join("man", name) for name in os.listdir(os.path.join(tree, "man"))) + ["tools/palloc.1"]:
            name, section = os.path.basename(source).rsplit(".", 1)
            self.pages.append(Page(source, f"{name}.{section}.html", f"{name}({section})"))
        self.addresses = {page.address for page in self.pages}
        for page in self.pages:
            (self.markdown if page.source.endswith(".md") else self.manual)(page)

    def read(self, source):
        with open(os.path.join(self.tree, source), encoding="utf-8") as file:
            return file.read()

    # Markdown

    def link(self, page, target):
        if re.match(r"[a-z]+:", target):
            return target
        path, _, anchor = target.partition("#")
        if not path:
            return target
        path = os.path.normpath(os.path.join(os.path.dirname(page.source), path))
        if not os.path.isfile(os.path.join(self.tree, path)):
            self.broken.append(f"{page.source}: {target}")
            return target
        if path.endswith(".svg"):
            self.images[path] = os.path.basename(path)
            return self.images[path]
        address = address_of(path)
        if address not in self.addresses:
            self.files[path] = address
        return address + ("#" + anchor if anchor else "")

    def inline(self, page, text):
        kept = []

        def keep(markup):
            kept.append(markup)
            return f"\0{len(kept) - 1}\0"
        text = re.sub(r"(`+)(.+?)\1", lambda m: keep(f"<code>{html.escape(m[2].strip())}</code>"), text, flags=re.S)
        text = html.escape(text, quote=False)
        text = re.sub(r"!\[([^]]*)\]\(([^)\s]*)\)",
                      lambda m: keep(f'<img src="{self.link(page, m[2])}" alt="{html.escape(m[1])}">'), text)
        text = re.sub(r"\[([^]]*)\]\(([^)\s]*)\)", lambda m: keep(f'<a href="{html.escape(self.link(page, m[2]))}">') + m[1] + "</a>", text)
        text = re.sub(r"\*\*(\S.*?)\*\*", r"<b>\1</b>", text, flags=re.S)
        text = re.sub(r"(?<![\w*])\*(\S[^*]*?)\*(?!\w)", r"<i>\1</i>", text)
        text = re.sub(r"\\([\\|*_`])", r"\1", text)
        while "\0" in text:
            text = re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], text)
        return text

    def markdown(self, page):
        text = re.sub(r"<!--.*?-->\n?", "", self.read(page.source), flags=re.S)
        self.blocks(page, text.split("\n"))

    def blocks(self, page, lines):
        i = 0
        bullet = re.compile(r"([*-]|\d+\.) +")
        special = re.compile(r"#{1,6} |```|\||" + bullet.pattern)
        while i < len(lines):
            line = lines[i]
            start = i
            if not line.strip():
                i += 1
            elif line.startswith("```"):
                i = next(n for n in range(i + 1, len(lines)) if lines[n].startswith("```"))
                page.body += f"<pre><code>{html.escape(chr(10).join(lines[start + 1:i]))}</code></pre>\n"
                i += 1
            elif line.startswith("    "):
                while i < len(lines) and (lines[i].startswith("    ") or not lines[i].strip()):
                    i += 1
                code = "\n".join(row[4:] for row in lines[start:i]).rstrip()
                page.body += f"<pre><code>{html.escape(code)}</code></pre>\n"
            elif re.match(r"#{1,6} ", line):
                level, title = line.split(" ", 1)
                plain = re.sub(r"[`*]", "", title)
                anchor = page.section(plain)
                page.body += f'<h{len(level)} id="{anchor}">{self.inline(page, title)}</h{len(level)}>\n'
                i += 1
            elif line.startswith("|"):
                while i < len(lines) and lines[i].startswith("|"):
                    i += 1
                self.table(page, lines[start:i])
            elif bullet.match(line):
                kind = "ol" if line[0].isdigit() else "ul"
                page.body += f"<{kind}>\n"
                while i < len(lines) and bullet.match(lines[i]):
                    indent = len(bullet.match(lines[i]).group())
                    item = [lines[i][indent:]]
                    i += 1
                    while i < len(lines) and (lines[i].startswith(" ") or (
                            not lines[i].strip() and i + 1 < len(lines) and lines[i + 1].startswith("  "))):
                        item.append(re.sub(r"^ {1,%d}" % indent, "", lines[i]))
                        i += 1
                    while i < len(lines) and not lines[i].strip() and i + 1 < len(lines) and bullet.match(lines[i + 1]):
                        i += 1
                    page.body += "<li>"
                    self.blocks(page, item)
                    page.body += "</li>\n"
                page.body += f"</{kind}>\n"
            else:
                i += 1
                while i < len(lines) and lines[i].strip() and not special.match(lines[i]):
                    i += 1
                page.body += f"<p>{self.inline(page, chr(10).join(lines[start:i]))}</p>\n"

    def table(self, page, rows):
        page.body += "<table>\n"
        for n, row in enumerate(rows):
            if n == 1:
                continue
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]
            kind = "td" if n else "th"
            if n or any(cells):
                page.body += "<tr>" + "".join(f"<{kind}>{self.inline(page, cell)}</{kind}>" for cell in cells) + "</tr>\n"
        page.body += "</table>\n"

    # Manual pages

    def troff(self, text):
        text = html.escape(re.sub(r"\\&", "", text), quote=False)
        for escape, character in (("\\-", "-"), ("\\e", "\\"), ("\\(aq", "'"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\(bu", "•")):
            text = text.replace(escape, character)
        out, tag = "", ""
        for part in re.split(r"(\\f[BIPR])", text):
            if re.match(r"\\f[BIPR]$", part):
                out += f"</{tag}>" if tag else ""
                tag = {"B": "b", "I": "i"}.get(part[2], "")
                out += f"<{tag}>" if tag else ""
            else:
                out += part
        out += f"</{tag}>" if tag else ""
        # Other manual pages.
        return re.sub(r"(<b>)?\b(\w+)(</b>)? ?\(([1-8])\)", lambda m: f'<a href="{m[2]}.{m[4]}.html">{m[2]}({m[4]})</a>'
                      if f"{m[2]}.{m[4]}.html" in self.addresses else m[0], out)

    def manual(self, page):
        page.section(page.title, "top")
        page.body += f'<h1 id="top">{page.title}</h1>\n'
        lines = self.read(page.source).split("\n")
        section, i, closing = "", 0, []
        text = []

        def flush():
            if text:
                page.body += f"<p>{chr(10).join(text)}</p>\n"
                text.clear()
            while closing:
                page.body += closing.pop()
        while i < len(lines):
            line = lines[i]
            macro, _, rest = line.partition(" ")
            i += 1
            if macro in (".SH", ".SS"):
                flush()
                section = rest.strip('"')
                level = 2 if macro == ".SH" else 3
                anchor = page.section(section)
                page.body += f'<h{level} id="{anchor}">{self.troff(section)}</h{level}>\n'
            elif macro in (".EX", ".nf"):
                flush()
                end = next(n for n in range(i, len(lines)) if lines[n] in (".EE", ".fi"))
                code = [self.troff(row[3:] if row.startswith(".B ") else row) for row in lines[i:end] if row != ".PP"]
                if section == "FUNCTIONS" and macro == ".nf":
                    names = [m[1] for row in lines[i:end] for m in [re.match(r"\\fB(?! ).*?(\w+)\(", row)] if m]
                    for name in names:
                        page.body += f'<span id="{page.section(name + "()", name)}"></span>'
                page.body += "<pre>" + "\n".join(code) + "</pre>\n"
                i = end + 1
            elif macro == ".RS":
                flush()
                page.body += '<div class="in">\n'
            elif macro == ".RE":
                flush()
                page.body += "</div>\n"
            elif macro == ".PP":
                flush()
            elif macro == ".TP":
                flush()
                term = lines[i]
                i += 1
                page.body += f"<dl><dt>{self.fonts(term)}</dt><dd>"
                closing.append("</dd></dl>\n")
            elif macro == ".IP":
                flush()
                page.body += "<ul><li>"
                closing.append("</li></ul>\n")
            elif macro in (".B", ".BR"):
                text.append(self.fonts(line))
            elif line and not line.startswith("."):
                text.append(self.troff(line))
        flush()

    def fonts(self, line):
        macro, _, rest = line.partition(" ")
        if macro == ".B":
            return self.troff(f"\\fB{rest}\\fP")
        if macro == ".BR":
            words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', rest)]
            return self.troff("".join(f"\\fB{word}\\fP" if n % 2 == 0 else word for n, word in enumerate(words)))
        return self.troff(line)

    # What is written

    def write(self, directory):
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        for path, address in self.files.items():
            page = Page(path, address, path)
            page.body = f"<h1>{html.escape(path)}</h1>\n<pre>{html.escape(self.read(path))}</pre>\n"
            self.pages.append(page)
        for path, name in self.images.items():
            shutil.copy(os.path.join(self.tree, path), os.path.join(directory, name))
        index = []
        for page in self.pages:
            bounds = [start for _, _, start in page.sections[1:]] + [len(page.body)]
            for (anchor, title, start), end in zip(page.sections, bounds):
                plain = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"</t[dh]>", " ", page.body[start:end])))
                index.append([f"{page.address}#{anchor}", page.title, title, " ".join(plain.split())])
            with open(os.path.join(directory, page.address), "w", encoding="utf-8") as file:
                file.write(self.whole(page))
        with open(os.path.join(directory, "search.js"), "w", encoding="utf-8") as file:
            file.write("const INDEX = " + json.dumps(index, ensure_ascii=False) + ";\n" + SEARCH)
        self.check(directory)

    def whole(self, page):
        def entry(other):
            here = ' class="here"' if other is page else ""
            return f'<a href="{other.address}"{here}>{html.escape(other.title)}</a>\n'
        documents = "".join(entry(other) for other in self.pages if other.source.endswith(".md"))
        manuals = "".join(entry(other) for other in self.pages if re.search(r"\.[1-8]$", other.source))
        return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(page.title)} - libpalloc</title>\n'
                f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>\n'
                f'<nav><input id="search" type="search" placeholder="Search" aria-label="Search">\n<p>Documents</p>\n{documents}'
                f'<p>Manual pages</p>\n{manuals}</nav>\n<main><div id="found"></div>\n{page.body}</main>\n'
                '<script src="search.js"></script></body></html>\n')

    def check(self, directory):
        """Every link leads to a file of the site, and to an anchor in it."""
        texts = {name: open(os.path.join(directory, name), encoding="utf-8").read() for name in os.listdir(directory)}
        anchors = {name: set(re.findall(r' id="([^"]*)"', text)) for name, text in texts.items()}
        for page in self.pages:
            for target in re.findall(r'(?:href|src)="([^"]*)"', texts[page.address]):
                path, _, anchor = target.partition("#")
                path = path or page.address
                if not re.match(r"[a-z]+:", target) and (path not in texts or anchor and anchor not in anchors[path]):
                    self.broken.append(f"{page.source}: {target}")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    site = Site(sys.argv[2] if len(sys.argv) == 3 else TREE)
    site.write(sys.argv[1])
    if site.broken:
        sys.exit("links that lead nowhere:\n" + "\n".join(sorted(set(site.broken))))
    print(f"{sys.argv[1]}/index.html: {len(site.pages)} pages")


if __name__ == "__main__":
    main()
