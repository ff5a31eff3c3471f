/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See random.h. */
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

uint64_t rng_size(struct rng *rng, uint64_t max)
{
    uint64_t kind = rng_below(rng, 8), size;

    if (kind < 3)
        size = rng_below(rng, 65);
    else if (kind < 5) {
        size = rng_below(rng, 33) * 16; /* a statement for each number: compilers differ in the order of operands */
        size += rng_below(rng, 3) - 1;
    }
    else if (kind < 7)
        size = rng_below(rng, 513);
    else
        size = rng_below(rng, max + 1);
    return size > max ? rng_below(rng, max + 1) : size; /* also where 0 - 1 wrapped */
}
