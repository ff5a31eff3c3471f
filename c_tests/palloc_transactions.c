/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Transactions: what of them can be seen and when, each error and each limit, threads, and media that forge what they leave behind. */

#include "palloc_util.h"

#define FILE_NAME "tx.db"

static uint64_t live_blobs(struct palloc_t *pt)
{
    struct palloc_stat stat;

    return CHECK_EQ_I(palloc_stat(pt, &stat), 0) ? stat.live_blobs : UINT64_MAX;
}

static uint64_t word_at(struct palloc_t *pt, uint64_t blob, size_t offset)
{
    uint64_t word;

    memcpy(&word, (char *)palloc_data(pt, blob) + offset, sizeof word);
    return word;
}

static void close_sound(struct palloc_t *pt)
{
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void what_is_seen(uint32_t flags)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, flags);
    uint64_t old = palloc(pt, 100), gone = palloc(pt, 100), word = 77, first, second;
    struct palloc_tx *tx = palloc_begin(pt);
    char *data;

    REQUIRE(old != 0 && gone != 0 && tx != NULL);
    memset(palloc_data(pt, old), 1, 100);
    errno = UNTOUCHED;
    first = palloc_tx_alloc(tx, 100);
    second = palloc_tx_alloc(tx, 5000);
    CHECK(first != 0 && second != 0 && first != second);
    CHECK_EQ_U(first % 16, 0);
    data = palloc_tx_data(tx, first);
    REQUIRE(data != NULL);
    strcpy(data, "hello");
    CHECK_EQ_I(palloc_tx_store(tx, first + 50, &word, sizeof word), 0); /* in a blob of its own: at once */
    CHECK_EQ_I(memcmp(data + 50, &word, sizeof word), 0);
    CHECK_EQ_I(palloc_tx_free(tx, gone), 0);
    CHECK_EQ_I(palloc_tx_store(tx, old + 8, &word, sizeof word), 0);
    CHECK_EQ_I(palloc_tx_store(tx, old + 33, "odd", 3), 0);
    CHECK_EQ_I(palloc_tx_store(tx, old, "", 0), 0);
    CHECK_EQ_I(errno, UNTOUCHED);

    CHECK_EQ_U(live_blobs(pt), 2); /* nothing of it is seen */
    CHECK_EQ_U(palloc_first(pt), old);
    CHECK_EQ_U(palloc_next(pt, palloc_next(pt, old)), 0);
    CHECK_EQ_U(word_at(pt, old, 8), UINT64_C(0x0101010101010101));
    CHECK(palloc_data(pt, first) == NULL);
    CHECK_VIEW(pt);

    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK_EQ_I(errno, UNTOUCHED);
    CHECK_EQ_U(live_blobs(pt), 3); /* all of it is */
    CHECK(palloc_data(pt, first) == (void *)data);
    CHECK_STR(data, "hello");
    CHECK(palloc_size(pt, second) >= 5000);
    CHECK_EQ_U(word_at(pt, old, 8), 77);
    CHECK_MEM((char *)palloc_data(pt, old) + 32, "\1odd\1", 5);
    CHECK(palloc_data(pt, gone) == NULL);
    CHECK_VIEW(pt);
    CHECK_EQ_I(palloc_sync(pt), 0);
    file_copy(FILE_NAME, "copy.db"); /* exactly the format after sync, too */
    CHECK_SOUND("copy.db");
    close_sound(pt);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(word_at(pt, old, 8), 77);
    CHECK_STR((char *)palloc_data(pt, first), "hello");
    close_sound(pt);
}

