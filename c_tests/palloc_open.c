/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* palloc_init on every kind of file: created, initialized, opened, healed, or refused with nothing written. */

#include "palloc_util.h"
#include "support/disk_reads.h"

#define FILE_NAME "open.db"

/* palloc_init fails with `number` and a text, and leaves the file as it is. */
static int refused(uint32_t flags, int number)
{
    struct bytes before = file_read(FILE_NAME);
    struct palloc_t *pt;
    int good;

    errno = 0;
    pt = palloc_init(FILE_NAME, flags);
    good = CHECK(pt == NULL);
    good &= pt != NULL || CHECK_ERRNO(number);
    good &= pt != NULL || CHECK_STR_CONTAINS(palloc_error(), FILE_NAME);
    palloc_close(pt);
    good &= CHECK(file_is(FILE_NAME, &before));
    bytes_free(&before);
    return good;
}

/* As `refused` with EILSEQ; palloc_error() names the offset. */
static int damaged(uint32_t flags, uint64_t offset)
{
    char number[32];

    snprintf(number, sizeof number, "%llu", (unsigned long long)offset);
    return refused(flags, EILSEQ) && CHECK_STR_CONTAINS(palloc_error(), number);
}

/* The flags in the header of the closed medium. */
static uint32_t stored_flags(void)
{
    struct medium m;
    uint32_t flags;

    medium_load(&m, FILE_NAME);
    flags = m.flags;
    medium_free(&m);
    return flags;
}

/* Opens, has a look, works a little, and leaves a sound file. */
static void works(uint32_t flags, uint64_t size, uint64_t live)
{
    struct palloc_t *pt = CHECK_OPENS(FILE_NAME, flags);
    struct palloc_stat stat;
    uint64_t ptr;

    if (pt == NULL)
        return;
    CHECK_EQ_U(pt->size, size);
    CHECK_VIEW(pt);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, live);
    if ((pt->flags & PALLOC_DYNAMIC) != 0 || stat.largest_free >= 16) {
        ptr = palloc(pt, 16);
        CHECK(ptr != 0);
        CHECK_VIEW(pt);
        pfree(pt, ptr);
        CHECK_VIEW(pt);
    } else {
        errno = 0;
        CHECK_EQ_U(palloc(pt, 0), 0);
        CHECK_ERRNO(ENOSPC);
    }
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void new_files(void)
{
    uint32_t flags;
#ifndef _WIN32
    struct palloc_t *pt;
    struct stat st;
    mode_t mask;
#endif

    TEST("a-missing-file-is-created-with-DYNAMIC");
    unlink(FILE_NAME);
    works(PALLOC_DYNAMIC, 8, 0);

    TEST("a-missing-file-without-DYNAMIC-is-ENOENT-and-not-created");
    unlink(FILE_NAME);
    errno = 0;
    CHECK(palloc_init(FILE_NAME, PALLOC_DEFAULT) == NULL);
    CHECK_ERRNO(ENOENT);
    CHECK(access(FILE_NAME, F_OK) != 0);

    TEST("a-missing-file-with-READONLY-is-ENOENT-and-not-created");
    for (flags = PALLOC_READONLY; flags <= (PALLOC_READONLY | PALLOC_DYNAMIC); flags += PALLOC_DYNAMIC) {
        errno = 0;
        CHECK(palloc_init(FILE_NAME, flags) == NULL);
        CHECK_ERRNO(ENOENT);
        CHECK(access(FILE_NAME, F_OK) != 0);
    }

    TEST("a-missing-directory-is-ENOENT");
    errno = 0;
    CHECK(palloc_init("no/such/directory.db", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(ENOENT);
    CHECK_STR_CONTAINS(palloc_error(), "no/such/directory.db");

#ifndef _WIN32
    TEST("a-created-file-has-mode-0660-less-the-umask");
    mask = umask(0);
    unlink(FILE_NAME);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
    CHECK(stat(FILE_NAME, &st) == 0);
    CHECK_EQ_U(st.st_mode & 07777, 0660);
    palloc_close(pt);
    umask(027);
    unlink(FILE_NAME);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
    CHECK(stat(FILE_NAME, &st) == 0);
    CHECK_EQ_U(st.st_mode & 07777, 0640);
    palloc_close(pt);
    umask(mask);

    TEST("an-existing-file-keeps-its-mode");
    file_write(FILE_NAME, "", 0);
    CHECK(chmod(FILE_NAME, 0604) == 0);
    palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC));
    CHECK(stat(FILE_NAME, &st) == 0);
    CHECK_EQ_U(st.st_mode & 07777, 0604);
    unlink(FILE_NAME);
#endif

    TEST("an-empty-file-becomes-a-dynamic-medium-of-8-bytes");
    file_write(FILE_NAME, "", 0);
    works(PALLOC_DYNAMIC, 8, 0);
    CHECK_EQ_U(file_size(FILE_NAME), 8);

    TEST("an-empty-file-without-DYNAMIC-is-EINVAL");
    file_write(FILE_NAME, "", 0);
    refused(PALLOC_DEFAULT, EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "incompatible medium");

    TEST("an-empty-file-with-READONLY-is-EINVAL");
    refused(PALLOC_READONLY, EINVAL);
    refused(PALLOC_READONLY | PALLOC_DYNAMIC, EINVAL);
}

