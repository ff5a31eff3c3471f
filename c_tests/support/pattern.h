/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Bytes that the tests write into blobs: each follows from an id and its place. */
#ifndef SUPPORT_PATTERN_H
#define SUPPORT_PATTERN_H

#include "palloc.h"

#include <stdint.h>

/* Ids below 65536 have the pattern of the golden media; the others' does not repeat. */
uint8_t pattern_byte(uint64_t id, uint64_t j);
void pattern_fill(void *data, uint64_t id, uint64_t from, uint64_t to);

/* How many of the first `size` bytes are right before the first that is not. */
uint64_t pattern_match(const void *data, uint64_t id, uint64_t size);

enum access { BY_ADDRESS, BY_DESCRIPTOR };

/* Writes bytes from..to of a blob's pattern. */
int blob_write(struct palloc_t *pt, uint64_t ptr, uint64_t id, uint64_t from, uint64_t to, enum access how);

/* The first `size` bytes are those of the pattern. */
int blob_intact(struct palloc_t *pt, uint64_t ptr, uint64_t id, uint64_t size, enum access how);

#endif