static void cancelled(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t old = palloc(pt, 100), word = 5;
    struct palloc_tx *tx;
    int i;

    REQUIRE(old != 0);
    memset(palloc_data(pt, old), 1, 100);
    for (i = 0; i < 200; i++) {
        tx = palloc_begin(pt);
        REQUIRE(tx != NULL);
        CHECK(palloc_tx_alloc(tx, (size_t)i * 1000) != 0);
        CHECK_EQ_I(palloc_tx_store(tx, old, &word, sizeof word), 0);
        CHECK_EQ_I(palloc_tx_free(tx, old), 0);
        palloc_cancel(tx);
    }
    palloc_cancel(NULL);
    CHECK_EQ_U(live_blobs(pt), 1);
    CHECK_EQ_U(word_at(pt, old, 0), UINT64_C(0x0101010101010101));
    for (i = 0; i < 10; i++) { /* palloc_close cancels these */
        tx = palloc_begin(pt);
        REQUIRE(tx != NULL);
        CHECK(palloc_tx_alloc(tx, 100000) != 0);
        CHECK_EQ_I(palloc_tx_free(tx, old), 0);
    }
    close_sound(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 8 + 16 + 112);
}

static void errors(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t blob = palloc(pt, 100), other = palloc(pt, 100), word = 5, new_blob;
    struct palloc_tx *tx = palloc_begin(pt), *second;
    char text[1000];

    REQUIRE(blob != 0 && other != 0 && tx != NULL);
#define REFUSED(call, number)         \
    do {                              \
        errno = 0;                    \
        CHECK(call);                  \
        CHECK_ERRNO(number);          \
        CHECK(*palloc_error() != 0);  \
    } while (0)
    REFUSED(palloc_begin(NULL) == NULL, EINVAL);
    REFUSED(palloc_tx_alloc(NULL, 1) == 0, EINVAL);
    REFUSED(palloc_tx_data(NULL, blob) == NULL, EINVAL);
    REFUSED(palloc_tx_free(NULL, blob) == -1, EINVAL);
    REFUSED(palloc_tx_store(NULL, blob, &word, 8) == -1, EINVAL);
    REFUSED(palloc_commit(NULL) == -1, EINVAL);
    new_blob = palloc_tx_alloc(tx, 100);
    CHECK(new_blob != 0);
    REFUSED(palloc_tx_alloc(tx, SIZE_MAX) == 0, ENOMEM);
    REFUSED(palloc_tx_data(tx, blob) == NULL, EINVAL); /* not of this transaction */
    REFUSED(palloc_tx_data(tx, new_blob + 16) == NULL, EINVAL);
    REFUSED(palloc_tx_free(tx, 0) == -1, EINVAL);
    REFUSED(palloc_tx_free(tx, blob + 16) == -1, EINVAL);
    REFUSED(palloc_tx_free(tx, new_blob) == -1, EINVAL);
    REFUSED(palloc_tx_free(tx, UINT64_MAX) == -1, EINVAL);
    REFUSED(palloc_tx_store(tx, blob, NULL, 8) == -1, EINVAL);
    REFUSED(palloc_tx_store(tx, 0, &word, 8) == -1, EINVAL);
    REFUSED(palloc_tx_store(tx, blob - 8, &word, 8) == -1, EINVAL); /* its marker */
    REFUSED(palloc_tx_store(tx, blob + palloc_size(pt, blob) - 4, &word, 8) == -1, EINVAL);
    REFUSED(palloc_tx_store(tx, UINT64_MAX - 3, &word, 8) == -1, EINVAL);
    REFUSED(palloc_tx_store(tx, blob, &word, SIZE_MAX) == -1, EINVAL);
    REFUSED(palloc_tx_store(tx, blob + palloc_size(pt, blob), &word, 8) == -1, EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "8 bytes from offset");
    CHECK_STR_CONTAINS(palloc_error(), "not all in one blob");
    CHECK_EQ_I(palloc_tx_free(tx, blob), 0);
    snprintf(text, sizeof text, "palloc_tx_free: %s: the transaction frees the blob at offset %llu", pt->filename, (unsigned long long)blob);
    REFUSED(palloc_tx_free(tx, blob) == -1, EINVAL);
    CHECK_STR(palloc_error(), text);
    REFUSED(palloc_tx_store(tx, blob, &word, 8) == -1, EINVAL); /* it frees that */
    CHECK_STR_CONTAINS(palloc_error(), strstr(text, ": the"));
    CHECK_EQ_I(palloc_tx_store(tx, other, &word, 8), 0);

    second = palloc_begin(pt); /* of two that free the same blob, the later one fails, and goes on */
    REQUIRE(second != NULL);
    CHECK_EQ_I(palloc_tx_free(second, blob), 0);
    REFUSED(palloc_tx_store(second, new_blob, &word, 8) == -1, EINVAL); /* another's */
    CHECK_EQ_I(palloc_commit(tx), 0);
    REFUSED(palloc_commit(second) == -1, EINVAL);
    CHECK_EQ_I(palloc_tx_store(second, new_blob, &word, 8), 0);
    REFUSED(palloc_commit(second) == -1, EINVAL);
    CHECK(word_at(pt, new_blob, 0) != 5);
    palloc_cancel(second);

    tx = palloc_begin(pt); /* freed by a plain call meanwhile */
    CHECK_EQ_I(palloc_tx_store(tx, other, &word, 8), 0);
    pfree(pt, other);
    REFUSED(palloc_commit(tx) == -1, EINVAL);
    palloc_cancel(tx);
    CHECK_VIEW(pt);
    close_sound(pt);
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    REFUSED(palloc_begin(pt) == NULL, EROFS);
    palloc_close(pt);
}

