/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Whole files, bytes of them, and their figures in the file system. */
#ifndef SUPPORT_FILES_H
#define SUPPORT_FILES_H

#include "../portable.h"

#include <stddef.h>
#include <stdint.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define FREE_BIT ((uint64_t)1 << 63)
/* errno before a call that must leave it alone; no system has an error of this number. */
#define UNTOUCHED 31313

struct bytes {
    uint8_t *at;
    size_t size;
};

static inline uint64_t get64(const void *at)
{
    const uint8_t *p = at;
    uint64_t v = 0;
    int i;

    for (i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static inline void put64(void *at, uint64_t v)
{
    uint8_t *p = at;
    int i;

    for (i = 7; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

static inline void put32(void *at, uint32_t v)
{
    uint8_t *p = at;
    int i;

    for (i = 3; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

void *xmalloc(size_t size);
struct bytes bytes_new(size_t size);
void bytes_free(struct bytes *b);

/* The whole file; ends the program when there is none. */
struct bytes file_read(const char *path);

/* Replaces the file's contents; the inode stays. */
void file_write(const char *path, const void *data, size_t size);

/* A file of zeros, sparse. */
void file_zeros(const char *path, uint64_t size);

/* The path of a new file in memory, for speed; where there is no such thing, `name`. */
void file_in_memory(char path[64], const char *name);
uint64_t file_size(const char *path);

/* Space on the disk, in bytes. */
uint64_t file_disk(const char *path);
int same_mtime(const struct stat *a, const struct stat *b);

/* Modified long ago. */
int file_make_old(const char *path);
void file_copy(const char *from, const char *to);

/* The address space that this process uses, in bytes; 0 if the system does not say. */
uint64_t address_space_used(void);

/* Overwrites eight bytes with a big-endian word. */
void file_poke64(const char *path, uint64_t offset, uint64_t word);
int file_is(const char *path, const struct bytes *want);

#endif
