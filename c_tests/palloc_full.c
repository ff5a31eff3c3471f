/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Out of space: full disks, sparse files, limits of file size and of memory. An error code each time, never a signal. */
#ifdef _WIN32
#include "palloc_util.h"

static char medium[300], turn[300];

/* Allocates and fills blobs until there is no space; what is there then is intact, and works on. */
static void fill_up(uint32_t flags)
{
    static uint64_t blobs[1000];
    struct palloc_t *pt = palloc_init(medium, flags);
    struct palloc_stat stat;
    unsigned n = 0, i;
    uint64_t ptr;

    REQUIRE(pt != NULL);
    errno = 0;
    while (n < 1000 && (ptr = palloc(pt, 10000)) != 0) {
        blob_write(pt, ptr, 80000 + n, 0, 10000, BY_ADDRESS);
        blobs[n++] = ptr;
    }
    CHECK_ERRNO(ENOSPC);
    CHECK(n > 10 && n < 1000);
    CHECK_STR_CONTAINS(palloc_error(), "medium.db");
    CHECK_VIEW(pt);
    for (i = 0; i < n; i++)
        blob_intact(pt, blobs[i], 80000 + i, 10000, i % 2 ? BY_ADDRESS : BY_DESCRIPTOR);
    errno = 0;
    CHECK_EQ_U(prealloc(pt, blobs[0], 4 * MIB), 0);
    CHECK_ERRNO(ENOSPC);
    blob_intact(pt, blobs[0], 80000, 10000, BY_ADDRESS);
    pfree(pt, blobs[n / 2]);
    CHECK_EQ_U(palloc(pt, 10000), blobs[n / 2]);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, n);
    palloc_close(pt);
    CHECK_SOUND(medium);
    unlink(medium);
}

int main(void)
{
    const char *disk = getenv("SMALL_DISK"); /* a directory on a disk of 1 MiB */

    snprintf(medium, sizeof medium, "%s/medium.db", disk != NULL ? disk : ".");
    snprintf(turn, sizeof turn, "%s/turn", disk != NULL ? disk : ".");
    while (mkdir(turn, 0777) != 0) /* the same program with the other library may be at it */
        Sleep(10);
    TEST("a-dynamic-medium-on-a-full-disk-is-ENOSPC-and-works-on");
    if (disk == NULL)
        SKIP("SMALL_DISK is not set");
    else
        fill_up(PALLOC_DYNAMIC);

    TEST("a-sparse-static-medium-on-a-full-disk-is-ENOSPC-and-works-on");
    if (disk == NULL) {
        SKIP("SMALL_DISK is not set");
    } else {
        file_zeros(medium, 4 * MIB);
        if (file_disk(medium) >= 4 * MIB)
            SKIP("the file is not sparse");
        else
            fill_up(PALLOC_DEFAULT);
    }
    rmdir(turn);
    return tap_done();
}

#else
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <time.h>

#include "in_child.h"
#include "palloc_util.h"

#define DISK "disk"
#define ON_DISK DISK "/medium.db"

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void limit(int what, uint64_t bytes)
{
    struct rlimit l;

    l.rlim_cur = l.rlim_max = (rlim_t)bytes;
    REQUIRE(setrlimit(what, &l) == 0);
}

/* ---------------------------------------------------------------------------------------------------------------- a disk of 1 MiB */

static const char *why_no_disk;

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return good;
}

/* Mounts that no other process sees: root may have them, and others as masters of a user namespace with only themselves in it. */
static int own_mounts(void)
{
    unsigned user = geteuid(), group = getegid();
    char users[64], groups[64];

    if (unshare(CLONE_NEWNS) == 0)
        return 1;
    snprintf(users, sizeof users, "%u %u 1", user, user);
    snprintf(groups, sizeof groups, "%u %u 1", group, group);
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && put("/proc/self/uid_map", users) && put("/proc/self/setgroups", "deny")
        && put("/proc/self/gid_map", groups);
}

/* A file system of our own, which ends with this process. */
static int make_disk(void)
{
    REQUIRE(mkdir(DISK, 0777) == 0);
    if (!own_mounts())
        why_no_disk = "needs the right to mount a small tmpfs (root, or user namespaces)";
    else if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 || mount("tmpfs", DISK, "tmpfs", 0, "size=1m") != 0)
        why_no_disk = "a tmpfs cannot be mounted here";
    return why_no_disk == NULL;
}

static uint64_t disk_free(void)
{
    struct statvfs st;

    REQUIRE(statvfs(DISK, &st) == 0);
    return (uint64_t)st.f_bavail * st.f_frsize;
}

static void empty_disk(void)
{
    unlink(ON_DISK);
    unlink(DISK "/other.db");
    unlink(DISK "/ballast");
    REQUIRE(disk_free() >= MIB - 8192);
}

