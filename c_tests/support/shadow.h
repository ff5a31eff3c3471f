/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A model of a medium beside it: which blobs live and what they hold; and random operations on both. */
#ifndef SUPPORT_SHADOW_H
#define SUPPORT_SHADOW_H

#include "palloc.h"
#include "pattern.h"
#include "random.h"

#include <stddef.h>

struct blob {
    uint64_t ptr, size; /* size is what palloc_size said */
    uint64_t id;
    uint64_t sure; /* so many first bytes hold the pattern */
};

struct shadow {
    struct blob *at; /* by ascending ptr */
    size_t count, room;
    uint64_t next_id;
    uint64_t max_size;  /* of a request */
    size_t max_count;   /* of live blobs */
    int in_step;        /* every data offset must be 16-byte aligned */
    uint64_t seed, step; /* printed when something fails */
};

void shadow_init(struct shadow *s, uint64_t seed, uint64_t max_size, size_t max_count, int in_step);
void shadow_free(struct shadow *s);

/* Index of the first blob at `ptr` or behind. */
size_t shadow_find(const struct shadow *s, uint64_t ptr);

/* Adds a blob, which must overlap none, and returns its index; SIZE_MAX if it does overlap. */
size_t shadow_add(struct shadow *s, uint64_t ptr, uint64_t size, uint64_t id, uint64_t sure);
void shadow_remove(struct shadow *s, size_t i);
void shadow_where(const struct shadow *s);

/* The medium's live set is that of the shadow; each blob has its size and its bytes. */
int shadow_matches(struct shadow *s, struct palloc_t *pt, enum access how);

#define MUST(s, check)       \
    do {                     \
        if (!(check)) {      \
            shadow_where(s); \
            return 0;        \
        }                    \
    } while (0)

/* `size` while other threads change it. */
static inline uint64_t size_now(struct palloc_t *pt)
{
    return __atomic_load_n(&pt->size, __ATOMIC_RELAXED);
}

int model_palloc(struct palloc_t *pt, struct shadow *s, struct rng *rng);
int model_pfree(struct palloc_t *pt, struct shadow *s, struct rng *rng);

/* One random operation; 0 when a check failed. */
int model_step(struct palloc_t *pt, struct shadow *s, struct rng *rng);

/* Frees all blobs in random order, each intact up to then. */
int model_free_all(struct palloc_t *pt, struct shadow *s, struct rng *rng);

/* The live set of an open medium whose contents are not known. */
void shadow_adopt(struct shadow *s, struct palloc_t *pt);

#endif
