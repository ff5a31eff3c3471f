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
#include "tap.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define FREE_BIT ((uint64_t)1 << 63)
/* errno before a call that must leave it alone; no system has an error of this number. */
#define UNTOUCHED 31313

/* The second generation, which palloc.h does not declare. */
int palloc_fd_open(const char *filename, uint32_t flags);
int palloc_fd_init(int fd, uint32_t flags);
int palloc_fd_close(int fd);
uint64_t palloc_fd_alloc(int fd, uint64_t size);
int palloc_fd_free(int fd, uint64_t ptr);
uint64_t palloc_fd_size(int fd, uint64_t ptr);
uint64_t palloc_fd_next(int fd, uint64_t ptr);

/* ------------------------------------------------------------------------------------------------------------------ random numbers */

struct rng {
    uint64_t state;
};

static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t rng_next(struct rng *rng)
{
    return mix64(rng->state += UINT64_C(0x9e3779b97f4a7c15));
}

/* 0 to n - 1 */
static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
    return n == 0 ? 0 : rng_next(rng) % n;
}

/* Mostly small, now and then up to `max`, often at the edge of a rounding step. */
static inline uint64_t rng_size(struct rng *rng, uint64_t max)
{
    uint64_t kind = rng_below(rng, 8), size;

    if (kind < 3)
        size = rng_below(rng, 65);
    else if (kind < 5) {
        size = rng_below(rng, 33) * 16; /* a statement for each number: compilers differ in the order of operands */
        size += rng_below(rng, 3) - 1;
    }
    else if (kind < 7)
        size = rng_below(rng, 513);
    else
        size = rng_below(rng, max + 1);
    return size > max ? rng_below(rng, max + 1) : size; /* also where 0 - 1 wrapped */
}

/* ---------------------------------------------------------------------------------------------------------------------------- files */

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

static inline void *xmalloc(size_t size)
{
    void *at = malloc(size != 0 ? size : 1);

    REQUIRE(at != NULL);
    return at;
}

static inline struct bytes bytes_new(size_t size)
{
    struct bytes b;

    b.at = xmalloc(size);
    b.size = size;
    memset(b.at, 0, size);
    return b;
}

static inline void bytes_free(struct bytes *b)
{
    free(b->at);
    b->at = NULL;
    b->size = 0;
}

/* The whole file; ends the program when there is none. */
static inline struct bytes file_read(const char *path)
{
    struct bytes b;
    struct stat st;
    size_t done = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    REQUIRE(fd >= 0);
    REQUIRE(fstat(fd, &st) == 0);
    b = bytes_new((size_t)st.st_size);
    while (done < b.size) {
        ssize_t got = pread(fd, b.at + done, b.size - done, (off_t)done);
        REQUIRE(got > 0);
        done += (size_t)got;
    }
    close(fd);
    return b;
}

/* Replaces the file's contents; the inode stays. */
static inline void file_write(const char *path, const void *data, size_t size)
{
    size_t done = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    REQUIRE(fd >= 0);
    while (done < size) {
        ssize_t put = pwrite(fd, (const uint8_t *)data + done, size - done, (off_t)done);
        REQUIRE(put > 0);
        done += (size_t)put;
    }
    close(fd);
}

/* A file of zeros, sparse. */
static inline void file_zeros(const char *path, uint64_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    REQUIRE(fd >= 0);
    REQUIRE(ftruncate(fd, (off_t)size) == 0);
    close(fd);
}

/* The path of a new file in memory, for speed; where there is no such thing, `name`. */
static inline void file_in_memory(char path[64], const char *name)
{
#ifdef _WIN32
    int fd = -1;
#else
    int fd = memfd_create(name, MFD_CLOEXEC);
#endif

    snprintf(path, 64, "/proc/self/fd/%d", fd);
    if (fd < 0 || access(path, R_OK | W_OK) != 0)
        snprintf(path, 64, "%s", name);
}

static inline uint64_t file_size(const char *path)
{
    struct stat st;

    REQUIRE(stat(path, &st) == 0);
    return (uint64_t)st.st_size;
}

