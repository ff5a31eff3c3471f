/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Parts of a point in a process of their own. POSIX only. */
#ifndef IN_CHILD_H
#define IN_CHILD_H

#include "palloc_util.h"

#include <sys/wait.h>

/* Runs a part of a point in a child, so that a signal or a limit is its own. */
static inline void in_child(void (*part)(void))
{
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm(tap_seconds(120));
        part();
        _exit(tap_done());
    }
    REQUIRE(child > 0);
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        DIAG("killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    CHECK_EQ_I(status, 0);
}

#endif
