/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libpmemobj, its atomic interface. Without `durable` it treats the file as persistent memory: it flushes caches and calls no msync. */
#include "../peer.h"
#include <libpmemobj.h>
#include <stdlib.h>

#ifndef PMEMOBJ_VERSION
#define PMEMOBJ_VERSION ""
#endif

struct medium {
    PMEMobjpool *pool;
    uint64_t uuid;
};

static void *medium(PMEMobjpool *pool)
{
    struct medium *m = pool != NULL ? malloc(sizeof *m) : NULL;

    if (m != NULL) {
        m->pool = pool;
        m->uuid = pmemobj_oid(pmemobj_direct(pmemobj_root(pool, 16))).pool_uuid_lo;
    }
    return m;
}

static void *create_pool(const char *path, size_t size_bytes, int durable)
{
    (void)durable; /* the library reads it from PMEM_IS_PMEM_FORCE, when it is loaded */
    return medium(pmemobj_create(path, "bench", size_bytes < PMEMOBJ_MIN_POOL ? PMEMOBJ_MIN_POOL : size_bytes, 0600));
}

static void *open_pool(const char *path)
{
    return medium(pmemobj_open(path, "bench"));
}

static void close_pool(void *m)
{
    pmemobj_close(((struct medium *)m)->pool);
    free(m);
}

static uint64_t alloc_object(void *m, size_t size)
{
    PMEMoid oid;

    return pmemobj_alloc(((struct medium *)m)->pool, &oid, size, 1, NULL, NULL) == 0 ? oid.off : 0;
}

static void release_object(void *m, uint64_t block)
{
    PMEMoid oid = {((struct medium *)m)->uuid, block};

    pmemobj_free(&oid);
}

static uint64_t first_object(void *m)
{
    return pmemobj_first(((struct medium *)m)->pool).off;
}

static uint64_t next_object(void *m, uint64_t block)
{
    PMEMoid oid = {((struct medium *)m)->uuid, block};

    return pmemobj_next(oid).off;
}

extern const struct peer peer;
const struct peer peer = {PMEMOBJ_VERSION, create_pool, open_pool, close_pool, alloc_object, release_object, first_object, next_object};
