/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Media from anywhere: whatever the bytes, opening, walking and checking end well or with a documented error, what is refused is not
 * touched, and what is opened and worked on is sound after close. Mutants come from fixed seeds; a crash or a hang prints which one.
 */
#include "palloc_util.h"

/* One in so many of the cases, where opening a file takes long. Odd. */
#ifdef _WIN32
#define SPARSELY 21
#else
#define SPARSELY tap_every(21)
#endif

static char path[64]; /* of the mutant */
static char current[128]; /* what is being tried */

static void crashed(int number)
{
    static const char what[] = "# this mutant crashed, or hung for 20 s: ";

    if (write(1, what, sizeof what - 1) < 0 || write(1, current, strlen(current)) < 0 || write(1, "\n", 1) < 0)
        _exit(2);
    signal(number, SIG_DFL);
    raise(number);
}

/* ----------------------------------------------------------------------------------------------------------------- media to mutate */

static struct bytes media[40];
static size_t media_count;

static void add_file(const char *name)
{
    media[media_count++] = file_read(name);
}

static void collect_media(void)
{
    static const char *const golden[] = {"g1_01_empty_dynamic", "g1_02_dynamic_grow", "g1_03_dynamic_fragmented",
        "g1_04_static_fresh_1024", "g1_06_static_stale_prev", "g1_08_static_min_40_full", "g1_09_dynamic_sync_flag",
        "h_04_dynamic_two_lists", "h_05_static_fragmented_4096", "h_07_dynamic_trailing_free"};
    struct rng rng = {2};
    size_t i;

    REQUIRE(getenv("TEST_DATA") != NULL);
    for (i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/palloc/%s.db", getenv("TEST_DATA"), golden[i]);
        add_file(name);
    }
    for (i = 0; i < 6; i++) { /* fresh ones, dynamic and static */
        struct shadow s;
        struct palloc_t *pt;
        unsigned k;

        unlink("fresh.db");
        if (i % 2)
            file_zeros("fresh.db", i == 1 ? 1000 : 4096 + i);
        pt = palloc_init("fresh.db", i % 2 ? PALLOC_DEFAULT : PALLOC_DYNAMIC);
        REQUIRE(pt != NULL);
        shadow_init(&s, i, 100, 20, 1);
        for (k = 0; k < 100; k++)
            REQUIRE(model_step(pt, &s, &rng));
        palloc_close(pt);
        shadow_free(&s);
        add_file("fresh.db");
    }
    unlink("fresh.db");
}

/* --------------------------------------------------------------------------------------------------------------------- mutations */

/* A random marker, link or any word of the file. */
static size_t some_word(struct rng *rng, const struct bytes *b)
{
    struct medium m;
    size_t at = (size_t)rng_below(rng, b->size >= 8 ? b->size - 7 : 1);

    medium_parse(&m, b->at, b->size);
    if (m.blocks.count > 0 && rng_below(rng, 8) != 0) {
        const struct block *k = &m.blocks.at[rng_below(rng, m.blocks.count)];
        switch (rng_below(rng, 4)) {
        case 0: at = k->start + 8 + k->n; break; /* end marker */
        case 1: at = k->start + 8 + 8 * rng_below(rng, 2); break; /* links, or data */
        default: at = k->start;
        }
    }
    medium_free(&m);
    return at + 8 <= b->size ? at : 0;
}

static uint64_t some_value(struct rng *rng, const struct bytes *b, size_t at)
{
    static const uint64_t interesting[] = {0, 1, 7, 8, 15, 16, 17, 24, 31, 32, 33, 40, 4096, 65536, UINT64_MAX, FREE_BIT, FREE_BIT - 1, FREE_BIT - 16,
        FREE_BIT - 32, FREE_BIT / 2, FREE_BIT / 2 - 1, FREE_BIT / 2 - 16, FREE_BIT / 2 + 16, FREE_BIT | 16, FREE_BIT | 32, UINT64_C(1) << 32,
        UINT64_C(1) << 40, UINT64_C(1) << 48, UINT64_C(0x5042410000000001), UINT64_C(0x4d56000000000008), UINT64_C(0x4d56000000000028),
        UINT64_C(0x4d56ffffffffffff)};
    uint64_t rest = b->size >= at + 16 ? b->size - at - 16 : 0, old = at + 8 <= b->size ? get64(b->at + at) : 0, v;

    switch (rng_below(rng, 8)) {
    case 0: v = rest; break; /* exactly to the end */
    case 1: v = rest + 1 + rng_below(rng, 40); break; /* just beyond */
    case 2: v = rest - (1 + rng_below(rng, 40)); break; /* just before */
    case 3: v = old ^ FREE_BIT; break;
    case 4: v = old + rng_below(rng, 65) - 32; break; /* overlaps its neighbour, or leaves a gap */
    case 5: v = rng_below(rng, b->size + 32); break;
    default: v = interesting[rng_below(rng, sizeof interesting / sizeof interesting[0])];
    }
    return rng_below(rng, 5) == 0 ? v ^ FREE_BIT : v;
}