static void limits(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t blob = palloc(pt, 1 << 20), word = 0;
    struct palloc_tx *tx[64], *one;
    uint8_t *megabyte = calloc(1, 1 << 20);
    int i, last;

    REQUIRE(blob != 0 && megabyte != NULL);
    TEST("64-transactions-can-be-open-the-next-is-EMFILE");
    for (i = 0; i < 64; i++) {
        tx[i] = palloc_begin(pt);
        REQUIRE(tx[i] != NULL);
    }
    REFUSED(palloc_begin(pt) == NULL, EMFILE);
    CHECK_STR_CONTAINS(palloc_error(), "64");
    palloc_cancel(tx[7]);
    tx[7] = palloc_begin(pt);
    CHECK(tx[7] != NULL);
    for (i = 0; i < 64; i++)
        CHECK_EQ_I(palloc_commit(tx[i]), 0);

    TEST("a-record-of-more-than-16-MiB-is-ENOSPC-and-the-transaction-goes-on");
    one = palloc_begin(pt);
    REQUIRE(one != NULL);
    memset(megabyte, 3, 1 << 20);
    for (i = 0; i < 15; i++)
        CHECK_EQ_I(palloc_tx_store(one, blob, megabyte, 1 << 20), 0);
    REFUSED(palloc_tx_store(one, blob, megabyte, 1 << 20) == -1, ENOSPC);
    CHECK_STR_CONTAINS(palloc_error(), "16777216");
    CHECK_EQ_U(word_at(pt, blob, 0) == UINT64_C(0x0303030303030303), 0);
    CHECK_EQ_I(palloc_commit(one), 0);
    CHECK_EQ_U(word_at(pt, blob, 1000), UINT64_C(0x0303030303030303));

    TEST("as-many-changes-as-fit-are-one-transaction");
    one = palloc_begin(pt);
    REQUIRE(one != NULL);
    for (last = 0; last < 1 << 20; last++) {
        word = (uint64_t)last;
        if (palloc_tx_store(one, blob + (uint64_t)(last % (1 << 17)) * 8, &word, sizeof word) != 0)
            break;
    }
    CHECK_ERRNO(ENOSPC);
    CHECK(last > 500000 && last < 1 << 20);
    CHECK_EQ_I(palloc_commit(one), 0);
    CHECK_EQ_U(word_at(pt, blob, (size_t)((last - 1) % (1 << 17)) * 8), (uint64_t)last - 1);
    close_sound(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 8 + 16 + (1 << 20));
    free(megabyte);
}

