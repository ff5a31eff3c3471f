/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See mounted.h. */
#include "../portable.h"
#include "../tap.h"
#include "mounted.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOT_MOUNTED = 77 };

/* In a mount namespace of this process: whether the file system is on ./disk. */
static int mounted(const char *make, const char *size)
{
    char command[400];

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0)
        return 0;
    mkdir("disk", 0755);
    if (make == NULL) {
        snprintf(command, sizeof command, "size=%s", size);
        return mount("none", "disk", "tmpfs", 0, command) == 0;
    }
    snprintf(command, sizeof command,
             "exec >/dev/null 2>&1; truncate -s %s image && PATH=$PATH:/sbin:/usr/sbin && %s image && mount -o loop image disk", size, make);
    return system(command) == 0;
}

void on_file_system(const char *make, const char *size, unsigned seconds, void (*test)(void *user), void *user)
{
    int status = 0;
    pid_t child;

    if (geteuid() != 0) {
        SKIP("needs root to mount a file system");
        return;
    }
    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm(tap_seconds(seconds));
        if (!mounted(make, size))
            _exit(NOT_MOUNTED);
        test(user);
        umount("disk");
        _exit(tap_done());
    }
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_MOUNTED)
        SKIP("can't make or mount one");
    else
        CHECK_EQ_I(status, 0);
    unlink("image");
}
#else
void on_file_system(const char *make, const char *size, unsigned seconds, void (*test)(void *user), void *user)
{
    (void)make, (void)size, (void)seconds, (void)test, (void)user;
    SKIP("Linux only");
}
#endif
