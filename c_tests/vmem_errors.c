/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Messages, the handler, and the helpers that take numbers. No file of this program has VMEM_IMPLEMENTATION. */
#include <limits.h>

#include "vmem_util.h"

static unsigned calls;
static char seen[256];

static void count(const char *message)
{
    calls++;
    snprintf(seen, sizeof seen, "%s", message);
}

static void calls_back(const char *message)
{
    void *p = vmem_reserve(1);

    calls++;
    CHECK(strcmp(message, vmem_get_error_message()) == 0);
    CHECK_DOES(vmem_commit(p, 1));
    CHECK_DOES(vmem_release(p, 1));
    vmem_set_error_handler(NULL);
    CHECK_FAILS(vmem_reserve(0), "vmem_reserve");
}

static void *other_thread(void *unused)
{
    (void)unused;
    CHECK_STR(vmem_get_error_message(), "");
    CHECK_FAILS(vmem_decommit(NULL, 1), "vmem_decommit: the pointer is NULL");
    return NULL;
}

static void messages(void)
{
    pthread_t thread;
    char *p;

    TEST("the-message-is-empty-before-the-first-error");
    CHECK_STR(vmem_get_error_message(), "");
    p = vmem_reserve(1);
    CHECK_DOES(vmem_release(p, 1));
    CHECK_STR(vmem_get_error_message(), "");

    TEST("a-message-names-the-function-and-the-range");
    CHECK_FAILS(vmem_commit((void *)(uintptr_t)0x10000, 1), "vmem_commit: 0x10000..0x1");

    TEST("a-success-leaves-the-message");
    CHECK_FAILS(vmem_reserve(0), "vmem_reserve: the size is 0");
    vmem_get_page_size();
    CHECK_STR(vmem_get_error_message(), "vmem_reserve: the size is 0");

    TEST("the-system's-own-text-is-in-the-message");
#ifdef _WIN32
    CHECK_FAILS(vmem_reserve(too_much()), ": ");
#else
    CHECK_FAILS(vmem_reserve(too_much()), strerror(ENOMEM));
#endif

    TEST("messages-are-per-thread");
    CHECK_FAILS(vmem_reserve(0), "vmem_reserve");
    REQUIRE(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK_STR(vmem_get_error_message(), "vmem_reserve: the size is 0");
}

static void handler(void)
{
    VMemArena arena;
    VMemRangeInfo info;

    TEST("the-handler-is-NULL-at-first-and-the-previous-one-is-returned");
    CHECK(vmem_set_error_handler(count) == NULL);
    CHECK(vmem_set_error_handler(count) == count);

    TEST("the-handler-is-called-once-for-each-failing-call");
    calls = 0;
#define FAILS_ONCE(call) (calls = 0, (void)(call), CHECK_EQ_U(calls, 1), CHECK_STR(seen, vmem_get_error_message()))
    FAILS_ONCE(vmem_reserve(0));
    FAILS_ONCE(vmem_reserve_aligned(1, 3));
    FAILS_ONCE(vmem_reserve_guarded(0));
    FAILS_ONCE(vmem_release(NULL, 1));
    FAILS_ONCE(vmem_alloc(0));
    FAILS_ONCE(vmem_alloc_protect(1, 0));
    FAILS_ONCE(vmem_alloc_commited(0));
    FAILS_ONCE(vmem_dealloc(NULL, 1));
    FAILS_ONCE(vmem_commit(NULL, 1));
    FAILS_ONCE(vmem_commit_protect(NULL, 1, VMemProtect_Read));
    FAILS_ONCE(vmem_decommit(NULL, 1));
    FAILS_ONCE(vmem_protect(NULL, 1, VMemProtect_Read));
    FAILS_ONCE(vmem_set_executable(NULL, 1, 1));
    FAILS_ONCE(vmem_lock(NULL, 1));
    FAILS_ONCE(vmem_unlock(NULL, 1));
    FAILS_ONCE(vmem_reset(NULL, 1));
    FAILS_ONCE(vmem_prefault(NULL, 1));
    FAILS_ONCE(vmem_advise_huge(NULL, 1));
    FAILS_ONCE(vmem_set_name(NULL, 1, "x"));
    FAILS_ONCE(vmem_query_range_info(NULL, 1, &info, 1));
    FAILS_ONCE(vmem_partially_commit_region(NULL, 1, 0, 1));
    FAILS_ONCE(arena = vmem_arena_init(NULL, 1));
    FAILS_ONCE(arena = vmem_arena_init_alloc(0));
    FAILS_ONCE(vmem_arena_set_commited(&arena, 1));
    FAILS_ONCE(vmem_arena_deinit_dealloc(&arena));
    FAILS_ONCE(vmem_grow_init(NULL, 1, 0));
    FAILS_ONCE(vmem_grow_push(NULL, 1, 1));
    FAILS_ONCE(vmem_grow_push_zeroed(NULL, 1, 1));
    FAILS_ONCE(vmem_grow_pop_to(NULL, 1));
    FAILS_ONCE(vmem_grow_reset(NULL, 1));
    FAILS_ONCE(vmem_grow_deinit(NULL));
    FAILS_ONCE(vmem_align_forward(1, 0));
    FAILS_ONCE(vmem_align_backward(1, 3));
    FAILS_ONCE(vmem_is_aligned(1, -1));

    TEST("the-handler-is-not-called-when-nothing-fails");
    calls = 0;
    CHECK_EQ_I(vmem_is_aligned(1, 2), 0);
    CHECK_STR(vmem_get_protect_name(99), "<Unknown>");
    CHECK_EQ_U(calls, 0);

    TEST("a-handler-may-call-the-library");
    calls = 0;
    vmem_set_error_handler(calls_back);
    vmem_commit(NULL, 1);
    CHECK_EQ_U(calls, 1);
    vmem_set_error_handler(NULL);
}

static void alignment(void)
{
    static const int bad[] = {0, 3, 6, 12, -1, -2, -4096, INT_MIN, INT_MIN + 1, INT_MAX};
    uintptr_t address;
    size_t i;
    int align;

    TEST("alignment-is-right-for-every-power-of-two");
    for (align = 1; align > 0 && align < 1 << 30; align *= 2)
        for (address = 1000; address < 1 << 30; address *= 3) {
            uintptr_t down = address / (unsigned)align * (unsigned)align, up = down == address ? down : down + (unsigned)align;
            if (vmem_align_forward(address, align) != up || vmem_align_backward(address, align) != down ||
                vmem_is_aligned(address, align) != (down == address) || vmem_align_forward_fast(address, align) != up ||
                vmem_align_backward_fast(address, align) != down || vmem_is_aligned_fast(address, align) != (down == address))
                CHECK(!"wrong");
        }
    CHECK_EQ_U(vmem_align_forward(5, 1 << 30), 1 << 30);
    CHECK_EQ_U(vmem_align_forward(0, 16), 0);

    TEST("alignments-that-are-not-positive-powers-of-two-are-errors");
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_FAILS(vmem_align_forward(4096, bad[i]), "vmem_align_forward: the alignment");
        CHECK_FAILS(vmem_align_backward(4096, bad[i]), "vmem_align_backward: the alignment");
        CHECK_FAILS(vmem_is_aligned(4096, bad[i]), "vmem_is_aligned: the alignment");
    }

    TEST("align_forward-that-would-overflow-is-an-error");
    CHECK_FAILS(vmem_align_forward(UINTPTR_MAX, 2), "behind the end of the address space");
    CHECK_FAILS(vmem_align_forward(UINTPTR_MAX - 4094, 4096), "behind the end of the address space");
    CHECK_EQ_U(vmem_align_forward(UINTPTR_MAX - 4095, 4096), UINTPTR_MAX - 4095);
    CHECK_EQ_U(vmem_align_forward(UINTPTR_MAX, 1), UINTPTR_MAX);

    TEST("protections-have-names");
    CHECK_STR(vmem_get_protect_name(VMemProtect_Invalid), "INVALID");
    CHECK_STR(vmem_get_protect_name(VMemProtect_NoAccess), "NoAccess");
    CHECK_STR(vmem_get_protect_name(VMemProtect_Read), "Read");
    CHECK_STR(vmem_get_protect_name(VMemProtect_ReadWrite), "ReadWrite");
    CHECK_STR(vmem_get_protect_name(VMemProtect_Execute), "Execute");
    CHECK_STR(vmem_get_protect_name(VMemProtect_ExecuteRead), "ExecuteRead");
    CHECK_STR(vmem_get_protect_name(VMemProtect_ExecuteReadWrite), "ExecuteReadWrite");
    CHECK_STR(vmem_get_protect_name(VMemProtect_COUNT), "<Unknown>");
    CHECK_STR(vmem_get_protect_name(255), "<Unknown>");
}

int main(void)
{
    PART(messages());
    PART(handler());
    PART(alignment());
    return tap_done();
}
