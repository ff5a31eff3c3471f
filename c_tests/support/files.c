/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See files.h. */
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

void *xmalloc(size_t size)
{
    void *at = malloc(size != 0 ? size : 1);

    REQUIRE(at != NULL);
    return at;
}

struct bytes bytes_new(size_t size)
{
    struct bytes b;

    b.at = xmalloc(size);
    b.size = size;
    memset(b.at, 0, size);
    return b;
}

void bytes_free(struct bytes *b)
{
    free(b->at);
    b->at = NULL;
    b->size = 0;
}

struct bytes file_read(const char *path)
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

void file_write(const char *path, const void *data, size_t size)
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

void file_zeros(const char *path, uint64_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    REQUIRE(fd >= 0);
    REQUIRE(ftruncate(fd, (off_t)size) == 0);
    close(fd);
}

void file_in_memory(char path[64], const char *name)
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

uint64_t file_size(const char *path)
{
    struct stat st;

    REQUIRE(stat(path, &st) == 0);
    return (uint64_t)st.st_size;
}

uint64_t file_disk(const char *path)
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

int same_mtime(const struct stat *a, const struct stat *b)
{
#ifdef _WIN32
    return a->st_mtime == b->st_mtime;
#else
    return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
#endif
}

int file_make_old(const char *path)
{
#ifdef _WIN32
    struct _utimbuf old = {1000000000, 1000000000};

    return _utime(path, &old);
#else
    struct timespec old[2] = {{1000000000, 123456789}, {1000000000, 123456789}};

    return utimensat(AT_FDCWD, path, old, 0);
#endif
}

void file_copy(const char *from, const char *to)
{
    struct bytes b = file_read(from);

    file_write(to, b.at, b.size);
    bytes_free(&b);
}

void file_poke64(const char *path, uint64_t offset, uint64_t word)
{
    uint8_t raw[8];
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    put64(raw, word);
    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, raw, 8, (off_t)offset) == 8);
    close(fd);
}

int file_is(const char *path, const struct bytes *want)
{
    struct bytes got = file_read(path);
    int same = got.size == want->size && memcmp(got.at, want->at, got.size) == 0;

    bytes_free(&got);
    return same;
}

uint64_t address_space_used(void)
{
#ifdef _WIN32
    return 0;
#else
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;

    if (f == NULL || fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    if (f != NULL)
        fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
#endif
}
