#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# `make html`: the site has a page for each document and manual page, all its links lead somewhere, and its search works in a browser.
. "$(dirname "$0")/lib.sh"
SITE=$WORK/site

site() {
    python3 -W error "$ROOT/packaging/make_html.py" "$SITE" || return
    for page in index GUIDE FORMAT DURABILITY PERFORMANCE palloc.1 palloc.3 vmem.3 buflib.3; do test -s "$SITE/$page.html" || return; done
    for plot in "$ROOT"/docs/performance/*.svg; do cmp "$plot" "$SITE/$(basename "$plot")" || return; done
}

# With a link in a document that leads to no file, and one to no heading.
broken() { # TEXT
    rm -rf "$WORK/tree" && mkdir "$WORK/tree" && (cd "$ROOT" && cp -R ./*.md LICENSE-* docs man tools include examples_c packaging debian src "$WORK/tree") &&
        echo "$1" >>"$WORK/tree/docs/GUIDE.md" && reports "GUIDE.md: $2" python3 "$ROOT/packaging/make_html.py" "$WORK/broken" "$WORK/tree"
}

# The text that the search writes into the page.
searched() { # QUERY
    limited "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$WORK/browser" --dump-dom "file://$SITE/index.html?q=$1" 2>/dev/null |
        grep -o '<h2>[0-9]* found</h2>\(<a href="[^"]*">\)\{0,1\}'
}

first_found() {
    searched palloc_salvage | grep -F '<a href="palloc.3.html#palloc_salvage">' && searched noSuchWordAnywhere | grep -x '<h2>0 found</h2>'
}

if ! have python3 || ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))'; then
    skip "make html" "needs Python 3.8"
    finish
    exit
fi
check "make html: a page for each document, and no link that leads nowhere" site
check "make html reports a link to a file that does not exist" broken "[x](NONE.md)" NONE.md
check "make html reports a link to a heading that does not exist" broken "[x](FORMAT.md#none)" "FORMAT.html#none"
for browser in chromium chromium-browser google-chrome ''; do
    if have "$browser"; then break; fi
done
if [ -n "$browser" ]; then
    check "the search finds a function's manual first, from a file" first_found
else
    skip "the search of make html" "needs chromium"
fi
finish
