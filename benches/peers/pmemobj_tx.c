/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libpmemobj: transactions, and reservations that one call publishes. PMEM_IS_PMEM_FORCE decides whether it calls msync. */
#include "../tx_peer.h"
#include <libpmemobj.h>
#include <stdlib.h>
#include <string.h>

struct medium {
    PMEMobjpool *pool;
    uint64_t uuid, *words;
};

static void *create_pool(const char *path, int durable)
{
    struct medium *m = malloc(sizeof *m);

    (void)durable;
    m->pool = pmemobj_create(path, "bench", 256 << 20, 0600);
    if (m->pool == NULL)
        return NULL;
    PMEMoid root = pmemobj_root(m->pool, WORDS * sizeof(uint64_t));
    m->uuid = root.pool_uuid_lo;
    m->words = pmemobj_direct(root);
    return m;
}

static void close_pool(void *medium)
{
    pmemobj_close(((struct medium *)medium)->pool);
    free(medium);
}

static int run_transaction(void *medium, const uint64_t *gone, int freed, uint64_t *news, const char *bytes, uint64_t value)
{
    struct medium *m = medium;
    int failed = pmemobj_tx_begin(m->pool, NULL, TX_PARAM_NONE);

    for (int i = 0; i < NEWS && !failed; i++) {
        PMEMoid oid = pmemobj_tx_alloc(BLOB, 1);
        if (OID_IS_NULL(oid))
            return 0; /* aborted */
        memcpy(pmemobj_direct(oid), bytes, BLOB);
        news[i] = oid.off;
    }
    for (int i = 0; i < freed && !failed; i++)
        failed = pmemobj_tx_free((PMEMoid){m->uuid, gone[i]});
    if (!failed)
        failed = pmemobj_tx_add_range_direct(m->words, WORDS * sizeof(uint64_t));
    if (!failed) {
        m->words[0] = m->words[1] = value;
        pmemobj_tx_commit();
    }
    return pmemobj_tx_end() == 0 && !failed;
}

static int run_actions(void *medium, const uint64_t *gone, int freed, uint64_t *news, const char *bytes, uint64_t value)
{
    struct medium *m = medium;
    struct pobj_action actions[NEWS + FREED + WORDS];
    int count = 0;

    for (int i = 0; i < NEWS; i++) {
        PMEMoid oid = pmemobj_reserve(m->pool, &actions[count++], BLOB, 1);
        if (OID_IS_NULL(oid))
            return 0;
        memcpy(pmemobj_direct(oid), bytes, BLOB);
        pmemobj_flush(m->pool, pmemobj_direct(oid), BLOB);
        news[i] = oid.off;
    }
    pmemobj_drain(m->pool);
    for (int i = 0; i < freed; i++)
        pmemobj_defer_free(m->pool, (PMEMoid){m->uuid, gone[i]}, &actions[count++]);
    for (int i = 0; i < WORDS; i++)
        pmemobj_set_value(m->pool, &actions[count++], &m->words[i], value);
    return pmemobj_publish(m->pool, actions, (size_t)count) == 0;
}

extern const struct tx_peer tx_peers[2];
const struct tx_peer tx_peers[2] = {
    {"libpmemobj, transaction", create_pool, close_pool, run_transaction},
    {"libpmemobj, reserve and publish", create_pool, close_pool, run_actions},
};
