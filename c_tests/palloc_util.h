/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Shared by the palloc programs:
 *
 *     rng         random numbers from a seed, the same everywhere
 *     file_*      whole files as bytes
 *     medium_*    a reader of the format that knows nothing of the library: the second opinion on every file that it leaves
 *     pattern_*   the bytes that a blob with a given id must hold
 *     view        what an open medium shows: walk, iteration, statistics and struct fields must agree
 *     shadow      the blobs that must be there, in memory; model_step() does one random operation on a medium and its shadow
 *
 * CHECK_SOUND(path) and CHECK_VIEW(pt) are checks in the sense of tap.h.
 */
#ifndef PALLOC_UTIL_H
#define PALLOC_UTIL_H

#include "portable.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "both_generations.h"
#include "support/emulated.h"
#include "support/files.h"
#include "support/medium.h"
#include "support/pattern.h"
#include "support/random.h"
#include "support/shadow.h"
#include "tap.h"

#endif