static void many_blobs(uint32_t flags)
{
    enum { MANY = 3000 };
    static uint64_t ptrs[MANY];
    struct palloc_t *pt = medium_fresh(FILE_NAME, flags);
    struct palloc_tx *tx = palloc_begin(pt);
    int i;

    REQUIRE(tx != NULL);
    for (i = 0; i < MANY; i++) {
        size_t size = (size_t)(i % 50 == 0 ? 100000 : i * 7 % 600);
        ptrs[i] = palloc_tx_alloc(tx, size);
        REQUIRE(ptrs[i] != 0);
        memset(palloc_tx_data(tx, ptrs[i]), i & 255, size);
    }
    for (i = 0; i < MANY; i += 11)
        CHECK(palloc_tx_data(tx, ptrs[i]) != NULL);
    CHECK_EQ_U(live_blobs(pt), 0);
    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK_EQ_U(live_blobs(pt), MANY);
    CHECK_VIEW(pt);
    for (i = 1; i < MANY; i++)
        if (!CHECK(palloc_size(pt, ptrs[i]) == 0 || i % 50 == 0 || i * 7 % 600 < 8
                   || *((uint8_t *)palloc_data(pt, ptrs[i]) + 7) == (i & 255)))
            break;
    tx = palloc_begin(pt);
    REQUIRE(tx != NULL);
    for (i = 0; i < MANY; i++)
        if (!CHECK_EQ_I(palloc_tx_free(tx, ptrs[i]), 0))
            break;
    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK_EQ_U(live_blobs(pt), 0);
    close_sound(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 8);
}

/* Transactions use the space again that transactions freed: in a long churn the file is little larger than its blobs. */
static void churn(void)
{
    enum { BLOBS = 2000 };
    static uint64_t ptrs[BLOBS];
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    struct rng rng = {3};
    struct palloc_stat stat;
    int i, k;

    for (i = 0; i < 60000; i++) {
        struct palloc_tx *tx = palloc_begin(pt);
        REQUIRE(tx != NULL);
        for (k = 0; k < 2; k++) {
            size_t at = (size_t)rng_below(&rng, BLOBS);
            if (ptrs[at] != 0 && palloc_tx_free(tx, ptrs[at]) != 0)
                continue; /* twice in one transaction */
            ptrs[at] = palloc_tx_alloc(tx, (size_t)rng_below(&rng, 500));
            REQUIRE(ptrs[at] != 0);
        }
        if (!CHECK_EQ_I(palloc_commit(tx), 0))
            break;
    }
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    DIAG("%llu bytes for %llu live ones", (unsigned long long)stat.medium_size, (unsigned long long)stat.live_bytes);
    CHECK(stat.medium_size < stat.live_bytes * 3 / 2);
    close_sound(pt);
}

static void static_media(void)
{
    struct palloc_t *pt;
    struct palloc_tx *tx;
    uint64_t ptr, word = 9, last = 0, first = 0;
    int n = 0;

    TEST("a-commit-on-a-full-static-medium-needs-no-space");
    unlink(FILE_NAME);
    file_zeros(FILE_NAME, 100000);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    tx = palloc_begin(pt);
    REQUIRE(tx != NULL);
    while ((ptr = palloc_tx_alloc(tx, 100)) != 0) {
        memset(palloc_tx_data(tx, ptr), 7, 100);
        last = ptr;
        n++;
    }
    CHECK_ERRNO(ENOSPC);
    CHECK(n > 700);
    REFUSED(palloc(pt, 100) == 0, ENOSPC);
    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK_EQ_U(live_blobs(pt), (uint64_t)n);
    tx = palloc_begin(pt);
    REQUIRE(tx != NULL);
    first = palloc_first(pt);
    CHECK_EQ_I(palloc_tx_free(tx, first), 0);
    CHECK_EQ_I(palloc_tx_store(tx, last, &word, 8), 0);
    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK_EQ_U(palloc(pt, 100), first);
    close_sound(pt);

    TEST("what-transactions-keep-for-later-ones-is-there-for-plain-calls");
    unlink(FILE_NAME);
    file_zeros(FILE_NAME, 100008);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    tx = palloc_begin(pt);
    REQUIRE(tx != NULL);
    CHECK(palloc_tx_alloc(tx, 100) != 0);
    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK(palloc(pt, 90000) != 0);
    close_sound(pt);

    TEST("no-room-for-a-log-is-ENOSPC");
    unlink(FILE_NAME);
    file_zeros(FILE_NAME, 1000);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    ptr = palloc(pt, 100);
    REFUSED(palloc_begin(pt) == NULL, ENOSPC);
    CHECK_EQ_U(live_blobs(pt), 1);
    CHECK_VIEW(pt);
    close_sound(pt);
}

