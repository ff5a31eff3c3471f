/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See shadow.h. */
#include "../portable.h"
#include "../tap.h"
#include "files.h"
#include "medium.h"
#include "pattern.h"
#include "random.h"
#include "shadow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void shadow_init(struct shadow *s, uint64_t seed, uint64_t max_size, size_t max_count, int in_step)
{
    memset(s, 0, sizeof *s);
    s->next_id = 65536 + seed * 1000003;
    s->seed = seed;
    s->max_size = max_size;
    s->max_count = max_count;
    s->in_step = in_step;
}

void shadow_free(struct shadow *s)
{
    free(s->at);
    s->at = NULL;
    s->count = s->room = 0;
}

size_t shadow_find(const struct shadow *s, uint64_t ptr)
{
    size_t low = 0, high = s->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->at[middle].ptr < ptr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t shadow_add(struct shadow *s, uint64_t ptr, uint64_t size, uint64_t id, uint64_t sure)
{
    size_t i = shadow_find(s, ptr);

    if (i > 0 && !CHECK(s->at[i - 1].ptr + s->at[i - 1].size + 16 <= ptr))
        return SIZE_MAX;
    if (i < s->count && !CHECK(ptr + size + 16 <= s->at[i].ptr))
        return SIZE_MAX;
    if (!CHECK(ptr >= 16))
        return SIZE_MAX;
    if (s->count == s->room) {
        s->room = s->room != 0 ? 2 * s->room : 64;
        s->at = realloc(s->at, s->room * sizeof *s->at);
        REQUIRE(s->at != NULL);
    }
    memmove(s->at + i + 1, s->at + i, (s->count - i) * sizeof *s->at);
    s->count++;
    s->at[i].ptr = ptr;
    s->at[i].size = size;
    s->at[i].id = id;
    s->at[i].sure = sure;
    return i;
}

void shadow_remove(struct shadow *s, size_t i)
{
    s->count--;
    memmove(s->at + i, s->at + i + 1, (s->count - i) * sizeof *s->at);
}

void shadow_where(const struct shadow *s)
{
    DIAG("seed %llu, step %llu, %llu blobs", (unsigned long long)s->seed, (unsigned long long)s->step,
         (unsigned long long)s->count);
}

int shadow_matches(struct shadow *s, struct palloc_t *pt, enum access how)
{
    uint64_t ptr = palloc_first(pt);
    size_t i;

    for (i = 0; i < s->count; i++) {
        const struct blob *b = &s->at[i];
        if (!CHECK_EQ_U(ptr, b->ptr) || !CHECK_EQ_U(palloc_size(pt, ptr), b->size)
            || !blob_intact(pt, ptr, b->id, b->sure, how)) {
            shadow_where(s);
            return 0;
        }
        ptr = palloc_next(pt, ptr);
    }
    if (!CHECK_EQ_U(ptr, 0)) {
        shadow_where(s);
        return 0;
    }
    return 1;
}

/* The largest request that a static medium must grant: the widest gap between live blobs, as one free block. 0 when there is none. */
static uint64_t shadow_largest_gap(const struct shadow *s, uint64_t medium_size)
{
    uint64_t at = 8, widest = 0;
    size_t i;

    for (i = 0; i <= s->count; i++) {
        uint64_t next = i < s->count ? s->at[i].ptr - 8 : medium_size;
        if (next - at > widest)
            widest = next - at;
        if (i < s->count)
            at = s->at[i].ptr + s->at[i].size + 8;
    }
    return widest >= 32 ? widest - 16 : 0;
}

int model_palloc(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    uint64_t asked = rng_size(rng, s->max_size), least = asked < 16 ? 16 : asked, rounded = (least + 15) & ~UINT64_C(15);
    int fits = (pt->flags & PALLOC_DYNAMIC) != 0 || least <= shadow_largest_gap(s, size_now(pt));
    uint64_t ptr, size, id = s->next_id++;

    errno = UNTOUCHED;
    ptr = rng_below(rng, 8) == 0 ? prealloc(pt, 0, (size_t)asked) : palloc(pt, (size_t)asked);
    if (!fits) {
        MUST(s, CHECK_EQ_U(ptr, 0));
        MUST(s, CHECK_ERRNO(ENOSPC));
        return 1;
    }
    MUST(s, CHECK(ptr != 0));
    size = palloc_size(pt, ptr);
    MUST(s, CHECK(size >= least));
    MUST(s, CHECK(ptr + size + 8 <= size_now(pt)));
    if (s->in_step) {
        MUST(s, CHECK_EQ_U(ptr % 16, 0));
        MUST(s, CHECK(size <= rounded + 32)); /* more would have been split off */
    }
    MUST(s, CHECK_EQ_I(errno, UNTOUCHED));
    MUST(s, shadow_add(s, ptr, size, id, size) != SIZE_MAX);
    MUST(s, blob_write(pt, ptr, id, 0, size, (enum access)(id % 2)));
    return 1;
}

int model_pfree(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    size_t i = (size_t)rng_below(rng, s->count);
    struct blob b = s->at[i];

    MUST(s, blob_intact(pt, b.ptr, b.id, b.sure, (enum access)(rng_below(rng, 2))));
    errno = UNTOUCHED;
    pfree(pt, b.ptr);
    MUST(s, CHECK_EQ_I(errno, UNTOUCHED));
    shadow_remove(s, i);
    return 1;
}

static int model_prealloc(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    size_t i = (size_t)rng_below(rng, s->count);
    struct blob old = s->at[i];
    uint64_t asked, least, next, room, ptr, size, kept;
    int must_fit, may_fit;

    switch (rng_below(rng, 4)) {
    case 0:
        asked = rng_below(rng, old.size + 1); /* shrink */
        break;
    case 1:
        asked = old.size + 1 + rng_below(rng, 64); /* grow a little */
        break;
    default:
        asked = rng_size(rng, s->max_size);
    }
    least = asked < 16 ? 16 : asked;
    next = i + 1 < s->count ? s->at[i + 1].ptr - 8 : size_now(pt);
    room = next - (old.ptr + 8); /* data size if the block took all up to the next live one */
    may_fit = (pt->flags & PALLOC_DYNAMIC) != 0 || least <= shadow_largest_gap(s, size_now(pt)) || least <= room;
    /* An odd block may not grow in place by less than a word. */
    must_fit = may_fit && (s->in_step || least <= old.size || least > room || (pt->flags & PALLOC_DYNAMIC) != 0);
    errno = UNTOUCHED;
    ptr = prealloc(pt, old.ptr, (size_t)asked);
    if (ptr == 0) {
        MUST(s, CHECK_ERRNO(ENOSPC));
        MUST(s, CHECK(!must_fit));
        MUST(s, CHECK_EQ_U(palloc_size(pt, old.ptr), old.size));
        return blob_intact(pt, old.ptr, old.id, old.sure, BY_ADDRESS);
    }
    MUST(s, CHECK(may_fit));
    MUST(s, CHECK_EQ_I(errno, UNTOUCHED));
    size = palloc_size(pt, ptr);
    MUST(s, CHECK(size >= least));
    if (s->in_step)
        MUST(s, CHECK_EQ_U(ptr % 16, 0));
    if (least <= old.size)
        MUST(s, CHECK(size <= old.size || ptr != old.ptr));
    kept = old.sure < least ? old.sure : least;
    shadow_remove(s, i);
    MUST(s, shadow_add(s, ptr, size, old.id, size) != SIZE_MAX);
    MUST(s, blob_intact(pt, ptr, old.id, kept, (enum access)(rng_below(rng, 2))));
    MUST(s, blob_write(pt, ptr, old.id, kept, size, (enum access)(rng_below(rng, 2))));
    return 1;
}

int model_step(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    uint64_t choice = rng_below(rng, 100);

    s->step++;
    if (s->count == 0 || (choice < 42 && s->count < s->max_count))
        return model_palloc(pt, s, rng);
    if (choice < 72)
        return model_pfree(pt, s, rng);
    if (choice < 90)
        return model_prealloc(pt, s, rng);
    {
        struct blob *b = &s->at[rng_below(rng, s->count)];
        enum access how = (enum access)(choice % 2);
        if (choice < 95) { /* read one way what was written the other way */
            b->id = s->next_id++;
            MUST(s, blob_write(pt, b->ptr, b->id, 0, b->size, how));
            b->sure = b->size;
            how = how == BY_ADDRESS ? BY_DESCRIPTOR : BY_ADDRESS;
        }
        MUST(s, blob_intact(pt, b->ptr, b->id, b->sure, how));
        MUST(s, CHECK_EQ_U(palloc_size(pt, b->ptr), b->size));
    }
    return 1;
}

int model_free_all(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    while (s->count > 0)
        if (!model_pfree(pt, s, rng))
            return 0;
    return 1;
}

void shadow_adopt(struct shadow *s, struct palloc_t *pt)
{
    uint64_t ptr;

    for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr))
        if (shadow_add(s, ptr, palloc_size(pt, ptr), s->next_id++, 0) == SIZE_MAX)
            return;
}
