/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/version.rs and headers/version.*; changes belong there. */
#ifndef LIBPALLOC_PALLOC_VERSION_H
#define LIBPALLOC_PALLOC_VERSION_H

/*
 * palloc_version.h: which version of libpalloc this is, for users of any of its headers. palloc.h
 * includes it.
 *
 *   #include <palloc_version.h>
 *   #include <string.h>
 *
 *   int main(void)
 *   {
 *       return strcmp(palloc_version(), PALLOC_VERSION) == 0 ? 0 : 1;
 *   }
 */
#define PALLOC_VERSION "0.1.0"
#define PALLOC_VERSION_MAJOR 0
#define PALLOC_VERSION_MINOR 1
#define PALLOC_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Returns the version of the library that the program runs with. PALLOC_VERSION is the version that
 * the program was compiled for. With the same PALLOC_VERSION_MAJOR, a later version has everything
 * that an earlier one has. Never fails.
 */
const char *palloc_version(void);

#ifdef __cplusplus
}
#endif

#endif