static void sync_while_open(uint32_t flags)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, flags);
    struct palloc_tx *tx = palloc_begin(pt);
    uint64_t old, ptr;

    REQUIRE(tx != NULL);
    old = palloc(pt, 100);
    ptr = palloc_tx_alloc(tx, 100);
    memset(palloc_tx_data(tx, ptr), 6, 100);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(live_blobs(pt), 1);
    file_copy(FILE_NAME, "copy.db"); /* what a kill here leaves */
    CHECK_EQ_I(palloc_tx_free(tx, old), 0);
    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK_EQ_U(palloc_first(pt), ptr);
    CHECK_EQ_U(word_at(pt, ptr, 40), UINT64_C(0x0606060606060606));
    close_sound(pt);
    pt = palloc_init("copy.db", PALLOC_READONLY);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(live_blobs(pt), 1);
    palloc_close(pt);
    pt = palloc_init("copy.db", PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(live_blobs(pt), 1);
    CHECK_EQ_U(palloc_first(pt), old);
    palloc_close(pt);
    CHECK_SOUND("copy.db");
}

/* ---------------------------------------------------------------------------------------------------------------------- threads */

enum { THREADS = 4, ACCOUNTS = 8 };

struct worker {
    pthread_t thread;
    struct palloc_t *pt;
    struct palloc_tx *tx;
    uint64_t sheet; /* a blob: ACCOUNTS numbers whose sum is 0 */
    unsigned number;
    int good;
    struct shadow shadow;
};

/* Moves amounts between the accounts of its sheet, and keeps each sheet for a while; a plain model works beside. */
static void *trade(void *user)
{
    struct worker *w = user;
    struct rng rng = {900 + w->number};
    int64_t sheet[ACCOUNTS] = {0};
    int i, k;

    for (i = 0; i < 3000; i++) {
        struct palloc_tx *tx = palloc_begin(w->pt);
        uint64_t next;
        int64_t amount = (int64_t)rng_below(&rng, 1000);
        if (tx == NULL || (next = palloc_tx_alloc(tx, sizeof sheet + (size_t)rng_below(&rng, 300))) == 0)
            return NULL;
        sheet[rng_below(&rng, ACCOUNTS)] += amount;
        sheet[rng_below(&rng, ACCOUNTS)] -= amount;
        memcpy(palloc_tx_data(tx, next), sheet, sizeof sheet);
        if (palloc_tx_free(tx, w->sheet) != 0 || palloc_commit(tx) != 0)
            return NULL;
        w->sheet = next;
        for (k = 0; k < 3; k++)
            if (!model_step(w->pt, &w->shadow, &rng))
                return NULL;
        if (i % 500 == 0 && palloc_sync(w->pt) != 0)
            return NULL;
    }
    w->good = 1;
    return NULL;
}

