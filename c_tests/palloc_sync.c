/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* After palloc_sync the file is exactly the format, for any reader, while the medium stays open; and work goes on. */
#include "palloc_util.h"

#define FILE_NAME "sync.db"
#define COPY "copy.db"

/* How blobs are written where the file's length is looked at: on Windows it can't be cut while addresses are in use. */
#ifdef _WIN32
#define EXACT BY_DESCRIPTOR
#else
#define EXACT BY_ADDRESS
#endif

/* Syncs; the file, read by another descriptor, is the medium that the handle shows, and a copy of it opens with the same blobs. */
static int synced(struct palloc_t *pt, struct shadow *s)
{
    struct medium m;
    struct palloc_t *copy;
    uint64_t lowest = 0;
    size_t i;
    int good;

    errno = UNTOUCHED;
    good = CHECK_EQ_I(palloc_sync(pt), 0) && CHECK_EQ_I(errno, UNTOUCHED) && CHECK_SOUND_OPEN(FILE_NAME);
    medium_load(&m, FILE_NAME);
    good = good && CHECK(medium_ends_at(&m, pt->size));
    for (i = m.blocks.count; i-- > 0;)
        if (m.blocks.at[i].is_free)
            lowest = m.blocks.at[i].start;
    good = good && CHECK_EQ_U(pt->first_free, lowest);
    good = good && CHECK_EQ_U(m.live, s->count);
    medium_free(&m);
    file_copy(FILE_NAME, COPY);
    good = good && CHECK_SOUND(COPY);
    copy = palloc_init(COPY, PALLOC_READONLY);
    good = good && CHECK(copy != NULL) && shadow_matches(s, copy, BY_DESCRIPTOR);
    palloc_close(copy);
    return good && CHECK_VIEW(pt);
}

static void work(const char *what, uint32_t flags, unsigned rounds, uint64_t seed)
{
    struct shadow s;
    struct rng rng = {seed};
    struct palloc_t *pt = palloc_init(FILE_NAME, flags);
    unsigned round, k;

    REQUIRE(pt != NULL);
    shadow_init(&s, seed, 3000, 60, 1);

    TESTF("after-palloc_sync-the-file-is-the-format-%s", what);
    for (round = 0; round < rounds; round++) {
        for (k = 0; k < round % 7; k++) /* none at all, too */
            if (!model_step(pt, &s, &rng))
                break;
        if (!synced(pt, &s)) {
            shadow_where(&s);
            break;
        }
    }

    TESTF("palloc_sync-twice-changes-nothing-%s", what);
    {
        struct bytes b = file_read(FILE_NAME);
        uint64_t end = pt->size;
        CHECK_EQ_I(palloc_sync(pt), 0);
        CHECK(file_is(FILE_NAME, &b));
        palloc_close(pt);
#ifdef _WIN32
        CHECK_EQ_U(file_size(FILE_NAME), end); /* what could not be cut off before is gone */
#else
        CHECK(file_is(FILE_NAME, &b)); /* close has nothing to do either */
        (void)end;
#endif
        bytes_free(&b);
    }
    CHECK_SOUND(FILE_NAME);

    TESTF("blobs-are-there-after-sync-and-close-%s", what);
    pt = palloc_init(FILE_NAME, flags);
    REQUIRE(pt != NULL);
    shadow_matches(&s, pt, BY_ADDRESS);
    palloc_close(pt);
    shadow_free(&s);
}

static void slack(void)
{
    struct palloc_t *pt;

    TEST("palloc_sync-gives-back-what-growth-took-ahead");
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc(pt, 100), 16);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(file_size(FILE_NAME), 136);
    CHECK_EQ_U(pt->size, 136);

    TEST("a-medium-grows-again-after-palloc_sync");
    {
        uint64_t ptr = palloc(pt, 100000);
        CHECK_EQ_U(ptr, 144);
        blob_write(pt, ptr, 70000, 0, 100000, EXACT);
        blob_write(pt, 16, 70001, 0, 100, EXACT);
        CHECK_EQ_I(palloc_sync(pt), 0);
        blob_intact(pt, ptr, 70000, 100000, BY_DESCRIPTOR);
        blob_intact(pt, 16, 70001, 100, EXACT);
        CHECK_EQ_U(file_size(FILE_NAME), pt->size);
        pfree(pt, ptr);
    }

    TEST("palloc_sync-cuts-off-what-was-freed");
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(file_size(FILE_NAME), 136);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("palloc_sync-of-an-empty-medium-leaves-8-bytes");
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(file_size(FILE_NAME), 8);
    palloc_close(pt);

    TEST("palloc_sync-with-READONLY-does-nothing-and-succeeds");
    {
        struct bytes b = file_read(FILE_NAME);
        pt = palloc_init(FILE_NAME, PALLOC_READONLY);
        REQUIRE(pt != NULL);
        errno = UNTOUCHED;
        CHECK_EQ_I(palloc_sync(pt), 0);
        CHECK_EQ_I(errno, UNTOUCHED);
        palloc_close(pt);
        CHECK(file_is(FILE_NAME, &b));
        bytes_free(&b);
    }

    TEST("palloc_sync-writes-bytes-of-blobs-too");
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    {
        uint64_t ptr = palloc(pt, 5000);
        struct bytes b;
        blob_write(pt, ptr, 70003, 0, 5000, BY_ADDRESS);
        CHECK_EQ_I(palloc_sync(pt), 0);
        b = file_read(FILE_NAME);
        CHECK_EQ_U(pattern_match(b.at + ptr, 70003, 5000), 5000);
        bytes_free(&b);
    }
    palloc_close(pt);
}

int main(void)
{
    PART(slack());
    unlink(FILE_NAME);
    PART(work("dynamic", PALLOC_DYNAMIC, 60, 1));
    file_zeros(FILE_NAME, 50000);
    PART(work("static", PALLOC_DEFAULT, 60, 2));
    unlink(FILE_NAME);
    PART(work("dynamic-with-SYNC", PALLOC_DYNAMIC | PALLOC_SYNC, 15, 3));
    file_zeros(FILE_NAME, 50000);
    PART(work("static-with-SYNC", PALLOC_SYNC, 15, 4));
    return tap_done();
}