/* Takes all of the disk but `leave` bytes. */
static void ballast(uint64_t leave)
{
    int fd = open(DISK "/ballast", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    uint64_t available = disk_free();

    REQUIRE(fd >= 0);
    if (available > leave)
        REQUIRE(posix_fallocate(fd, 0, (off_t)(available - leave)) == 0);
    close(fd);
}

static void grow_until_full(uint32_t flags)
{
    struct palloc_t *pt;
    struct shadow s;
    uint64_t ptr, size, first_free;
    size_t asked = 5000;
    unsigned refusals;

    empty_disk();
    shadow_init(&s, 1, 5000, 1000, 1);
    pt = palloc_init(ON_DISK, PALLOC_DYNAMIC | flags);
    REQUIRE(pt != NULL);
    for (refusals = 0; asked > 0;) {
        size = pt->size;
        first_free = pt->first_free;
        errno = UNTOUCHED;
        ptr = palloc(pt, asked);
        if (ptr == 0) {
            if (!CHECK_ERRNO(ENOSPC) || !CHECK_EQ_U(pt->size, size) || !CHECK_EQ_U(pt->first_free, first_free) || !CHECK_VIEW(pt))
                return;
            if (refusals++ == 0) { /* nothing is refused that would have fitted */
                CHECK(disk_free() < asked + 16 + 3 * 4096);
                CHECK(pt->size > 900000);
                CHECK_STR_CONTAINS(palloc_error(), ON_DISK);
            }
            asked /= 2;
            continue;
        }
        CHECK_EQ_I(errno, UNTOUCHED);
        if (shadow_add(&s, ptr, palloc_size(pt, ptr), s.next_id++, 0) == SIZE_MAX)
            return;
        {
            struct blob *b = &s.at[shadow_find(&s, ptr)];
            blob_write(pt, b->ptr, b->id, 0, b->size, (enum access)(s.count % 2)); /* no SIGBUS */
            b->sure = b->size;
        }
    }
    shadow_matches(&s, pt, BY_ADDRESS);

    /* still usable */
    errno = 0;
    CHECK_EQ_U(prealloc(pt, s.at[0].ptr, 200000), 0);
    CHECK_ERRNO(ENOSPC);
    shadow_matches(&s, pt, BY_DESCRIPTOR);
    ptr = s.at[3].ptr;
    pfree(pt, ptr);
    shadow_remove(&s, 3);
    CHECK_EQ_U(palloc(pt, 5000), ptr);
    pfree(pt, ptr);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_SOUND_OPEN(ON_DISK);
    size = pt->size;
    palloc_close(pt);
    CHECK_EQ_U(file_size(ON_DISK), size);
    CHECK_SOUND(ON_DISK);

    /* and again, with the disk as full as it is */
    ballast(0);
    pt = palloc_init(ON_DISK, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    shadow_matches(&s, pt, BY_ADDRESS);
    CHECK_EQ_U(palloc(pt, 5000), ptr);
    errno = 0;
    CHECK_EQ_U(palloc(pt, 100000), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_VIEW(pt);
    pfree(pt, ptr);
    shadow_matches(&s, pt, BY_ADDRESS);
    palloc_close(pt);
    CHECK_SOUND(ON_DISK);
    shadow_free(&s);
}

static void dynamic_full(void)
{
    grow_until_full(0);
}

static void dynamic_sync_full(void)
{
    grow_until_full(PALLOC_SYNC);
}

/* Random work at the brim: every operation is granted or refused whole. */
static void at_the_brim(void)
{
    struct rng rng = {77};
    struct shadow s;
    struct palloc_t *pt;
    unsigned k, refusals = 0;

    empty_disk();
    ballast(200000);
    shadow_init(&s, 77, 0, 0, 1);
    pt = palloc_init(ON_DISK, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (k = 0; k < 4000; k++) {
        uint64_t asked = rng_size(&rng, 20000), ptr, size;
        s.step = k;
        errno = 0;
        if (s.count == 0 || rng_below(&rng, 100) < 45) {
            ptr = palloc(pt, (size_t)asked);
            if (ptr == 0) {
                refusals++;
                if (!CHECK_ERRNO(ENOSPC))
                    break;
                continue;
            }
            size = palloc_size(pt, ptr);
            if (shadow_add(&s, ptr, size, s.next_id, size) == SIZE_MAX || !blob_write(pt, ptr, s.next_id++, 0, size, BY_ADDRESS))
                break;
        } else if (rng_below(&rng, 2)) {
            if (!model_pfree(pt, &s, &rng))
                break;
        } else {
            size_t i = (size_t)rng_below(&rng, s.count);
            struct blob b = s.at[i];
            uint64_t kept;
            ptr = prealloc(pt, b.ptr, (size_t)asked);
            if (ptr == 0) {
                refusals++;
                if (!CHECK_ERRNO(ENOSPC) || !CHECK_EQ_U(palloc_size(pt, b.ptr), b.size)
                    || !blob_intact(pt, b.ptr, b.id, b.size, BY_ADDRESS))
                    break;
                continue;
            }
            size = palloc_size(pt, ptr);
            kept = b.sure < asked ? b.sure : asked;
            shadow_remove(&s, i);
            if (shadow_add(&s, ptr, size, b.id, size) == SIZE_MAX || !blob_intact(pt, ptr, b.id, kept, BY_ADDRESS)
                || !blob_write(pt, ptr, b.id, kept, size, BY_ADDRESS))
                break;
        }
        if (k % 500 == 499) {
            if (!CHECK_VIEW(pt) || !shadow_matches(&s, pt, BY_ADDRESS))
                break;
            palloc_close(pt);
            if (!CHECK_SOUND(ON_DISK))
                return;
            pt = palloc_init(ON_DISK, PALLOC_DEFAULT);
            REQUIRE(pt != NULL);
        }
    }
    CHECK_EQ_U(k, 4000);
    if (k != 4000)
        shadow_where(&s);
    CHECK(refusals > 20);
    model_free_all(pt, &s, &rng);
    CHECK_EQ_U(pt->size, 8);
    palloc_close(pt);
    shadow_free(&s);
}

/* No medium, no file of odd contents: what could not be made is not half there. */
static void create_on_full(void)
{
    struct palloc_t *pt;

    empty_disk();
    ballast(0);
    errno = 0;
    pt = palloc_init(ON_DISK, PALLOC_DYNAMIC);
    if (pt == NULL) {
        CHECK(errno == ENOSPC);
    } else {
        errno = 0;
        CHECK_EQ_U(palloc(pt, 100000), 0);
        CHECK_ERRNO(ENOSPC);
        palloc_close(pt);
    }
    unlink(DISK "/ballast");
    pt = palloc_init(ON_DISK, PALLOC_DYNAMIC);
    if (CHECK(pt != NULL))
        CHECK_EQ_U(palloc(pt, 10000), 16);
    palloc_close(pt);
    CHECK_SOUND(ON_DISK);
}

/* A static medium of 16 MiB on a disk of 1: every blob that is handed out can be written. */
static void sparse_static(void)
{
    struct palloc_t *pt;
    struct palloc_stat before, after;
    uint64_t ptr, written = 0;
    uint64_t blobs[64];
    size_t count = 0, i;

    empty_disk();
    file_zeros(ON_DISK, 16 * MIB);
    pt = palloc_init(ON_DISK, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(pt->size, 16 * MIB);
    for (;;) {
        CHECK_EQ_I(palloc_stat(pt, &before), 0);
        errno = 0;
        ptr = palloc(pt, 60000);
        if (ptr == 0)
            break;
        REQUIRE(count < 64);
        memset(palloc_data(pt, ptr), 0x55, palloc_size(pt, ptr)); /* all of it */
        blob_write(pt, ptr, 70000 + count, 0, 60000, BY_ADDRESS);
        written += palloc_size(pt, ptr);
        blobs[count++] = ptr;
    }
    CHECK_ERRNO(ENOSPC);
    CHECK(written > 700000);
    CHECK_EQ_I(palloc_stat(pt, &after), 0);
    CHECK_EQ_U(after.live_blobs, before.live_blobs);
    CHECK_EQ_U(after.live_bytes, before.live_bytes);
    CHECK_EQ_U(after.medium_size, before.medium_size);
    CHECK_VIEW(pt);

    errno = 0; /* larger than the disk, smaller than the medium */
    CHECK_EQ_U(palloc(pt, 8 * MIB), 0);
    CHECK_ERRNO(ENOSPC);
    errno = 0;
    CHECK_EQ_U(prealloc(pt, blobs[0], 8 * MIB), 0);
    CHECK_ERRNO(ENOSPC);
    errno = 0; /* in place, at the end */
    CHECK_EQ_U(prealloc(pt, blobs[count - 1], 4 * MIB), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_VIEW(pt);
    for (i = 0; i < count; i++)
        blob_intact(pt, blobs[i], 70000 + i, 60000, BY_ADDRESS);

    pfree(pt, blobs[2]); /* this place has its space on the disk */
    CHECK_EQ_U(palloc(pt, 60000), blobs[2]);
    blob_write(pt, blobs[2], 70002, 0, 60000, BY_ADDRESS);
    CHECK_EQ_I(palloc_sync(pt), 0);
    palloc_close(pt);
    CHECK_EQ_U(file_size(ON_DISK), 16 * MIB);

    ballast(0);
    pt = palloc_init(ON_DISK, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    for (i = 0; i < count; i++)
        blob_intact(pt, blobs[i], 70000 + i, 60000, BY_DESCRIPTOR);
    pfree(pt, blobs[1]);
    CHECK_EQ_U(palloc(pt, 50000), blobs[1]);
    palloc_close(pt);
}

/* A refused call takes no space from the disk. */
static void refused_takes_nothing(void)
{
    struct palloc_t *pt;
    uint64_t available;

    empty_disk();
    file_zeros(ON_DISK, 16 * MIB);
    pt = palloc_init(ON_DISK, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc(pt, 100), 16);
    available = disk_free();
    errno = 0;
    CHECK_EQ_U(palloc(pt, 8 * MIB), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK(disk_free() + 65536 >= available);
    errno = 0;
    CHECK_EQ_U(prealloc(pt, 16, 8 * MIB), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK(disk_free() + 65536 >= available);
    CHECK(palloc(pt, 500000) != 0);
    palloc_close(pt);
    CHECK_SOUND(ON_DISK);
}

/* A live blob without space on the disk: its address cannot be had when the disk is full. */
static void sparse_blob(void)
{
    struct palloc_t *pt;
    struct bytes b;
    int fd;

    empty_disk();
    file_zeros(ON_DISK, 16 * MIB);
    build_header(&b, PALLOC_DEFAULT);
    build_zeros(&b, 8);
    put64(b.at + 8, 4 * MIB);
    fd = open(ON_DISK, O_WRONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, b.at, 16, 0) == 16);
    REQUIRE(pwrite(fd, b.at + 8, 8, 16 + 4 * MIB) == 8);
    put64(b.at + 8, (12 * MIB - 24 - 16) | FREE_BIT);
    REQUIRE(pwrite(fd, b.at + 8, 8, 24 + 4 * MIB) == 8);
    REQUIRE(pwrite(fd, b.at + 8, 8, 16 * MIB - 8) == 8);
    close(fd);
    bytes_free(&b);
    CHECK_SOUND(ON_DISK);
    CHECK(file_disk(ON_DISK) < 100000);
    pt = palloc_init(ON_DISK, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc_size(pt, 16), 4 * MIB);
    errno = 0;
    CHECK(palloc_data(pt, 16) == NULL);
    CHECK_ERRNO(ENOSPC);
    CHECK_VIEW(pt);
    pfree(pt, 16);
    CHECK_EQ_U(palloc(pt, 1000), 16);
    CHECK(palloc_data(pt, 16) != NULL);
    palloc_close(pt);
    CHECK_SOUND(ON_DISK);
}

/* ----------------------------------------------------------------------------------------------------- disks of other file systems */

/* A file system in a file of 16 MiB (or what it needs), on a loop device, as DISK/fs. Returns 0 if that is impossible here. */
static int mount_image(const char *type, const char *options, uint64_t size)
{
    char command[300];

    unlink("image");
    file_zeros("image", size);
    mkdir(DISK "/fs", 0777);
    snprintf(command, sizeof command,
             "{ PATH=$PATH:/sbin:/usr/sbin; mkfs.%s %s image && mount -o loop,noatime image " DISK "/fs; } >mkfs.log 2>&1", type, options);
    return system(command) == 0;
}

static void unmount(void)
{
    CHECK_EQ_I(umount2(DISK "/fs", MNT_DETACH), 0);
    unlink("image");
}

#define ON_FS DISK "/fs/medium.db"

static uint64_t fs_free(void)
{
    struct statvfs fs;

    REQUIRE(statvfs(DISK "/fs", &fs) == 0);
    return (uint64_t)fs.f_bfree * fs.f_frsize;
}

/* Of a file system that can't be small, takes all but 8 MiB, without writing them. */
static void make_small(void)
{
    int fd = open(DISK "/fs/taken", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

    REQUIRE(fd >= 0 && fallocate(fd, 0, 0, (off_t)(fs_free() - 8 * MIB)) == 0);
    close(fd);
}

/* Takes what is left of the file system, to the last block, by a writer that a full disk is nothing to. */
static void fill_fs(void)
{
    static const char zeros[4096] = {1};
    size_t n;
    int fd = open(DISK "/fs/ballast", O_WRONLY | O_CREAT | O_CLOEXEC, 0666), k;

    if (fd < 0) { /* not even for that there is room */
        CHECK_ERRNO(ENOSPC);
        return;
    }
    for (k = 0; k < 3; k++) { /* what is given back by writing late, too */
        for (n = sizeof zeros; n >= 512; n /= 2)
            while (write(fd, zeros, n) > 0)
                ;
        fsync(fd);
    }
    close(fd);
}

/* Every byte of a blob that has an address. */
static void store_all(struct palloc_t *pt, uint64_t ptr, int value)
{
    void *data = palloc_data(pt, ptr);

    if (data != NULL)
        memset(data, value, palloc_size(pt, ptr));
    else
        CHECK_ERRNO(ENOSPC);
}

/* The same file with holes where it has zeros. */
static void make_sparse(const struct bytes *b)
{
    int fd;
    size_t at;

    unlink(ON_FS);
    fd = open(ON_FS, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)b->size) == 0);
    for (at = 0; at < b->size; at += 1024) {
        size_t n = b->size - at < 1024 ? b->size - at : 1024, k;
        for (k = 0; k < n && b->at[at + k] == 0; k++)
            ;
        if (k < n)
            REQUIRE(pwrite(fd, b->at + at, n, (off_t)at) == (ssize_t)n);
    }
    fsync(fd);
    close(fd);
}

/* All functions, on a medium whose file has holes in the pages of its markers; each succeeds or is ENOSPC. */
static void restored_sparse(void)
{
    struct palloc_t *pt = palloc_init(ON_FS, PALLOC_DYNAMIC);
    uint64_t blobs[60], ptr;
    struct bytes b;
    unsigned i, refused = 0;

    REQUIRE(pt != NULL);
    for (i = 0; i < 60; i++)
        REQUIRE((blobs[i] = palloc(pt, 200 + 1500 * (i % 5))) != 0);
    palloc_close(pt);
    b = file_read(ON_FS);
    make_sparse(&b);
    bytes_free(&b);
    fill_fs();
    pt = palloc_init(ON_FS, PALLOC_DEFAULT);
    if (!CHECK(pt != NULL)) {
        DIAG("%s", palloc_error());
        return;
    }
    for (i = 0; i < 60; i++) {
        errno = 0;
        if (i % 3 == 0)
            pfree(pt, blobs[i]);
        else if (i % 3 == 1)
            (void)(prealloc(pt, blobs[i], 40) || CHECK_ERRNO(ENOSPC));
        else if ((ptr = prealloc(pt, blobs[i], palloc_size(pt, blobs[i]) + 100)) != 0)
            store_all(pt, ptr, 0x55);
        if (errno != 0 && CHECK_ERRNO(ENOSPC))
            refused++;
    }
    for (i = 0; i < 20; i++)
        if ((ptr = palloc(pt, 100 + i * 50)) != 0)
            store_all(pt, ptr, 0x55);
    CHECK(refused > 0);
    CHECK_VIEW(pt);
    if (palloc_sync(pt) != 0)
        CHECK_ERRNO(ENOSPC);
    palloc_close(pt);
    unlink(DISK "/fs/ballast");
    pt = palloc_init(ON_FS, PALLOC_DEFAULT);
    CHECK(pt != NULL);
    palloc_close(pt);
    CHECK_SOUND(ON_FS);
}

/* A medium that was killed when its transaction was committed and not done yet, copied with holes. */
static void killed_sparse(void)
{
    struct palloc_t *pt = palloc_init(ON_FS, PALLOC_DYNAMIC | PALLOC_SYNC);
    struct bytes before, after, image;
    struct palloc_tx *tx;
    uint64_t blobs[30], made;
    char text[3000];
    unsigned i;

    REQUIRE(pt != NULL);
    for (i = 0; i < 30; i++)
        REQUIRE((blobs[i] = palloc(pt, 5000)) != 0);
    memset(text, 'x', sizeof text);
    tx = palloc_begin(pt);
    REQUIRE(tx != NULL);
    made = palloc_tx_alloc(tx, 9000);
    REQUIRE(made != 0);
    for (i = 0; i < 10; i++) {
        REQUIRE(palloc_tx_free(tx, blobs[3 * i]) == 0);
        REQUIRE(palloc_tx_store(tx, blobs[3 * i + 1] + 1000, text, sizeof text) == 0);
    }
    before = file_read(ON_FS);
    REQUIRE(palloc_commit(tx) == 0);
    after = file_read(ON_FS);
    image = file_read(ON_FS); /* behind the store that commits: all but what the record says */
    REQUIRE(before.size == after.size);
    memcpy(image.at + made - 8, before.at + made - 8, 8);
    for (i = 0; i < 30; i++)
        memcpy(image.at + blobs[i] - 8, before.at + blobs[i] - 8, 5000);
    palloc_close(pt);

    make_sparse(&image);
    fill_fs();
    pt = palloc_init(ON_FS, PALLOC_DEFAULT);
    if (pt == NULL)
        CHECK_ERRNO(ENOSPC);
    CHECK(pt == NULL);
    palloc_close(pt);
    unlink(DISK "/fs/ballast");
    pt = palloc_init(ON_FS, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc_size(pt, made), 9008);
    for (i = 0; i < 10; i++) {
        char *data = palloc_data(pt, blobs[3 * i + 1]);

        CHECK(data != NULL && memcmp(data + 1000, text, sizeof text) == 0);
        CHECK(palloc_data(pt, blobs[3 * i]) == NULL);
    }
    palloc_close(pt);
    CHECK_SOUND(ON_FS);
    bytes_free(&before);
    bytes_free(&after);
    bytes_free(&image);
}

/* A sparse file of zeros becomes a medium, or ENOSPC says why not; what is handed out can be written. */
static void init_sparse(void)
{
    struct palloc_t *pt;
    uint64_t ptr;
    unsigned written = 0;

    file_zeros(ON_FS, 4 * MIB);
    fill_fs();
    errno = 0;
    pt = palloc_init(ON_FS, PALLOC_DEFAULT);
    if (pt == NULL) {
        CHECK_ERRNO(ENOSPC);
        unlink(DISK "/fs/ballast");
        fill_fs();
        unlink(DISK "/fs/ballast");
        pt = palloc_init(ON_FS, PALLOC_DEFAULT);
    }
    REQUIRE(pt != NULL);
    fill_fs();
    for (;;) {
        errno = 0;
        ptr = palloc(pt, 3000);
        if (ptr == 0 || written == 2000)
            break;
        store_all(pt, ptr, 0x55);
        written++;
    }
    CHECK(written < 2000);
    CHECK_ERRNO(ENOSPC);
    CHECK_VIEW(pt);
    pfree(pt, palloc_first(pt));
    palloc_close(pt);
}

/* A blob that the disk has nearly enough space for is refused, and what it took meanwhile is given back. */
static void refused_at_the_brim(void)
{
    struct palloc_t *pt;
    uint64_t available, size, tries = 0, ptr;

    file_zeros(ON_FS, 32 * MIB);
    pt = palloc_init(ON_FS, PALLOC_DEFAULT);
    REQUIRE(pt != NULL && palloc(pt, 100) == 16);
    available = fs_free();
    for (size = available + 65536; errno = 0, (ptr = palloc(pt, size)) == 0; size -= 4096) {
        CHECK_ERRNO(ENOSPC);
        tries++;
        REQUIRE(fs_free() + 70000 >= available); /* a piece of 64 KiB around its markers may stay, and the file system's own blocks */
    }
    CHECK(tries > 10);
    store_all(pt, ptr, 0x55);
    palloc_close(pt);
    CHECK_SOUND(ON_FS);
}

static void fill_dynamic(void)
{
    struct palloc_t *pt = palloc_init(ON_FS, PALLOC_DYNAMIC);
    uint64_t ptr, n = 0;
    unsigned k;

    REQUIRE(pt != NULL);
    while ((ptr = palloc(pt, 20000)) != 0 && n++ < 100000)
        store_all(pt, ptr, 0x55);
    CHECK_ERRNO(ENOSPC);
    CHECK(n > 10);
    palloc_sync(pt);
    fill_fs();
    for (k = 0; k < 3; k++) { /* on a full disk, what is allocated is stored to again and again */
        for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr))
            store_all(pt, ptr, (int)k);
        palloc_sync(pt);
    }
    for (ptr = palloc_first(pt), k = 0; ptr != 0; ptr = palloc_next(pt, ptr), k++)
        if (k % 3 == 0)
            pfree(pt, ptr);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(ON_FS);
}

/* A limit of file size is no signal when holes are filled. */
static void holes_beyond_the_limit(void)
{
    struct palloc_t *pt;
    uint64_t ptr;
    unsigned n = 0;

    signal(SIGXFSZ, SIG_DFL);
    file_zeros(ON_FS, 4 * MIB);
    limit(RLIMIT_FSIZE, 100000);
    pt = palloc_init(ON_FS, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    do {
        errno = 0;
        ptr = palloc(pt, 10000);
        if (ptr != 0)
            store_all(pt, ptr, 0x55);
    } while (ptr != 0 && ++n < 50);
    if (ptr == 0)
        CHECK_ERRNO(EFBIG);
    CHECK(n >= 5);
    CHECK_VIEW(pt);
    palloc_close(pt);
}

static void is_not_copied_on_write(void)
{
    struct palloc_t *pt = palloc_init(ON_FS, PALLOC_DYNAMIC);
    int flags[2] = {0, 0};

    REQUIRE(pt != NULL);
    CHECK_EQ_I(ioctl(pt->descriptor, (int)_IOR('f', 1, long), flags), 0);
    CHECK(flags[0] & 0x00800000);
    palloc_close(pt);
}

static void other_disks(void)
{
    static const struct {
        const char *name, *type, *options;
        uint64_t size;
        void (*part)(void);
    } disks[] = {
        {"a-restored-sparse-medium-ext4-with-blocks-of-1-KiB", "ext4", "-q -F -b 1024", 8 * MIB, restored_sparse},
        {"a-restored-sparse-medium-ext4", "ext4", "-q -F -b 4096", 8 * MIB, restored_sparse},
        {"a-restored-sparse-medium-ext2-with-blocks-of-1-KiB", "ext2", "-q -F -b 1024", 8 * MIB, restored_sparse},
        {"a-killed-transaction-in-a-sparse-file-ext4-with-blocks-of-1-KiB", "ext4", "-q -F -b 1024", 8 * MIB, killed_sparse},
        {"a-killed-transaction-in-a-sparse-file-ext2-with-blocks-of-1-KiB", "ext2", "-q -F -b 1024", 8 * MIB, killed_sparse},
        {"a-sparse-file-of-zeros-ext2", "ext2", "-q -F -b 4096", 8 * MIB, init_sparse},
        {"a-sparse-file-of-zeros-ext2-with-blocks-of-1-KiB", "ext2", "-q -F -b 1024", 8 * MIB, init_sparse},
        {"a-sparse-file-of-zeros-ext3", "ext3", "-q -F -b 4096", 8 * MIB, init_sparse},
        {"a-sparse-file-of-zeros-ext3-with-blocks-of-1-KiB", "ext3", "-q -F -b 1024", 8 * MIB, init_sparse},
        {"a-sparse-file-of-zeros-ext4-with-blocks-of-1-KiB", "ext4", "-q -F -b 1024", 8 * MIB, init_sparse},
        {"a-dynamic-medium-ext4-with-blocks-of-1-KiB", "ext4", "-q -F -b 1024", 8 * MIB, fill_dynamic},
        {"a-dynamic-medium-ext2", "ext2", "-q -F -b 1024", 8 * MIB, fill_dynamic},
        {"a-dynamic-medium-btrfs", "btrfs", "-q -f -M", 128 * MIB, fill_dynamic},
        {"a-blob-that-nearly-fits-ext4-with-blocks-of-1-KiB", "ext4", "-q -F -b 1024", 8 * MIB, refused_at_the_brim},
        {"a-blob-that-nearly-fits-ext4", "ext4", "-q -F -b 4096", 8 * MIB, refused_at_the_brim},
        {"a-file-that-the-library-makes-is-not-copied-on-write-btrfs", "btrfs", "-q -f -M", 128 * MIB, is_not_copied_on_write},
        {"the-limit-of-file-size-is-no-signal-ext2", "ext2", "-q -F -b 4096", 8 * MIB, holes_beyond_the_limit},
        {"the-limit-of-file-size-is-no-signal-ext4", "ext4", "-q -F -b 4096", 8 * MIB, holes_beyond_the_limit},
        {"a-restored-sparse-medium-xfs", "xfs", "-q -f", 320 * MIB, restored_sparse},
        {"a-killed-transaction-in-a-sparse-file-xfs", "xfs", "-q -f", 320 * MIB, killed_sparse},
        {"a-sparse-file-of-zeros-xfs", "xfs", "-q -f", 320 * MIB, init_sparse},
        {"a-dynamic-medium-xfs", "xfs", "-q -f", 320 * MIB, fill_dynamic},
        {"a-blob-that-nearly-fits-xfs", "xfs", "-q -f", 320 * MIB, refused_at_the_brim},
    };
    size_t i;

    for (i = 0; i < sizeof disks / sizeof disks[0]; i++) {
        TESTF("no-signal-on-a-full-disk-%s", disks[i].name);
        if (why_no_disk != NULL)
            SKIP(why_no_disk);
        else if ((strcmp(disks[i].type, "ext2") == 0 || strcmp(disks[i].type, "ext3") == 0) && is_emulated())
            SKIP("has no fallocate, and MADV_POPULATE_WRITE does nothing here");
        else if (!mount_image(disks[i].type, disks[i].options, disks[i].size))
            SKIP("no such file system can be made and mounted here");
        else {
            if (strcmp(disks[i].type, "xfs") == 0)
                make_small();
            in_child(disks[i].part);
            unmount();
        }
    }

    TEST("no-signal-on-a-full-disk-a-sparse-file-of-zeros-on-an-overlay-over-tmpfs");
    if (why_no_disk != NULL)
        SKIP(why_no_disk);
    else {
        empty_disk();
        mkdir(DISK "/fs", 0777);
        mkdir(DISK "/upper", 0777);
        mkdir(DISK "/work", 0777);
        mkdir("lower", 0777);
        if (mount("overlay", DISK "/fs", "overlay", 0, "lowerdir=lower,upperdir=" DISK "/upper,workdir=" DISK "/work") != 0)
            SKIP("an overlay cannot be mounted here");
        else {
            in_child(init_sparse);
            unlink(DISK "/fs/ballast");
            unlink(ON_FS);
            in_child(restored_sparse);
            unmount();
        }
    }
    system("rm -rf " DISK "/*");

    TEST("a-file-system-that-reports-no-size-has-no-limit");
    if (why_no_disk != NULL)
        SKIP(why_no_disk);
    else {
        static const char *const types[] = {"tmpfs", "ramfs"};

        mkdir(DISK "/fs", 0777);
        for (i = 0; i < 2; i++) {
            struct palloc_t *pt;

            if (mount(types[i], DISK "/fs", types[i], 0, i == 0 ? "size=0" : NULL) != 0) {
                DIAG("%s cannot be mounted here", types[i]);
                continue;
            }
            pt = palloc_init(ON_FS, PALLOC_DYNAMIC);
            if (!CHECK(pt != NULL) || !CHECK(palloc(pt, 17 * MIB) != 0))
                DIAG("%s: %s", types[i], palloc_error());
            palloc_close(pt);
            unmount();
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------- large and sparse */

static int can_be_mapped(const char *path, uint64_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *at = size > SIZE_MAX ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);

    close(fd);
    return at != MAP_FAILED && munmap(at, (size_t)size) == 0;
}

static void large(uint64_t size, int header_only)
{
    struct palloc_t *pt;
    double start;
    uint64_t ptr;
    int fd;

    unlink("large.db");
    fd = open("large.db", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    REQUIRE(fd >= 0);
    if (ftruncate(fd, (off_t)size) != 0) {
        SKIP("the file system has no files of this size");
        close(fd);
        return;
    }
    if (header_only)
        REQUIRE(pwrite(fd, "PBA\0\0\0\0\0", 8, 0) == 8);
    close(fd);
    start = seconds();
    errno = 0;
    pt = palloc_init("large.db", PALLOC_DEFAULT);
    if (pt == NULL && !can_be_mapped("large.db", size)) {
        CHECK_ERRNO(ENOMEM);
        CHECK(file_disk("large.db") < MIB);
        unlink("large.db");
        return;
    }
    if (!CHECK(pt != NULL)) {
        DIAG("errno %d: %s", errno, palloc_error());
        unlink("large.db");
        return;
    }
    CHECK_EQ_U(pt->size, size);
    CHECK_EQ_U(palloc_size(pt, 16), size - 24);
    CHECK_EQ_U(ptr = palloc(pt, 1000), 16);
    blob_write(pt, ptr, 70000, 0, 1000, BY_ADDRESS);
    CHECK(palloc(pt, 100000) != 0);
    CHECK_VIEW(pt);
    palloc_close(pt);
    pt = palloc_init("large.db", PALLOC_READONLY);
    if (CHECK(pt != NULL))
        blob_intact(pt, ptr, 70000, 1000, BY_ADDRESS);
    palloc_close(pt);
    CHECK_SOUND("large.db");
    CHECK(seconds() - start < tap_seconds(5));
    CHECK(file_disk("large.db") < MIB);
    unlink("large.db");
}

/* Longer than any address space, as an original leaves a dynamic medium that was asked for a blob of this size. */
#define TOO_LONG ((off_t)UINT64_C(2000000000000000000))

static int make_too_long(const char *head)
{
    int fd = open(ON_DISK, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), good;

    REQUIRE(fd >= 0);
    good = ftruncate(fd, TOO_LONG) == 0 && pwrite(fd, head, 16, 0) == 16;
    close(fd);
    return good;
}

static void stays_too_long(const char *head, int error)
{
    char now[16];
    int fd;

    CHECK_ERRNO(error);
    if (error == ENOMEM)
        CHECK_STR_CONTAINS(palloc_error(), "PALLOC_FORCE");
    CHECK_EQ_U(file_size(ON_DISK), TOO_LONG);
    fd = open(ON_DISK, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && pread(fd, now, 16, 0) == 16 && memcmp(now, head, 16) == 0);
    close(fd);
}

/* The first bytes of the file, and the flags that make an empty medium of it; 0 if no flags do. */
static void force_too_long(const char *head, uint32_t flags, int error)
{
    static const uint32_t ways[] = {PALLOC_DEFAULT, PALLOC_DYNAMIC, PALLOC_READONLY, PALLOC_FORCE, PALLOC_FORCE | PALLOC_DYNAMIC};
    struct palloc_t *pt;
    size_t i;
    int fd;

    if (!make_too_long(head)) {
        SKIP("the file system has no files of this size");
        return;
    }
    for (i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (flags != 0 && (ways[i] & flags) == flags)
            continue;
        errno = 0;
        CHECK(palloc_init(ON_DISK, ways[i]) == NULL);
        stays_too_long(head, error);
        errno = 0;
        CHECK_EQ_I(palloc_fd_open(ON_DISK, ways[i]), 0);
        stays_too_long(head, error);
    }
    if (flags != 0) {
        errno = UNTOUCHED;
        pt = palloc_init(ON_DISK, flags);
        if (CHECK(pt != NULL)) {
            CHECK_EQ_I(errno, UNTOUCHED);
            CHECK_EQ_U(pt->size, 8);
            CHECK_EQ_U(pt->flags, PALLOC_DYNAMIC);
            CHECK_EQ_U(palloc(pt, 100), 16);
        }
        palloc_close(pt);
        CHECK_SOUND(ON_DISK);

        REQUIRE(make_too_long(head));
        fd = palloc_fd_open(ON_DISK, flags);
        CHECK(fd > 0);
        CHECK_EQ_I(palloc_fd_init(fd, flags | PALLOC_DYNAMIC), 0);
        CHECK_EQ_U(palloc_fd_alloc(fd, 100), 16);
        CHECK_EQ_I(palloc_fd_close(fd), 0);
        CHECK_SOUND(ON_DISK);

        REQUIRE(make_too_long(head));
        fd = open(ON_DISK, O_RDWR | O_CLOEXEC);
        REQUIRE(fd >= 0 && lseek(fd, 3, SEEK_SET) == 3);
        errno = 0;
        CHECK_EQ_I(palloc_fd_init(fd, PALLOC_DYNAMIC), -1);
        stays_too_long(head, ENOMEM);
        CHECK_EQ_I(palloc_fd_init(fd, flags), 0);
        CHECK_EQ_I(lseek(fd, 0, SEEK_CUR), 3);
        CHECK_EQ_U(palloc_fd_alloc(fd, 100), 16);
        CHECK_EQ_I(palloc_fd_close(fd), 0);
        CHECK_SOUND(ON_DISK);
    }
    unlink(ON_DISK);
}

static void too_long(int have_disk)
{
    static const struct {
        const char *name, *head;
        uint32_t flags;
        int error;
    } files[] = {
        {"a-dynamic-medium", "PBA\0\0\0\0\1\x80\0\0\0\0\0\0\x10", PALLOC_FORCE, ENOMEM},
        {"a-static-medium", "PBA\0\0\0\0\0\x80\0\0\0\0\0\0\x10", PALLOC_FORCE | PALLOC_DYNAMIC, ENOMEM},
        {"a-file-of-something-else", "something else..", PALLOC_FORCE | PALLOC_DYNAMIC, ENOMEM},
        {"a-file-of-zeros", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", PALLOC_FORCE | PALLOC_DYNAMIC, ENOMEM},
        {"a-medium-with-EXTENDED", "PBA\0\x80\0\0\1\0\0\0\0\0\0\0\x10", 0, ENOTSUP},
    };
    size_t i;

    for (i = 0; i < sizeof files / sizeof files[0]; i++) {
        TESTF("too-long-for-any-address-space-only-FORCE-makes-it-a-medium-%s", files[i].name);
        if (have_disk)
            force_too_long(files[i].head, files[i].flags, files[i].error);
        else
            SKIP(why_no_disk);
    }
}

/* ------------------------------------------------------------------------------------------------------------------------ limits */

static void file_size_limit(void)
{
    struct palloc_t *pt;
    struct shadow s;
    uint64_t ptr, size;

    signal(SIGXFSZ, SIG_DFL);
    unlink("limited.db");
    shadow_init(&s, 3, 0, 0, 1);
    limit(RLIMIT_FSIZE, 300000);
    pt = palloc_init("limited.db", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (;;) {
        size = pt->size;
        errno = 0;
        ptr = palloc(pt, 5000);
        if (ptr == 0)
            break;
        if (shadow_add(&s, ptr, palloc_size(pt, ptr), s.next_id, 5000) == SIZE_MAX)
            return;
        blob_write(pt, ptr, s.next_id++, 0, 5000, BY_ADDRESS);
    }
    CHECK_ERRNO(EFBIG);
    CHECK_EQ_U(pt->size, size);
    CHECK(size > 300000 - 5024 - 4096);
    CHECK(size <= 300000);
    CHECK_VIEW(pt);
    errno = 0;
    CHECK_EQ_U(prealloc(pt, 16, 300000), 0);
    CHECK_ERRNO(EFBIG);
    shadow_matches(&s, pt, BY_ADDRESS);
    ptr = s.at[5].ptr;
    pfree(pt, ptr);
    CHECK_EQ_U(palloc(pt, 5000), ptr);
    CHECK_EQ_I(palloc_sync(pt), 0);
    palloc_close(pt);
    CHECK_SOUND("limited.db");
    shadow_free(&s);
}

static void file_size_limit_of_0(void)
{
    signal(SIGXFSZ, SIG_DFL);
    unlink("limited.db");
    limit(RLIMIT_FSIZE, 0);
    errno = 0;
    CHECK(palloc_init("limited.db", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EFBIG);
}

#define LIVE_LEN 16512 /* of FILE.live */

/* FILE.live is filled before a reader needs it. A write beyond the limit would be SIGXFSZ. */
static void file_size_limit_of_live_readers(void)
{
    static const unsigned limits[] = {16384, 16000, 8192, 4096}; /* a hard limit is lowered only */
    size_t i;

    signal(SIGXFSZ, SIG_DFL);
    for (i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        unlink("limited.db");
        limit(RLIMIT_FSIZE, limits[i]);
        errno = 0;
        if (!CHECK(palloc_init("limited.db", PALLOC_DYNAMIC | PALLOC_SHARED) == NULL) || !CHECK_ERRNO(EFBIG))
            DIAG("limit %u", limits[i]);
    }
}

/* What locked_memory() does. */
static struct {
    unsigned room; /* pages that can still be mapped */
    uint32_t flags;
    const char *text; /* of the error */
} locked;

/* No errno has two meanings: EAGAIN is that of a medium that is open elsewhere. */
static void locked_memory(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct palloc_t *pt;
    void *volatile heap; /* volatile: compilers leave out a malloc of what is freed at once */
    void *room;
    unsigned k;

    unlink("limited.db");
    unlink("limited.db.live");
    REQUIRE(chmod(".", 0777) == 0);
    limit(RLIMIT_MEMLOCK, 16 * page);
    if (setgid(65534) != 0 || setuid(65534) != 0)
        DIAG("as the user that this is");
    heap = malloc(60000);
    free(heap); /* the C library keeps it: there is memory for the library, so only a mapping can fail */
    REQUIRE(mlockall(MCL_FUTURE) == 0);
    room = mmap(NULL, (locked.room + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(room != MAP_FAILED);
    for (k = 0; k < 1000; k++) /* all that may be */
        if (mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
            break;
    CHECK(k < 1000);
    if (locked.room > 0)
        REQUIRE(munmap(room, locked.room * page) == 0);
    errno = 0;
    pt = palloc_init("limited.db", PALLOC_DYNAMIC | locked.flags);
    CHECK(pt == NULL);
    CHECK_ERRNO(ENOMEM);
#ifdef __GLIBC__ /* other heaps keep nothing */
    CHECK_STR_CONTAINS(palloc_error(), locked.text);
#endif
    palloc_close(pt);
}

static void with_locked_memory(unsigned room, uint32_t flags, const char *text)
{
    if (mlockall(MCL_FUTURE) != 0 || munlockall() != 0) {
        SKIP("memory cannot be locked here");
        return;
    }
    locked.room = room;
    locked.flags = flags;
    locked.text = text;
    in_child(locked_memory);
}

/* FILE.live is mapped too. A page is for the medium's own mapping. */
static void locked_memory_of_live_readers(void)
{
    unsigned page = (unsigned)sysconf(_SC_PAGESIZE), room;

    if (is_emulated()) {
        SKIP("an emulator maps in larger pieces");
        return;
    }
    for (room = 1; room <= (LIVE_LEN + page - 1) / page; room++)
        with_locked_memory(room, PALLOC_SHARED, "map the file of the live readers");
}

/* The window on a file that has no name any more counts as memory of the process: a core file would have all of it. */
static void core_files(void)
{
    struct palloc_t *pt;
    char line[500];
    int in_window = 0, windows = 0;
    FILE *f;

    if (is_emulated()) {
        SKIP("advice does nothing here");
        return;
    }
    unlink("unlinked.db");
    pt = palloc_init("unlinked.db", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL && unlink("unlinked.db") == 0);
    f = fopen("/proc/self/smaps", "r");
    if (f == NULL)
        SKIP("no /proc/self/smaps here");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strstr(line, "unlinked.db") != NULL)
            in_window = 1;
        else if (in_window && strncmp(line, "VmFlags:", 8) == 0) {
            CHECK_STR_CONTAINS(line, " dd");
            in_window = 0;
            windows++;
        }
    }
    if (f != NULL) {
        fclose(f);
        CHECK_EQ_I(windows, 1);
    }
    palloc_close(pt);
}

/* With `room` above what the process has now, a medium grows up to `wanted` bytes, or as far as it goes; then ENOMEM. */
static void grow_in(uint64_t room, uint64_t wanted, int must_reach)
{
    struct palloc_t *pt;
    struct shadow s;
    uint64_t ptr = 1, k;

    unlink("limited.db");
    shadow_init(&s, 4, 0, 0, 1);
    if (address_space_used() == 0) {
        DIAG("no /proc/self/statm here");
        return;
    }
    limit(RLIMIT_AS, address_space_used() + room);
    errno = 0;
    pt = palloc_init("limited.db", PALLOC_DYNAMIC);
    if (pt == NULL) {
        CHECK_ERRNO(ENOMEM);
        CHECK(!must_reach);
        return;
    }
    for (k = 0; pt->size < wanted; k++) {
        errno = 0;
        ptr = palloc(pt, MIB);
        if (ptr == 0) {
            CHECK_ERRNO(ENOMEM);
            break;
        }
        if (shadow_add(&s, ptr, palloc_size(pt, ptr), s.next_id, 100) == SIZE_MAX)
            return;
        blob_write(pt, ptr, s.next_id++, 0, 100, (enum access)(k % 2));
    }
    if (must_reach)
        CHECK(ptr != 0);
    CHECK_VIEW(pt);
    shadow_matches(&s, pt, BY_DESCRIPTOR);
    for (k = 0; k < s.count; k += 7)
        if (must_reach)
            blob_intact(pt, s.at[k].ptr, s.at[k].id, 100, BY_ADDRESS);
    while (s.count > 0) {
        pfree(pt, s.at[s.count - 1].ptr);
        s.count--;
    }
    CHECK_EQ_U(pt->size, 8);
    palloc_close(pt);
    CHECK_EQ_U(file_size("limited.db"), 8);
    shadow_free(&s);
}

static void address_space_512(void)
{
    grow_in(512 * MIB, 100 * MIB, 1);
}

static void address_space_48(void)
{
    grow_in(48 * MIB, 100 * MIB, 0);
}

static void address_space_2(void)
{
    grow_in(2 * MIB, 100 * MIB, 0);
}

static void many_small_blobs(void)
{
    struct palloc_t *pt;
    uint64_t ptr, count = 0;

    unlink("limited.db");
    if (address_space_used() == 0)
        return;
    limit(RLIMIT_AS, address_space_used() + 24 * MIB);
    pt = palloc_init("limited.db", PALLOC_DYNAMIC);
    if (pt == NULL) {
        CHECK_ERRNO(ENOMEM);
        return;
    }
    for (;;) {
        errno = 0;
        ptr = palloc(pt, 16);
        if (ptr == 0 || count == 3000000)
            break;
        count++;
    }
    if (ptr == 0)
        CHECK_ERRNO(ENOMEM);
    for (ptr = palloc_first(pt); ptr != 0 && count > 0; ptr = palloc_next(pt, ptr))
        count--;
    CHECK_EQ_U(count, 0);
    errno = 0;
    pfree(pt, 16);
    CHECK_EQ_I(errno, 0);
    palloc_close(pt);
}

static void large_in_little_address_space(void)
{
    struct palloc_t *pt;

    file_zeros("limited.db", 2 * GIB);
    if (address_space_used() == 0)
        return;
    limit(RLIMIT_AS, address_space_used() + 256 * MIB);
    errno = 0;
    pt = palloc_init("limited.db", PALLOC_DEFAULT);
    if (pt == NULL) {
        CHECK_ERRNO(ENOMEM);
        return;
    }
    CHECK_EQ_U(palloc(pt, 1000), 16);
    CHECK_VIEW(pt);
    palloc_close(pt);
}

static void few_descriptors(void)
{
    struct palloc_t *pt;

    unlink("limited.db");
    limit(RLIMIT_NOFILE, 3);
    errno = 0;
    pt = palloc_init("limited.db", PALLOC_DYNAMIC);
    CHECK(pt == NULL);
    CHECK_ERRNO(EMFILE);
    CHECK_STR_CONTAINS(palloc_error(), "limited.db");
}

int main(void)
{
    static const struct {
        const char *name;
        void (*part)(void);
    } disk[] = {
        {"a-dynamic-medium-on-a-full-disk-is-ENOSPC-and-works-on", dynamic_full},
        {"a-dynamic-medium-with-SYNC-on-a-full-disk-is-ENOSPC-and-works-on", dynamic_sync_full},
        {"on-a-nearly-full-disk-operations-are-granted-or-refused-whole", at_the_brim},
        {"creating-on-a-full-disk-fails-cleanly-and-succeeds-later", create_on_full},
        {"every-blob-of-a-sparse-static-medium-can-be-written", sparse_static},
        {"a-refused-palloc-takes-nothing-from-the-disk", refused_takes_nothing},
        {"a-sparse-blob-on-a-full-disk-has-no-address", sparse_blob},
    };
    size_t i;
    int have_disk;

    TEST("a-disk-of-1-MiB-is-mounted");
    have_disk = make_disk();
    if (!have_disk)
        SKIP(why_no_disk);
    for (i = 0; i < sizeof disk / sizeof disk[0]; i++)
        POINT(disk[i].name, have_disk ? in_child(disk[i].part) : SKIP(why_no_disk));

    PART(too_long(have_disk));
    PART(other_disks());

    POINT("opening-8-GiB-of-zeros-is-quick-and-takes-little-space", large(8 * GIB, 0));
    POINT("opening-64-GiB-of-zeros-is-quick-and-takes-little-space", large(64 * GIB, 0));
    POINT("opening-64-GiB-of-zeros-behind-a-header-is-quick-and-takes-little-space", large(64 * GIB, 1));

    POINT("the-limit-of-file-size-is-EFBIG-without-a-signal", in_child(file_size_limit));
    POINT("a-medium-that-may-have-no-byte-is-EFBIG", in_child(file_size_limit_of_0));
    POINT("a-medium-whose-FILE.live-may-not-have-its-length-is-EFBIG-without-a-signal", in_child(file_size_limit_of_live_readers));
    POINT("a-medium-grows-in-512-MiB-of-address-space", in_child(address_space_512));
    POINT("a-medium-that-outgrows-the-address-space-is-ENOMEM-and-works-on", in_child(address_space_48));
    POINT("hardly-any-address-space-is-ENOMEM", in_child(address_space_2));
    POINT("an-index-that-outgrows-the-memory-is-ENOMEM-and-all-blobs-are-known", in_child(many_small_blobs));
    POINT("a-large-static-medium-in-little-address-space-works-or-is-ENOMEM", in_child(large_in_little_address_space));
    POINT("a-limit-of-locked-memory-is-ENOMEM", with_locked_memory(0, 0, "map the file"));
    POINT("a-limit-of-locked-memory-is-ENOMEM-for-FILE.live-too", locked_memory_of_live_readers());
    POINT("the-window-is-not-in-core-files", core_files());
    POINT("no-descriptor-left-is-EMFILE", in_child(few_descriptors));
    return tap_done();
}

#endif
