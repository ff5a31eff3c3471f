/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libpalloc as a peer. */
#ifndef OUR_PEER_H
#define OUR_PEER_H
#include "peer.h"
#include <palloc.h>

static void *our_create(const char *path, size_t size_bytes, int durable)
{
    (void)size_bytes;
    return palloc_init(path, PALLOC_DYNAMIC | (durable ? PALLOC_SYNC : 0));
}

static void *our_open(const char *path)
{
    return palloc_init(path, PALLOC_DEFAULT);
}

static void our_close(void *medium)
{
    palloc_close((struct palloc_t *)medium);
}

static uint64_t our_alloc(void *medium, size_t size)
{
    return palloc((struct palloc_t *)medium, size);
}

static void our_release(void *medium, uint64_t block)
{
    pfree((struct palloc_t *)medium, block);
}

static uint64_t our_first(void *medium)
{
    return palloc_first((struct palloc_t *)medium);
}

static uint64_t our_next(void *medium, uint64_t block)
{
    return palloc_next((struct palloc_t *)medium, block);
}

static const struct peer our_peer = {"", our_create, our_open, our_close, our_alloc, our_release, our_first, our_next};

#endif
