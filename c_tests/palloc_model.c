/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Random operations against a shadow in memory, on media of every kind, with reopening; and how much space a long churn takes. */
#include "palloc_util.h"

#define FILE_NAME "model.db"

/* Rounds of work, each ended by palloc_sync or close and reopening, with the whole medium compared and the closed file read. */
static void run(uint64_t seed, uint32_t flags, unsigned rounds, unsigned steps, struct shadow *s)
{
    struct rng rng = {seed};
    struct palloc_t *pt = palloc_init(FILE_NAME, flags);
    uint64_t whole = file_size(FILE_NAME);
    unsigned round, step;
    int dynamic;

    REQUIRE(pt != NULL);
    dynamic = (pt->flags & PALLOC_DYNAMIC) != 0;
    for (round = 0; round < rounds; round++) {
        for (step = 0; step < steps; step++)
            if (!model_step(pt, s, &rng))
                goto failed;
        if (!CHECK_VIEW(pt) || !shadow_matches(s, pt, (enum access)(round % 2)))
            goto failed;
        if (round % 3 == 2) {
            if (!CHECK_EQ_I(palloc_sync(pt), 0) || !CHECK_SOUND_OPEN(FILE_NAME) || !CHECK(file_ends_at(FILE_NAME, pt->size)))
                goto failed;
            continue;
        }
        {
            uint64_t size = pt->size;
            palloc_close(pt);
            pt = NULL;
            if (!CHECK_EQ_U(file_size(FILE_NAME), size) || !CHECK_SOUND(FILE_NAME))
                goto failed;
        }
        pt = palloc_init(FILE_NAME, round % 2 ? PALLOC_DYNAMIC : PALLOC_DEFAULT);
        if (!CHECK(pt != NULL) || !shadow_matches(s, pt, (enum access)(round % 2)))
            goto failed;
    }
    if (s->count == 0)
        model_palloc(pt, s, &rng);
    if (!model_free_all(pt, s, &rng))
        goto failed;
    CHECK_EQ_U(palloc_first(pt), 0);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), dynamic ? 8 : whole);
    CHECK_SOUND(FILE_NAME);
    return;
failed:
    shadow_where(s);
    palloc_close(pt);
}

static void dynamic_media(void)
{
    uint64_t seed;

    for (seed = 1; seed <= 6; seed++) {
        struct shadow s;

        TESTF("a-dynamic-medium-follows-its-shadow-seed-%u", (unsigned)seed);
        unlink(FILE_NAME);
        shadow_init(&s, seed, seed % 3 == 0 ? 200000 : 3000, seed % 2 ? 400 : 40, 1);
        run(seed, PALLOC_DYNAMIC, 12, seed % 3 == 0 ? 200 : 700, &s);
        shadow_free(&s);
    }
    TEST("a-dynamic-medium-with-SYNC-follows-its-shadow");
    {
        struct shadow s;
        unlink(FILE_NAME);
        shadow_init(&s, 7, 1000, 30, 1);
        run(7, PALLOC_DYNAMIC | PALLOC_SYNC, 1, 60, &s);
        shadow_free(&s);
    }
}

static void static_media(void)
{
    /* 8 above a multiple of 16, odd, even, tiny, crowded */
    static const uint64_t sizes[] = {65544, 65537, 65536, 4096 + 8, 1000, 72, 40, 200001};
    size_t i;

    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct shadow s;

        TESTF("a-static-medium-of-%u-bytes-follows-its-shadow", (unsigned)sizes[i]);
        file_zeros(FILE_NAME, sizes[i]);
        shadow_init(&s, 100 + i, sizes[i] / 16, 300, 1);
        run(100 + i, PALLOC_DEFAULT, 9, 500, &s);
        shadow_free(&s);
    }
}