static void zeros(void)
{
    static const uint64_t large[] = {40, 41, 47, 48, 55, 56, 1023, 1024, 4096, MIB};
    uint64_t size;
    size_t i;

    TEST("1-to-7-and-9-to-39-zeros-are-refused-without-DYNAMIC");
    for (size = 1; size < 40; size++) {
        if (size == 8)
            continue;
        file_zeros(FILE_NAME, size);
        if (!refused(PALLOC_DEFAULT, EINVAL))
            DIAG("%llu zeros", (unsigned long long)size);
    }

    TEST("1-to-7-zeros-grow-to-8-with-DYNAMIC");
    for (size = 1; size < 8; size++) {
        file_zeros(FILE_NAME, size);
        works(PALLOC_DYNAMIC, 8, 0);
        CHECK_EQ_U(file_size(FILE_NAME), 8);
    }

    TEST("8-zeros-become-a-medium-of-8-bytes");
    file_zeros(FILE_NAME, 8);
    works(PALLOC_DYNAMIC, 8, 0);
    file_zeros(FILE_NAME, 8);
    works(PALLOC_DEFAULT, 8, 0);
    CHECK_EQ_U(file_size(FILE_NAME), 8);

    TEST("9-to-39-zeros-grow-to-40-with-DYNAMIC");
    for (size = 9; size < 40; size++) {
        struct palloc_t *pt;
        file_zeros(FILE_NAME, size);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
        if (pt == NULL)
            continue;
        CHECK_EQ_U(pt->size, 40);
        CHECK_EQ_U(pt->first_free, 8);
        CHECK_EQ_U(palloc_size(pt, 16), 16);
        CHECK_EQ_U(palloc_first(pt), 0);
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_EQ_U(file_size(FILE_NAME), 40);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("40-zeros-or-more-become-one-free-block");
    for (i = 0; i < sizeof large / sizeof large[0]; i++) {
        uint32_t flags;
        for (flags = PALLOC_DEFAULT; flags <= PALLOC_DYNAMIC; flags++) {
            struct palloc_t *pt;
            struct medium m;

            file_zeros(FILE_NAME, large[i]);
            pt = CHECK_OPENS(FILE_NAME, flags);
            if (pt == NULL)
                continue;
            CHECK_EQ_U(pt->size, large[i]);
            CHECK_EQ_U(pt->flags, flags);
            CHECK_EQ_U(pt->first_free, 8);
            CHECK_EQ_U(palloc_size(pt, 16), large[i] - 24);
            CHECK_EQ_U(palloc_first(pt), 0);
            CHECK_VIEW(pt);
            palloc_close(pt);
            CHECK_EQ_U(file_size(FILE_NAME), large[i]);
            CHECK_SOUND(FILE_NAME);
            medium_load(&m, FILE_NAME);
            CHECK_EQ_U(m.flags, flags);
            CHECK_EQ_U(m.free, 1);
            medium_free(&m);
        }
    }

    TEST("a-static-medium-stays-static-when-DYNAMIC-is-asked-for");
    file_zeros(FILE_NAME, 1024);
    palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT));
    {
        struct palloc_t *pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
        CHECK_EQ_U(pt->flags, 0);
        errno = 0;
        CHECK_EQ_U(palloc(pt, 1024), 0);
        CHECK_ERRNO(ENOSPC);
        palloc_close(pt);
    }

    TEST("a-dynamic-medium-stays-dynamic-when-it-is-not-asked-for");
    unlink(FILE_NAME);
    palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC));
    {
        struct palloc_t *pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        CHECK_EQ_U(pt->flags, PALLOC_DYNAMIC);
        CHECK_EQ_U(palloc(pt, 100000), 16);
        palloc_close(pt);
    }
    CHECK_SOUND(FILE_NAME);

    TEST("zeros-with-READONLY-are-EINVAL");
    for (size = 1; size <= 64; size++) {
        file_zeros(FILE_NAME, size);
        if (!refused(PALLOC_READONLY, EINVAL))
            DIAG("%llu zeros", (unsigned long long)size);
    }

    TEST("a-large-dynamic-medium-of-zeros-returns-to-8-bytes-when-emptied");
    file_zeros(FILE_NAME, 1023);
    {
        struct palloc_t *pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
        uint64_t ptr;
        CHECK_EQ_U(ptr = palloc(pt, 16), 16);
        CHECK_EQ_U(pt->size, 1023);
        pfree(pt, ptr); /* next to the free tail, which counted up to now */
        CHECK_EQ_U(pt->size, 8);
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_EQ_U(file_size(FILE_NAME), 8);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("a-dynamic-medium-from-odd-zeros-comes-into-step-at-its-first-growth");
    file_zeros(FILE_NAME, 1023);
    {
        struct palloc_t *pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
        uint64_t ptr, last = 0;
        int k;
        for (k = 0; k < 8; k++) {
            ptr = palloc(pt, 2000);
            CHECK(ptr != 0);
            CHECK_EQ_U(ptr % 16, 0);
            CHECK(ptr > last);
            last = ptr;
            CHECK_VIEW(pt);
        }
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }
}

static void headers(void)
{
    static const char dynamic_header[9] = "PBA\0\0\0\0\1";
    uint8_t raw[1024];
    size_t size;

    TEST("the-first-1-to-7-bytes-of-a-header-are-completed-with-DYNAMIC");
    for (size = 1; size < 8; size++) {
        file_write(FILE_NAME, dynamic_header, size);
        works(PALLOC_DYNAMIC, 8, 0);
        CHECK_EQ_U(file_size(FILE_NAME), 8);
    }

    TEST("the-first-1-to-7-bytes-of-a-header-are-refused-without-DYNAMIC");
    for (size = 1; size < 8; size++) {
        file_write(FILE_NAME, dynamic_header, size);
        refused(PALLOC_DEFAULT, EINVAL);
        refused(PALLOC_READONLY, EINVAL);
    }

    TEST("1-to-7-other-bytes-are-refused");
    for (size = 1; size < 8; size++) {
        file_write(FILE_NAME, "\x7f\x45LF!!!", size);
        refused(PALLOC_DYNAMIC, EINVAL);
        refused(PALLOC_DEFAULT, EINVAL);
        if (size > 1) {
            file_write(FILE_NAME, "PQA\0\0\0\0", size);
            refused(PALLOC_DYNAMIC, EINVAL);
        }
        if (size > 3) {
            file_write(FILE_NAME, "PBA!\0\0\0", size);
            refused(PALLOC_DYNAMIC, EINVAL);
        }
    }

    TEST("a-header-alone-is-an-empty-medium");
    file_write(FILE_NAME, dynamic_header, 8);
    works(PALLOC_DEFAULT, 8, 0);
    file_write(FILE_NAME, "PBA\0\0\0\0\0", 8);
    works(PALLOC_DYNAMIC, 8, 0);
    CHECK_EQ_U(file_size(FILE_NAME), 8);

    TEST("a-header-followed-by-zeros-is-initialized-with-its-own-flags");
    for (size = 40; size <= 1024; size += size < 64 ? 1 : 97) {
        uint32_t stored, asked;
        for (stored = 0; stored <= 1; stored++) {
            for (asked = 0; asked <= 1; asked++) {
                struct palloc_t *pt;
                memset(raw, 0, sizeof raw);
                memcpy(raw, "PBA", 4);
                raw[7] = (uint8_t)stored;
                file_write(FILE_NAME, raw, size);
                pt = CHECK_OPENS(FILE_NAME, asked);
                if (pt == NULL)
                    continue;
                CHECK_EQ_U(pt->flags, stored);
                CHECK_EQ_U(pt->size, size);
                CHECK_EQ_U(palloc_size(pt, 16), size - 24);
                CHECK_VIEW(pt);
                palloc_close(pt);
                CHECK_EQ_U(file_size(FILE_NAME), size);
                CHECK_SOUND(FILE_NAME);
            }
        }
    }

    TEST("zeros-between-a-header-and-an-end-marker-are-initialized");
    for (size = 64 * 1024 - 8; size <= 64 * 1024 + 24; size += 8) { /* the end marker may be all that is in its page */
        struct palloc_t *pt;
        int fd;

        file_zeros(FILE_NAME, size);
        fd = open(FILE_NAME, O_WRONLY);
        CHECK_EQ_I(pwrite(fd, "PBA\0\0\0\0\0", 8, 0), 8);
        put64(raw, (size - 24) | UINT64_C(1) << 63);
        CHECK_EQ_I(pwrite(fd, raw, 8, (off_t)size - 8), 8);
        close(fd);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        if (pt == NULL)
            continue;
        CHECK_EQ_U(palloc_size(pt, 16), size - 24);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("unknown-header-bits-are-kept-and-ignored");
    {
        static const uint32_t bits[] = {0x00010000, 0x40000000, 0x00000010, PALLOC_READONLY, PALLOC_FORCE, 0x7ffffffc};
        size_t i;
        for (i = 0; i < sizeof bits / sizeof bits[0]; i++) {
            struct bytes b;
            struct palloc_t *pt;
            uint64_t start;

            build_header(&b, bits[i] | PALLOC_DYNAMIC);
            start = build_block(&b, 32, 0);
            build_block(&b, 48, 1);
            build_block(&b, 16, 0);
            memset(b.at + start + 8, 'x', 32);
            file_write(FILE_NAME, b.at, b.size);
            bytes_free(&b);
            pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
            if (pt == NULL)
                continue;
            CHECK_EQ_U(pt->flags & (PALLOC_DYNAMIC | PALLOC_SYNC), PALLOC_DYNAMIC);
            CHECK(palloc(pt, 48) != 0);
            CHECK(palloc(pt, 480) != 0);
            pfree(pt, 16);
            CHECK_VIEW(pt);
            palloc_close(pt);
            CHECK_SOUND(FILE_NAME);
            CHECK_EQ_U(stored_flags(), bits[i] | PALLOC_DYNAMIC);
        }
    }

    TEST("EXTENDED-in-the-header-is-ENOTSUP");
    memset(raw, 0, sizeof raw);
    memcpy(raw, "PBA", 4);
    put32(raw + 4, PALLOC_EXTENDED);
    file_write(FILE_NAME, raw, sizeof raw);
    refused(PALLOC_DEFAULT, ENOTSUP);
    refused(PALLOC_READONLY, ENOTSUP);
    put32(raw + 4, PALLOC_EXTENDED | PALLOC_DYNAMIC);
    file_write(FILE_NAME, raw, 8);
    refused(PALLOC_DYNAMIC, ENOTSUP);

    TEST("unknown-flags-are-EINVAL");
    unlink(FILE_NAME);
    palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC));
    refused(32, EINVAL);
    refused(PALLOC_DYNAMIC | 1u << 20, EINVAL);

    TEST("READONLY-and-FORCE-contradict-each-other");
    refused(PALLOC_READONLY | PALLOC_FORCE, EINVAL);
}

