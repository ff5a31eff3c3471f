/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The exact figures that programs rely on: offsets, sizes, the order of iteration, the fields of struct palloc_t, the file's size. */
#include "palloc_util.h"

#define FILE_NAME "figures.db"

/* The documented fields after any call: the file's absolute path and descriptor, what the medium is, and how large. */
static int fields_are(struct palloc_t *pt, uint32_t flags, uint64_t size)
{
    struct stat by_name, by_descriptor;
    char *absolute = realpath(FILE_NAME, NULL);
    int good = CHECK(absolute != NULL) && CHECK_STR(pt->filename, absolute);

    free(absolute);
    good &= CHECK(stat(FILE_NAME, &by_name) == 0 && fstat(pt->descriptor, &by_descriptor) == 0);
    good &= CHECK_EQ_U(by_name.st_ino, by_descriptor.st_ino);
    good &= CHECK_EQ_U(pt->flags, flags);
    good &= CHECK_EQ_U(pt->header_size, 8);
    good &= CHECK_EQ_U(pt->size, size);
    return good & CHECK_VIEW(pt);
}

static void dynamic_figures(void)
{
    struct palloc_t *pt;
    char name[] = FILE_NAME;

    TEST("a-new-dynamic-medium-has-8-bytes");
    unlink(FILE_NAME);
    errno = UNTOUCHED;
    pt = palloc_init(name, PALLOC_DYNAMIC);
    CHECK_EQ_I(errno, UNTOUCHED);
    REQUIRE(pt != NULL);
    memset(name, 'x', sizeof name - 1); /* the field does not depend on the caller's string */
    fields_are(pt, PALLOC_DYNAMIC, 8);
    CHECK_EQ_U(pt->first_free, 0);
    CHECK_EQ_U(palloc_first(pt), 0);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 8);
    {
        static const uint8_t header[8] = {0x50, 0x42, 0x41, 0x00, 0, 0, 0, 1};
        struct bytes b = file_read(FILE_NAME);
        CHECK_MEM(b.at, header, 8);
        bytes_free(&b);
    }

    TEST("dynamic-palloc-4-is-at-16-and-32-is-at-48");
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc(pt, 4), 16);
    fields_are(pt, PALLOC_DYNAMIC, 40);
    CHECK_EQ_U(palloc_size(pt, 16), 16);
    CHECK_EQ_U(palloc(pt, 32), 48);
    fields_are(pt, PALLOC_DYNAMIC, 88);
    CHECK_EQ_U(palloc_size(pt, 48), 32);
    CHECK_EQ_U(palloc_first(pt), 16);
    CHECK_EQ_U(palloc_next(pt, 16), 48);
    CHECK_EQ_U(palloc_next(pt, 48), 0);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 88);
    CHECK_SOUND(FILE_NAME);

    TEST("markers-on-the-medium-are-big-endian-sizes");
    {
        struct bytes b = file_read(FILE_NAME);
        REQUIRE(b.size == 88);
        CHECK_EQ_U(get64(b.at + 8), 16);
        CHECK_EQ_U(get64(b.at + 32), 16);
        CHECK_EQ_U(get64(b.at + 40), 32);
        CHECK_EQ_U(get64(b.at + 80), 32);
        bytes_free(&b);
    }

    TEST("freeing-the-last-block-of-a-dynamic-medium-gives-its-space-back");
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    pfree(pt, 48);
    fields_are(pt, PALLOC_DYNAMIC, 40);
    CHECK_EQ_U(pt->first_free, 0);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 40);

    TEST("freeing-the-last-block-takes-a-free-neighbour-along");
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc(pt, 100), 48);   /* 112, to 168 */
    CHECK_EQ_U(palloc(pt, 200), 176);  /* 208, to 392 */
    CHECK_EQ_U(palloc(pt, 300), 400);  /* 304, to 712 */
    fields_are(pt, PALLOC_DYNAMIC, 712);
    pfree(pt, 48);
    fields_are(pt, PALLOC_DYNAMIC, 712);
    CHECK_EQ_U(pt->first_free, 40);
    pfree(pt, 176);
    fields_are(pt, PALLOC_DYNAMIC, 712);
    pfree(pt, 400);
    fields_are(pt, PALLOC_DYNAMIC, 40);
    CHECK_EQ_U(pt->first_free, 0);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 40);

    TEST("freeing-all-leaves-8-bytes");
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    pfree(pt, 16);
    fields_are(pt, PALLOC_DYNAMIC, 8);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 8);
    CHECK_SOUND(FILE_NAME);

    TEST("a-dynamic-medium-grows-though-something-is-free");
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc(pt, 16), 16);
    CHECK_EQ_U(palloc(pt, 16), 48);
    pfree(pt, 16);
    CHECK_EQ_U(palloc(pt, 64), 80);
    fields_are(pt, PALLOC_DYNAMIC, 152);
    CHECK_EQ_U(pt->first_free, 8);
    CHECK_EQ_U(palloc(pt, 1), 16);
    CHECK_EQ_U(pt->first_free, 0);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void static_figures(void)
{
    struct palloc_t *pt;
    uint64_t ptr[5];

    TEST("a-static-medium-of-1-MiB-hands-out-16-48-96-144-192");
    file_zeros(FILE_NAME, MIB);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    fields_are(pt, 0, MIB);
    CHECK_EQ_U(pt->first_free, 8);
    CHECK_EQ_U(palloc_size(pt, 16), MIB - 24);
    CHECK_EQ_U(ptr[0] = palloc(pt, 4), 16);
    CHECK_EQ_U(ptr[1] = palloc(pt, 32), 48);
    CHECK_EQ_U(ptr[2] = palloc(pt, 32), 96);
    CHECK_EQ_U(ptr[3] = palloc(pt, 32), 144);
    CHECK_EQ_U(ptr[4] = palloc(pt, 32), 192);
    fields_are(pt, 0, MIB);

    TEST("after-freeing-4th-1st-3rd-a-palloc-40-is-at-96-and-64-at-240");
    pfree(pt, ptr[3]);
    fields_are(pt, 0, MIB);
    pfree(pt, ptr[0]);
    fields_are(pt, 0, MIB);
    pfree(pt, ptr[2]);
    fields_are(pt, 0, MIB);
    CHECK_EQ_U(palloc(pt, 40), 96);
    CHECK_EQ_U(palloc_size(pt, 96), 80); /* 32 bytes too many are not split off */
    CHECK_EQ_U(palloc(pt, 64), 240);
    fields_are(pt, 0, MIB);

    TEST("palloc-of-the-whole-medium-is-0-and-ENOSPC");
    errno = 0;
    CHECK_EQ_U(palloc(pt, MIB), 0);
    CHECK_ERRNO(ENOSPC);

    TEST("the-iteration-is-48-96-192-240-end");
    CHECK_EQ_U(palloc_first(pt), 48);
    CHECK_EQ_U(palloc_next(pt, 48), 96);
    CHECK_EQ_U(palloc_next(pt, 96), 192);
    CHECK_EQ_U(palloc_next(pt, 192), 240);
    errno = UNTOUCHED;
    CHECK_EQ_U(palloc_next(pt, 240), 0);
    CHECK_EQ_I(errno, UNTOUCHED);

    TEST("a-palloc-1-fills-the-first-hole");
    CHECK_EQ_U(palloc(pt, 1), 16);
    CHECK_EQ_U(palloc_first(pt), 16);
    fields_are(pt, 0, MIB);

    TEST("a-closed-static-medium-keeps-its-size-and-iterates-alike");
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), MIB);
    CHECK_SOUND(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    fields_are(pt, 0, MIB);
    CHECK_EQ_U(palloc_first(pt), 16);
    CHECK_EQ_U(palloc_next(pt, 16), 48);
    CHECK_EQ_U(palloc_next(pt, 48), 96);
    CHECK_EQ_U(palloc_next(pt, 96), 192);
    CHECK_EQ_U(palloc_next(pt, 192), 240);
    CHECK_EQ_U(palloc_next(pt, 240), 0);

    TEST("what-is-left-of-an-odd-static-medium-fits-to-the-byte");
    {
        struct palloc_stat stat;
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(stat.largest_free % 16, 8);
        errno = 0;
        CHECK_EQ_U(palloc(pt, stat.largest_free + 1), 0);
        CHECK_ERRNO(ENOSPC);
        CHECK_EQ_U(palloc(pt, stat.largest_free), 240 + 64 + 16);
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(stat.free_blocks, 0);
        CHECK_EQ_U(pt->first_free, 0);
        errno = 0;
        CHECK_EQ_U(palloc(pt, 0), 0);
        CHECK_ERRNO(ENOSPC);
    }
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("freeing-the-last-block-of-a-static-medium-keeps-its-size");
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    pfree(pt, 320);
    fields_are(pt, 0, MIB);
    CHECK_EQ_U(pt->first_free, 312);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), MIB);

    TEST("a-static-medium-of-40-bytes-holds-one-blob-of-16");
    file_zeros(FILE_NAME, 40);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    errno = 0;
    CHECK_EQ_U(palloc(pt, 17), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_EQ_U(palloc(pt, 16), 16);
    errno = 0;
    CHECK_EQ_U(palloc(pt, 1), 0);
    CHECK_ERRNO(ENOSPC);
    fields_are(pt, 0, 40);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void edges(void)
{
    static const uint64_t around[] = {0, 1, 15, 16, 17, 31, 32, 33};
    struct palloc_t *pt;
    uint64_t end = 8, sizes[256];
    size_t i, count = 0;
    int power, near;

    TEST("sizes-at-the-edges-are-rounded-up-to-16-and-placed-end-to-end");
    for (i = 0; i < sizeof around / sizeof around[0]; i++)
        sizes[count++] = around[i];
    for (power = 6; power <= 24; power++)
        for (near = -1; near <= 1; near++)
            sizes[count++] = ((uint64_t)1 << power) + (uint64_t)(int64_t)near;
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (i = 0; i < count; i++) {
        uint64_t n = sizes[i] < 16 ? 16 : (sizes[i] + 15) / 16 * 16, ptr;

        errno = UNTOUCHED;
        ptr = palloc(pt, sizes[i]);
        if (!CHECK_EQ_U(ptr, end + 8) || !CHECK_EQ_U(ptr % 16, 0) || !CHECK_EQ_U(palloc_size(pt, ptr), n)
            || !CHECK_EQ_U(pt->size, end + n + 16) || !CHECK_EQ_I(errno, UNTOUCHED))
            DIAG("size %llu", (unsigned long long)sizes[i]);
        end += n + 16;
        blob_write(pt, ptr, 100000 + i, 0, n, BY_ADDRESS);
    }
    fields_are(pt, PALLOC_DYNAMIC, end);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), end);
    CHECK_SOUND(FILE_NAME);

    TEST("blobs-of-every-edge-size-keep-their-bytes");
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    {
        uint64_t ptr = palloc_first(pt);
        for (i = 0; i < count && ptr != 0; i++, ptr = palloc_next(pt, ptr))
            if (!blob_intact(pt, ptr, 100000 + i, palloc_size(pt, ptr), BY_DESCRIPTOR))
                break;
        CHECK_EQ_U(i, count);
        CHECK_EQ_U(ptr, 0);
    }

    TEST("freed-from-the-end-the-medium-shrinks-step-by-step");
    while (count > 0) {
        uint64_t n = sizes[count - 1] < 16 ? 16 : (sizes[count - 1] + 15) / 16 * 16;
        pfree(pt, end - n - 8);
        end -= n + 16;
        count--;
        if (!CHECK_EQ_U(pt->size, end))
            break;
    }
    CHECK_EQ_U(pt->size, 8);
    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), 8);
}

int main(void)
{
    PART(dynamic_figures());
    PART(static_figures());
    PART(edges());
    return tap_done();
}
