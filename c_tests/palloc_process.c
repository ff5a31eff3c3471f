/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A medium and what else a process does: fork, descriptors, memory; and media that are block devices. */
#include "palloc_util.h"
#ifndef _WIN32
#include <dirent.h>
#endif

static int open_descriptors(void)
{
#ifdef _WIN32
    DWORD n = 0;

    return GetProcessHandleCount(GetCurrentProcess(), &n) ? (int)n : -1;
#else
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    if (dir == NULL)
        return -1;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
#endif
}

#ifndef _WIN32

static void fork_and_close(void)
{
    struct palloc_t *pt = palloc_init("fork.pba", PALLOC_DYNAMIC);
    int hold[2];
    pid_t child;
    char c;

    TEST("palloc_close-unlocks-the-medium-though-a-forked-child-lives");
    REQUIRE(pt != NULL && pipe(hold) == 0);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        close(hold[1]);
        _exit(read(hold[0], &c, 1) != 0);
    }
    close(hold[0]);
    palloc_close(pt);
    pt = palloc_init("fork.pba", PALLOC_DEFAULT);
    CHECK(pt != NULL);

    TEST("a-child-that-exits-leaves-the-parents-lock");
    close(hold[1]);
    waitpid(child, NULL, 0);
    CHECK(palloc_init("fork.pba", PALLOC_DEFAULT) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(palloc(pt, 100) == 16);
    palloc_close(pt);
}

/* The parent leaves the medium to its child, and later opens it anew. */
static void fork_and_go_on(void)
{
    struct palloc_t *pt = palloc_init("fork2.pba", PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 100);
    char *parents = palloc_data(pt, ptr);
    int status;
    pid_t child;

    TEST("a-forked-child-may-go-on-with-the-medium");
    REQUIRE(parents != NULL);
    strcpy(parents, "from the parent");
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int good = strcmp(palloc_data(pt, ptr), "from the parent") == 0 && palloc(pt, 200000) != 0 && palloc_sync(pt) == 0;
        strcpy(palloc_data(pt, ptr), "from the child");
        palloc_close(pt);
        _exit(!good);
    }
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    CHECK_EQ_I(status, 0);

    TEST("what-the-child-did-is-there-for-the-parent-that-opens-the-medium-anew");
    CHECK_STR(parents, "from the child"); /* a blob's bytes are shared all the time */
    pt = palloc_init("fork2.pba", PALLOC_DEFAULT);
    CHECK(pt != NULL);
    CHECK(palloc_next(pt, ptr) != 0);
    palloc_close(pt);
    CHECK_SOUND("fork2.pba");
}

#endif

static void descriptors(void)
{
    int before, i;
    FILE *junk = fopen("junk", "w");

    REQUIRE(junk != NULL);
    fputs("this is no medium, and long enough not to be the beginning of one", junk);
    fclose(junk);
    TEST("no-descriptor-is-left-by-success-or-failure");
    before = open_descriptors();
    if (before < 0)
        SKIP("the system does not tell");
    for (i = 0; i < 50; i++) {
        palloc_close(palloc_init("descriptors.pba", PALLOC_DYNAMIC | (i % 2 ? PALLOC_SYNC : 0)));
        CHECK(palloc_init("junk", PALLOC_DYNAMIC) == NULL);
        CHECK(palloc_init("missing", PALLOC_DEFAULT) == NULL);
        CHECK(palloc_check("junk", NULL, NULL) == 1);
        CHECK(palloc_check("descriptors.pba", NULL, NULL) == 0);
    }
    CHECK_EQ_I(open_descriptors(), before);

    TEST("the-position-of-the-descriptor-is-the-programs");
    {
        struct palloc_t *pt = palloc_init("descriptors.pba", PALLOC_DYNAMIC);
        uint64_t ptr;

        REQUIRE(pt != NULL);
        CHECK_EQ_I(lseek(pt->descriptor, 0, SEEK_CUR), 0);
        CHECK_EQ_I(lseek(pt->descriptor, 12345, SEEK_SET), 12345);
        ptr = palloc(pt, 1000000);
        ptr = prealloc(pt, ptr, 5000000);
        palloc_data(pt, ptr);
        palloc_sync(pt);
        pfree(pt, ptr);
        CHECK_EQ_I(lseek(pt->descriptor, 0, SEEK_CUR), 12345);
        palloc_close(pt);
    }
}

#ifndef _WIN32

/* A loop device over a file of zeros; returns 0 where the system has none for us. */
static int make_device(char *name, size_t size)
{
    FILE *losetup;
    int found;

    if (geteuid() != 0 || system("truncate -s 8M device.img && command -v losetup >/dev/null 2>&1") != 0)
        return 0;
    losetup = popen("losetup --find --show device.img 2>/dev/null", "r");
    if (losetup == NULL)
        return 0;
    found = fgets(name, (int)size, losetup) != NULL;
    pclose(losetup);
    name[strcspn(name, "\n")] = '\0';
    return found && name[0] == '/';
}

static void block_device(void)
{
    char device[100] = "", command[200];
    struct palloc_t *pt;
    uint64_t a, b;
    uint32_t flags;

    TEST("a-medium-on-a-block-device-works-and-stays-sound-static-or-dynamic");
    if (!make_device(device, sizeof(device))) {
        SKIP("no loop device to be had");
        return;
    }
    for (flags = PALLOC_DEFAULT; flags <= PALLOC_DYNAMIC; flags++) {
        pt = palloc_init(device, flags | PALLOC_FORCE);
        if (!CHECK(pt != NULL))
            break;
        CHECK_EQ_U(pt->size, 8 << 20);
        a = palloc(pt, 1000);
        b = palloc(pt, 6000000);
        CHECK(a != 0 && b != 0);
        CHECK(palloc(pt, 6000000) == 0);
        CHECK_ERRNO(ENOSPC);
        memset(palloc_data(pt, b), 1, 6000000);
        pfree(pt, a);
        CHECK_EQ_I(palloc_sync(pt), 0);
        pfree(pt, b);
        CHECK(prealloc(pt, palloc(pt, 100), 7000000) != 0);
        palloc_close(pt);
        CHECK_EQ_I(palloc_check(device, NULL, NULL), 0);
        snprintf(command, sizeof(command), "head -c 8388608 /dev/urandom >%s", device);
        CHECK(system(command) == 0);
    }
    snprintf(command, sizeof(command), "losetup -d %s", device);
    CHECK(system(command) == 0);
}

#endif

int main(void)
{
#ifndef _WIN32
    fork_and_close();
    fork_and_go_on();
#endif
    descriptors();
#ifndef _WIN32
    block_device();
#endif
    return tap_done();
}