static void threads(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    struct worker w[THREADS];
    unsigned t;
    uint64_t expected = 0;

    for (t = 0; t < THREADS; t++) {
        memset(&w[t], 0, sizeof w[t]);
        w[t].pt = pt;
        w[t].number = t;
        w[t].sheet = palloc(pt, ACCOUNTS * 8);
        shadow_init(&w[t].shadow, 40 + t, 2000, 60, 1);
    }
    for (t = 0; t < THREADS; t++)
        REQUIRE(pthread_create(&w[t].thread, NULL, trade, &w[t]) == 0);
    for (t = 0; t < THREADS; t++) {
        int64_t sheet[ACCOUNTS], sum = 0;
        int i;
        CHECK_EQ_I(pthread_join(w[t].thread, NULL), 0);
        CHECK(w[t].good);
        memcpy(sheet, palloc_data(pt, w[t].sheet), sizeof sheet);
        for (i = 0; i < ACCOUNTS; i++)
            sum += sheet[i];
        CHECK_EQ_I(sum, 0);
        expected += 1 + w[t].shadow.count;
    }
    CHECK_EQ_U(live_blobs(pt), expected);
    CHECK_VIEW(pt);
    for (t = 0; t < THREADS; t++)
        shadow_free(&w[t].shadow);
    close_sound(pt);
}

/* --------------------------------------------------------------------------------------------------------------------- forgeries */

enum { BLOBS = 12, BYTES = 240 };

/* A closed medium of blobs that are full of their number, every third of them free. */
static void build(uint64_t ptrs[BLOBS])
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    int i;

    for (i = 0; i < BLOBS; i++) {
        ptrs[i] = palloc(pt, BYTES);
        memset(palloc_data(pt, ptrs[i]), i, BYTES);
    }
    for (i = 1; i < BLOBS - 1; i += 3)
        pfree(pt, ptrs[i]);
    palloc_close(pt);
}

/* Opens it: all blobs but `without` are there, whole. */
static void opens_without(const uint64_t ptrs[BLOBS], int without)
{
    struct palloc_t *pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    int i;

    REQUIRE(pt != NULL);
    for (i = 0; i < BLOBS; i++) {
        const uint8_t *data = palloc_data(pt, ptrs[i]);
        int k, same = 0;
        if (i % 3 == 1 && i < BLOBS - 1) {
            CHECK(data == NULL);
            continue;
        }
        if (i == without) {
            CHECK(data == NULL);
            continue;
        }
        for (k = 0; data != NULL && k < BYTES; k++)
            same += data[k] == i;
        if (!CHECK_EQ_I(same, BYTES))
            DIAG("blob %d", i);
    }
    CHECK_VIEW(pt);
    for (i = 0; i < 100; i++) /* the space that is handed out belongs to no blob */
        CHECK(palloc(pt, 100) != 0);
    for (i = 0; i < BLOBS; i++)
        if (i != without && (i % 3 != 1 || i == BLOBS - 1))
            CHECK(palloc_data(pt, ptrs[i]) != NULL && *((uint8_t *)palloc_data(pt, ptrs[i]) + BYTES - 1) == i);
    close_sound(pt);
}

#define RS(place) (UINT64_C(0x5253) << 48 | (place))
#define TX(low) (UINT64_C(0x5458) << 48 | (low))

/* The blob whose bytes, or whose end marker, are at this word; BLOBS if no blob has it. */
static int blob_at(const uint64_t ptrs[BLOBS], uint64_t place)
{
    int i;

    for (i = 0; i < BLOBS; i++)
        if (place >= ptrs[i] && place <= ptrs[i] + BYTES)
            return i;
    return BLOBS;
}

