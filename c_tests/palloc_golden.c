/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Media that the original wrote, of both generations, sound and with its defects: all open, keep their blobs through further work, and
 * close sound. Media of this library that was killed in a transaction: they open with all of it or nothing.
 */
#include "palloc_util.h"

static const char *const names[] = {
    "g1_01_empty_dynamic", "g1_02_dynamic_grow", "g1_03_dynamic_fragmented", "g1_04_static_fresh_1024",
    "g1_06_static_stale_prev", "g1_08_static_min_40_full", "g1_09_dynamic_sync_flag",
    "h_01_empty_dynamic", "h_02_dynamic_grow", "h_04_dynamic_two_lists", "h_05_static_fragmented_4096",
    "h_07_dynamic_trailing_free", "h_08_dynamic_sync_flag",
};
#define COUNT (sizeof names / sizeof names[0])

#define FILE_NAME "golden.db"

/* The text beside a medium. */
static FILE *open_text(const char *name)
{
    char path[4096];
    FILE *text;

    REQUIRE(getenv("TEST_DATA") != NULL);
    snprintf(path, sizeof path, "%s/palloc/%s.txt", getenv("TEST_DATA"), name);
    text = fopen(path, "r");
    REQUIRE(text != NULL);
    return text;
}

/* The live blobs in the text beside a medium. */
static void expected(const char *name, struct shadow *s)
{
    char line[512];
    FILE *text;
    int in_table = 0, tables = 0;

    text = open_text(name);
    while (fgets(line, sizeof line, text) != NULL) {
        unsigned long long ptr, asked, size, id;
        if (strncmp(line, "expected live set", 17) == 0) {
            in_table = 1;
            tables++;
        } else if (line[0] == '\n') {
            in_table = 0;
        } else if (in_table && strcmp(line, "  none\n") != 0) {
            REQUIRE(sscanf(line, "%llu %llu %llu id %llu", &ptr, &asked, &size, &id) == 4);
            REQUIRE(shadow_add(s, ptr, size, id, asked) != SIZE_MAX);
        }
    }
    fclose(text);
    REQUIRE(tables == 1);
}

static void fetch(const char *name)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/palloc/%s.db", getenv("TEST_DATA"), name);
    file_copy(path, FILE_NAME);
}

static void each(const char *name, unsigned number)
{
    struct shadow s;
    struct bytes original;
    struct palloc_t *pt;
    struct medium m;
    struct rng rng = {4711 + number};
    uint32_t stored;
    int dynamic, j, k;

    shadow_init(&s, 4711 + number, 600, 60, 0);
    expected(name, &s);
    fetch(name);
    original = file_read(FILE_NAME);
    medium_load(&m, FILE_NAME);
    stored = m.flags;
    dynamic = (stored & PALLOC_DYNAMIC) != 0;
    medium_free(&m);

    TESTF("%s-opens-for-reading-with-its-blobs-and-is-not-changed", name);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_READONLY);
    if (pt != NULL) {
        CHECK_EQ_U(pt->flags, stored);
        CHECK_EQ_U(pt->size, original.size);
        CHECK_VIEW(pt);
        shadow_matches(&s, pt, BY_DESCRIPTOR);
        shadow_matches(&s, pt, BY_ADDRESS);
    }
    palloc_close(pt);
    CHECK(file_is(FILE_NAME, &original));

    TESTF("%s-opens-with-its-blobs-and-closes-sound", name);
    pt = CHECK_OPENS(FILE_NAME, dynamic ? PALLOC_DEFAULT : PALLOC_DYNAMIC); /* the medium knows better */
    if (pt != NULL) {
        CHECK_EQ_U(pt->flags, stored);
        CHECK_EQ_U(pt->size, original.size);
        CHECK_VIEW(pt);
        shadow_matches(&s, pt, BY_ADDRESS);
    }
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), original.size);
    CHECK_SOUND(FILE_NAME);

    TESTF("%s-keeps-its-blobs-through-work", name);
    for (k = 0; k < 4; k++) {
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        if (pt == NULL)
            break;
        shadow_matches(&s, pt, BY_DESCRIPTOR);
        for (j = stored & PALLOC_SYNC ? 240 : 0; j < 250 && model_step(pt, &s, &rng); j++) /* those wait for the disk */
            ;
        CHECK_VIEW(pt);
        shadow_matches(&s, pt, BY_ADDRESS);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }
    medium_load(&m, FILE_NAME);
    CHECK_EQ_U(m.flags, stored);
    medium_free(&m);

    TESTF("%s-loses-no-space", name);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    if (pt != NULL) {
        struct palloc_stat stat;
        shadow_matches(&s, pt, BY_ADDRESS);
        if (s.count == 0)
            model_palloc(pt, &s, &rng);
        model_free_all(pt, &s, &rng);
        CHECK_EQ_U(palloc_first(pt), 0);
        CHECK_EQ_I(palloc_sync(pt), 0);
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(pt->size, dynamic ? 8 : original.size);
        CHECK_EQ_U(stat.free_bytes, dynamic ? 0 : original.size - 24);
        CHECK_VIEW(pt);
    }
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), dynamic ? 8 : original.size);
    CHECK_SOUND(FILE_NAME);

    bytes_free(&original);
    shadow_free(&s);
}