static struct bytes mutant(struct rng *rng)
{
    const struct bytes *from = &media[rng_below(rng, media_count)];
    struct bytes b = bytes_new(from->size);
    unsigned changes = 1 + (unsigned)rng_below(rng, 4);

    memcpy(b.at, from->at, from->size);
    while (changes-- > 0) {
        switch (rng_below(rng, 12)) {
        case 0: /* bits */
        case 1:
            if (b.size > 0)
                b.at[rng_below(rng, b.size)] ^= (uint8_t)(1u << rng_below(rng, 8));
            break;
        case 2: /* the header */
            if (b.size >= 8)
                b.at[rng_below(rng, 8)] = (uint8_t)rng_next(rng);
            break;
        case 3: /* cut */
            b.size = (size_t)rng_below(rng, b.size + 1);
            break;
        case 4: { /* extended by zeros, or by anything */
            size_t old = b.size;
            build_zeros(&b, (size_t)rng_below(rng, rng_below(rng, 2) ? 40 : 5000));
            if (rng_below(rng, 3) == 0)
                for (; old < b.size; old++)
                    b.at[old] = (uint8_t)rng_next(rng);
            break;
        }
        case 5: { /* spliced */
            const struct bytes *other = &media[rng_below(rng, media_count)];
            size_t a = (size_t)rng_below(rng, b.size + 1), z = (size_t)rng_below(rng, other->size + 1);
            b.size = a;
            build_zeros(&b, other->size - z);
            memcpy(b.at + a, other->at + z, other->size - z);
            break;
        }
        case 6: { /* a stretch of zeros */
            size_t a = (size_t)rng_below(rng, b.size + 1), n = (size_t)rng_below(rng, 100);
            memset(b.at + a, 0, n < b.size - a ? n : b.size - a);
            break;
        }
        default: { /* words */
            size_t at = some_word(rng, &b);
            uint64_t v = some_value(rng, &b, at);
            if (at + 8 > b.size)
                break;
            put64(b.at + at, v);
            if (rng_below(rng, 4) == 0 && at >= 8) { /* with a matching end marker */
                uint64_t n = v & ~FREE_BIT;
                if (b.size >= at + 16 && n <= b.size - at - 16)
                    put64(b.at + at + 8 + n, v);
            }
        }
        }
    }
    return b;
}

/* ------------------------------------------------------------------------------------------------------------------ what is tried */

static unsigned long opened, refused, sound_ones;

#define OR_FAIL(check)   \
    do {                 \
        if (!(check))    \
            goto failed; \
    } while (0)

static int is_documented(int number)
{
    return number == EINVAL || number == EILSEQ || number == ENOTSUP;
}

/*
 * The live blocks of both, and on demand the free ones, are the same. Where fewer than 32 bytes of zeros follow the last block of a
 * static medium, the block may have taken them: `grown_to` is where it then ends.
 */
static int same_blobs(const struct blocks *a, const struct blocks *b, int free_too, uint64_t grown_to)
{
    size_t i = 0, j = 0;

    for (;;) {
        while (!free_too && i < a->count && a->at[i].is_free)
            i++;
        while (!free_too && j < b->count && b->at[j].is_free)
            j++;
        if (i == a->count || j == b->count)
            return i == a->count && j == b->count;
        if (a->at[i].start != b->at[j].start || a->at[i].is_free != b->at[j].is_free)
            return 0;
        if (a->at[i].n != b->at[j].n
            && (j + 1 != b->count || b->at[j].start + b->at[j].n + 16 != grown_to || b->at[j].n - a->at[i].n >= 32))
            return 0;
        i++;
        j++;
    }
}