/* Space on the disk, in bytes. */
static inline uint64_t file_disk(const char *path)
{
#ifdef _WIN32
    FILE_STANDARD_INFO info;
    int fd = open(path, O_RDONLY);

    REQUIRE(fd >= 0 && GetFileInformationByHandleEx((HANDLE)_get_osfhandle(fd), FileStandardInfo, &info, sizeof info));
    close(fd);
    return (uint64_t)info.AllocationSize.QuadPart;
#else
    struct stat st;

    REQUIRE(stat(path, &st) == 0);
    return (uint64_t)st.st_blocks * 512;
#endif
}

static inline int same_mtime(const struct stat *a, const struct stat *b)
{
#ifdef _WIN32
    return a->st_mtime == b->st_mtime;
#else
    return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
#endif
}

/* Modified long ago. */
static inline int file_make_old(const char *path)
{
#ifdef _WIN32
    struct _utimbuf old = {1000000000, 1000000000};

    return _utime(path, &old);
#else
    struct timespec old[2] = {{1000000000, 123456789}, {1000000000, 123456789}};

    return utimensat(AT_FDCWD, path, old, 0);
#endif
}

static inline void file_copy(const char *from, const char *to)
{
    struct bytes b = file_read(from);

    file_write(to, b.at, b.size);
    bytes_free(&b);
}

/* Overwrites eight bytes with a big-endian word. */
static inline void file_poke64(const char *path, uint64_t offset, uint64_t word)
{
    uint8_t raw[8];
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    put64(raw, word);
    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, raw, 8, (off_t)offset) == 8);
    close(fd);
}

static inline int file_is(const char *path, const struct bytes *want)
{
    struct bytes got = file_read(path);
    int same = got.size == want->size && memcmp(got.at, want->at, got.size) == 0;

    bytes_free(&got);
    return same;
}

/* A medium is built by hand: header, then blocks. */
static inline void build_header(struct bytes *b, uint32_t flags)
{
    b->at = xmalloc(8);
    b->size = 8;
    memcpy(b->at, "PBA", 4);
    put32(b->at + 4, flags);
}

static inline void build_zeros(struct bytes *b, size_t count)
{
    b->at = realloc(b->at, b->size + count != 0 ? b->size + count : 1);
    REQUIRE(b->at != NULL);
    memset(b->at + b->size, 0, count);
    b->size += count;
}

/* Appends a block and returns where it starts. Links are for the caller to write; the data are zeros. */
static inline uint64_t build_block(struct bytes *b, uint64_t n, int is_free)
{
    uint64_t start = b->size, marker = is_free ? n | FREE_BIT : n;

    build_zeros(b, (size_t)n + 16);
    put64(b->at + start, marker);
    put64(b->at + start + 8 + n, marker);
    return start;
}

static inline void build_links(struct bytes *b, uint64_t start, uint64_t prev, uint64_t next)
{
    put64(b->at + start + 8, prev);
    put64(b->at + start + 16, next);
}

/* -------------------------------------------------------------------------------------------- the format, read without the library */

struct block {
    uint64_t start, n; /* offset of the start marker, size of the data */
    int is_free;
};

struct blocks {
    struct block *at;
    size_t count, room;
};

static inline void blocks_add(struct blocks *b, uint64_t start, uint64_t n, int is_free)
{
    if (b->count == b->room) {
        b->room = b->room != 0 ? 2 * b->room : 64;
        b->at = realloc(b->at, b->room * sizeof *b->at);
        REQUIRE(b->at != NULL);
    }
    b->at[b->count].start = start;
    b->at[b->count].n = n;
    b->at[b->count].is_free = is_free;
    b->count++;
}

struct medium {
    uint64_t size; /* of the file */
    uint32_t flags;
    struct blocks blocks; /* as far as the chain can be walked */
    uint64_t live, live_bytes, free, free_bytes, largest_free;
    unsigned faults;
    uint64_t fault_at; /* the first fault: start of the block */
    const char *fault;
};

static inline void medium_fault_(struct medium *m, uint64_t at, const char *what)
{
    if (m->faults++ == 0) {
        m->fault_at = at;
        m->fault = what;
    }
}

