/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program whose malloc is made of vmem.h: it does not hang, and no function of vmem.h calls malloc, failing ones included.
 *
 * POSIX only: the malloc of a Windows library is not found by name in the program
 */
#include <errno.h>
#include <locale.h>

#include "vmem_util.h"

#define CLASSES 12      /* of sizes: 64 bytes to 128 KiB; what is larger is a reservation of its own */
#define HEADER 32       /* before each block: how many bytes it has, with the header */
#define ARENA (64 * MIB)

static pthread_mutex_t heap = PTHREAD_MUTEX_INITIALIZER;
static VMemGrowArena arena;
static void *free_blocks[CLASSES];
/* This thread is in a function of vmem.h that malloc did not call. Volatile: the C library says of strerror that it calls nothing here. */
static __thread volatile int in_vmem;
static __thread int in_malloc;
static volatile int calls_from_vmem, nested_calls;
static volatile size_t calls;

static __thread int in_fork;

static void lock_heap(void)
{
    if (!in_fork)
        pthread_mutex_lock(&heap);
}

static void unlock_heap(void)
{
    if (!in_fork)
        pthread_mutex_unlock(&heap);
}

static void before_fork(void)
{
    lock_heap();
    in_fork = 1;
}

static void after_fork(void)
{
    in_fork = 0;
    unlock_heap();
}

static size_t *header_of(void *p)
{
    return (size_t *)(void *)((char *)p - HEADER);
}

static int class_of(size_t size, size_t *rounded)
{
    int class = 0;

    for (*rounded = 64; *rounded < size && class < CLASSES; class++)
        *rounded *= 2;
    return class;
}