/* ----------------------------------------------------------------------------------------------- killed in a transaction */

struct story {
    struct bytes now;
    struct blob before[16], after[16];
    size_t blobs_before, blobs_after, done_at, steps;
    struct {
        uint64_t at;
        struct bytes bytes;
    } step[40];
};

static void read_story(const char *name, struct story *story)
{
    char line[1024], hex[600];
    FILE *text;
    int part = 0;

    memset(story, 0, sizeof *story);
    text = open_text(name);
    while (fgets(line, sizeof line, text) != NULL) {
        unsigned long long at, asked, size, id;
        if (strncmp(line, "steps", 5) == 0) {
            part = 1;
        } else if (sscanf(line, "expected live set before step %llu", &at) == 1) {
            part = 2;
            story->done_at = (size_t)at;
        } else if (strncmp(line, "expected live set", 17) == 0) {
            part = 3;
        } else if (part == 1 && sscanf(line, " %llu %599s", &at, hex) == 2) {
            struct bytes bytes = bytes_new(strlen(hex) / 2);
            size_t i;
            for (i = 0; i < bytes.size; i++) {
                unsigned byte;
                REQUIRE(sscanf(hex + 2 * i, "%2x", &byte) == 1);
                bytes.at[i] = (uint8_t)byte;
            }
            REQUIRE(story->steps < 40);
            story->step[story->steps].at = at;
            story->step[story->steps++].bytes = bytes;
        } else if (part >= 2 && sscanf(line, "%llu %llu %llu id %llu", &at, &asked, &size, &id) == 4) {
            size_t *count = part == 2 ? &story->blobs_before : &story->blobs_after;
            struct blob *blob = &(part == 2 ? story->before : story->after)[(*count)++];
            REQUIRE(*count <= 16);
            blob->ptr = at;
            blob->sure = asked;
            blob->size = size;
            blob->id = id;
        }
    }
    fclose(text);
    REQUIRE(story->steps > 15 && story->done_at > 0 && story->done_at <= story->steps && story->blobs_after > 0);
    fetch(name);
    story->now = file_read(FILE_NAME);
}

/* The medium as it is after each store of a commit. */
static void killed(const char *name)
{
    struct story story;
    size_t k, i, refused = 0;

    read_story(name, &story);
    TESTF("%s-opens-after-each-store-of-the-commit-with-all-of-the-transaction-or-nothing", name);
    for (k = 0; k <= story.steps; k++) {
        const int is_done = k >= story.done_at;
        const struct blob *blobs = is_done ? story.after : story.before;
        struct shadow s;
        struct palloc_t *pt;
        struct palloc_stat stat;
        struct rng rng = {k + 1};

        if (k > 0)
            memcpy(story.now.at + story.step[k - 1].at, story.step[k - 1].bytes.at, story.step[k - 1].bytes.size);
        file_write(FILE_NAME, story.now.at, story.now.size);
        shadow_init(&s, 9, 600, 60, 0);
        for (i = 0; i < (is_done ? story.blobs_after : story.blobs_before); i++)
            REQUIRE(shadow_add(&s, blobs[i].ptr, blobs[i].size, blobs[i].id, blobs[i].sure) != SIZE_MAX);
        pt = palloc_init(FILE_NAME, PALLOC_READONLY);
        if (pt == NULL) {
            CHECK_ERRNO(EROFS);
            refused++;
        } else {
            shadow_matches(&s, pt, BY_DESCRIPTOR);
            CHECK_VIEW(pt);
        }
        palloc_close(pt);
        CHECK(file_is(FILE_NAME, &story.now));
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        if (pt == NULL) {
            DIAG("store %u", (unsigned)k);
            break;
        }
        CHECK_VIEW(pt);
        if (!CHECK(shadow_matches(&s, pt, BY_ADDRESS)))
            DIAG("store %u", (unsigned)k);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        model_free_all(pt, &s, &rng);
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(stat.free_bytes, story.now.size - 24);
        palloc_close(pt);
        shadow_free(&s);
    }
    CHECK(refused > 0);
    for (k = 0; k < story.steps; k++)
        bytes_free(&story.step[k].bytes);
    bytes_free(&story.now);
}

/* Offsets that palloc_check reports. */
struct reports {
    uint64_t at[64];
    size_t count;
};

static void collect(void *user, uint64_t offset, const char *what)
{
    struct reports *r = user;

    CHECK(what != NULL && what[0] != '\0');
    if (r->count < 64)
        r->at[r->count] = offset;
    r->count++;
}

