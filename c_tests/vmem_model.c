/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Random calls, right and wrong ones, on a few reservations; every answer, every page and every run is compared with a model. */
#include "vmem_util.h"

#define RESERVATIONS 4
#define PAGES 48
#define CALLS 60000

struct page {
    VMemProtect protect; /* Invalid: reserved */
    unsigned char locked;
    unsigned char first; /* its first byte and its last */
};

static struct reservation {
    unsigned char *at; /* NULL: released */
    struct page pages[PAGES];
} reservations[RESERVATIONS];

static size_t page;
static struct rng rng = {42};

static size_t below(size_t n)
{
    return (size_t)rng_below(&rng, n);
}

static int reads(VMemProtect protect)
{
    return protect == VMemProtect_Read || protect == VMemProtect_ReadWrite || protect == VMemProtect_ExecuteRead ||
           protect == VMemProtect_ExecuteReadWrite;
}

static int writes(VMemProtect protect)
{
    return protect == VMemProtect_ReadWrite || protect == VMemProtect_ExecuteReadWrite;
}

/* Whether the bytes of the pages and the answers of the query agree with the model. */
static int agrees(const struct reservation *r)
{
    VMemRangeInfo runs[PAGES];
    size_t n = vmem_query_range_info(r->at, PAGES * page, runs, PAGES), i, run = 0;

    for (i = 0; i < PAGES; i++) {
        const struct page *p = &r->pages[i];
        const unsigned char *at = r->at + i * page;
        if (reads(p->protect) && (at[0] != p->first || at[page - 1] != p->first)) {
            DIAG("page %zu holds %u and %u, not %u", i, at[0], at[page - 1], p->first);
            return 0;
        }
        if (run < n && at == (unsigned char *)runs[run].ptr + runs[run].size_bytes)
            run++;
        if (run >= n || runs[run].is_commited != (p->protect != VMemProtect_Invalid) ||
            runs[run].protect != (p->protect != VMemProtect_Invalid ? p->protect : VMemProtect_ReadWrite)) {
            DIAG("page %zu is not as run %zu of %zu says", i, run, n);
            return 0;
        }
        if (at == (unsigned char *)runs[run].ptr && run > 0 && runs[run].is_commited == runs[run - 1].is_commited &&
            runs[run].protect == runs[run - 1].protect) {
            DIAG("runs %zu and %zu are equal", run - 1, run);
            return 0;
        }
    }
    return run + 1 == n;
}

/* One call; 0 if its answer was wrong. */
static int step(void)
{
    struct reservation *r = &reservations[below(RESERVATIONS)];
    size_t first = below(PAGES), pages = 1 + below(below(4) == 0 ? PAGES : 6), i, kind = below(20);
    size_t offset = below(2) ? 0 : below(page), size = (pages - 1) * page + 1 + below(page - offset);
    VMemProtect protect = (VMemProtect)below(9);
    int inside = first + pages <= PAGES, committed = inside, accessible = inside, locked = inside, unlocked = inside, got, want;
    unsigned char *at;

    if (r->at == NULL) {
        memset(r->pages, 0, sizeof r->pages);
        r->at = below(3) ? vmem_reserve(PAGES * page) : below(2) ? vmem_reserve_guarded(PAGES * page) : vmem_reserve_aligned(PAGES * page, MIB);
        return r->at != NULL && agrees(r);
    }
    for (i = first; inside && i < first + pages; i++) {
        committed &= r->pages[i].protect != VMemProtect_Invalid;
        accessible &= r->pages[i].protect > VMemProtect_NoAccess;
        locked &= r->pages[i].locked;
        unlocked &= !r->pages[i].locked;
    }
    if (protect > VMemProtect_ReadWrite && below(3))
        protect = VMemProtect_ReadWrite;
    at = r->at + first * page + offset;
    switch (kind) {
    case 0:
        if (below(4)) { /* wrong ones */
            want = 0;
            got = vmem_release(r->at + (1 + below(PAGES - 1)) * page, PAGES * page) || vmem_release(r->at, (PAGES + 1) * page) ||
                  vmem_release(r->at, (PAGES - 1 - below(PAGES - 1)) * page) || vmem_release(r->at, 0);
        } else {
            want = 1;
            got = vmem_release(r->at, PAGES * page - below(page));
            got &= !vmem_release(r->at, PAGES * page) && !vmem_commit(r->at, page);
            r->at = NULL;
            return got == want;
        }
        break;
    case 1: case 2: case 3: case 4: case 5: case 6:
        want = inside && protect > VMemProtect_Invalid && protect < VMemProtect_COUNT;
        got = vmem_commit_protect(at, size, protect);
        for (i = first; want && i < first + pages; i++) {
            if (r->pages[i].protect == VMemProtect_Invalid)
                r->pages[i].first = 0;
            r->pages[i].protect = protect;
        }
        break;
    case 7: case 8: case 9:
        want = inside;
        got = vmem_decommit(at, size);
        if (want)
            memset(&r->pages[first], 0, pages * sizeof *r->pages);
        break;
    case 10: case 11: case 12:
        want = committed && protect > VMemProtect_Invalid && protect < VMemProtect_COUNT;
        got = vmem_protect(at, size, protect);
        for (i = first; want && i < first + pages; i++)
            r->pages[i].protect = protect;
        break;
    case 13:
        want = accessible;
        got = vmem_lock(at, size);
        if (!got && want && strstr(vmem_get_error_message(), "cannot lock") != NULL)
            return agrees(r); /* RLIMIT_MEMLOCK */
        for (i = first; want && i < first + pages; i++)
            r->pages[i].locked = 1;
        break;
    case 14:
        want = locked;
        got = vmem_unlock(at, size);
        for (i = first; want && i < first + pages; i++)
            r->pages[i].locked = 0;
        break;
    case 15:
        want = committed;
        for (i = first; inside && i < first + pages; i++)
            want &= reads(r->pages[i].protect);
        got = vmem_prefault(at, size);
        break;
    case 16:
        want = committed && unlocked;
        got = vmem_reset(at, size);
        for (i = first; want && i < first + pages; i++) { /* the contents may be gone: write new ones */
            got &= vmem_protect(r->at + i * page, page, VMemProtect_ReadWrite);
            r->pages[i].protect = VMemProtect_ReadWrite;
            r->at[i * page] = r->at[i * page + page - 1] = r->pages[i].first = (unsigned char)below(256);
        }
        break;
    case 17: /* across the end, and nothing */
        want = 0;
        got = vmem_commit(r->at + (PAGES - 1) * page, page + 1 + below(9 * page)) || vmem_decommit(r->at - 1, 2) || vmem_commit(at, 0);
        break;
    default:
        want = got = 1;
        for (i = first; inside && i < first + pages; i++)
            if (writes(r->pages[i].protect))
                r->at[i * page] = r->at[i * page + page - 1] = r->pages[i].first = (unsigned char)below(256);
        break;
    }
    if (got != want)
        DIAG("call %zu on pages %zu to %zu returned %d, not %d: %s", kind, first, first + pages, got, want, vmem_get_error_message());
    return got == want && agrees(r);
}

int main(void)
{
    size_t i;
    int good = 1;

    page = vmem_get_page_size();
    TEST("every-call-does-what-a-model-of-the-rules-does");
    for (i = 0; i < CALLS && (good = step()) != 0; i++)
        ;
    if (!CHECK(good))
        DIAG("call %zu", i);
    for (i = 0; i < RESERVATIONS; i++)
        if (reservations[i].at != NULL)
            CHECK(agrees(&reservations[i]) && vmem_release(reservations[i].at, PAGES * page));
    return tap_done();
}
