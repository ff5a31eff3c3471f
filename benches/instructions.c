/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Instructions of the short paths, which repeat exactly: run.sh has callgrind count those of each function ours_* and peer_* below, and
 * divides by COUNT what they have more than the loop alone. Instructions of the kernel are not in it. The program prints what is compared.
 */
#include "bench.h"
#include <buflib.h>
#include <palloc.h>
#include <vmem.h>

#define COUNT 10000
#define LIVE 10000
#define FEW 100

/* Of a transaction: new blobs, those that it frees, and words that it stores. */
enum { NEWS = 3, FREED = 2, WORDS = 2, BLOB = 100, OLD = 64 };

/* Who makes blobs on a medium, and frees them in the order in which they were made. */
struct work {
    struct palloc_t *medium;
    uint64_t words, made[NEWS * (OLD + COUNT)], *news, *gone;
};

static struct palloc_t *medium, *shared_medium, *reader;
static struct work by_transaction, by_plain_calls;
static const char content[BLOB] = {7};
static uint64_t offsets[LIVE], shared_offsets[LIVE];
static void *addresses[LIVE], *of_handles[FEW + 1];
static struct buflib_context ctx;
static int handles[FEW];
static char pool[FEW * 420 + 8192], *own_pages, *raw_pages, *array;
static VMemGrowArena arena;
static volatile uintptr_t sink;
static uint16_t places[COUNT], few[COUNT], sizes[COUNT]; /* at random, places[] below LIVE, few[] below FEW */