static void strangers(void)
{
    static const char text[] = "This is a letter to a friend and by no means a medium; nobody may write blobs over it.\n";
    struct palloc_t *pt;
    struct palloc_stat stat;
    uint8_t raw[256];
    size_t size;

    TEST("a-file-that-is-no-medium-is-refused");
    for (size = 8; size < sizeof text; size++) {
        file_write(FILE_NAME, text, size);
        if (!refused(PALLOC_DYNAMIC, EINVAL) || !refused(PALLOC_DEFAULT, EINVAL) || !refused(PALLOC_READONLY, EINVAL))
            DIAG("%u bytes", (unsigned)size);
        CHECK_STR_CONTAINS(palloc_error(), "not a palloc medium");
    }

    TEST("zeros-with-one-other-byte-are-no-medium");
    {
        static const size_t at[] = {0, 3, 8, 100, 254, 255};
        for (size = 0; size < sizeof at / sizeof at[0]; size++) {
            memset(raw, 0, sizeof raw);
            raw[at[size]] = 1;
            file_write(FILE_NAME, raw, sizeof raw);
            refused(PALLOC_DYNAMIC, EINVAL);
            refused(PALLOC_DEFAULT, EINVAL);
        }
    }

    TEST("a-byte-far-behind-64-MiB-of-zeros-is-seen");
    file_zeros(FILE_NAME, 64 * MIB);
    {
        int fd = open(FILE_NAME, O_WRONLY);
        CHECK_EQ_I(pwrite(fd, "x", 1, 64 * MIB - 1), 1);
        close(fd);
    }
    errno = 0;
    CHECK(palloc_init(FILE_NAME, PALLOC_DEFAULT) == NULL);
    CHECK_ERRNO(EINVAL);
    CHECK(file_disk(FILE_NAME) < MIB);

    TEST("FORCE-makes-a-static-medium-of-the-whole-file");
    file_write(FILE_NAME, text, sizeof text);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_FORCE);
    CHECK_EQ_U(pt->size, sizeof text);
    CHECK_EQ_U(pt->flags, 0);
    CHECK_EQ_U(palloc_size(pt, 16), sizeof text - 24);
    CHECK_EQ_U(palloc_first(pt), 0);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), sizeof text);
    CHECK_SOUND(FILE_NAME);

    TEST("FORCE-makes-a-dynamic-medium-without-blobs");
    file_write(FILE_NAME, text, sizeof text);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_FORCE | PALLOC_DYNAMIC);
    CHECK_EQ_U(pt->flags, PALLOC_DYNAMIC);
    CHECK_EQ_U(palloc_first(pt), 0);
    CHECK_VIEW(pt);
    CHECK(palloc(pt, 5000) != 0);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("FORCE-is-not-stored");
    CHECK_EQ_U(stored_flags(), PALLOC_DYNAMIC);

    TEST("FORCE-keeps-a-good-medium");
    pt = CHECK_OPENS(FILE_NAME, PALLOC_FORCE);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, 1);
    CHECK_EQ_U(pt->flags, PALLOC_DYNAMIC);
    palloc_close(pt);

    TEST("FORCE-initializes-a-damaged-medium-anew");
    file_poke64(FILE_NAME, 8, 3);
    damaged(PALLOC_DEFAULT, 8);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_FORCE | PALLOC_DYNAMIC);
    CHECK_EQ_U(palloc_first(pt), 0);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("FORCE-does-not-make-a-static-medium-of-fewer-than-40-bytes");
    for (size = 1; size < 40; size++) {
        if (size == 8)
            continue;
        file_write(FILE_NAME, text, size);
        refused(PALLOC_FORCE, EINVAL);
    }
}

/* live 32, free 48, live 16, free 64, live 17: to be damaged. Returns the whole file. */
static struct bytes sample(uint32_t flags)
{
    struct bytes b;
    uint64_t start;