static inline void medium_parse(struct medium *m, const uint8_t *file, uint64_t size)
{
    uint64_t at = 8, last_free = 0, expected_next = 0;
    int after_free = 0;

    memset(m, 0, sizeof *m);
    m->size = size;
    if (size < 8 || memcmp(file, "PBA", 4) != 0) {
        medium_fault_(m, 0, "no header");
        return;
    }
    m->flags = (uint32_t)get64(file);
    if (m->flags & PALLOC_EXTENDED)
        medium_fault_(m, 0, "EXTENDED is set");
    while (at < size) {
        uint64_t marker, n;
        int is_free;

        if (size - at < 32) {
            medium_fault_(m, at, "too little room for a block");
            break;
        }
        marker = get64(file + at);
        is_free = (marker & FREE_BIT) != 0;
        n = marker & ~FREE_BIT;
        if (n < 16 || n > size - at - 16) {
            medium_fault_(m, at, "the size is impossible");
            break;
        }
        if (get64(file + at + 8 + n) != marker)
            medium_fault_(m, at, "the end marker differs");
        if (is_free) {
            if (after_free)
                medium_fault_(m, at, "two free blocks side by side");
            if (get64(file + at + 8) != last_free)
                medium_fault_(m, at, "prev is wrong");
            if (last_free != 0 && expected_next != at)
                medium_fault_(m, last_free, "next is wrong");
            last_free = at;
            expected_next = get64(file + at + 16);
            m->free++;
            m->free_bytes += n;
            if (n > m->largest_free)
                m->largest_free = n;
        } else {
            m->live++;
            m->live_bytes += n;
        }
        after_free = is_free;
        blocks_add(&m->blocks, at, n, is_free);
        at += n + 16;
    }
    if (last_free != 0 && expected_next != 0)
        medium_fault_(m, last_free, "next of the last free block is not 0");
}

static inline void medium_load(struct medium *m, const char *path)
{
#ifdef _WIN32
    struct bytes file = file_read(path);

    medium_parse(m, file.at, file.size);
    bytes_free(&file);
#else
    struct stat st;
    void *file = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    REQUIRE(fd >= 0);
    REQUIRE(fstat(fd, &st) == 0);
    if (st.st_size > 0) {
        file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        REQUIRE(file != MAP_FAILED);
    }
    medium_parse(m, file, (uint64_t)st.st_size);
    if (file != NULL)
        munmap(file, (size_t)st.st_size);
    close(fd);
#endif
}

/*
 * The file of a medium that was synced, and whose palloc_data was used, ends at `end`. On Windows, where such a file can't be cut, a free
 * block may lie behind; it is taken out of `m` then.
 */
static inline int medium_ends_at(struct medium *m, uint64_t end)
{
#ifdef _WIN32
    const struct block *last = m->blocks.count != 0 ? &m->blocks.at[m->blocks.count - 1] : NULL;
    size_t i;

    if (last != NULL && last->is_free && last->start == end) {
        m->size = end;
        m->free--;
        m->free_bytes -= last->n;
        m->blocks.count--;
        m->largest_free = 0;
        for (i = 0; i < m->blocks.count; i++)
            if (m->blocks.at[i].is_free && m->blocks.at[i].n > m->largest_free)
                m->largest_free = m->blocks.at[i].n;
    }
#endif
    return m->size == end;
}

static inline void medium_free(struct medium *m)
{
    free(m->blocks.at);
    memset(m, 0, sizeof *m);
}

static inline int file_ends_at(const char *path, uint64_t end)
{
    struct medium m;
    int does;

    medium_load(&m, path);
    does = medium_ends_at(&m, end);
    medium_free(&m);
    return does;
}

static inline void medium_print(const struct medium *m)
{
    size_t i;

    DIAG("medium of %llu bytes, flags %#x, %llu live, %llu free; %u faults: %s at %llu", (unsigned long long)m->size,
         (unsigned)m->flags, (unsigned long long)m->live, (unsigned long long)m->free, m->faults,
         m->fault != NULL ? m->fault : "none", (unsigned long long)m->fault_at);
    for (i = 0; i < m->blocks.count && i < 40; i++)
        DIAG("  %8llu %8llu %s", (unsigned long long)m->blocks.at[i].start, (unsigned long long)m->blocks.at[i].n,
             m->blocks.at[i].is_free ? "free" : "live");
}