/* Tags, whole and broken, in the place of each word of a medium: it is refused as it is, or opens with every other blob. */
static void any_word(void)
{
    uint64_t ptrs[BLOBS], place;
    struct bytes sound, changed;
    int refused = 0, k, i;

    build(ptrs);
    sound = file_read(FILE_NAME);
    changed = file_read(FILE_NAME);
    for (place = 0; place + 8 <= sound.size; place += 8) {
        const uint64_t words[] = {RS(place), RS(place ^ 16), RS(0), TX(place), TX(0), TX(UINT64_C(0xffffffffffff)), UINT64_C(0x5054580100000000),
                                  UINT64_C(0x5054580100000001)};
        const int hit = blob_at(ptrs, place), is_live = hit < BLOBS && (hit % 3 != 1 || hit == BLOBS - 1);
        const int is_end = is_live && place == ptrs[hit] + BYTES;
        for (k = 0; k < (int)(sizeof words / sizeof words[0]); k++) {
            struct palloc_t *pt;
            uint8_t expected[BYTES];
            put64(changed.at + place, words[k]);
            file_write(FILE_NAME, changed.at, changed.size);
            pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
            if (pt == NULL) {
                refused++;
                CHECK(!is_live && file_is(FILE_NAME, &changed)); /* a start marker, or the header */
                continue;
            }
            for (i = 0; i < 2 * BLOBS; i++)
                CHECK(palloc(pt, i % BLOBS == 0 ? 4000 : BYTES) != 0); /* where no blob was */
            for (i = 0; i < BLOBS; i++) {
                const uint8_t *data = palloc_data(pt, ptrs[i]);
                if (i % 3 == 1 && i < BLOBS - 1)
                    continue;
                if (i == hit && is_end && k == 0)
                    continue; /* freed, and handed out perhaps */
                memset(expected, i, BYTES);
                if (i == hit && !is_end)
                    put64(expected + (place - ptrs[i]), words[k]);
                if (!CHECK(data != NULL && memcmp(data, expected, BYTES) == 0))
                    DIAG("blob %d, word %d at %llu", i, k, (unsigned long long)place);
            }
            CHECK_VIEW(pt);
            palloc_close(pt);
            CHECK_SOUND(FILE_NAME);
        }
        memcpy(changed.at + place, sound.at + place, 8);
    }
    CHECK_EQ_I(refused, 8 * (BLOBS + 1)); /* the header, and each start marker */
    bytes_free(&sound);
    bytes_free(&changed);
}

/* Start markers that were overwritten so that they lead to a forged tag, with and without zeros behind the last block: refused, or opened
   without the blobs that are between, and with all others. */
static void markers_to_tags(void)
{
    const uint64_t free_bit = UINT64_C(1) << 63;
    uint64_t ptrs[BLOBS];
    int opened = 0, refused = 0, first, last, kind, i;
    struct bytes sound;

    build(ptrs);
    sound = file_read(FILE_NAME);
    for (first = 0; first < BLOBS; first++)
        for (last = first; last < BLOBS; last++)
            for (kind = 0; kind < 12; kind++) {
                const uint64_t place = ptrs[last] + BYTES;
                const int is_tag_of_log = kind % 3 < 2, is_marked_free = kind / 3 % 2;
                struct bytes forged;
                struct palloc_t *pt;

                file_write(FILE_NAME, sound.at, sound.size);
                file_poke64(FILE_NAME, ptrs[first] - 8, (place - ptrs[first]) | (is_marked_free ? free_bit : 0));
                file_poke64(FILE_NAME, place, kind % 3 == 0 ? RS(place) : TX(0));
                if (kind % 3 == 1)
                    file_poke64(FILE_NAME, ptrs[first], UINT64_C(0x5054580100000001));
                forged = file_read(FILE_NAME);
                if (kind >= 6) { /* growth that was cut off */
                    forged.at = realloc(forged.at, forged.size + 4096);
                    REQUIRE(forged.at != NULL);
                    memset(forged.at + forged.size, 0, 4096);
                    forged.size += 4096;
                    file_write(FILE_NAME, forged.at, forged.size);
                }
                errno = 0;
                pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
                if (pt == NULL) {
                    CHECK_ERRNO(EILSEQ);
                    CHECK(!is_tag_of_log && !is_marked_free && file_is(FILE_NAME, &forged));
                    refused++;
                    bytes_free(&forged);
                    continue;
                }
                opened++;
                bytes_free(&forged);
                CHECK(palloc_data(pt, ptrs[first]) == NULL || (!is_tag_of_log && !is_marked_free));
                for (i = 0; i < 2 * BLOBS; i++)
                    memset(palloc_data(pt, palloc(pt, i % BLOBS == 0 ? 4000 : BYTES)), 99, BYTES);
                for (i = 0; i < BLOBS; i++) {
                    const uint8_t *data = palloc_data(pt, ptrs[i]);
                    if ((i >= first && i <= last) || (i % 3 == 1 && i < BLOBS - 1))
                        continue;
                    if (!CHECK(data != NULL && data[0] == i && memcmp(data, data + 1, BYTES - 1) == 0))
                        DIAG("blob %d, markers of %d to %d, kind %d", i, first, last, kind);
                }
                CHECK_VIEW(pt);
                close_sound(pt);
            }
    CHECK(opened > 0 && refused > 0);
    bytes_free(&sound);
}