    build_header(&b, flags);
    start = build_block(&b, 32, 0); /* 8 */
    pattern_fill(b.at + start + 8, 1, 0, 32);
    build_block(&b, 48, 1); /* 56 */
    start = build_block(&b, 16, 0); /* 120 */
    pattern_fill(b.at + start + 8, 2, 0, 16);
    build_block(&b, 64, 1); /* 152 */
    start = build_block(&b, 17, 0); /* 232 */
    pattern_fill(b.at + start + 8, 3, 0, 17); /* ends at 265 */
    build_links(&b, 56, 0, 152);
    build_links(&b, 152, 56, 0);
    return b;
}

/* The blobs of the sample are there and nothing else is. */
static void sample_is_there(struct palloc_t *pt)
{
    CHECK_EQ_U(palloc_first(pt), 16);
    CHECK_EQ_U(palloc_size(pt, 16), 32);
    blob_intact(pt, 16, 1, 32, BY_ADDRESS);
    CHECK_EQ_U(palloc_next(pt, 16), 128);
    CHECK_EQ_U(palloc_size(pt, 128), 16);
    blob_intact(pt, 128, 2, 16, BY_ADDRESS);
    CHECK_EQ_U(palloc_next(pt, 128), 240);
    CHECK_EQ_U(palloc_size(pt, 240), 17);
    blob_intact(pt, 240, 3, 17, BY_ADDRESS);
    CHECK_EQ_U(palloc_next(pt, 240), 0);
}

static void damage(void)
{
    static const uint64_t starts[] = {8, 56, 120, 152, 232};
    static const uint64_t words[] = {1, 15, UINT64_MAX, FREE_BIT | 3, FREE_BIT, FREE_BIT - 1, FREE_BIT / 2, FREE_BIT - 8, 266, 4096};
    static const uint32_t kinds[] = {PALLOC_DEFAULT, PALLOC_DYNAMIC};
    struct bytes good, b;
    size_t i, w, k;

    TEST("the-sample-medium-is-sound");
    good = sample(0);
    file_write(FILE_NAME, good.at, good.size);
    CHECK_SOUND(FILE_NAME);
    works(PALLOC_DEFAULT, 265, 3);
    bytes_free(&good);

    TEST("a-damaged-start-marker-is-EILSEQ-with-its-offset-and-nothing-is-written");
    for (k = 0; k < 2; k++) {
        for (i = 0; i < sizeof starts / sizeof starts[0]; i++) {
            for (w = 0; w < sizeof words / sizeof words[0]; w++) {
                if (kinds[k] == PALLOC_DYNAMIC && starts[i] == 232 && words[w] > 17 && words[w] < (uint64_t)1 << 48)
                    continue; /* the last blob may reach beyond the end of the file: no other is lost by that */
                b = sample(kinds[k]);
                put64(b.at + starts[i], words[w]);
                file_write(FILE_NAME, b.at, b.size);
                if (!damaged(PALLOC_DEFAULT, starts[i]) || !damaged(PALLOC_READONLY, starts[i]))
                    DIAG("%#llx at %llu", (unsigned long long)words[w], (unsigned long long)starts[i]);
                bytes_free(&b);
            }
        }
    }

    TEST("a-size-that-leads-into-data-is-EILSEQ-with-the-offset-of-what-is-there");
    b = sample(PALLOC_DYNAMIC);
    put64(b.at + 8, 33); /* the next start marker would be at 57 */
    file_write(FILE_NAME, b.at, b.size);
    damaged(PALLOC_DEFAULT, 57);
    bytes_free(&b);

    TEST("bytes-behind-the-last-block-that-are-not-zeros-are-EILSEQ");
    for (k = 0; k < 2; k++) {
        for (i = 1; i < 100; i += 7) {
            b = sample(kinds[k]);
            build_zeros(&b, i);
            memset(b.at + 265, 0x7f, i);
            file_write(FILE_NAME, b.at, b.size);
            if (!damaged(PALLOC_DEFAULT, 265))
                DIAG("%u bytes", (unsigned)i);
            bytes_free(&b);
        }
    }

    TEST("a-live-last-block-of-which-less-than-a-block-is-left-is-EILSEQ");
    for (i = 2; i <= 25; i++) { /* 8 bytes of it are left */
        b = sample(PALLOC_DYNAMIC);
        file_write(FILE_NAME, b.at, b.size - i);
        if (!damaged(PALLOC_DEFAULT, 232))
            DIAG("%u bytes cut off", (unsigned)i);
        bytes_free(&b);
    }

    TEST("a-live-last-block-beyond-the-end-of-a-dynamic-medium-ends-with-the-file");
    for (i = 18; i < 1000; i += 31) {
        struct palloc_t *pt;
        uint32_t flags;
        b = sample(PALLOC_DYNAMIC);
        put64(b.at + 232, i);
        file_write(FILE_NAME, b.at, b.size);
        for (flags = PALLOC_READONLY;; flags = PALLOC_DEFAULT) {
            pt = CHECK_OPENS(FILE_NAME, flags);
            if (pt != NULL) {
                sample_is_there(pt);
                CHECK_VIEW(pt);
                palloc_close(pt);
            }
            if (flags == PALLOC_DEFAULT)
                break;
            CHECK(file_is(FILE_NAME, &b));
        }
        CHECK_SOUND(FILE_NAME);
        bytes_free(&b);
        b = sample(PALLOC_DEFAULT);
        put64(b.at + 232, i);
        file_write(FILE_NAME, b.at, b.size);
        damaged(PALLOC_DEFAULT, 232);
        bytes_free(&b);
    }

    TEST("wrong-end-markers-heal");
    for (k = 0; k < 2; k++) {
        struct palloc_t *pt;
        b = sample(kinds[k]);
        for (i = 0; i < 5; i++) {
            uint64_t n = get64(b.at + starts[i]) & ~FREE_BIT;
            put64(b.at + starts[i] + 8 + n, 12345 * i);
        }
        file_write(FILE_NAME, b.at, b.size);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_READONLY);
        sample_is_there(pt);
        palloc_close(pt);
        CHECK(file_is(FILE_NAME, &b));
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        sample_is_there(pt);
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
        bytes_free(&b);
    }

    TEST("wrong-links-heal");
    {
        static const uint64_t links[] = {0, 8, 56, 120, 152, 232, 264, 265, UINT64_MAX, FREE_BIT};
        size_t p, n;
        for (p = 0; p < sizeof links / sizeof links[0]; p++) {
            for (n = 0; n < sizeof links / sizeof links[0]; n++) {
                struct palloc_t *pt;
                b = sample(PALLOC_DEFAULT);
                build_links(&b, 56, links[p], links[n]);
                build_links(&b, 152, links[n], links[p]);
                file_write(FILE_NAME, b.at, b.size);
                bytes_free(&b);
                pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
                if (pt == NULL)
                    continue;
                sample_is_there(pt);
                CHECK_EQ_U(pt->first_free, 56);
                CHECK_EQ_U(palloc(pt, 64), 160);
                CHECK_EQ_U(palloc(pt, 48), 64);
                palloc_close(pt);
                CHECK_SOUND(FILE_NAME);
            }
        }
    }

    TEST("free-neighbours-are-merged");
    {
        struct palloc_t *pt;
        struct medium m;
        uint64_t at;

        build_header(&b, PALLOC_DEFAULT);
        for (i = 0; i < 4; i++)
            build_block(&b, 16 + i, 1);
        at = build_block(&b, 32, 0);
        file_write(FILE_NAME, b.at, b.size);
        bytes_free(&b);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        CHECK_EQ_U(palloc_first(pt), at + 8);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
        medium_load(&m, FILE_NAME);
        CHECK_EQ_U(m.free, 1);
        CHECK_EQ_U(m.free_bytes, 16 + 17 + 18 + 19 + 3 * 16);
        medium_free(&m);
    }

    TEST("FORCE-heals-rather-than-initializes-what-can-be-opened");
    {
        struct palloc_t *pt;
        b = sample(PALLOC_DEFAULT);
        put64(b.at + 48, 77);
        file_write(FILE_NAME, b.at, b.size);
        bytes_free(&b);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_FORCE);
        sample_is_there(pt);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }
}

