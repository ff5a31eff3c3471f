/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See pattern.h. */
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

uint8_t pattern_byte(uint64_t id, uint64_t j)
{
    if (id < 65536)
        return (uint8_t)(id * 37 + j * 11 + 5);
    return (uint8_t)(mix64(id * UINT64_C(0x9e3779b97f4a7c15) + (j >> 3)) >> (8 * (j & 7)));
}

void pattern_fill(void *data, uint64_t id, uint64_t from, uint64_t to)
{
    uint8_t *p = data;
    uint64_t j = from;

    if (id < 65536) {
        for (; j < to; j++)
            p[j] = pattern_byte(id, j);
        return;
    }
    while (j < to) {
        uint64_t word = mix64(id * UINT64_C(0x9e3779b97f4a7c15) + (j >> 3));
        do {
            p[j] = (uint8_t)(word >> (8 * (j & 7)));
            j++;
        } while (j < to && (j & 7) != 0);
    }
}

uint64_t pattern_match(const void *data, uint64_t id, uint64_t size)
{
    const uint8_t *p = data;
    uint64_t j = 0;

    if (id < 65536) {
        while (j < size && p[j] == pattern_byte(id, j))
            j++;
        return j;
    }
    while (j < size) {
        uint64_t word = mix64(id * UINT64_C(0x9e3779b97f4a7c15) + (j >> 3));
        do {
            if (p[j] != (uint8_t)(word >> (8 * (j & 7))))
                return j;
            j++;
        } while (j < size && (j & 7) != 0);
    }
    return size;
}

int blob_write(struct palloc_t *pt, uint64_t ptr, uint64_t id, uint64_t from, uint64_t to, enum access how)
{
    if (from >= to)
        return 1;
    if (how == BY_ADDRESS) {
        uint8_t *data = palloc_data(pt, ptr);
        if (!CHECK(data != NULL))
            return 0;
        pattern_fill(data, id, from, to);
        return 1;
    } else {
        uint8_t *copy = xmalloc((size_t)to);
        ssize_t put;
        pattern_fill(copy, id, from, to);
        put = pwrite(pt->descriptor, copy + from, (size_t)(to - from), (off_t)(ptr + from));
        free(copy);
        return CHECK_EQ_I(put, to - from);
    }
}

int blob_intact(struct palloc_t *pt, uint64_t ptr, uint64_t id, uint64_t size, enum access how)
{
    uint64_t right;

    if (how == BY_ADDRESS) {
        const uint8_t *data = palloc_data(pt, ptr);
        if (!CHECK(data != NULL))
            return 0;
        right = pattern_match(data, id, size);
    } else {
        uint8_t *copy = xmalloc((size_t)size);
        ssize_t got = pread(pt->descriptor, copy, (size_t)size, (off_t)ptr);
        int whole = CHECK_EQ_I(got, size);
        right = whole ? pattern_match(copy, id, size) : 0;
        free(copy);
        if (!whole)
            return 0;
    }
    if (!CHECK_EQ_U(right, size)) {
        DIAG("blob at %llu, id %llu: byte %llu is wrong", (unsigned long long)ptr, (unsigned long long)id,
             (unsigned long long)right);
        return 0;
    }
    return 1;
}
