/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The functions of an allocator that palloc.c calls. Those in peers/ are shared objects that export one `struct peer peer`. */
#ifndef PEER_H
#define PEER_H
#include <stddef.h>
#include <stdint.h>

struct peer {
    char version[48];
    void *(*create)(const char *path, size_t size_bytes, int durable); /* `size_bytes` for those that don't grow. NULL on failure */
    void *(*open)(const char *path);                                   /* NULL: keeps nothing in a file */
    void (*close)(void *medium);
    uint64_t (*alloc)(void *medium, size_t size); /* 0 on failure */
    void (*release)(void *medium, uint64_t block);
    uint64_t (*first)(void *medium); /* NULL: can't iterate */
    uint64_t (*next)(void *medium, uint64_t block);
};
#endif
