#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Times of palloc(1) for a medium of MEGABYTES (1000), of palloc_snapshot by clones on xfs and btrfs (in files of twice the size, which root mounts), and the records that survive damage of random pages beside .recover of SQLite. `make` has built the tool.
#
#   benches/salvage.sh [MEGABYTES]
#
# SQLITE3 (sqlite3) is a shell of SQLite. Its library needs SQLITE_ENABLE_DBPAGE_VTAB, or .recover recovers nothing, not even of a sound
# database; Debian's and Ubuntu's have it not.
cd "$(dirname "$0")/.." || exit
WORK=$(mktemp -d "${TMPDIR:-/tmp}/palloc.XXXXXX") || exit
trap 'umount "$WORK/disk" 2>/dev/null; rm -rf "$WORK"' EXIT
cat >"$WORK/records.c" <<'C'
#include <palloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
enum { COPIES = 15 };
static volatile int stop;
static double longest;
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}
static int by_value(const void *a, const void *b)
{
    return *(const double *)a < *(const double *)b ? -1 : 1;
}
/* Makes and frees a blob all the time: how long did one call wait? */
static void *churn(void *user)
{
    while (!stop) {
        double from = now(), took;
        uint64_t ptr = palloc(user, 200);
        if (ptr != 0)
            memset(palloc_data(user, ptr), 1, 200);
        pfree(user, ptr);
        took = now() - from;
        if (took > longest)
            longest = took;
    }
    return NULL;
}
/* Clones of an open medium, or without `copy` palloc_sync, after `dirty` bytes of it were stored. */
static void waits(struct palloc_t *pt, const char *copy, size_t dirty)
{
    double took[COPIES], stalls[COPIES];
    pthread_t thread;
    unsigned i;
    uint64_t at;
    for (i = 0; i < COPIES; i++) {
        palloc_sync(pt);
        for (at = 0; dirty > 0 && at < dirty; at += 4096)
            memset(palloc_data(pt, palloc_next(pt, pt->size / dirty * at)), (int)i, 8);
        stop = 0;
        longest = 0;
        pthread_create(&thread, NULL, churn, pt);
        usleep(20000);
        took[i] = now();
        if ((copy != NULL ? palloc_snapshot(pt, copy, PALLOC_SNAPSHOT_CLONE) : palloc_sync(pt)) != 0)
            puts(palloc_error());
        took[i] = now() - took[i];
        usleep(20000);
        stop = 1;
        pthread_join(thread, NULL);
        stalls[i] = longest;
        if (copy != NULL)
            unlink(copy);
    }
    qsort(took, COPIES, sizeof *took, by_value);
    qsort(stalls, COPIES, sizeof *stalls, by_value);
    printf("%s, %.0f MB stored since the last sync: %.1f ms (%.1f to %.1f), another thread's palloc waited %.1f ms at most (median; up to %.1f)\n",
           copy != NULL ? "a clone" : "palloc_sync", (double)dirty / 1e6, took[COPIES / 2], took[0], took[COPIES - 1], stalls[COPIES / 2], stalls[COPIES - 1]);
}
/* records FILE COUNT: makes records of 200 bytes, each with its number in all its words. records FILE: counts those that are whole.
   records FILE clone COPY: times of clones. */
int main(int argc, char **argv)
{
    struct palloc_t *pt = palloc_init(argv[1], PALLOC_DYNAMIC);
    unsigned long count = 0, i, n, k;
    uint64_t ptr;
    if (pt == NULL)
        return puts(palloc_error()), 1;
    if (argc > 3) {
        waits(pt, argv[3], 0);
        waits(pt, argv[3], 100 << 20);
        waits(pt, NULL, 100 << 20);
        palloc_close(pt);
        return 0;
    }
    if (argc > 2 && sscanf(argv[2], "%lu", &n) == 1)
        for (i = 0; i < n; i++) {
            uint64_t *words = palloc_data(pt, palloc(pt, 200));
            for (k = 0; k < 25; k++)
                words[k] = i;
        }
    else
        for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr)) {
            uint64_t *words = palloc_data(pt, ptr);
            for (k = 0; palloc_size(pt, ptr) >= 200 && k < 25 && words[k] == words[0]; k++) {
            }
            count += k == 25;
        }
    if (argc == 2)
        printf("%lu\n", count);
    palloc_close(pt);
    return 0;
}
C
${CC:-cc} -O2 -D_GNU_SOURCE -Iinclude "$WORK/records.c" build/lib/libpalloc.so -Wl,-rpath,"$PWD/build/lib" -lpthread -o "$WORK/records" || exit