static void tails(void)
{
    struct palloc_t *pt;
    struct palloc_stat stat;
    struct bytes b;
    size_t extra;

    TEST("zeros-behind-the-last-block-of-a-static-medium-are-free-space");
    for (extra = 32; extra < 3000; extra += extra < 64 ? 1 : 211) {
        b = sample(PALLOC_DEFAULT);
        build_zeros(&b, extra);
        file_write(FILE_NAME, b.at, b.size);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        if (pt != NULL) {
            sample_is_there(pt);
            CHECK_EQ_U(pt->size, 265 + extra);
            CHECK_EQ_U(palloc_size(pt, 273), extra - 16);
            CHECK_VIEW(pt);
            palloc_close(pt);
        }
        CHECK_EQ_U(file_size(FILE_NAME), 265 + extra);
        CHECK_SOUND(FILE_NAME);
        bytes_free(&b);
    }

    TEST("zeros-behind-the-last-block-of-a-dynamic-medium-are-cut-off");
    for (extra = 1; extra < 3000; extra += extra < 64 ? 1 : 211) {
        b = sample(PALLOC_DYNAMIC);
        build_zeros(&b, extra);
        file_write(FILE_NAME, b.at, b.size);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_READONLY);
        if (pt != NULL) {
            sample_is_there(pt);
            CHECK_VIEW(pt);
            palloc_close(pt);
        }
        CHECK(file_is(FILE_NAME, &b));
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        if (pt != NULL) {
            sample_is_there(pt);
            CHECK_EQ_U(pt->size, 265);
            CHECK_VIEW(pt);
            palloc_close(pt);
        }
        CHECK_EQ_U(file_size(FILE_NAME), 265);
        CHECK_SOUND(FILE_NAME);
        bytes_free(&b);
    }

    TEST("a-free-last-block-beyond-the-end-of-the-file-ends-with-the-file");
    for (extra = 8; extra < 400; extra += extra < 64 ? 1 : 17) {
        uint32_t kind;
        for (kind = 0; kind <= 1; kind++) {
            b = sample(kind);
            build_block(&b, 400, 1); /* at 265 */
            build_links(&b, 265, 152, 0);
            build_links(&b, 152, 56, 265);
            file_write(FILE_NAME, b.at, 265 + extra); /* cut */
            bytes_free(&b);
            if (kind == PALLOC_DEFAULT) { /* a static medium cannot end like this */
                errno = 0;
                CHECK(palloc_init(FILE_NAME, PALLOC_DEFAULT) == NULL);
                CHECK_ERRNO(EILSEQ);
                continue;
            }
            pt = CHECK_OPENS(FILE_NAME, PALLOC_READONLY);
            if (pt != NULL) {
                sample_is_there(pt);
                CHECK_VIEW(pt);
                palloc_close(pt);
            }
            pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
            if (pt != NULL) {
                sample_is_there(pt);
                CHECK(pt->size <= 265 + extra);
                CHECK_VIEW(pt);
                palloc_close(pt);
            }
            CHECK(file_size(FILE_NAME) <= 265 + extra);
            CHECK_SOUND(FILE_NAME);
        }
    }

    TEST("a-free-tail-of-a-dynamic-medium-counts-and-stays");
    b = sample(PALLOC_DYNAMIC);
    build_block(&b, 400, 1);
    build_links(&b, 265, 152, 0);
    build_links(&b, 152, 56, 265);
    file_write(FILE_NAME, b.at, b.size);
    CHECK_SOUND(FILE_NAME);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    CHECK_EQ_U(pt->size, 265 + 416);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.free_blocks, 3);
    CHECK_EQ_U(stat.largest_free, 400);
    pfree(pt, 16); /* not a neighbour of the tail */
    CHECK_EQ_U(pt->size, 265 + 416);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 265 + 416);
    CHECK_SOUND(FILE_NAME);

    TEST("a-pfree-next-to-the-free-tail-gives-it-back-with-the-left-neighbour");
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    pfree(pt, 240); /* free 152 on the left, the tail on the right */
    CHECK_EQ_U(pt->size, 152);
    CHECK_VIEW(pt);
    CHECK_EQ_U(palloc_first(pt), 128);
    CHECK_EQ_U(palloc_next(pt, 128), 0);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 152);
    CHECK_SOUND(FILE_NAME);
    bytes_free(&b);

    TEST("slack-of-growth-is-gone-after-close-though-nothing-was-freed");
    unlink(FILE_NAME);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
    CHECK_EQ_U(palloc(pt, 100), 16);
    CHECK_EQ_U(pt->size, 136);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 136);
    CHECK_SOUND(FILE_NAME);
}

/* Runs in a child: palloc_init with `flags` gives errno `number` (0: succeeds). */
static int child_sees(uint32_t flags, int number)
{
#ifdef _WIN32
    char args[64];

    snprintf(args, sizeof args, "sees %u %d", (unsigned)flags, number);
    return CHECK_EQ_I(run_self(args), 0);
#else
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        struct palloc_t *pt;
        errno = 0;
        pt = palloc_init(FILE_NAME, flags);
        if (number == 0)
            CHECK(pt != NULL);
        else if (CHECK(pt == NULL))
            CHECK_ERRNO(number);
        palloc_close(pt);
        _exit(tap_done());
    }
    return CHECK(child > 0) && CHECK_EQ_I(waitpid(child, &status, 0), child) && CHECK_EQ_I(status, 0);
