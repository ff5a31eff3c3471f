/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The functions of an engine that transactions.c calls. The one in peers/pmemobj_tx.c is a shared object that exports `struct tx_peer tx_peers[2]`. */
#ifndef TX_PEER_H
#define TX_PEER_H
#include <stddef.h>
#include <stdint.h>

/* One transaction of the work: 3 new blobs of 100 bytes, 2 freed, 2 words stored in a blob that stays. */
enum { NEWS = 3, FREED = 2, WORDS = 2, BLOB = 100 };

struct tx_peer {
    const char *name;
    void *(*create)(const char *path, int durable); /* NULL on failure */
    void (*close)(void *medium);
    /* Frees the `freed` old blobs in `gone`; `bytes` are what is in the new ones, `value` is what the words become. Whether it
       succeeded. */
    int (*run)(void *medium, const uint64_t *gone, int freed, uint64_t *news, const char *bytes, uint64_t value);
};
#endif
