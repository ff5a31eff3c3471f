/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the palloc programs share:
 *
 *     rng         random numbers from a seed, the same everywhere
 *     file_*      whole files as bytes
 *     medium_*    a reader of the format that knows nothing of the library: the second opinion on every file that it leaves
 *     pattern_*   the bytes that a blob with a given id must hold
 *     view        what an open medium shows: walk, iteration, statistics and struct fields must tell one story
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

#include "palloc.h"
#include "support/files.h"
#include "support/medium.h"
#include "support/pattern.h"
#include "support/random.h"
#include "support/shadow.h"
#include "tap.h"

/* The second generation, which palloc.h does not declare. */
int palloc_fd_open(const char *filename, uint32_t flags);
int palloc_fd_init(int fd, uint32_t flags);
int palloc_fd_close(int fd);
uint64_t palloc_fd_alloc(int fd, uint64_t size);
int palloc_fd_free(int fd, uint64_t ptr);
uint64_t palloc_fd_size(int fd, uint64_t ptr);
uint64_t palloc_fd_next(int fd, uint64_t ptr);

#endif