#define ROW(name, what, peer, ours, theirs)                                                                                               \
    __attribute__((noinline)) static void ours_##name(void)                                                                               \
    {                                                                                                                                     \
        for (size_t i = 0; i < COUNT; i++)                                                                                                \
            (void)(ours);                                                                                                                 \
    }                                                                                                                                     \
    __attribute__((noinline)) static void peer_##name(void)                                                                               \
    {                                                                                                                                     \
        for (size_t i = 0; i < COUNT; i++)                                                                                                \
            (void)(theirs);                                                                                                               \
    }                                                                                                                                     \
    static void name(void)                                                                                                                \
    {                                                                                                                                     \
        printf("%s|%s|%s\n", #name, what, peer);                                                                                          \
        ours_##name();                                                                                                                    \
        peer_##name();                                                                                                                    \
    }

/* Like the others: the loop and a store. */
ROW(loop, "", "", sink = places[i], sink = sizes[i])

static void palloc_pair(uint16_t place, size_t size)
{
    pfree(medium, offsets[place]);
    offsets[place] = palloc(medium, size);
}

/* As a writer with live readers has to: the new blob first. */
static void replace(struct palloc_t *pt, uint64_t *all, uint16_t place, size_t size)
{
    uint64_t old = all[place];

    all[place] = palloc(pt, size);
    pfree(pt, old);
}

static void malloc_pair(uint16_t place, size_t size)
{
    free(addresses[place]);
    addresses[place] = malloc(size);
}

static void buflib_pair(uint16_t place, size_t size)
{
    buflib_free(&ctx, handles[place]);
    handles[place] = buflib_alloc(&ctx, size);
}

static void transaction(struct work *w, int freed, uint64_t value)
{
    struct palloc_tx *tx = palloc_begin(w->medium);

    for (int i = 0; i < NEWS; i++)
        memcpy(palloc_tx_data(tx, *w->news++ = palloc_tx_alloc(tx, BLOB)), content, BLOB);
    for (int i = 0; i < freed; i++)
        MUST(palloc_tx_free(tx, *w->gone++) == 0);
    for (uint64_t i = 0; i < WORDS; i++)
        MUST(palloc_tx_store(tx, w->words + 8 * i, &value, 8) == 0);
    MUST(palloc_commit(tx) == 0);
}

static void plain_calls(struct work *w, int freed, uint64_t value)
{
    for (int i = 0; i < NEWS; i++)
        memcpy(palloc_data(w->medium, *w->news++ = palloc(w->medium, BLOB)), content, BLOB);
    for (int i = 0; i < freed; i++)
        pfree(w->medium, *w->gone++);
    for (uint64_t i = 0; i < WORDS; i++)
        memcpy((char *)palloc_data(w->medium, w->words) + 8 * i, &value, 8);
}

static void begin_work(struct work *w, const char *file, void (*first)(struct work *, int, uint64_t))
{
    MUST((w->medium = palloc_init(file, PALLOC_DYNAMIC | PALLOC_FORCE)) != NULL && (w->words = palloc(w->medium, 8 * WORDS)) != 0);
    w->news = w->gone = w->made;
    for (int i = 0; i < OLD; i++)
        first(w, 0, 0);
}

ROW(mixed, "pfree and palloc, 16 to 512 bytes, 10,000 live", "glibc malloc", palloc_pair(places[i], sizes[i]),
    malloc_pair(places[i], sizes[i]))
ROW(small, "palloc and pfree of 64 bytes", "glibc malloc", pfree(medium, palloc(medium, 64)), free((void *)(sink = (uintptr_t)malloc(64))))
ROW(shared, "palloc and pfree with PALLOC_SHARED, 16 to 512 bytes, a reader is open", "without PALLOC_SHARED",
    replace(shared_medium, shared_offsets, places[i], sizes[i]), replace(medium, offsets, places[i], sizes[i]))
ROW(data, "palloc_data", "a pointer", sink = (uintptr_t)palloc_data(medium, offsets[places[i]]), sink = (uintptr_t)addresses[places[i]])
ROW(pool_, "buflib_free and buflib_alloc, 100 live", "glibc malloc", buflib_pair(few[i], sizes[i]), malloc_pair(few[i], sizes[i]))
ROW(get_data, "buflib_get_data", "a pointer", sink = (uintptr_t)buflib_get_data(&ctx, 1 + few[i]),
    sink = (uintptr_t)of_handles[1 + few[i]])
ROW(commit, "vmem_commit and vmem_decommit", "mprotect and mmap", vmem_commit(own_pages, 65536) && vmem_decommit(own_pages, 65536),
    mprotect(raw_pages, 65536, PROT_READ | PROT_WRITE) == 0 &&
        mmap(raw_pages, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == raw_pages)
ROW(page_size, "vmem_get_page_size", "sysconf", sink = vmem_get_page_size(), sink = (uintptr_t)sysconf(_SC_PAGESIZE))
ROW(tx, "a transaction: 3 new, 2 freed, 2 stores of 8", "plain calls", transaction(&by_transaction, FREED, i),
    plain_calls(&by_plain_calls, FREED, i))
ROW(push, "vmem_grow_push", "an array", sink = (uintptr_t)vmem_grow_push(&arena, sizes[i], 16), sink = (uintptr_t)(array += sizes[i] & ~15))

int main(void)
{
    const char *file = "instructions_bench.pba", *shared_file = "instructions_shared.pba";

    seed = 1;
    for (size_t i = 0; i < COUNT; i++) {
        places[i] = (uint16_t)random_below(LIVE);
        few[i] = (uint16_t)random_below(FEW);
        sizes[i] = (uint16_t)random_size();
    }
    MUST((medium = palloc_init(file, PALLOC_DYNAMIC | PALLOC_FORCE)) != NULL);
    for (size_t i = 0; i < LIVE; i++)
        MUST((offsets[i] = palloc(medium, random_size())) != 0 && (addresses[i] = malloc(random_size())) != NULL);
    MUST((shared_medium = palloc_init(shared_file, PALLOC_DYNAMIC | PALLOC_FORCE | PALLOC_SHARED)) != NULL);
    for (size_t i = 0; i < LIVE; i++)
        MUST((shared_offsets[i] = palloc(shared_medium, random_size())) != 0);
    MUST((reader = palloc_init(shared_file, PALLOC_READONLY | PALLOC_SHARED)) != NULL);
    buflib_init(&ctx, pool, sizeof pool);
    for (size_t i = 0; i < FEW; i++) {
        MUST((handles[i] = buflib_alloc(&ctx, random_size())) > 0);
        of_handles[handles[i]] = buflib_get_data(&ctx, handles[i]);
    }
    MUST((own_pages = (char *)vmem_reserve(1 << 20)) != NULL && vmem_grow_init(&arena, 16 << 20, 0));
    raw_pages = (char *)mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(raw_pages != MAP_FAILED && (array = (char *)malloc(16 << 20)) != NULL);
    begin_work(&by_transaction, "instructions_tx.pba", transaction);
    begin_work(&by_plain_calls, "instructions_plain.pba", plain_calls);
    loop(), data(), small(), mixed(), shared(), tx(), get_data(), pool_(), page_size(), commit(), push();
    palloc_close(by_transaction.medium), palloc_close(by_plain_calls.medium), palloc_close(medium);
    palloc_close(reader), palloc_close(shared_medium);
    return unlink("instructions_tx.pba") | unlink("instructions_plain.pba") | unlink(file) | unlink(shared_file);
}