static inline void report_diag(void *user, uint64_t offset, const char *what)
{
    (void)user;
    DIAG("  palloc_check: at %llu: %s", (unsigned long long)offset, what);
}

/* A closed (or synced) medium: the reader above finds no fault, and palloc_check agrees when it can lock the file. */
static inline int sound_(const char *path, int closed, const char *file, int line)
{
    struct medium m;
    int holds;

    medium_load(&m, path);
    holds = tap_check_(m.faults == 0, "the file is exactly the format", file, line);
    if (!holds)
        medium_print(&m);
    medium_free(&m);
    if (closed) {
        int64_t found = palloc_check(path, NULL, NULL);
        int agrees = tap_eq_i_(found, 0, "palloc_check", "0", file, line);
        if (!agrees)
            palloc_check(path, report_diag, NULL);
        holds = holds && agrees;
    }
    return holds;
}
#define CHECK_SOUND(path) sound_((path), 1, __FILE__, __LINE__)
#define CHECK_SOUND_OPEN(path) sound_((path), 0, __FILE__, __LINE__)

/* ------------------------------------------------------------------------------------------------------------------------- patterns */

/* Ids below 65536 have the pattern of the golden media; the others' does not repeat. */
static inline uint8_t pattern_byte(uint64_t id, uint64_t j)
{
    if (id < 65536)
        return (uint8_t)(id * 37 + j * 11 + 5);
    return (uint8_t)(mix64(id * UINT64_C(0x9e3779b97f4a7c15) + (j >> 3)) >> (8 * (j & 7)));
}

static inline void pattern_fill(void *data, uint64_t id, uint64_t from, uint64_t to)
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

/* How many of the first `size` bytes are right before the first that is not. */
static inline uint64_t pattern_match(const void *data, uint64_t id, uint64_t size)
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

enum access { BY_ADDRESS, BY_DESCRIPTOR };

/* Writes bytes from..to of a blob's pattern. */
static inline int blob_write(struct palloc_t *pt, uint64_t ptr, uint64_t id, uint64_t from, uint64_t to, enum access how)
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

/* The first `size` bytes are those of the pattern. */
static inline int blob_intact(struct palloc_t *pt, uint64_t ptr, uint64_t id, uint64_t size, enum access how)
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

/* ----------------------------------------------------------------------------------------------------------- what a medium shows */

static inline int walk_collect(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    blocks_add(user, ptr - 8, size, is_free);
    return 0;
}

