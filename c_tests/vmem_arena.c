/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* VMemArena, vmem_partially_commit_region, and the growing arena. */
#include "vmem_util.h"

static size_t page;

static int is_zero(const void *p, size_t size)
{
    return all_bytes((const unsigned char *)p, size, 0);
}

#ifndef _WIN32
/* Whether nothing is mapped at p: then a mapping that is asked for at p is made there. */
static int is_unmapped(unsigned char *p)
{
    void *got = mmap(p, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (got != MAP_FAILED)
        munmap(got, page);
    return got == p;
}
#endif

static void arenas(void)
{
    VMemArena arena = vmem_arena_init_alloc(16 * page), other;
    unsigned char *p, *neighbour;
    size_t i;

    TEST("a-new-arena-has-nothing-committed");
    CHECK(vmem_arena_is_valid(&arena));
    CHECK_EQ_U(arena.size_bytes, 16 * page);
    CHECK_EQ_U(arena.commited, 0);
    CHECK(inaccessible(arena.mem));

    TEST("set_commited-grows-and-shrinks-in-whole-pages");
    CHECK_DOES(vmem_arena_set_commited(&arena, 1));
    CHECK_EQ_U(arena.commited, 1);
    CHECK(is_zero(arena.mem, page) && inaccessible(arena.mem + page));
    memset(arena.mem, 1, page);
    CHECK_DOES(vmem_arena_set_commited(&arena, 3 * page + 1));
    CHECK(is_zero(arena.mem + page, 3 * page) && inaccessible(arena.mem + 4 * page) && all_bytes(arena.mem, page, 1));
    memset(arena.mem, 1, 4 * page);
    CHECK_DOES(vmem_arena_set_commited(&arena, page + 1));
    CHECK(all_bytes(arena.mem, 2 * page, 1) && inaccessible(arena.mem + 2 * page));
    CHECK_DOES(vmem_arena_set_commited(&arena, 4 * page));
    CHECK(all_bytes(arena.mem, 2 * page, 1) && is_zero(arena.mem + 2 * page, 2 * page));
    CHECK_DOES(vmem_arena_set_commited(&arena, 4 * page));

    TEST("set_commited-does-not-reset-the-protection-of-what-was-committed");
    CHECK_DOES(vmem_protect(arena.mem, page, VMemProtect_Read));
    CHECK_DOES(vmem_commit_protect(arena.mem + 5 * page, page, VMemProtect_Read));
    CHECK_DOES(vmem_arena_set_commited(&arena, 8 * page));
    is_state(arena.mem, 1, VMemProtect_Read);
    is_state(arena.mem + 5 * page, 1, VMemProtect_Read);
    is_state(arena.mem + 7 * page, 1, VMemProtect_ReadWrite);
    CHECK_DOES(vmem_arena_set_commited(&arena, 0));
    CHECK(inaccessible(arena.mem));

    TEST("commited-beyond-the-arena-or-its-reservation-is-refused-and-touches-nothing");
    CHECK_FAILS(vmem_arena_set_commited(&arena, 16 * page + 1), "are more than");
    CHECK_EQ_U(arena.commited, 0);
    other = arena;
    other.size_bytes = 17 * page;
    CHECK_FAILS(vmem_arena_set_commited(&other, page), "not inside one live reservation");
    other = arena;
    other.commited = 17 * page;
    CHECK(!vmem_arena_is_valid(&other));
    CHECK_FAILS(vmem_arena_set_commited(&other, page), "are more than");
    neighbour = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(neighbour, 3, 4 * page);
    other.mem = neighbour;
    other.size_bytes = other.commited = 4 * page;
    CHECK_FAILS(vmem_arena_set_commited(&other, 0), "not inside one live reservation");
    CHECK_FAILS(vmem_arena_deinit_dealloc(&other), "no live reservation starts at");
    CHECK(all_bytes(neighbour, 4 * page, 3));
    munmap(neighbour, 4 * page);

    TEST("a-failed-init-gives-an-arena-of-zeros");
    other = vmem_arena_init_alloc(0);
    CHECK(is_zero(&other, sizeof other) && !vmem_arena_is_valid(&other));
    other = vmem_arena_init_alloc(too_much());
    CHECK(is_zero(&other, sizeof other));
    other = vmem_arena_init(NULL, page);
    CHECK(is_zero(&other, sizeof other));
    other = vmem_arena_init(&arena, page);
    CHECK(is_zero(&other, sizeof other));
    other = vmem_arena_init(arena.mem, 17 * page);
    CHECK(is_zero(&other, sizeof other));

    TEST("an-arena-can-be-a-part-of-a-reservation");
    other = vmem_arena_init(arena.mem + 4 * page, 4 * page);
    CHECK(vmem_arena_is_valid(&other));
    CHECK_DOES(vmem_arena_set_commited(&other, 4 * page));
    CHECK(inaccessible(other.mem - 1) && inaccessible(other.mem + 4 * page));
    CHECK_FAILS(vmem_arena_deinit_dealloc(&other), "no live reservation starts at");
    CHECK_EQ_U(other.size_bytes, 4 * page);

    TEST("deinit-releases-and-leaves-zeros");
    p = arena.mem;
    CHECK_DOES(vmem_arena_deinit_dealloc(&arena));
    CHECK(is_zero(&arena, sizeof arena) && inaccessible(p));
    CHECK_FAILS(vmem_arena_deinit_dealloc(&arena), "the pointer is NULL");
    CHECK_FAILS(vmem_arena_set_commited(&arena, page), "the pointer is NULL");
    CHECK_FAILS(vmem_arena_set_commited(NULL, page), "vmem_arena_set_commited: the pointer is NULL");
    CHECK_FAILS(vmem_arena_deinit_dealloc(NULL), "the pointer is NULL");
    CHECK(!vmem_arena_is_valid(NULL));

    TEST("sizes-of-arenas-are-whole-pages");
    CHECK_EQ_U(vmem_arena_calc_bytes_used_for_size(0), 0);
    CHECK_EQ_U(vmem_arena_calc_bytes_used_for_size(1), page);
    CHECK_EQ_U(vmem_arena_calc_bytes_used_for_size(page), page);
    CHECK_EQ_U(vmem_arena_calc_bytes_used_for_size(page + 1), 2 * page);

    TEST("partially_commit_region-commits-and-decommits-what-is-between");
    p = vmem_reserve(8 * page);
    CHECK_DOES(vmem_partially_commit_region(p, 8 * page, 0, 2 * page));
    memset(p, 1, 2 * page);
    CHECK_DOES(vmem_partially_commit_region(p, 8 * page, 2 * page, 8 * page));
    memset(p + 2 * page, 1, 6 * page);
    CHECK_DOES(vmem_partially_commit_region(p, 8 * page, 8 * page, 1));
    CHECK(all_bytes(p, page, 1) && inaccessible(p + page));
    CHECK_DOES(vmem_partially_commit_region(p, 8 * page, 1, 1));
    CHECK_FAILS(vmem_partially_commit_region(p, 8 * page, 0, 8 * page + 1), "are more than");
    CHECK_FAILS(vmem_partially_commit_region(p, 8 * page, 8 * page + 1, 0), "are more than");
    CHECK_FAILS(vmem_partially_commit_region(p, 9 * page, 0, page), "not inside one live reservation");
    CHECK_FAILS(vmem_partially_commit_region(NULL, page, 0, page), "the pointer is NULL");
    CHECK_FAILS(vmem_partially_commit_region(p, 0, 0, 0), "the size is 0");
    CHECK_DOES(vmem_release(p, 8 * page));

    TEST("ten-thousand-arenas-live-side-by-side");
    {
        VMemArena *many = malloc(10000 * sizeof *many);
        int good = 1;
        REQUIRE(many != NULL);
        for (i = 0; i < 10000; i++) {
            many[i] = vmem_arena_init_alloc((1 + i % 3) * page);
            good &= vmem_arena_is_valid(&many[i]);
        }
        CHECK(good);
        for (i = 0; i < 10000; i += 2)
            good &= vmem_arena_deinit_dealloc(&many[i]);
        CHECK(good);
        for (i = 1; i < 10000; i += 2)
            good &= vmem_arena_set_commited(&many[i], 1) && (many[i].mem[0] = 1);
        for (i = 1; i < 10000; i += 2)
            good &= vmem_arena_deinit_dealloc(&many[i]);
        CHECK(good);
        free(many);
    }
}

static void growing(void)
{
    VMemGrowArena arena, copy;
    unsigned char *p, *q;
    size_t i, mark, size = 256 * MIB;

    TEST("pushes-are-aligned-and-do-not-overlap");
    REQUIRE(vmem_grow_init(&arena, size, 0));
    CHECK_EQ_U(vmem_grow_mark(&arena), 0);
    q = arena.mem;
    for (i = 0; i < 20000; i++) {
        size_t align = (size_t)1 << (i % 13), bytes = 1 + i * 7 % 300;
        p = vmem_grow_push(&arena, bytes, align);
        if (p == NULL || (uintptr_t)p % align != 0 || p < q || p >= q + align)
            break;
        memset(p, 0xff, bytes);
        q = p + bytes;
    }
    CHECK_EQ_U(i, 20000);
    CHECK_EQ_U(vmem_grow_mark(&arena), (size_t)(q - arena.mem));

    TEST("memory-is-committed-ahead-in-steps-that-double-up-to-2-MiB");
    CHECK_DOES(vmem_grow_deinit(&arena) && vmem_grow_init(&arena, size, 0));
    {
        size_t steps = 0, last = 0, want = 64 * KIB, wrong = 0;
        while (vmem_grow_mark(&arena) < 64 * MIB && vmem_grow_push(&arena, 1000, 8) != NULL) {
            size_t commited = (size_t)(arena.limit - arena.mem);
            if (commited != last) {
                wrong += commited - last != want;
                want = want < 2 * MIB ? 2 * want : want;
                last = commited;
                steps++;
            }
        }
        CHECK_EQ_U(wrong, 0);
        CHECK_EQ_U(steps, 5 + 32);
        is_state(arena.mem, 1, VMemProtect_ReadWrite);
        is_state(arena.limit, 0, VMemProtect_ReadWrite);
    }

    TEST("pop_to-gives-back-what-was-pushed-since-the-mark");
    mark = vmem_grow_mark(&arena);
    p = vmem_grow_push(&arena, 100, 1);
    CHECK_DOES(vmem_grow_pop_to(&arena, mark));
    CHECK(vmem_grow_push(&arena, 100, 1) == p);
    CHECK_FAILS(vmem_grow_pop_to(&arena, vmem_grow_mark(&arena) + 1), "vmem_grow_pop_to: the mark");
    CHECK_FAILS(vmem_grow_pop_to(&arena, SIZE_MAX), "the mark");
    CHECK_DOES(vmem_grow_pop_to(&arena, 0));
    CHECK(vmem_grow_push(&arena, 1, 1) == arena.mem);

    TEST("push_zeroed-is-zero-on-fresh-and-on-used-memory");
    CHECK_DOES(vmem_grow_pop_to(&arena, 0));
    p = vmem_grow_push(&arena, MIB, 1);
    memset(p, 0xee, MIB);
    CHECK_DOES(vmem_grow_pop_to(&arena, 10));
    p = vmem_grow_push_zeroed(&arena, 66 * MIB, 64);
    REQUIRE(p != NULL);
    CHECK(is_zero(p, 66 * MIB));
    memset(p, 0xee, 66 * MIB);
    CHECK_DOES(vmem_grow_reset(&arena, MIB));
    p = vmem_grow_push_zeroed(&arena, 2 * MIB, 1);
    CHECK(p != NULL && is_zero(p, 2 * MIB));

    TEST("reset-gives-memory-back-but-for-what-is-to-be-kept");
    memset(p, 1, 2 * MIB);
    CHECK_DOES(vmem_grow_reset(&arena, 5 * page - 1));
    CHECK_EQ_U(vmem_grow_mark(&arena), 0);
    CHECK_EQ_U(arena.limit - arena.mem, 5 * page);
    CHECK(inaccessible(arena.limit) && !faults(arena.limit - 1, WRITES));
    CHECK_DOES(vmem_grow_reset(&arena, SIZE_MAX));
    CHECK_EQ_U(arena.limit - arena.mem, 5 * page);
    CHECK_DOES(vmem_grow_reset(&arena, 0));
    CHECK(inaccessible(arena.mem));
    p = vmem_grow_push(&arena, 1, 1);
    CHECK(p == arena.mem && *p == 0);

    TEST("a-full-arena-refuses-and-stays-usable");
    mark = vmem_grow_mark(&arena);
    CHECK_FAILS(vmem_grow_push(&arena, size, 1), "vmem_grow_push: the arena has");
    CHECK_FAILS(vmem_grow_push(&arena, SIZE_MAX, 1), "the arena has");
    CHECK_FAILS(vmem_grow_push(&arena, SIZE_MAX - 10, 4096), "the arena has");
    CHECK_FAILS(vmem_grow_push(&arena, 1, (SIZE_MAX >> 1) + 1), "the arena has");
    CHECK_EQ_U(vmem_grow_mark(&arena), mark);
    p = vmem_grow_push(&arena, size - mark, 1);
    CHECK(p == arena.mem + mark);
    CHECK(arena.limit == arena.end);
    p[size - mark - 1] = 1;
    CHECK_FAILS(vmem_grow_push(&arena, 1, 1), "the arena has 0 bytes left, not 1");

    TEST("a-push-of-nothing-or-with-a-bad-alignment-is-refused");
    CHECK_DOES(vmem_grow_reset(&arena, 0));
    CHECK(vmem_grow_push(&arena, 1, 1) != NULL);
    CHECK_FAILS(vmem_grow_push(&arena, 0, 1), "the size is 0");
    CHECK_FAILS(vmem_grow_push(&arena, 1, 0), "the alignment 0");
    CHECK_FAILS(vmem_grow_push(&arena, 1, 3), "the alignment 3");
    CHECK_FAILS(vmem_grow_push_zeroed(&arena, 0, 1), "the size is 0");
    CHECK_EQ_U(vmem_grow_mark(&arena), 1);

    TEST("an-arena-that-was-written-over-is-refused");
    copy = arena;
    copy.limit = copy.end + 1;
    CHECK_FAILS(vmem_grow_pop_to(&copy, 0), "not in order");
    copy = arena;
    copy.end = copy.end + page;
    CHECK_FAILS(vmem_grow_push(&copy, size - page, 1), "not inside one live reservation");
    CHECK_FAILS(vmem_grow_deinit(&copy), "not inside one live reservation");

    TEST("a-small-arena-commits-no-more-than-it-has");
    CHECK_DOES(vmem_grow_deinit(&arena));
    CHECK_DOES(vmem_grow_init(&arena, 1000, 0));
    p = vmem_grow_push(&arena, 1000, 1);
    CHECK(p != NULL && arena.limit == arena.end && arena.end == arena.mem + page);
    CHECK_DOES(vmem_grow_deinit(&arena));

    TEST("an-arena-of-zeros-is-refused-everywhere");
    CHECK(is_zero(&arena, sizeof arena));
    CHECK_FAILS(vmem_grow_push(&arena, 1, 1), "it is not initialized");
    CHECK_FAILS(vmem_grow_pop_to(&arena, 0), "it is not initialized");
    CHECK_FAILS(vmem_grow_reset(&arena, 0), "it is not initialized");
    CHECK_FAILS(vmem_grow_deinit(&arena), "it is not initialized");
    CHECK_FAILS(vmem_grow_push(NULL, 1, 1), "the pointer is NULL");
    CHECK_FAILS(vmem_grow_pop_to(NULL, 0), "the pointer is NULL");
    CHECK_FAILS(vmem_grow_deinit(NULL), "the pointer is NULL");
    CHECK_FAILS(vmem_grow_init(NULL, page, 0), "the pointer is NULL");
    memset(&arena, 0xff, sizeof arena);
    CHECK_FAILS(vmem_grow_init(&arena, page, 4), "a flag is not known");
    CHECK(is_zero(&arena, sizeof arena));
    memset(&arena, 0xff, sizeof arena);
    CHECK_FAILS(vmem_grow_init(&arena, 0, 0), "the size is 0");
    CHECK(is_zero(&arena, sizeof arena));

    TEST("guards-and-huge-pages");
    CHECK_DOES(vmem_grow_init(&arena, 4 * MIB, VMEM_GROW_GUARD | VMEM_GROW_HUGE));
    CHECK_EQ_U((uintptr_t)arena.mem % (2 * MIB), 0);
    CHECK_EQ_U(arena.flags, VMEM_GROW_GUARD | VMEM_GROW_HUGE);
    CHECK(vmem_grow_push(&arena, 1, 1) == arena.mem && arena.limit == arena.mem + 2 * MIB);
    CHECK_DOES(vmem_grow_pop_to(&arena, 0));
    p = vmem_grow_push(&arena, 4 * MIB, 1);
    REQUIRE(p != NULL);
    memset(p, 1, 4 * MIB);
    CHECK(inaccessible(p - 1) && inaccessible(p + 4 * MIB));
#ifndef _WIN32
    CHECK(!is_unmapped(p - page) && !is_unmapped(p + 4 * MIB));
#endif
    CHECK_DOES(vmem_grow_deinit(&arena));
}

static void shared_page(void)
{
    uint8_t *p = (uint8_t *)vmem_reserve(1 << 20);
    VMemArena a, b;

    TEST("an-arena-that-shrinks-leaves-the-page-that-it-shares");
    REQUIRE(p != NULL);
    a = vmem_arena_init(p, 6000);
    b = vmem_arena_init(p + 6000, 6000);
    CHECK(vmem_arena_set_commited(&a, 6000) && vmem_arena_set_commited(&b, 6000));
    p[100] = 1;
    b.mem[1] = 42;
    b.mem[5999] = 43;
    CHECK(vmem_arena_set_commited(&a, 0));
    CHECK_EQ_U(b.mem[1], 42);
    CHECK(vmem_arena_set_commited(&a, 6000));
    CHECK_EQ_U(p[100], 0);
    p[5999] = 44;
    CHECK(vmem_arena_set_commited(&b, 0));
    CHECK_EQ_U(p[5999], 44);
    CHECK(vmem_release(p, 1 << 20));
}

/* The push in the header takes the same bytes as the one in the library. */
static void two_ways_to_push(void)
{
    VMemGrowArena ours, theirs;
    size_t i, different = 0;
    struct rng rng = {1};

    TEST("the-push-of-the-header-and-that-of-the-library-are-the-same");
    REQUIRE(vmem_grow_init(&ours, 64 * MIB, 0));
    for (i = 0; i < 20000; i++) {
        size_t size, align;
        size = (size_t)rng_below(&rng, 3000); /* 0 fails */
        align = (size_t)1 << rng_below(&rng, 8);
        theirs = ours;
        different += vmem_grow_push(&ours, size, align) != vmem_grow_push_more(&theirs, size, align);
        different += ours.next != theirs.next || ours.limit != theirs.limit || ours.step != theirs.step;
    }
    CHECK_EQ_U(different, 0);
    CHECK(ours.next > ours.mem + 10 * MIB);
    CHECK_DOES(vmem_grow_deinit(&ours));
}

/* The last page of a reservation is not whole: its bytes up to the size that was asked for may be shared, too. */
static void shared_last_page(void)
{
    size_t size = 2 * page + 3000;
    uint8_t *p = (uint8_t *)vmem_reserve(size);
    VMemArena a, b;

    TEST("an-arena-that-shrinks-leaves-the-last-page-of-a-reservation-that-it-shares");
    REQUIRE(p != NULL);
    a = vmem_arena_init(p, size - 1000);
    b = vmem_arena_init(p + size - 1000, 1000);
    CHECK_DOES(vmem_arena_set_commited(&a, size - 1000) && vmem_arena_set_commited(&b, 1000));
    b.mem[0] = b.mem[999] = 42;
    CHECK_DOES(vmem_arena_set_commited(&a, 0));
    CHECK(inaccessible(p) && inaccessible(p + page));
    is_state(p + 2 * page, 1, VMemProtect_ReadWrite);
    CHECK(b.mem[0] == 42 && b.mem[999] == 42);
    CHECK_DOES(vmem_partially_commit_region(p, size - 1000, 0, size - 1000));
    CHECK_DOES(vmem_partially_commit_region(p, size - 1000, size - 1000, 0));
    CHECK(inaccessible(p + page));
    CHECK(b.mem[0] == 42 && b.mem[999] == 42);

    TEST("an-arena-up-to-the-end-of-its-reservation-gives-the-last-page-back");
    a = vmem_arena_init(p, size);
    CHECK_DOES(vmem_arena_set_commited(&a, size));
    CHECK_DOES(vmem_arena_set_commited(&a, 0));
    CHECK(inaccessible(p + 2 * page));
    CHECK_DOES(vmem_release(p, size));

    TEST("an-arena-with-a-neighbour-in-the-last-whole-page-leaves-it");
    p = (uint8_t *)vmem_reserve(page);
    REQUIRE(p != NULL);
    a = vmem_arena_init(p, 1000);
    b = vmem_arena_init(p + 1000, page - 1000);
    CHECK_DOES(vmem_arena_set_commited(&a, 1000) && vmem_arena_set_commited(&b, page - 1000));
    b.mem[0] = 42;
    CHECK_DOES(vmem_arena_set_commited(&a, 0));
    is_state(p, 1, VMemProtect_ReadWrite);
    CHECK(b.mem[0] == 42);
    CHECK_DOES(vmem_release(p, page));
}

int main(void)
{
    PART(shared_page());
    page = vmem_get_page_size();
    PART(shared_last_page());
    PART(two_ways_to_push());
    PART(arenas());
    PART(growing());
    return tap_done();
}