seconds() { # NAME COMMAND...
    name=$1 from=$(date +%s%N)
    shift
    "$@" >/dev/null
    echo "$name: $((($(date +%s%N) - from) / 1000000)) ms"
}

megabytes=${1:-1000}
"$WORK/records" "$WORK/large.pba" $((megabytes * 1000000 / 224)) || exit
sync
echo "a medium of $megabytes MB, $((megabytes * 1000000 / 224)) blobs, in the cache"
for command in stat check copy salvage; do
    case $command in
    copy | salvage) seconds $command build/bin/palloc $command "$WORK/large.pba" "$WORK/copy.pba" && rm -f "$WORK/copy.pba" ;;
    *) seconds $command build/bin/palloc $command "$WORK/large.pba" ;;
    esac
done
rm -f "$WORK/large.pba"

for kind in xfs btrfs; do
    mkdir -p "$WORK/disk" && truncate -s $((megabytes * 2000000)) "$WORK/image"
    if ! PATH=$PATH:/sbin:/usr/sbin "mkfs.$kind" -q -f "$WORK/image" >/dev/null || ! mount -o loop "$WORK/image" "$WORK/disk"; then
        continue
    fi
    "$WORK/records" "$WORK/disk/large.pba" $((megabytes * 1000000 / 224)) && sync
    echo "$kind, the medium open:"
    "$WORK/records" "$WORK/disk/large.pba" clone "$WORK/disk/copy.pba"
    seconds "palloc copy of the closed medium" build/bin/palloc copy "$WORK/disk/large.pba" "$WORK/disk/copy.pba"
    umount "$WORK/disk"
    rm -f "$WORK/image"
done

damage() { # FILE PAGES: random pages of 4 KiB become random bytes, but for the first
    python3 -c 'import os, random, sys
random.seed(1)
pages = os.path.getsize(sys.argv[1]) // 4096
with open(sys.argv[1], "r+b") as f:
    for page in random.sample(range(1, pages), int(sys.argv[2])):
        f.seek(page * 4096)
        f.write(random.randbytes(4096))' "$@"
}

: "${SQLITE3:=sqlite3}"
recovers() {
    command -v "$SQLITE3" >/dev/null && "$SQLITE3" "$WORK/sound.db" "create table t(b blob); insert into t values('x')" &&
        "$SQLITE3" "$WORK/sound.db" .recover 2>/dev/null | grep -q "INSERT"
}
has_recover=1
recovers || has_recover=0
[ $has_recover -eq 1 ] || echo "there is no sqlite3 whose .recover works"

# Rows that are whole, in their table or in the one for rows whose table is not known.
rows() { # DATABASE
    "$SQLITE3" "$1" "create table if not exists lost_and_found(c0);
        select count(distinct b) from (select b from t union all select c0 from lost_and_found)
        where cast(b as text) = printf('%08d%0192d', substr(b, 1, 8), substr(b, 1, 8))"
}

records=100000
for pages in 1 10 100; do
    rm -f "$WORK"/s.* "$WORK"/r.*
    "$WORK/records" "$WORK/s.pba" $records && damage "$WORK/s.pba" $pages || exit
    build/bin/palloc salvage "$WORK/s.pba" "$WORK/r.pba" >/dev/null
    echo "$pages damaged pages: palloc salvage $("$WORK/records" "$WORK/r.pba") of $records"
    [ $has_recover -eq 1 ] || continue
    "$SQLITE3" "$WORK/s.db" "create table t(b blob); with recursive c(i) as (select 1 union all select i + 1 from c where i < $records) insert into t
        select cast(printf('%08d%0192d', i, i) as blob) from c" && [ "$(rows "$WORK/s.db")" -eq $records ] && damage "$WORK/s.db" $pages || exit
    "$SQLITE3" "$WORK/s.db" .recover 2>/dev/null | "$SQLITE3" "$WORK/r.db" 2>/dev/null
    echo "$pages damaged pages: SQLite .recover $(rows "$WORK/r.db") of $records"
done
