/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Whether an emulator stands between the program and the kernel. */
#ifndef SUPPORT_EMULATED_H
#define SUPPORT_EMULATED_H

/*
 * Whether madvise(MADV_POPULATE_WRITE) succeeds and does nothing. So it is in qemu-user, which accepts every advice and follows few, locks
 * its own memory by mlockall(), and reports the protection of mappings as its own.
 */
int is_emulated(void);

#endif