#endif
}

static void locks(void)
{
    struct palloc_t *pt, *second;
    struct bytes before;

    unlink(FILE_NAME);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    palloc(pt, 100);
    CHECK_EQ_I(palloc_sync(pt), 0);

    TEST("a-second-open-in-the-same-process-is-EWOULDBLOCK");
    refused(PALLOC_DEFAULT, EWOULDBLOCK);
    refused(PALLOC_DYNAMIC, EWOULDBLOCK);
    refused(PALLOC_READONLY, EWOULDBLOCK);
    refused(PALLOC_FORCE, EWOULDBLOCK);

    TEST("a-second-open-by-another-name-is-EWOULDBLOCK");
    CHECK(link(FILE_NAME, "other-name.db") == 0);
    errno = 0;
    CHECK(palloc_init("other-name.db", PALLOC_DEFAULT) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    unlink("other-name.db");

    TEST("a-second-open-from-another-process-is-EWOULDBLOCK");
    child_sees(PALLOC_DEFAULT, EWOULDBLOCK);
    child_sees(PALLOC_READONLY, EWOULDBLOCK);

    TEST("the-first-handle-still-works-after-a-refused-open");
    CHECK(palloc(pt, 100) != 0);
    CHECK_VIEW(pt);

    TEST("the-check-of-a-medium-open-for-writing-is-EWOULDBLOCK");
    errno = 0;
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), -1);
    CHECK_ERRNO(EWOULDBLOCK);

    TEST("close-ends-the-lock");
    palloc_close(pt);
    child_sees(PALLOC_DEFAULT, 0);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    palloc_close(pt);
    before = file_read(FILE_NAME);

    TEST("readers-share-a-medium");
    pt = CHECK_OPENS(FILE_NAME, PALLOC_READONLY);
    second = CHECK_OPENS(FILE_NAME, PALLOC_READONLY);
    CHECK(pt != second);
    CHECK_EQ_U(palloc_first(pt), 16);
    CHECK_EQ_U(palloc_first(second), 16);
    child_sees(PALLOC_READONLY, 0);
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
    palloc_close(second);
    CHECK_EQ_U(palloc_next(pt, 16), 144);

    TEST("a-writer-beside-a-reader-is-EWOULDBLOCK");
    refused(PALLOC_DEFAULT, EWOULDBLOCK);
    child_sees(PALLOC_DEFAULT, EWOULDBLOCK);
    palloc_close(pt);
    CHECK(file_is(FILE_NAME, &before));
    bytes_free(&before);

    TEST("a-failed-open-leaves-no-lock");
    file_write(FILE_NAME, "PBA\0\0\0\0\0 damaged damaged damaged damaged", 40);
    damaged(PALLOC_DEFAULT, 8);
    damaged(PALLOC_DEFAULT, 8);
    unlink(FILE_NAME);

    TEST("a-failed-open-leaves-no-descriptor");
    {
        int next = dup(0), k;
        close(next);
        file_write(FILE_NAME, "no medium at all", 16);
        for (k = 0; k < 20; k++)
            CHECK(palloc_init(FILE_NAME, PALLOC_DYNAMIC) == NULL);
        CHECK_EQ_I(dup(0), next);
        close(next);
    }
}

static void readonly(void)
{
    struct palloc_t *pt;
    struct bytes before;
    struct stat was, is;
    uint64_t ptr;
    int kind;

    for (kind = 0; kind < 3; kind++) {
        TESTF("READONLY-writes-nothing-%s", kind == 0 ? "to-a-sound-medium" : kind == 1 ? "to-one-with-defects" : "to-one-with-a-tail");
        before = sample(PALLOC_DYNAMIC);
        if (kind == 1) { /* links, end markers and neighbours to be repaired */
            build_links(&before, 56, 99, 99);
            put64(before.at + 48, 1);
            put64(before.at + 120, 16 | FREE_BIT);
        } else if (kind == 2) {
            build_zeros(&before, 500);
        }
        file_write(FILE_NAME, before.at, before.size);
        CHECK(file_make_old(FILE_NAME) == 0);
        CHECK(stat(FILE_NAME, &was) == 0);
        pt = CHECK_OPENS(FILE_NAME, PALLOC_READONLY);
        if (pt == NULL)
            continue;
        CHECK_EQ_U(pt->flags & PALLOC_DYNAMIC, PALLOC_DYNAMIC);
        CHECK_EQ_I(fcntl(pt->descriptor, F_GETFL) & O_ACCMODE, O_RDONLY);
        CHECK_VIEW(pt);
        for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr))
            CHECK(palloc_data(pt, ptr) != NULL);
        errno = 0;
        CHECK_EQ_U(palloc(pt, 1), 0);
        CHECK_ERRNO(EROFS);
        errno = 0;
        pfree(pt, 16);
        CHECK_ERRNO(EROFS);
        errno = 0;
        CHECK_EQ_U(prealloc(pt, 16, 400), 0);
        CHECK_ERRNO(EROFS);
        errno = 0;
        CHECK_EQ_U(prealloc(pt, 0, 400), 0);
        CHECK_ERRNO(EROFS);
        errno = UNTOUCHED;
        CHECK_EQ_I(palloc_sync(pt), 0);
        CHECK_EQ_I(errno, UNTOUCHED);
        CHECK_EQ_U(palloc_first(pt), 16);
        blob_intact(pt, 16, 1, 32, BY_DESCRIPTOR);
        blob_intact(pt, 16, 1, 32, BY_ADDRESS);
        palloc_close(pt);
        CHECK(stat(FILE_NAME, &is) == 0);
        CHECK(same_mtime(&is, &was));
        CHECK(file_is(FILE_NAME, &before));
        bytes_free(&before);
    }

    TEST("READONLY-is-not-stored");
    CHECK_EQ_U(stored_flags(), PALLOC_DYNAMIC);

    TEST("READONLY-opens-a-file-that-may-not-be-written");
    before = sample(PALLOC_DYNAMIC);
    file_write(FILE_NAME, before.at, before.size);
    bytes_free(&before);
    CHECK(chmod(FILE_NAME, 0444) == 0);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_READONLY);
    if (pt != NULL)
        sample_is_there(pt);
    palloc_close(pt);
    CHECK(chmod(FILE_NAME, 0644) == 0);
}

#ifndef _WIN32

/* Runs `then` in a child without root's rights over files. */
static void as_nobody(void (*then)(void))
{
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(77);
        then();
        _exit(tap_done());
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        SKIP("cannot become another user");
    else
        CHECK_EQ_I(status, 0);
}

