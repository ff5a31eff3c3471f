/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Random numbers that are the same everywhere, from a seed. */
#ifndef SUPPORT_RANDOM_H
#define SUPPORT_RANDOM_H

#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t rng_next(struct rng *rng)
{
    return mix64(rng->state += UINT64_C(0x9e3779b97f4a7c15));
}

/* 0 to n - 1 */
static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
    return n == 0 ? 0 : rng_next(rng) % n;
}

/* Mostly small, now and then up to `max`, often at the edge of a rounding step. */
uint64_t rng_size(struct rng *rng, uint64_t max);

#endif