static inline int view_(struct palloc_t *pt, const char *file, int line)
{
    struct blocks seen = {NULL, 0, 0};
    struct palloc_stat stat, want;
    uint64_t at = 8, iterated;
    size_t i;
    int good = 1, first_free_is_free = 0, any_free = 0;

    memset(&want, 0, sizeof want);
    errno = UNTOUCHED;
    good &= tap_eq_i_(palloc_walk(pt, walk_collect, &seen), 0, "palloc_walk", "0", file, line);
    good &= tap_eq_i_(palloc_stat(pt, &stat), 0, "palloc_stat", "0", file, line);
    iterated = palloc_first(pt);
    for (i = 0; i < seen.count && good; i++) {
        const struct block *b = &seen.at[i];
        good &= tap_eq_u_(b->start, at, "the walked block's start", "the end of the one before", file, line);
        good &= tap_check_(b->n >= 16, "a block has 16 bytes or more", file, line);
        if (b->is_free) {
            any_free = 1;
            first_free_is_free |= pt->first_free == b->start;
            want.free_blocks++;
            want.free_bytes += b->n;
            if (b->n > want.largest_free)
                want.largest_free = b->n;
        } else {
            good &= tap_eq_u_(iterated, b->start + 8, "the iteration", "the live block of the walk", file, line);
            want.live_blobs++;
            want.live_bytes += b->n;
            iterated = palloc_next(pt, b->start + 8);
        }
        at = b->start + b->n + 16;
    }
    if (good) {
        good &= tap_eq_u_(iterated, 0, "the end of the iteration", "0", file, line);
        good &= tap_eq_u_(pt->size, at, "pt->size", "the end of the last block", file, line);
        good &= tap_eq_u_(stat.medium_size, at, "medium_size", "the end of the last block", file, line);
        good &= tap_eq_u_(stat.live_blobs, want.live_blobs, "live_blobs", "as walked", file, line);
        good &= tap_eq_u_(stat.live_bytes, want.live_bytes, "live_bytes", "as walked", file, line);
        good &= tap_eq_u_(stat.free_blocks, want.free_blocks, "free_blocks", "as walked", file, line);
        good &= tap_eq_u_(stat.free_bytes, want.free_bytes, "free_bytes", "as walked", file, line);
        good &= tap_eq_u_(stat.largest_free, want.largest_free, "largest_free", "as walked", file, line);
        good &= tap_check_(any_free ? first_free_is_free : pt->first_free == 0, "first_free is the start of a free block, or 0",
                           file, line);
        good &= tap_eq_u_(pt->header_size, 8, "header_size", "8", file, line);
        good &= tap_eq_i_(errno, UNTOUCHED, "errno after calls that succeed", "as before", file, line);
    }
    if (!good) {
        DIAG("size %llu, first_free %llu; walked:", (unsigned long long)pt->size, (unsigned long long)pt->first_free);
        for (i = 0; i < seen.count && i < 40; i++)
            DIAG("  %8llu %8llu %s", (unsigned long long)seen.at[i].start, (unsigned long long)seen.at[i].n,
                 seen.at[i].is_free ? "free" : "live");
    }
    free(seen.at);
    return good;
}
#define CHECK_VIEW(pt) view_((pt), __FILE__, __LINE__)

/* --------------------------------------------------------------------------------------------------------------------------- shadow */

struct blob {
    uint64_t ptr, size; /* size is what palloc_size said */
    uint64_t id;
    uint64_t sure; /* so many first bytes hold the pattern */
};

struct shadow {
    struct blob *at; /* by ascending ptr */
    size_t count, room;
    uint64_t next_id;
    uint64_t max_size;  /* of a request */
    size_t max_count;   /* of live blobs */
    int in_step;        /* every data offset must be 16-byte aligned */
    uint64_t seed, step; /* printed when something fails */
};

static inline void shadow_init(struct shadow *s, uint64_t seed, uint64_t max_size, size_t max_count, int in_step)
{
    memset(s, 0, sizeof *s);
    s->next_id = 65536 + seed * 1000003;
    s->seed = seed;
    s->max_size = max_size;
    s->max_count = max_count;
    s->in_step = in_step;
}

static inline void shadow_free(struct shadow *s)
{
    free(s->at);
    s->at = NULL;
    s->count = s->room = 0;
}

