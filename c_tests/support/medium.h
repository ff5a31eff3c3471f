/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Media without the library: built by hand, read by a parser of its own; and compared with the results of palloc_check, palloc_walk and palloc_stat. */
#ifndef SUPPORT_MEDIUM_H
#define SUPPORT_MEDIUM_H

#include "files.h"
#include "palloc.h"

/* A medium is built by hand: header, then blocks. */
void build_header(struct bytes *b, uint32_t flags);
void build_zeros(struct bytes *b, size_t count);

/* Appends a block and returns where it starts. Links are for the caller to write; the data are zeros. */
uint64_t build_block(struct bytes *b, uint64_t n, int is_free);
void build_links(struct bytes *b, uint64_t start, uint64_t prev, uint64_t next);

struct block {
    uint64_t start, n; /* offset of the start marker, size of the data */
    int is_free;
};

struct blocks {
    struct block *at;
    size_t count, room;
};

struct medium {
    uint64_t size; /* of the file */
    uint32_t flags;
    struct blocks blocks; /* as far as the chain can be walked */
    uint64_t live, live_bytes, free, free_bytes, largest_free;
    unsigned faults;
    uint64_t fault_at; /* the first fault: start of the block */
    const char *fault;
};

void medium_parse(struct medium *m, const uint8_t *file, uint64_t size);
void medium_load(struct medium *m, const char *path);

/*
 * The file of a medium that was synced, and whose palloc_data was used, ends at `end`. On Windows, where such a file can't be cut, a free
 * block may lie behind; it is taken out of `m` then.
 */
int medium_ends_at(struct medium *m, uint64_t end);
void medium_free(struct medium *m);
int file_ends_at(const char *path, uint64_t end);

/* A new medium in the file at `path`, whatever was there. Ends the program if there is none. */
struct palloc_t *medium_fresh(const char *path, uint32_t flags);

/* Opens a medium. Checks that it opens, and that errno is as before. */
struct palloc_t *opens_(const char *path, uint32_t flags, const char *file, int line);
#define CHECK_OPENS(path, flags) opens_((path), (flags), __FILE__, __LINE__)

/* A closed (or synced) medium: the reader above finds no fault, and palloc_check agrees when it can lock the file. */
int sound_(const char *path, int closed, const char *file, int line);
#define CHECK_SOUND(path) sound_((path), 1, __FILE__, __LINE__)
#define CHECK_SOUND_OPEN(path) sound_((path), 0, __FILE__, __LINE__)

/* For palloc_walk: adds each block to the struct blocks that `user` points to. */
int walk_collect(void *user, uint64_t ptr, uint64_t size, int is_free);

/* Walk, iteration, statistics and struct fields of an open medium agree. */
int view_(struct palloc_t *pt, const char *file, int line);
#define CHECK_VIEW(pt) view_((pt), __FILE__, __LINE__)

#endif