static void unreadable(void)
{
    errno = 0;
    CHECK(palloc_init("secret.db", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EACCES);
    CHECK_STR_CONTAINS(palloc_error(), "secret.db");
    errno = 0;
    CHECK(palloc_init("secret.db", PALLOC_READONLY) == NULL);
    CHECK_ERRNO(EACCES);
    errno = 0;
    CHECK_EQ_I(palloc_check("secret.db", NULL, NULL), -1);
    CHECK_ERRNO(EACCES);
}

static void unwritable(void)
{
    struct palloc_t *pt;

    errno = 0;
    CHECK(palloc_init("public.db", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EACCES);
    pt = palloc_init("public.db", PALLOC_READONLY);
    if (CHECK(pt != NULL))
        CHECK_EQ_U(palloc_first(pt), 16);
    palloc_close(pt);
    CHECK_EQ_I(palloc_check("public.db", NULL, NULL), 0);
}

#endif

static void places(void)
{
    struct palloc_t *pt;
    char here[4096];

    REQUIRE(getcwd(here, sizeof here) != NULL);

    TEST("a-directory-is-refused");
    CHECK(mkdir("directory.db", 0755) == 0);
    errno = 0;
    CHECK(palloc_init("directory.db", PALLOC_DYNAMIC) == NULL);
    CHECK(errno == EISDIR || errno == EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "directory.db");
    errno = 0;
    CHECK(palloc_init("directory.db", PALLOC_READONLY) == NULL);
    CHECK(errno == EISDIR || errno == EINVAL);
    errno = 0;
    CHECK_EQ_I(palloc_check("directory.db", NULL, NULL), -1);
    CHECK(errno == EISDIR || errno == EINVAL);
    rmdir("directory.db");

#ifndef _WIN32
    TEST("a-FIFO-is-refused-at-once");
    CHECK(mkfifo("fifo.db", 0644) == 0);
    alarm(tap_seconds(10));
    errno = 0;
    CHECK(palloc_init("fifo.db", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EINVAL);
    errno = 0;
    CHECK(palloc_init("fifo.db", PALLOC_READONLY) == NULL);
    CHECK_ERRNO(EINVAL);
    errno = 0;
    CHECK_EQ_I(palloc_check("fifo.db", NULL, NULL), -1);
    CHECK_ERRNO(EINVAL);
    alarm(0);
    unlink("fifo.db");

    TEST("a-character-device-is-refused");
    errno = 0;
    CHECK(palloc_init("/dev/null", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EINVAL);
    errno = 0;
    CHECK(palloc_init("/dev/zero", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EINVAL);
#else
    TEST("a-character-device-is-refused");
    errno = 0;
    CHECK(palloc_init("NUL", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EINVAL);
#endif

    TEST("an-empty-name-is-ENOENT-and-NULL-is-EINVAL");
    errno = 0;
    CHECK(palloc_init("", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(ENOENT);
    errno = 0;
    CHECK(palloc_init(NULL, PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EINVAL);

#ifdef _WIN32
    TEST("a-name-is-UTF-8");
    pt = palloc_init("m\xc3\xb6 \xe2\x82\xac \xf0\x9f\x98\x80.db", PALLOC_DYNAMIC);
    if (CHECK(pt != NULL))
        CHECK_EQ_U(palloc(pt, 1), 16);
    palloc_close(pt);
    CHECK(_waccess(L"m\u00f6 \u20ac \U0001f600.db", R_OK) == 0);
    CHECK(_wunlink(L"m\u00f6 \u20ac \U0001f600.db") == 0);
    errno = 0;
    CHECK(palloc_init("\xff\xfe name\x80.db", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EINVAL);
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    CHECK_EQ_U(palloc(pt, 1), 16);
    palloc_close(pt);
#else
    TEST("a-name-that-is-not-UTF-8-works");
    unlink("\xff\xfe name\x80.db");
    pt = palloc_init("\xff\xfe name\x80.db", PALLOC_DYNAMIC);
    if (CHECK(pt != NULL)) {
        CHECK_STR_CONTAINS(pt->filename, "/\xff\xfe name\x80.db");
        CHECK_EQ_U(palloc(pt, 1), 16);
    }
    palloc_close(pt);
    CHECK_EQ_U(file_size("\xff\xfe name\x80.db"), 40);
    unlink("\xff\xfe name\x80.db");

    TEST("a-symbolic-link-leads-to-the-medium");
    unlink(FILE_NAME);
    CHECK(symlink(FILE_NAME, "link.db") == 0);
    pt = palloc_init("./link.db", PALLOC_DYNAMIC);
    if (CHECK(pt != NULL)) {
        char *absolute = realpath(FILE_NAME, NULL);

        CHECK(absolute != NULL && absolute[0] == '/');
        CHECK_STR(pt->filename, absolute); /* as with the original */
        free(absolute);
        CHECK_EQ_U(palloc(pt, 1), 16);
    }
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), -1);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 40);
    unlink("link.db");
#endif

    TEST("a-copy-made-after-palloc_sync-or-beside-a-reader-is-the-medium");
    {
        struct bytes copy;
        int reader;

        for (reader = 0; reader < 2; reader++) {
            unlink(FILE_NAME);
            unlink("copy.db");
            pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
            REQUIRE(pt != NULL);
            CHECK_EQ_U(palloc(pt, 100), 16);
            CHECK(palloc(pt, 100000) != 0);
            pfree(pt, palloc_next(pt, 16));
            if (reader) {
                palloc_close(pt);
                pt = palloc_init(FILE_NAME, PALLOC_READONLY);
            } else
                CHECK_EQ_I(palloc_sync(pt), 0);
            copy = file_read(FILE_NAME);
            palloc_close(pt);
            file_write("copy.db", copy.at, copy.size);
            bytes_free(&copy);
            CHECK_SOUND("copy.db");
            pt = palloc_init("copy.db", PALLOC_DYNAMIC);
            CHECK(pt != NULL && palloc_first(pt) == 16 && palloc_next(pt, 16) == 0);
            palloc_close(pt);
        }
        unlink("copy.db");
        unlink(FILE_NAME);
        pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
        CHECK_EQ_U(palloc(pt, 1), 16);
        palloc_close(pt);
    }

    TEST("a-medium-works-on-after-its-file-was-renamed-and-the-program-moved");
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    CHECK(rename(FILE_NAME, "renamed.db") == 0);
    CHECK(mkdir("elsewhere", 0755) == 0 && chdir("elsewhere") == 0);
    CHECK_EQ_U(palloc(pt, 100000), 48);
    CHECK_EQ_I(palloc_sync(pt), 0);
    palloc_close(pt);
    CHECK(chdir(here) == 0);
    CHECK_SOUND("renamed.db");
    CHECK_EQ_U(file_size("renamed.db"), 40 + 100016);
    rmdir("elsewhere");
    unlink("renamed.db");

#ifndef _WIN32
    TEST("a-file-that-may-not-be-read-is-EACCES");
    CHECK(chmod(".", 0755) == 0);
    {
        struct bytes b = sample(PALLOC_DYNAMIC);
        file_write("secret.db", b.at, b.size);
        file_write("public.db", b.at, b.size);
        bytes_free(&b);
    }
    CHECK(chmod("secret.db", 0) == 0 && chmod("public.db", 0444) == 0);
    as_nobody(unreadable);

    TEST("a-file-that-may-not-be-written-opens-for-reading-only");
    as_nobody(unwritable);
#endif
}

static void descriptors(void)
{
    struct palloc_t *pt;
    struct bytes b;

    TEST("SYNC-sets-O_DSYNC-and-the-field");
    unlink(FILE_NAME);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SYNC);
    CHECK_EQ_U(pt->flags, PALLOC_DYNAMIC | PALLOC_SYNC);
    CHECK_EQ_I(fcntl(pt->descriptor, F_GETFL) & O_DSYNC, O_DSYNC);
    CHECK_EQ_U(palloc(pt, 5), 16);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("our-SYNC-is-not-stored");
    CHECK_EQ_U(stored_flags(), PALLOC_DYNAMIC);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    CHECK_EQ_U(pt->flags, PALLOC_DYNAMIC);
    CHECK_EQ_I(fcntl(pt->descriptor, F_GETFL) & O_DSYNC, 0);
    palloc_close(pt);
    file_zeros(FILE_NAME, 4096);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_SYNC);
    CHECK_EQ_U(pt->flags, PALLOC_SYNC);
    palloc_close(pt);
    CHECK_EQ_U(stored_flags(), 0);

    TEST("a-stored-SYNC-counts-and-stays-stored");
    b = sample(PALLOC_DYNAMIC | PALLOC_SYNC);
    file_write(FILE_NAME, b.at, b.size);
    bytes_free(&b);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    CHECK_EQ_U(pt->flags, PALLOC_DYNAMIC | PALLOC_SYNC);
    CHECK_EQ_I(fcntl(pt->descriptor, F_GETFL) & O_DSYNC, O_DSYNC);
    CHECK_EQ_U(palloc(pt, 64), 160);
    pfree(pt, 16);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
    CHECK_EQ_U(stored_flags(), PALLOC_DYNAMIC | PALLOC_SYNC);

    TEST("the-descriptor-is-read-write-and-closed-on-exec");
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    CHECK_EQ_I(fcntl(pt->descriptor, F_GETFL) & O_ACCMODE, O_RDWR);
    CHECK_EQ_I(fcntl(pt->descriptor, F_GETFL) & (O_APPEND | O_NONBLOCK), 0);
    CHECK_EQ_I(fcntl(pt->descriptor, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    palloc_close(pt);

    TEST("close-closes-the-descriptor");
    {
        int fd;
        pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
        fd = pt->descriptor;
        palloc_close(pt);
        errno = 0;
        CHECK_EQ_I(fcntl(fd, F_GETFD), -1);
        CHECK_EQ_I(errno, EBADF);
    }

    TEST("blobs-are-read-and-written-by-lseek-read-and-write");
    unlink(FILE_NAME);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DYNAMIC);
    {
        uint64_t ptr = palloc(pt, 11);
        char text[12] = "";
        CHECK_EQ_I(lseek(pt->descriptor, (off_t)ptr, SEEK_SET), ptr);
        CHECK_EQ_I(write(pt->descriptor, "hello world", 11), 11);
        CHECK(palloc(pt, 500) != 0); /* growth does not need the file offset */
        CHECK_EQ_I(lseek(pt->descriptor, (off_t)ptr, SEEK_SET), ptr);
        CHECK_EQ_I(read(pt->descriptor, text, 11), 11);
        CHECK_STR(text, "hello world");
    }
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("opening-and-closing-leaves-nothing-behind");
    {
        int k, next = dup(0);
        close(next);
        for (k = 0; k < 200; k++)
            palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT));
        CHECK_EQ_I(dup(0), next);
        close(next);
    }

    TEST("a-medium-that-is-only-opened-and-closed-keeps-its-bytes");
    b = file_read(FILE_NAME);
    palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT));
    CHECK(file_is(FILE_NAME, &b));
    bytes_free(&b);
}

#ifdef __linux__
/* Brings the file to the disk, and out of memory. Returns the bytes of it that opening it reads. */
static uint64_t bytes_to_open(void)
{
    int fd = open(FILE_NAME, O_RDWR);
    uint64_t before;

    CHECK_EQ_I(fsync(fd), 0);
    CHECK_EQ_I(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
    before = disk_reads();
    palloc_close(CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT));
    return disk_reads() - before;
}

static void cold(void)
{
    enum { BLOBS = 320 };
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t size, read, ptr = 0;
    int k;

    TEST("opening-a-medium-of-large-blobs-that-is-not-in-memory-reads-few-of-its-bytes");
    for (k = 0; k < BLOBS; k++)
        CHECK(blob_write(pt, palloc(pt, 300000), (uint64_t)k, 0, 300000, BY_ADDRESS));
    size = pt->size;
    palloc_close(pt);
    read = bytes_to_open();
    if (read == 0)
        SKIP("the bytes that are read from a disk are not counted here");
    if (is_emulated())
        SKIP("advice about reading ahead does nothing here");
    else
        CHECK(read < size / 5);
    pt = CHECK_OPENS(FILE_NAME, PALLOC_DEFAULT);
    for (k = 0; k < BLOBS && CHECK((ptr = palloc_next(pt, ptr)) != 0); k++)
        blob_intact(pt, ptr, (uint64_t)k, 300000, BY_ADDRESS);
    palloc_close(pt);
    unlink(FILE_NAME);
}
#endif

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "sees") == 0) { /* the child of child_sees */
        struct palloc_t *pt;

        errno = 0;
        pt = palloc_init(FILE_NAME, (uint32_t)strtoul(argv[2], NULL, 10));
        palloc_close(pt);
        return pt != NULL ? atoi(argv[3]) != 0 : errno != atoi(argv[3]);
    }
    PART(new_files());
    PART(zeros());
    PART(headers());
    PART(strangers());
    PART(damage());
    PART(tails());
    PART(locks());
    PART(readonly());
    PART(places());
    PART(descriptors());
#ifdef __linux__
    PART(cold());
#endif
    return tap_done();
}