/* Index of the first blob at `ptr` or behind. */
static inline size_t shadow_find(const struct shadow *s, uint64_t ptr)
{
    size_t low = 0, high = s->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->at[middle].ptr < ptr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Adds a blob, which must overlap none, and returns its index; SIZE_MAX if it does overlap. */
static inline size_t shadow_add(struct shadow *s, uint64_t ptr, uint64_t size, uint64_t id, uint64_t sure)
{
    size_t i = shadow_find(s, ptr);

    if (i > 0 && !CHECK(s->at[i - 1].ptr + s->at[i - 1].size + 16 <= ptr))
        return SIZE_MAX;
    if (i < s->count && !CHECK(ptr + size + 16 <= s->at[i].ptr))
        return SIZE_MAX;
    if (!CHECK(ptr >= 16))
        return SIZE_MAX;
    if (s->count == s->room) {
        s->room = s->room != 0 ? 2 * s->room : 64;
        s->at = realloc(s->at, s->room * sizeof *s->at);
        REQUIRE(s->at != NULL);
    }
    memmove(s->at + i + 1, s->at + i, (s->count - i) * sizeof *s->at);
    s->count++;
    s->at[i].ptr = ptr;
    s->at[i].size = size;
    s->at[i].id = id;
    s->at[i].sure = sure;
    return i;
}

static inline void shadow_remove(struct shadow *s, size_t i)
{
    s->count--;
    memmove(s->at + i, s->at + i + 1, (s->count - i) * sizeof *s->at);
}

static inline void shadow_where(const struct shadow *s)
{
    DIAG("seed %llu, step %llu, %llu blobs", (unsigned long long)s->seed, (unsigned long long)s->step,
         (unsigned long long)s->count);
}

/* The medium's live set is that of the shadow; each blob has its size and its bytes. */
static inline int shadow_matches(struct shadow *s, struct palloc_t *pt, enum access how)
{
    uint64_t ptr = palloc_first(pt);
    size_t i;

    for (i = 0; i < s->count; i++) {
        const struct blob *b = &s->at[i];
        if (!CHECK_EQ_U(ptr, b->ptr) || !CHECK_EQ_U(palloc_size(pt, ptr), b->size)
            || !blob_intact(pt, ptr, b->id, b->sure, how)) {
            shadow_where(s);
            return 0;
        }
        ptr = palloc_next(pt, ptr);
    }
    if (!CHECK_EQ_U(ptr, 0)) {
        shadow_where(s);
        return 0;
    }
    return 1;
}

/* The largest request that a static medium must grant: the widest gap between live blobs, as one free block. 0 when there is none. */
static inline uint64_t shadow_largest_gap(const struct shadow *s, uint64_t medium_size)
{
    uint64_t at = 8, widest = 0;
    size_t i;

    for (i = 0; i <= s->count; i++) {
        uint64_t next = i < s->count ? s->at[i].ptr - 8 : medium_size;
        if (next - at > widest)
            widest = next - at;
        if (i < s->count)
            at = s->at[i].ptr + s->at[i].size + 8;
    }
    return widest >= 32 ? widest - 16 : 0;
}

#define MUST(s, check)       \
    do {                     \
        if (!(check)) {      \
            shadow_where(s); \
            return 0;        \
        }                    \
    } while (0)

/* `size` while other threads change it. */
static inline uint64_t size_now(struct palloc_t *pt)
{
    return __atomic_load_n(&pt->size, __ATOMIC_RELAXED);
}

static inline int model_palloc(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    uint64_t asked = rng_size(rng, s->max_size), least = asked < 16 ? 16 : asked, rounded = (least + 15) & ~UINT64_C(15);
    int fits = (pt->flags & PALLOC_DYNAMIC) != 0 || least <= shadow_largest_gap(s, size_now(pt));
    uint64_t ptr, size, id = s->next_id++;

    errno = UNTOUCHED;
    ptr = rng_below(rng, 8) == 0 ? prealloc(pt, 0, (size_t)asked) : palloc(pt, (size_t)asked);
    if (!fits) {
        MUST(s, CHECK_EQ_U(ptr, 0));
        MUST(s, CHECK_ERRNO(ENOSPC));
        return 1;
    }
    MUST(s, CHECK(ptr != 0));
    size = palloc_size(pt, ptr);
    MUST(s, CHECK(size >= least));
    MUST(s, CHECK(ptr + size + 8 <= size_now(pt)));
    if (s->in_step) {
        MUST(s, CHECK_EQ_U(ptr % 16, 0));
        MUST(s, CHECK(size <= rounded + 32)); /* more would have been split off */
    }
    MUST(s, CHECK_EQ_I(errno, UNTOUCHED));
    MUST(s, shadow_add(s, ptr, size, id, size) != SIZE_MAX);
    MUST(s, blob_write(pt, ptr, id, 0, size, (enum access)(id % 2)));
    return 1;
}

static inline int model_pfree(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    size_t i = (size_t)rng_below(rng, s->count);
    struct blob b = s->at[i];

    MUST(s, blob_intact(pt, b.ptr, b.id, b.sure, (enum access)(rng_below(rng, 2))));
    errno = UNTOUCHED;
    pfree(pt, b.ptr);
    MUST(s, CHECK_EQ_I(errno, UNTOUCHED));
    shadow_remove(s, i);
    return 1;
}

static inline int model_prealloc(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    size_t i = (size_t)rng_below(rng, s->count);
    struct blob old = s->at[i];
    uint64_t asked, least, next, room, ptr, size, kept;
    int must_fit, may_fit;

    switch (rng_below(rng, 4)) {
    case 0:
        asked = rng_below(rng, old.size + 1); /* shrink */
        break;
    case 1:
        asked = old.size + 1 + rng_below(rng, 64); /* grow a little */
        break;
    default:
        asked = rng_size(rng, s->max_size);
    }
    least = asked < 16 ? 16 : asked;
    next = i + 1 < s->count ? s->at[i + 1].ptr - 8 : size_now(pt);
    room = next - (old.ptr + 8); /* data size if the block took all up to the next live one */
    may_fit = (pt->flags & PALLOC_DYNAMIC) != 0 || least <= shadow_largest_gap(s, size_now(pt)) || least <= room;
    /* An odd block may not grow in place by less than a word. */
    must_fit = may_fit && (s->in_step || least <= old.size || least > room || (pt->flags & PALLOC_DYNAMIC) != 0);
    errno = UNTOUCHED;
    ptr = prealloc(pt, old.ptr, (size_t)asked);
    if (ptr == 0) {
        MUST(s, CHECK_ERRNO(ENOSPC));
        MUST(s, CHECK(!must_fit));
        MUST(s, CHECK_EQ_U(palloc_size(pt, old.ptr), old.size));
        return blob_intact(pt, old.ptr, old.id, old.sure, BY_ADDRESS);
    }
    MUST(s, CHECK(may_fit));
    MUST(s, CHECK_EQ_I(errno, UNTOUCHED));
    size = palloc_size(pt, ptr);
    MUST(s, CHECK(size >= least));
    if (s->in_step)
        MUST(s, CHECK_EQ_U(ptr % 16, 0));
    if (least <= old.size)
        MUST(s, CHECK(size <= old.size || ptr != old.ptr));
    kept = old.sure < least ? old.sure : least;
    shadow_remove(s, i);
    MUST(s, shadow_add(s, ptr, size, old.id, size) != SIZE_MAX);
    MUST(s, blob_intact(pt, ptr, old.id, kept, (enum access)(rng_below(rng, 2))));
    MUST(s, blob_write(pt, ptr, old.id, kept, size, (enum access)(rng_below(rng, 2))));
    return 1;
}

/* One random operation; 0 when a check failed. */
static inline int model_step(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    uint64_t choice = rng_below(rng, 100);

    s->step++;
    if (s->count == 0 || (choice < 42 && s->count < s->max_count))
        return model_palloc(pt, s, rng);
    if (choice < 72)
        return model_pfree(pt, s, rng);
    if (choice < 90)
        return model_prealloc(pt, s, rng);
    {
        struct blob *b = &s->at[rng_below(rng, s->count)];
        enum access how = (enum access)(choice % 2);
        if (choice < 95) { /* read one way what was written the other way */
            b->id = s->next_id++;
            MUST(s, blob_write(pt, b->ptr, b->id, 0, b->size, how));
            b->sure = b->size;
            how = how == BY_ADDRESS ? BY_DESCRIPTOR : BY_ADDRESS;
        }
        MUST(s, blob_intact(pt, b->ptr, b->id, b->sure, how));
        MUST(s, CHECK_EQ_U(palloc_size(pt, b->ptr), b->size));
    }
    return 1;
}

/* Frees all blobs in random order, each intact up to then. */
static inline int model_free_all(struct palloc_t *pt, struct shadow *s, struct rng *rng)
{
    while (s->count > 0)
        if (!model_pfree(pt, s, rng))
            return 0;
    return 1;
}

/* The live set of an open medium whose contents are not known. */
static inline void shadow_adopt(struct shadow *s, struct palloc_t *pt)
{
    uint64_t ptr;

    for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr))
        if (shadow_add(s, ptr, palloc_size(pt, ptr), s->next_id++, 0) == SIZE_MAX)
            return;
}

#endif