static void blocks_print(const char *what, const struct blocks *b)
{
    size_t i;

    DIAG("%s: %u blocks", what, (unsigned)b->count);
    for (i = 0; i < b->count && i < 50; i++)
        DIAG("  %8llu %8llu %s", (unsigned long long)b->at[i].start, (unsigned long long)b->at[i].n, b->at[i].is_free ? "free" : "live");
}

static int try_one(const struct bytes *b, struct rng *rng)
{
    struct blocks by_reader = {NULL, 0, 0}, by_writer = {NULL, 0, 0};
    struct palloc_t *pt = NULL;
    struct shadow s;
    struct medium m;
    int64_t violations;
    int reader_opened = -1, reader_errno = 0, good = 0;
    uint64_t ptr, last, blobs;
    unsigned k;

    shadow_init(&s, 0, 300, 100, 0);
    s.next_id = 1000000;
    file_write(path, b->at, b->size);
    medium_parse(&m, b->at, b->size);

    /* the check: agrees with our own reader about what is sound */
    errno = 0;
    violations = palloc_check(path, NULL, NULL);
    OR_FAIL(CHECK(violations >= 0 || is_documented(errno)));
    if ((m.flags & PALLOC_EXTENDED) == 0)
        OR_FAIL(CHECK_EQ_I(violations == 0, m.faults == 0));
    sound_ones += m.faults == 0;

    /* for reading only */
    errno = 0;
    pt = palloc_init(path, PALLOC_READONLY);
    reader_opened = pt != NULL;
    reader_errno = errno;
    if (pt == NULL) {
        OR_FAIL(CHECK(is_documented(errno)));
        OR_FAIL(CHECK(m.faults != 0));
    } else {
        OR_FAIL(CHECK_VIEW(pt));
        OR_FAIL(CHECK_EQ_I(palloc_walk(pt, walk_collect, &by_reader), 0));
        last = blobs = 0;
        for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr)) {
            const uint8_t *data = palloc_data(pt, ptr);
            OR_FAIL(CHECK(ptr > last && ++blobs <= b->size / 32));
            last = ptr;
            OR_FAIL(CHECK(data != NULL));
            s.next_id += data[0] + data[palloc_size(pt, ptr) - 1]; /* both can be read */
        }
    }
    palloc_close(pt);
    OR_FAIL(CHECK(file_is(path, b)));

    /* for writing */
    errno = 0;
    pt = palloc_init(path, rng_below(rng, 2) ? PALLOC_DYNAMIC : PALLOC_DEFAULT);
    if (pt == NULL) {
        refused++;
        OR_FAIL(CHECK(is_documented(errno)));
        OR_FAIL(CHECK_STR_CONTAINS(palloc_error(), path));
        OR_FAIL(CHECK(!reader_opened));
        OR_FAIL(CHECK(file_is(path, b)));
    } else {
        opened++;
        if (!reader_opened)
            OR_FAIL(CHECK_EQ_I(reader_errno, EINVAL)); /* an uninitialized file */
        OR_FAIL(CHECK_VIEW(pt));
        OR_FAIL(CHECK_EQ_I(palloc_walk(pt, walk_collect, &by_writer), 0));
        if (reader_opened)
            OR_FAIL(CHECK(same_blobs(&by_reader, &by_writer, 0, pt->flags & PALLOC_DYNAMIC ? 0 : b->size)));
        if (m.faults == 0) /* nothing to repair */
            OR_FAIL(CHECK(same_blobs(&m.blocks, &by_writer, 1, 0)));
        shadow_adopt(&s, pt);
        for (k = 0; k < 12; k++)
            OR_FAIL(model_step(pt, &s, rng));
        OR_FAIL(CHECK_VIEW(pt));
        palloc_close(pt);
        pt = NULL;
        OR_FAIL(CHECK_SOUND(path));
    }
    good = 1;
failed:
    if (!good) {
        DIAG("opened read-only: %d (errno %d)", reader_opened, reader_errno);
        blocks_print("read-only", &by_reader);
        blocks_print("opened", &by_writer);
        DIAG("%s", palloc_error());
    }
    palloc_close(pt);
    free(by_reader.at);
    free(by_writer.at);
    medium_free(&m);
    shadow_free(&s);
    return good;
}

static void save(const struct bytes *b)
{
    size_t i;
    char line[80];

    for (i = 0; i < b->size && i < 1024; i++) {
        snprintf(line + 2 * (i % 32), 3, "%02x", b->at[i]);
        if (i % 32 == 31 || i + 1 == b->size)
            DIAG("%6u %s", (unsigned)(i - i % 32), line);
    }
}