static void odd_media(void)
{
    static const char *const names[] = {"g1_02_dynamic_grow", "g1_03_dynamic_fragmented", "h_04_dynamic_two_lists",
        "h_05_static_fragmented_4096", "h_07_dynamic_trailing_free", "g1_06_static_stale_prev"};
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[4096];
        struct shadow s;
        struct palloc_t *pt;

        TESTF("%s-follows-its-shadow", names[i]);
        REQUIRE(getenv("TEST_DATA") != NULL);
        snprintf(path, sizeof path, "%s/palloc/%s.db", getenv("TEST_DATA"), names[i]);
        file_copy(path, FILE_NAME);
        shadow_init(&s, 200 + i, 400, 80, 0);
        pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
        REQUIRE(pt != NULL);
        shadow_adopt(&s, pt);
        palloc_close(pt);
        run(200 + i, PALLOC_DEFAULT, 6, 500, &s);
        shadow_free(&s);
    }

    TEST("a-dynamic-medium-of-1023-zeros-follows-its-shadow");
    {
        struct shadow s;
        file_zeros(FILE_NAME, 1023);
        shadow_init(&s, 300, 400, 80, 0);
        run(300, PALLOC_DYNAMIC, 6, 500, &s);
        shadow_free(&s);
    }

    TEST("a-medium-whose-blocks-all-have-odd-sizes-follows-its-shadow");
    {
        struct shadow s;
        struct palloc_t *pt;
        struct bytes b;
        uint64_t last = 0, next;

        build_header(&b, PALLOC_DYNAMIC);
        for (i = 0; i < 60; i++)
            build_block(&b, 16 + i * 7 % 61, i % 3 == 1);
        for (next = 8; next < b.size; next += 16 + (get64(b.at + next) & ~FREE_BIT)) { /* link the free blocks */
            if ((get64(b.at + next) & FREE_BIT) == 0)
                continue;
            build_links(&b, next, last, 0);
            if (last != 0)
                put64(b.at + last + 16, next);
            last = next;
        }
        file_write(FILE_NAME, b.at, b.size);
        bytes_free(&b);
        CHECK_SOUND(FILE_NAME);
        shadow_init(&s, 301, 300, 100, 0);
        pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
        REQUIRE(pt != NULL);
        shadow_adopt(&s, pt);
        palloc_close(pt);
        CHECK_EQ_U(s.count, 40);
        run(301, PALLOC_DEFAULT, 8, 600, &s);
        shadow_free(&s);
    }
}

/* First fit by address over rounded blocks, as the original would place them with its defects mended: the yardstick for space. */
struct fit {
    struct block at[20000]; /* live and free blocks by address, without gaps */
    size_t count;
};

static size_t fit_alloc(struct fit *f, uint64_t asked)
{
    uint64_t n = asked < 16 ? 16 : (asked + 15) & ~UINT64_C(15);
    size_t i;

    for (i = 0; i < f->count; i++) {
        struct block *b = &f->at[i];
        if (!b->is_free || b->n < n)
            continue;
        b->is_free = 0;
        if (b->n - n > 32) {
            memmove(b + 2, b + 1, (f->count - i - 1) * sizeof *b);
            f->count++;
            b[1].start = b->start + n + 16;
            b[1].n = b->n - n - 16;
            b[1].is_free = 1;
            b->n = n;
        }
        return i;
    }
    REQUIRE(f->count < sizeof f->at / sizeof f->at[0] - 2);
    f->at[i].start = i > 0 ? f->at[i - 1].start + f->at[i - 1].n + 16 : 8;
    f->at[i].n = n;
    f->at[i].is_free = 0;
    f->count++;
    return i;
}

static void fit_free(struct fit *f, uint64_t start)
{
    size_t low = 0, high = f->count, from, to;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (f->at[middle].start <= start)
            low = middle;
        else
            high = middle;
    }
    REQUIRE(f->at[low].start == start && !f->at[low].is_free);
    f->at[low].is_free = 1;
    from = low > 0 && f->at[low - 1].is_free ? low - 1 : low;
    to = low + 1 < f->count && f->at[low + 1].is_free ? low + 1 : low;
    f->at[from].n = f->at[to].start + f->at[to].n - f->at[from].start;
    memmove(&f->at[from + 1], &f->at[to + 1], (f->count - to - 1) * sizeof f->at[0]);
    f->count -= to - from;
    if (f->at[f->count - 1].is_free)
        f->count--;
}

static void space(void)
{
    enum { LIVE = 3000, CHURN = 150000 };
    struct fit *fit = xmalloc(sizeof *fit);
    uint64_t (*pair)[2] = xmalloc(LIVE * sizeof *pair); /* data offset here, start there */
    struct rng rng = {99};
    struct palloc_t *pt;
    unsigned i;

    TEST("a-long-churn-takes-at-most-5-percent-more-than-first-fit");
    fit->count = 0;
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (i = 0; i < LIVE + CHURN; i++) {
        uint64_t asked = 16 + rng_below(&rng, 497);
        size_t k = i < LIVE ? i : (size_t)rng_below(&rng, LIVE);
        if (i >= LIVE) {
            pfree(pt, pair[k][0]);
            fit_free(fit, pair[k][1]);
        }
        pair[k][0] = palloc(pt, asked);
        REQUIRE(pair[k][0] != 0);
        pair[k][1] = fit->at[fit_alloc(fit, asked)].start;
    }
    {
        const struct block *last = &fit->at[fit->count - 1];
        uint64_t yardstick = last->start + last->n + 16, ours = pt->size;
        DIAG("after %u blobs live and %u replaced: %llu bytes, first fit %llu", LIVE, CHURN, (unsigned long long)ours,
             (unsigned long long)yardstick);
        CHECK(ours * 100 <= yardstick * 105);
        palloc_close(pt);
        CHECK_EQ_U(file_size(FILE_NAME), ours);
        CHECK_SOUND(FILE_NAME);
    }
    free(pair);
    free(fit);
}

int main(void)
{
    PART(dynamic_media());
    PART(static_media());
    PART(odd_media());
    PART(space());
    return tap_done();
}