static int reported(const struct reports *r, uint64_t offset)
{
    size_t i;

    for (i = 0; i < r->count && i < 64; i++)
        if (r->at[i] == offset)
            return 1;
    return 0;
}

static void defects(void)
{
    struct palloc_t *pt;
    struct reports r;
    size_t i;

    TEST("palloc_check-finds-the-defects-of-the-original-and-no-others");
    for (i = 0; i < COUNT; i++) {
        struct medium m;
        int64_t found;

        fetch(names[i]);
        medium_load(&m, FILE_NAME);
        memset(&r, 0, sizeof r);
        found = palloc_check(FILE_NAME, collect, &r);
        CHECK_EQ_I(found, r.count);
        if (!CHECK_EQ_I(r.count != 0, m.faults != 0))
            DIAG("%s", names[i]);
        if (strstr(names[i], "stale_prev") != NULL) {
            CHECK_EQ_U(r.count, 1);
            CHECK(reported(&r, 120));
        } else if (strstr(names[i], "two_lists") != NULL) {
            CHECK(r.count >= 1);
            CHECK(reported(&r, 88) || reported(&r, 8));
        } else {
            CHECK_EQ_U(r.count, 0);
        }
        medium_free(&m);
    }

    TEST("the-stale-prev-heals-on-open");
    fetch("g1_06_static_stale_prev");
    palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT));
    {
        struct bytes b = file_read(FILE_NAME);
        CHECK_EQ_U(get64(b.at + 120 + 8), 40);
        CHECK_EQ_U(get64(b.at + 40 + 16), 120);
        bytes_free(&b);
    }

    TEST("the-two-lists-become-one-block");
    fetch("h_04_dynamic_two_lists");
    palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT));
    {
        struct bytes b = file_read(FILE_NAME);
        CHECK_EQ_U(b.size, 332);
        CHECK_EQ_U(get64(b.at + 8), 96 | FREE_BIT);
        CHECK_EQ_U(get64(b.at + 112), 96 | FREE_BIT);
        CHECK_EQ_U(get64(b.at + 16), 0);
        CHECK_EQ_U(get64(b.at + 24), 0);
        bytes_free(&b);
    }

    TEST("the-free-tail-counts-and-stays-until-a-pfree-next-to-it");
    fetch("h_07_dynamic_trailing_free");
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    if (pt != NULL) {
        CHECK_EQ_U(pt->size, 118);
        CHECK_EQ_U(pt->first_free, 8);
        CHECK_EQ_U(palloc_size(pt, 80), 30);
        CHECK_EQ_U(palloc(pt, 1), 16);
        CHECK_EQ_U(pt->size, 118);
        pfree(pt, 16); /* the tail's neighbour is 48 */
        CHECK_EQ_U(pt->size, 118);
        palloc_close(pt);
        CHECK_EQ_U(file_size(FILE_NAME), 118);
        CHECK_SOUND(FILE_NAME);
    }
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    if (pt != NULL) {
        pfree(pt, 48); /* takes the tail and the left neighbour along */
        CHECK_EQ_U(pt->size, 8);
        CHECK_EQ_U(pt->first_free, 0);
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_EQ_U(file_size(FILE_NAME), 8);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("the-free-tail-can-be-allocated");
    fetch("h_07_dynamic_trailing_free");
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    if (pt != NULL) {
        uint64_t ptr = palloc(pt, 30);
        CHECK(palloc_size(pt, ptr) >= 30);
        CHECK_EQ_U(palloc_next(pt, 48), ptr);
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("a-full-static-medium-of-the-original-is-full");
    fetch("g1_08_static_min_40_full");
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    if (pt != NULL) {
        errno = 0;
        CHECK_EQ_U(palloc(pt, 0), 0);
        CHECK_ERRNO(ENOSPC);
        pfree(pt, 16);
        CHECK_EQ_U(palloc(pt, 16), 16);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("the-free-list-of-the-original-is-known-and-used");
    fetch("g1_03_dynamic_fragmented"); /* free: 100 at 112, 264 at 341, 50 at 670, all of it with odd neighbours */
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    if (pt != NULL) {
        struct palloc_stat stat;
        CHECK_EQ_U(pt->first_free, 104);
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(stat.live_blobs, 5);
        CHECK_EQ_U(stat.live_bytes, 40 + 24 + 17 + 64 + 33);
        CHECK_EQ_U(stat.free_blocks, 3);
        CHECK_EQ_U(stat.free_bytes, 100 + 264 + 50);
        CHECK_EQ_U(stat.largest_free, 264);
        CHECK(palloc(pt, 264) != 0);
        CHECK(palloc(pt, 100) != 0);
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }
}

int main(void)
{
    unsigned i;

    for (i = 0; i < COUNT; i++)
        PART(each(names[i], i));
    PART(defects());
    PART(killed("tx_static"));
    PART(killed("tx_sync"));
    return tap_done();
}