static void forged_tags(void)
{
    uint64_t ptrs[BLOBS];
    int i, k;

    TEST("a-tag-frees-the-block-that-it-names-and-no-other");
    for (i = 0; i < BLOBS; i++) {
        uint64_t place;
        build(ptrs);
        place = ptrs[i] + BYTES;
        file_poke64(FILE_NAME, place, RS(place));
        opens_without(ptrs, i);
    }

    TEST("a-tag-of-another-place-or-without-a-record-is-mended");
    for (i = 0; i < BLOBS; i++) {
        const uint64_t words[] = {RS(0), RS(8), RS(UINT64_C(0xffffffffffff)), TX(0), TX(UINT64_C(0xffffffffffff)), TX(16)};
        for (k = 0; k < 6; k++) {
            build(ptrs);
            file_poke64(FILE_NAME, ptrs[i] + BYTES, words[k]);
            opens_without(ptrs, -1);
        }
    }

    TEST("a-tag-in-the-place-of-a-start-marker-is-EILSEQ");
    for (i = 0; i < BLOBS; i++)
        for (k = 0; k < 2; k++) {
            struct palloc_t *pt;
            build(ptrs);
            file_poke64(FILE_NAME, ptrs[i] - 8, k != 0 ? RS(ptrs[i] - 8) : TX(16));
            errno = 0;
            pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
            CHECK(pt == NULL);
            CHECK_ERRNO(EILSEQ);
        }

    TEST("a-tag-at-any-word-frees-the-blob-that-ends-there-or-nothing");
    any_word();

    TEST("a-start-marker-that-leads-to-a-tag-frees-what-is-between-or-is-EILSEQ");
    markers_to_tags();

    TEST("a-record-that-a-blob-holds-is-bytes");
    for (i = 0; i < BLOBS; i++) {
        build(ptrs);
        if (i % 3 == 1)
            continue;
        file_poke64(FILE_NAME, ptrs[i] + BYTES, TX(0)); /* its end marker only: the record is not whole, */
        file_poke64(FILE_NAME, ptrs[i], UINT64_C(0x5054580100000001)); /* but it begins as one */
        opens_without(ptrs, i);
    }
}

int main(void)
{
    POINT("the-changes-of-a-transaction-are-seen-after-its-commit-all-at-once", what_is_seen(PALLOC_DYNAMIC));
    POINT("with-PALLOC_SYNC-too", what_is_seen(PALLOC_DYNAMIC | PALLOC_SYNC));
    POINT("a-transaction-that-is-cancelled-leaves-nothing", cancelled());
    POINT("each-error-has-its-number-and-changes-nothing", errors());
    PART(limits());
    POINT("a-transaction-has-thousands-of-blobs-small-and-large", many_blobs(PALLOC_DYNAMIC));
    POINT("and-with-PALLOC_SYNC", many_blobs(PALLOC_DYNAMIC | PALLOC_SYNC));
    POINT("transactions-use-the-space-again-that-they-freed", churn());
    PART(static_media());
    POINT("palloc_sync-with-a-transaction-open-leaves-it-alone", sync_while_open(PALLOC_DYNAMIC));
    POINT("palloc_sync-with-a-transaction-open-and-PALLOC_SYNC-leaves-it-alone", sync_while_open(PALLOC_DYNAMIC | PALLOC_SYNC));
    POINT("transactions-and-plain-calls-of-several-threads-go-together", threads());
    PART(forged_tags());
    return tap_done();
}