static void *allocate(size_t size) /* not malloc: compilers make a call of calloc from a malloc and a memset */
{
    size_t total = size + HEADER;
    char *block = NULL;
    int class = class_of(total, &total);

    if (size > SIZE_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }
    calls_from_vmem += in_vmem;
    nested_calls += in_malloc++;
    calls++;
    lock_heap();
    if (class >= CLASSES) {
        total = (size + HEADER + 65535) / 65536 * 65536;
        block = vmem_alloc_commited(total);
    } else if (free_blocks[class] != NULL) {
        block = free_blocks[class];
        memcpy(&free_blocks[class], block + HEADER, sizeof(void *));
    } else {
        if (arena.mem == NULL)
            vmem_grow_init(&arena, ARENA, 0);
        block = vmem_grow_push(&arena, total, 32);
    }
    unlock_heap();
    in_malloc--;
    if (block == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    *(size_t *)(void *)block = total;
    return block + HEADER;
}

void *malloc(size_t size)
{
    return allocate(size);
}

void free(void *p)
{
    size_t size;
    int class;

    if (p == NULL)
        return;
    calls_from_vmem += in_vmem;
    class = class_of(*header_of(p), &size);
    lock_heap();
    if (class >= CLASSES) {
        vmem_dealloc(header_of(p), *header_of(p));
    } else {
        memcpy(p, &free_blocks[class], sizeof(void *));
        free_blocks[class] = header_of(p);
    }
    unlock_heap();
}

void *calloc(size_t n, size_t size)
{
    void *p = size != 0 && n > SIZE_MAX / size ? NULL : allocate(n * size);

    return p != NULL ? memset(p, 0, n * size) : NULL;
}

void *realloc(void *old, size_t size)
{
    void *p = allocate(size);

    if (p != NULL && old != NULL) {
        size_t had = *header_of(old) - HEADER;
        memcpy(p, old, had < size ? had : size);
        free(old);
    }
    return p;
}

/* Blocks are aligned to 32 bytes. Those of more, which are few, count as small ones when they are freed. */
void *aligned_alloc(size_t align, size_t size)
{
    char *block;

    if (align <= 32)
        return allocate(size);
    calls_from_vmem += in_vmem;
    lock_heap();
    block = vmem_grow_push(&arena, align + size + 64, align);
    unlock_heap();
    if (block == NULL)
        return NULL;
    *(size_t *)(void *)(block + align - HEADER) = 64;
    return block + align;
}

int posix_memalign(void **p, size_t align, size_t size)
{
    *p = aligned_alloc(align, size);
    return *p != NULL ? 0 : ENOMEM;
}

void *memalign(size_t align, size_t size)
{
    return aligned_alloc(align, size);
}

#define IN(call) (in_vmem = 1, (call), in_vmem = 0)

/* Each function of vmem.h, and each of its failures that is easily had. */
static void everything(void)
{
    static VMemRangeInfo runs[64];
    size_t page = vmem_get_page_size(), i;
    VMemArena old;
    VMemGrowArena grow;
    char *p = NULL, *q = NULL;

    IN(p = vmem_reserve(4096 * page));
    for (i = 0; i < 2048; i++)
        IN(vmem_commit(p + 2 * i * page, page)); /* the registry grows */
    IN(vmem_lock(p, page));
    IN(vmem_unlock(p, page));
    IN(vmem_advise_huge(p, 64 * page));
    IN(vmem_set_name(p, page, "a name"));
    IN(vmem_decommit(p, 4096 * page)); /* and shrinks */
    IN(vmem_commit_protect(p, 4 * page, VMemProtect_Read));
    IN(vmem_protect(p, page, VMemProtect_ReadWrite));
    IN(vmem_set_executable(p, page, 1));
    IN(vmem_reset(p, page));
    IN(vmem_prefault(p, page));
    IN(vmem_query_range_info(p - 100 * page, 5000 * page, runs, 64));
    IN(vmem_query_range_info((void *)page, SIZE_MAX / 2, runs, 64));
    IN(vmem_query_usage_status());
    IN(q = vmem_reserve_aligned(page, 64 * page));
    IN(vmem_release(q, page));
    IN(q = vmem_reserve_guarded(page));
    IN(vmem_release(q, page));
    IN(vmem_partially_commit_region(p, 8 * page, 4 * page, 8 * page));
    IN(old = vmem_arena_init_alloc(page));
    IN(vmem_arena_set_commited(&old, page));
    IN(vmem_arena_deinit_dealloc(&old));
    IN(vmem_grow_init(&grow, MIB, VMEM_GROW_HUGE));
    IN(vmem_grow_push(&grow, MIB / 2, 1));
    IN(vmem_grow_reset(&grow, 0));
    IN(vmem_grow_deinit(&grow));
    IN(vmem_release(p, 4096 * page));
    /* Failures, of the library's own and of the system. */
    IN(vmem_release(p, page));
    IN(vmem_reserve(too_much()));
    IN(vmem_reserve_aligned(too_much(), 2));
    IN(vmem_alloc_commited(too_much()));
    IN(vmem_commit(NULL, 1));
    IN(vmem_align_forward(1, 3));
    IN(vmem_grow_init(NULL, 0, 77));
    CHECK_STR_CONTAINS(vmem_get_error_message(), "vmem_grow_init");
}

static void *worker(void *unused)
{
    static const size_t sizes[] = {1, 100, 5000, 70000, 300000};
    char *p[5];
    size_t round, i;

    (void)unused;
    for (round = 0; round < 300; round++) {
        for (i = 0; i < 5; i++) {
            p[i] = malloc(sizes[i]);
            if (p[i] == NULL)
                return NULL;
            memset(p[i], (int)i, sizes[i]);
        }
        for (i = 0; i < 5; i++)
            free(p[i]);
    }
    return &heap;
}

static int child(void *unused)
{
    char *p = malloc(500000);

    (void)unused;
    alarm(tap_seconds(60));
    if (p == NULL || worker(NULL) == NULL)
        return 1;
    everything();
    free(p);
    return tap_done();
}

/* A handler of fork that uses malloc. It runs while the library's lock is held by this thread. */
static volatile int handled;

static void handler(void)
{
    void *p = malloc(500000), *q = malloc(10);

    handled += p != NULL && q != NULL;
    free(p);
    free(q);
}

/* Whether strerror calls malloc, to translate a text or to look for its translation. */
static int strerror_calls_malloc(void *unused)
{
    (void)unused;
    IN(strerror(ENOMEM));
    return calls_from_vmem > 0;
}

/* Sets a locale in which strerror calls malloc. A child asks, because strerror does it for the first time only. */
static int translate(void)
{
    static const char *const locales[] = {"C.UTF-8", "de_DE.UTF-8", "en_US.UTF-8", ""};
    size_t i;

    setenv("LANGUAGE", "de", 1);
    for (i = 0; i < sizeof locales / sizeof locales[0]; i++)
        if (setlocale(LC_ALL, locales[i]) != NULL && in_child(strerror_calls_malloc, NULL) == -1)
            return 1;
    return 0;
}

int main(void)
{
    pthread_t threads[4];
    void *good;
    int i, bad = 0;

#ifndef __GLIBC__
    vmem_init(); /* pthread_atfork calls malloc */
#endif
    pthread_atfork(handler, handler, handler);
    vmem_init(); /* so that a fork waits for malloc's lock first, then for the library's */
    pthread_atfork(before_fork, after_fork, after_fork);
    alarm(tap_seconds(240));

    TEST("a-program-whose-malloc-is-made-of-vmem-runs");
    CHECK(worker(NULL) != NULL);
    for (i = 0; i < 4; i++)
        REQUIRE(pthread_create(&threads[i], NULL, worker, NULL) == 0);
    for (i = 0; i < 4; i++) {
        pthread_join(threads[i], &good);
        CHECK(good != NULL);
    }
    CHECK(calls > 1000);
    CHECK_EQ_I(nested_calls, 0);

    TEST("no-function-of-vmem-calls-malloc");
    everything();
    CHECK_EQ_I(calls_from_vmem, 0);

    TEST("no-function-of-vmem-calls-malloc-where-messages-are-translated");
    if (translate()) {
        everything();
        CHECK_EQ_I(calls_from_vmem, 0);
    } else
        SKIP("there is no locale here in which strerror calls malloc");

    TEST("fork-while-threads-allocate-and-handlers-of-fork-do");
    for (i = 0; i < 4; i++)
        REQUIRE(pthread_create(&threads[i], NULL, worker, NULL) == 0);
    handled = 0;
    for (i = 0; i < 30; i++)
        bad += in_child(child, NULL) != 0;
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ_I(bad, 0);
    CHECK_EQ_I(handled, 60);
    CHECK_EQ_I(calls_from_vmem, 0);
    return tap_done();
}
