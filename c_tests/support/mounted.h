/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Tests on other file systems, which root can make and mount on Linux. */
#ifndef SUPPORT_MOUNTED_H
#define SUPPORT_MOUNTED_H

/*
 * Makes a file system of `size` ("320M") by the command `make` and the name of a file, or a tmpfs if `make` is NULL. Calls `test` with
 * `user` in a child process for which it is mounted on ./disk, and which may take `seconds`. The checks of the child count. The point is
 * skipped if the file system can't be made or mounted.
 */
void on_file_system(const char *make, const char *size, unsigned seconds, void (*test)(void *user), void *user);

#endif
