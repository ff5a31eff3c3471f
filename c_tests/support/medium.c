/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See medium.h. */
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

void build_header(struct bytes *b, uint32_t flags)
{
    b->at = xmalloc(8);
    b->size = 8;
    memcpy(b->at, "PBA", 4);
    put32(b->at + 4, flags);
}

void build_zeros(struct bytes *b, size_t count)
{
    b->at = realloc(b->at, b->size + count != 0 ? b->size + count : 1);
    REQUIRE(b->at != NULL);
    memset(b->at + b->size, 0, count);
    b->size += count;
}

uint64_t build_block(struct bytes *b, uint64_t n, int is_free)
{
    uint64_t start = b->size, marker = is_free ? n | FREE_BIT : n;

    build_zeros(b, (size_t)n + 16);
    put64(b->at + start, marker);
    put64(b->at + start + 8 + n, marker);
    return start;
}

void build_links(struct bytes *b, uint64_t start, uint64_t prev, uint64_t next)
{
    put64(b->at + start + 8, prev);
    put64(b->at + start + 16, next);
}

static void blocks_add(struct blocks *b, uint64_t start, uint64_t n, int is_free)
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

static void medium_fault_(struct medium *m, uint64_t at, const char *what)
{
    if (m->faults++ == 0) {
        m->fault_at = at;
        m->fault = what;
    }
}

void medium_parse(struct medium *m, const uint8_t *file, uint64_t size)
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

void medium_load(struct medium *m, const char *path)
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

int medium_ends_at(struct medium *m, uint64_t end)
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

void medium_free(struct medium *m)
{
    free(m->blocks.at);
    memset(m, 0, sizeof *m);
}

int file_ends_at(const char *path, uint64_t end)
{
    struct medium m;
    int does;

    medium_load(&m, path);
    does = medium_ends_at(&m, end);
    medium_free(&m);
    return does;
}

static void medium_print(const struct medium *m)
{
    size_t i;

    DIAG("medium of %llu bytes, flags %#x, %llu live, %llu free; %u faults: %s at %llu", (unsigned long long)m->size,
         (unsigned)m->flags, (unsigned long long)m->live, (unsigned long long)m->free, m->faults,
         m->fault != NULL ? m->fault : "none", (unsigned long long)m->fault_at);
    for (i = 0; i < m->blocks.count && i < 40; i++)
        DIAG("  %8llu %8llu %s", (unsigned long long)m->blocks.at[i].start, (unsigned long long)m->blocks.at[i].n,
             m->blocks.at[i].is_free ? "free" : "live");
}

static void report_diag(void *user, uint64_t offset, const char *what)
{
    (void)user;
    DIAG("  palloc_check: at %llu: %s", (unsigned long long)offset, what);
}

int sound_(const char *path, int closed, const char *file, int line)
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

int walk_collect(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    blocks_add(user, ptr - 8, size, is_free);
    return 0;
}

int view_(struct palloc_t *pt, const char *file, int line)
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
            const void *data = palloc_data(pt, b->start + 8);
            if (data == NULL && errno == ENOSPC) /* a blob in a hole of the file, on a full disk */
                errno = UNTOUCHED;
            else
                good &= tap_check_(data == palloc_at(pt, b->start + 8), "palloc_at and palloc_data agree", file, line);
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

struct palloc_t *medium_fresh(const char *path, uint32_t flags)
{
    struct palloc_t *pt;

    unlink(path);
    pt = palloc_init(path, flags);
    REQUIRE(pt != NULL);
    return pt;
}

struct palloc_t *opens_(const char *path, uint32_t flags, const char *file, int line)
{
    struct palloc_t *pt;

    errno = UNTOUCHED;
    pt = palloc_init(path, flags);
    if (tap_check_(pt != NULL, "palloc_init opens the medium", file, line))
        tap_eq_i_(errno, UNTOUCHED, "errno after palloc_init", "as before", file, line);
    else
        DIAG("errno %d: %s", errno, palloc_error());
    return pt;
}