/* As try_one, which must return in time. Frees the bytes. */
static int survives(struct bytes *b, struct rng *rng)
{
    int good;

    alarm(tap_seconds(20));
    good = try_one(b, rng);
    alarm(0);
    if (!good) {
        DIAG("%s", current);
        save(b);
    }
    bytes_free(b);
    return good;
}

static void mutants(uint64_t seed, unsigned count)
{
    unsigned i, failures = 0;

    TESTF("mutants-are-opened-or-refused-seed-%u", (unsigned)seed);
    for (i = 0; i < count && failures < 3; i++) {
        struct rng rng = {seed * 1000000 + i};
        struct bytes b = mutant(&rng);

        snprintf(current, sizeof current, "seed %u, mutant %u, %u bytes", (unsigned)seed, i, (unsigned)b.size);
        failures += !survives(&b, &rng);
    }
}

/* Every value of interest in every word of a small medium. */
static void every_word(void)
{
    static const uint64_t values[] = {0, 1, 15, 16, 17, 32, 48, 64, UINT64_MAX, FREE_BIT, FREE_BIT | 15, FREE_BIT | 16, FREE_BIT | 32, FREE_BIT - 1,
        FREE_BIT - 16, FREE_BIT / 2, UINT64_C(0x4d56000000000008), UINT64_C(0x4d56000000000048)};
    size_t which, at, v;

    for (which = 0; which < media_count; which++) {
        if (media[which].size > 400)
            continue;
        for (at = which % SPARSELY * 8; at + 8 <= media[which].size; at += 8 * SPARSELY) {
            for (v = 0; v < sizeof values / sizeof values[0]; v++) {
                struct rng rng = {at * 100 + v};
                struct bytes b = bytes_new(media[which].size);

                memcpy(b.at, media[which].at, b.size);
                put64(b.at + at, values[v]);
                snprintf(current, sizeof current, "medium %u, offset %u, value %#llx", (unsigned)which, (unsigned)at,
                         (unsigned long long)values[v]);
                if (!survives(&b, &rng))
                    return;
            }
        }
    }
}

/* A medium cut at every length. */
static void every_length(void)
{
    size_t which, length;

    for (which = 0; which < media_count; which++) {
        size_t step = media[which].size > 2000 ? 13 : 1;
        for (length = which % SPARSELY; length <= media[which].size; length += step * SPARSELY) {
            struct rng rng = {length};
            struct bytes b = bytes_new(length);

            memcpy(b.at, media[which].at, length);
            snprintf(current, sizeof current, "medium %u, cut to %u bytes", (unsigned)which, (unsigned)length);
            if (!survives(&b, &rng))
                return;
        }
    }
}

static void noise(void)
{
    unsigned i;

    for (i = 0; i < 2000; i += SPARSELY) {
        struct rng rng = {777000 + i};
        struct bytes b = bytes_new((size_t)rng_below(&rng, 600));
        size_t j;

        for (j = 0; j < b.size; j++)
            b.at[j] = (uint8_t)(rng_next(&rng) >> (rng_below(&rng, 3) * 4));
        if (b.size >= 8 && i % 2) {
            memcpy(b.at, "PBA", 4);
            put32(b.at + 4, (uint32_t)(i / 2 % 2));
        }
        snprintf(current, sizeof current, "noise %u", i);
        if (!survives(&b, &rng))
            return;
    }
}

int main(void)
{
    uint64_t seed;

    file_in_memory(path, "mutant.db");
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    signal(SIGALRM, crashed);
    signal(SIGABRT, crashed);
    signal(SIGILL, crashed);

    TEST("the-media-to-be-mutated-are-made");
    collect_media();

    POINT("a-medium-cut-at-any-length-is-opened-or-refused", every_length());

    POINT("any-word-may-hold-any-value", every_word());

    POINT("noise-is-opened-or-refused", noise());

    for (seed = 1; seed <= (getenv("DEEP") != NULL ? 100 : 8); seed++) {
        PART(mutants(seed, 4000 / SPARSELY));
    }
    DIAG("%lu opened and worked on, %lu refused; %lu were sound", opened, refused, sound_ones);
    while (media_count > 0)
        bytes_free(&media[--media_count]);
    return tap_done();
}
